//! The two orders of an image's values: plain safe loops, for they run once an image at either end of a network.

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
