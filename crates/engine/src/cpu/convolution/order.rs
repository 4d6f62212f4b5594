//! Converts an image between channels-first and channels-last: plain safe loops, since they run once per image.

/// From `[channels, pixels]` to `[pixels, channels]`.
pub(in crate::cpu) fn channels_last(x: &[f32], channels: usize, out: &mut [f32]) {
    let pixels = x.len() / channels;
    for (pixel, out) in out.chunks_exact_mut(channels).enumerate() {
        for (channel, out) in out.iter_mut().enumerate() {
            *out = x[channel * pixels + pixel];
        }
    }
}

/// From `[pixels, channels]` to `[channels, pixels]`.
pub(in crate::cpu) fn channels_first(x: &[f32], channels: usize, out: &mut [f32]) {
    let pixels = x.len() / channels;
    for (channel, out) in out.chunks_exact_mut(pixels).enumerate() {
        for (pixel, out) in out.iter_mut().enumerate() {
            *out = x[pixel * channels + channel];
        }
    }
}
