//! From an image to a sequence of tokens: patch embedding, class token, positions.
//! Source: Dosovitskiy et al. 2021, section 3.1; fixed positions: Vaswani et al. 2017, section 3.5.

use vitreous_engine::{Graph, GraphError, Init, NodeId};

use super::init;
use crate::config::model::{DropoutPlace, Pooling, Position};
use crate::config::vit::VitConfig;

/// Turns an image into tokens that know what they show and where they come from.
///
/// # Shapes
/// - `image`: `[channels, image_size, image_size]`; returned: `[tokens, embed_dim]`, the class token first
///
/// # Errors
/// When a name is taken.
pub fn embedding(graph: &mut Graph, image: NodeId, config: &VitConfig) -> Result<NodeId, GraphError> {
    let width = config.embed_dim();
    let token_init = Init::Normal { std: config.token_init_std() };
    let patches = graph.patches("patch_embed.patches", image, config.patch_size())?;
    let patch_features = graph.node(patches).shape.features();
    let mut tokens = graph.linear("patch_embed.proj", patches, width, init::linear(config.init(), patch_features))?;
    if config.pooling() == Pooling::Cls {
        let token = graph.new_parameter("cls_token", [1, 1, width], token_init)?;
        tokens = graph.prepend_token("cls_token", tokens, token)?;
    }
    tokens = match config.position() {
        Position::Learned => {
            let table = graph.new_parameter("pos_embed", [1, config.num_positions(), width], token_init)?;
            graph.add_table("pos_embed", tokens, table)?
        }
        Position::SineCosine => {
            graph.add_constant("pos_encoding", tokens, sine_cosine(config.tokens(), width).into())?
        }
        Position::None => tokens,
    };
    graph.dropout("pos_drop", tokens, config.dropout_at(DropoutPlace::Embed))
}

/// Returns `positions` rows of `width` numbers that tell places apart.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sines_and_cosines_take_turns_and_slow_down_along_the_width() {
        let table = sine_cosine(3, 4);
        let expected = [0.0, 1.0, 0.0, 1.0, 0.841471, 0.540302, 0.01, 0.99995, 0.909297, -0.416147, 0.019999, 0.9998];
        for (found, expected) in table.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{table:?}");
        }
        assert_eq!(table.len(), 12);
    }
}
