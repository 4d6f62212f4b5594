//! From an image to a sequence of tokens: patch embedding, class token, positions.
//! Source: Dosovitskiy et al. 2021, section 3.1; fixed positions: Vaswani et al. 2017, section 3.5, and in two
//! dimensions Beyer et al. 2022.

use vitreous_engine::ops::{Activation, Convolution, LinearInit};
use vitreous_engine::{Graph, GraphError, Init, NodeId};

use super::init;
use super::{BATCH_NORM_EPS, BATCH_NORM_MOMENTUM};
use crate::config::model::{DropoutPlace, PatchEmbed, Patching, Position, VitConfig};

/// Turns an image into tokens with positions.
///
/// # Shapes
/// - `image`: `[channels, image_size, image_size]`; returned: `[tokens, embed_dim]`, the class token first
///
/// # Errors
/// When a name is taken.
pub fn embedding(graph: &mut Graph, image: NodeId, config: &VitConfig) -> Result<NodeId, GraphError> {
    let width = config.spec().embed_dim;
    let token_init = Init::Normal { std: config.spec().token_init_std as f32 };
    let mut tokens = patch_tokens(graph, image, config)?;
    if config.spec().encodes_class_token() {
        let token = graph.new_parameter("cls_token", [1, 1, width], token_init)?;
        tokens = graph.prepend_token("cls_token", tokens, token)?;
    }
    tokens = match config.spec().position {
        Position::Learned => {
            let table = graph.new_parameter("pos_embed", [1, config.num_positions(), width], token_init)?;
            graph.add_table("pos_embed", tokens, table)?
        }
        Position::SineCosine => {
            graph.add_constant("pos_encoding", tokens, sine_cosine(config.tokens(), width).into())?
        }
        Position::SineCosine2d => {
            let table = sine_cosine_2d(config.grid(), width, usize::from(config.spec().encodes_class_token()));
            graph.add_constant("pos_encoding", tokens, table.into())?
        }
        Position::None => tokens,
    };
    graph.dropout("pos_drop", tokens, config.spec().dropout_at(DropoutPlace::Embed))
}

/// Turns each patch into a token.
fn patch_tokens(graph: &mut Graph, image: NodeId, config: &VitConfig) -> Result<NodeId, GraphError> {
    let (width, patch) = (config.spec().embed_dim, config.spec().patch_size);
    let features = config.facts().channels * patch * patch;
    let init = init::linear(config.spec().init.into(), features);
    match config.spec().patch_embed {
        PatchEmbed::Linear => {}
        PatchEmbed::Conv => return strided_convolution(graph, image, patch, width, init),
        PatchEmbed::ConvStem => return convolutional_stem(graph, image, config),
    }
    match config.spec().patching {
        Patching::Square => projected_patches(graph, image, patch, width, init),
        Patching::Flat => {
            let patches = graph.reshape("patch_embed.patches", image, [config.grid().pow(2), features])?;
            graph.linear("patch_embed.proj", patches, width, init)
        }
    }
}

/// Turns each square patch into a token by a linear layer, whose weight has the shape of the convolution that PyTorch users
/// write instead.
///
/// # Shapes
/// - `image`: `[channels, height, width]`; returned: `[tokens, width]`
///
/// # Errors
/// When a name is taken, or `patch` does not divide the image.
pub fn projected_patches(
    graph: &mut Graph,
    image: NodeId,
    patch: usize,
    width: usize,
    init: LinearInit,
) -> Result<NodeId, GraphError> {
    let channels = graph.node(image).shape.0[0];
    let patches = graph.patches("patch_embed.patches", image, patch)?;
    graph.linear_with_weight("patch_embed.proj", patches, [width, channels, patch, patch], init)
}

/// Turns each square patch into a token by a convolution whose stride is its kernel's size.
///
/// # Shapes
/// - `image`: `[channels, image_size, image_size]`; returned: `[tokens, width]`
///
/// # Errors
/// When a name is taken.
pub fn strided_convolution(
    graph: &mut Graph,
    image: NodeId,
    patch: usize,
    width: usize,
    init: LinearInit,
) -> Result<NodeId, GraphError> {
    let map = graph.channels_last("patch_embed.map", image)?;
    let grid = graph.conv2d("patch_embed.proj", map, Convolution::new(width, patch).stride(patch), init)?;
    let tokens = graph.node(grid).shape.rows();
    graph.reshape("patch_embed.tokens", grid, [tokens, width])
}

/// Turns each square patch into a token by convolutions, each of which halves the map. Names are those of one
/// `nn.Sequential`.
///
/// # Shapes
/// - `image`: `[channels, image_size, image_size]`; returned: `[tokens, embed_dim]`
///
/// # Source
/// Xiao et al. 2021, "Early Convolutions Help Transformers See Better", section 4.
fn convolutional_stem(graph: &mut Graph, image: NodeId, config: &VitConfig) -> Result<NodeId, GraphError> {
    let width = config.spec().embed_dim;
    let mut map = graph.channels_last("patch_embed.map", image)?;
    let mut place = 0..;
    let mut name = || format!("patch_embed.proj.{}", place.next().expect("it has no end"));
    for channels in config.spec().stem_channels() {
        let conv = Convolution::new(channels, 3).stride(2).padding(1);
        let init = LinearInit::pytorch(conv.fan_in(graph.node(map).shape.features()));
        map = graph.conv2d(&name(), map, conv, LinearInit { bias: None, ..init })?;
        map = graph.batch_norm(&name(), map, BATCH_NORM_EPS, BATCH_NORM_MOMENTUM)?;
        map = graph.activation(&name(), map, Activation::Relu)?;
    }
    let init = init::linear(config.spec().init.into(), width);
    map = graph.conv2d(&name(), map, Convolution::new(width, 1), init)?;
    graph.reshape("patch_embed.tokens", map, [config.grid().pow(2), width])
}

/// Returns `positions` rows of `width` numbers, one for each position.
///
/// # Source
/// `PE(pos, 2i) = sin(pos / 10000^(2i / width))`, and the cosine of the same at `2i + 1`.
pub fn sine_cosine(positions: usize, width: usize) -> Vec<f32> {
    let value = |position: usize, column: usize| {
        let exponent = (column - column % 2) as f64 / width as f64;
        let angle = position as f64 / 10_000f64.powf(exponent);
        (if column.is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
    };
    (0..positions).flat_map(|position| (0..width).map(move |column| value(position, column))).collect()
}

/// Returns a row of `width` numbers for each position of a square grid, row by row, after `before` rows of zeros.
///
/// # Source
/// `sin(x w_i), cos(x w_i), sin(y w_i), cos(y w_i)`, a quarter of the width each, with `w_i = 10000^(-4 i / width)`.
pub fn sine_cosine_2d(grid: usize, width: usize, before: usize) -> Vec<f32> {
    let quarter = width / 4;
    let value = |place: usize, column: usize| {
        let (x, y) = (place % grid, place / grid);
        let angle = |at: usize| at as f64 / 10_000f64.powf((column % quarter) as f64 / quarter as f64);
        (match column / quarter {
            0 => angle(x).sin(),
            1 => angle(x).cos(),
            2 => angle(y).sin(),
            _ => angle(y).cos(),
        }) as f32
    };
    let zeros = std::iter::repeat_n(0.0, before * width);
    zeros.chain((0..grid * grid).flat_map(|place| (0..width).map(move |column| value(place, column)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sines_and_cosines_alternate_and_their_frequencies_fall() {
        let table = sine_cosine(3, 4);
        let expected = [0.0, 1.0, 0.0, 1.0, 0.841471, 0.540302, 0.01, 0.99995, 0.909297, -0.416147, 0.019999, 0.9998];
        for (found, expected) in table.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{table:?}");
        }
        assert_eq!(table.len(), 12);
    }

    #[test]
    fn columns_and_rows_have_half_of_the_width_each() {
        let table = sine_cosine_2d(3, 8, 1);
        assert_eq!(table.len(), 80);
        assert_eq!(table[..8], [0.0; 8]);
        // The position in row 2, column 1.
        let expected = [0.841471, 0.01, 0.540302, 0.99995, 0.909297, 0.019999, -0.416147, 0.9998];
        for (found, expected) in table[8 * 8..9 * 8].iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{table:?}");
        }
    }
}
