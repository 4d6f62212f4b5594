//! A stack: layers in sequence, with residual connections around some. Names are the layers' positions in the config:
//! `layers.3` is the fourth.

use vitreous_engine::ops::{Convolution, LinearInit, Pool};
use vitreous_engine::{Graph, GraphError, NodeId};

use super::layers::{BATCH_NORM_MOMENTUM, init, spatial_attention};
use super::{BuildModel, Model};
use crate::config::model::{Extent, Layer, Placed, PlacedKind, StackConfig, Window};

impl BuildModel for StackConfig {
    fn build(&self, smoothing: f32) -> Result<Model, GraphError> {
        let mut graph = Graph::new();
        let facts = self.facts();
        let image = graph.input("image", [facts.channels, facts.image_size, facts.image_size])?;
        let label = graph.input("label", [])?;
        let map = graph.channels_last("map", image)?;
        let logits = layers(&mut graph, self.layout(), map, self)?;
        Model::classifier(graph, image, label, logits, smoothing)
    }
}

fn layers(graph: &mut Graph, placed: &[Placed], mut x: NodeId, config: &StackConfig) -> Result<NodeId, GraphError> {
    for Placed { name, kind, input, .. } in placed {
        x = match kind {
            PlacedKind::Layer(one) => layer(graph, name, *one, x, *input, config)?,
            PlacedKind::Residual { body, shortcut } => {
                let made = layers(graph, body, x, config)?;
                let kept = layers(graph, shortcut, x, config)?;
                graph.add(name, kept, made)?
            }
        };
    }
    Ok(x)
}

fn layer(
    graph: &mut Graph,
    name: &str,
    layer: Layer,
    x: NodeId,
    input: Extent,
    config: &StackConfig,
) -> Result<NodeId, GraphError> {
    let eps = config.spec().norm_eps as f32;
    let features = graph.node(x).shape.features();
    match layer {
        Layer::Convolution { channels, window: Window { kernel, stride, padding }, groups, bias } => {
            let convolution = Convolution { out_channels: channels, kernel, stride, padding, groups };
            let init = init::convolution(config.spec().init, convolution, features);
            graph.conv2d(name, x, convolution, LinearInit { bias: init.bias.filter(|_| bias), ..init })
        }
        Layer::Activation(activation) => graph.activation(name, x, activation.into()),
        Layer::MaxPool(window) => graph.max_pool2d(name, x, pool(window)),
        Layer::AvgPool(window) => graph.avg_pool2d(name, x, pool(window)),
        Layer::GlobalPool => graph.global_avg_pool(name, x),
        Layer::BatchNorm => graph.batch_norm(name, x, eps, BATCH_NORM_MOMENTUM),
        Layer::GroupNorm { groups } => graph.group_norm(name, x, groups, eps),
        Layer::LayerNorm => {
            let params = graph.layer_norm_parameters(name, features)?;
            graph.layer_norm(name, x, params, eps)
        }
        Layer::Dropout { rate } => graph.dropout(name, x, rate),
        Layer::Attention { reduction } => {
            spatial_attention::spatial_attention(graph, name, x, reduction, config.spec().init)
        }
        Layer::Flatten => graph.channels_first_flat(name, x),
        Layer::Linear { features: out, bias } => {
            let init = LinearInit::pytorch(input.values());
            let init = LinearInit { bias: init.bias.filter(|_| bias), ..init };
            graph.linear(name, x, out.unwrap_or(config.facts().num_classes), init)
        }
    }
}

fn pool(Window { kernel, stride, padding }: Window) -> Pool {
    Pool { kernel, stride, padding }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{ImageFacts, KindSpec, StackSpec};
    use vitreous_engine::Init;

    const FACTS: ImageFacts = ImageFacts { image_size: 13, channels: 3, num_classes: 7 };

    fn build(toml: &str) -> Model {
        let spec: StackSpec = toml::from_str(toml).expect("a table");
        spec.with_facts(FACTS).expect("it fits").build(0.1).expect("a checked config")
    }

    /// Every node as `name op(inputs; parameters) shape`: any wrong wire changes a line.
    fn wiring(model: &Model) -> Vec<String> {
        crate::models::tests::wiring(model)
    }

    #[test]
    fn layers_follow_each_other_under_the_names_of_their_places() {
        let model = build(
            "layers = ['conv 10 k5 s2 p1 nobias', 'batchnorm', 'relu', 'maxpool 3 s2 p1', 'conv 15 g5', 'groupnorm 3',
             'gelu', 'layernorm', 'avgpool 2', 'dropout 0.25', 'flatten', 'linear 11 nobias', 'tanh', 'linear classes']",
        );
        let expected = [
            "image input() [3, 13, 13]",
            "label input() []",
            "map channels_last(image) [13, 13, 3]",
            "layers.0 conv2d(map; layers.0.weight[10, 3, 5, 5]) [6, 6, 10]",
            "layers.1 batch_norm(layers.0; layers.1.weight[10] layers.1.bias[10] layers.1.running_mean[10] \
             layers.1.running_var[10]) [6, 6, 10]",
            "layers.2 relu(layers.1) [6, 6, 10]",
            "layers.3 max_pool2d(layers.2) [3, 3, 10]",
            "layers.4 conv2d(layers.3; layers.4.weight[15, 2, 3, 3] layers.4.bias[15]) [3, 3, 15]",
            "layers.5 group_norm(layers.4; layers.5.weight[15] layers.5.bias[15]) [3, 3, 15]",
            "layers.6 gelu(layers.5) [3, 3, 15]",
            "layers.7 layer_norm(layers.6; layers.7.weight[15] layers.7.bias[15]) [3, 3, 15]",
            "layers.8 avg_pool2d(layers.7) [1, 1, 15]",
            "layers.9 dropout(layers.8) [1, 1, 15]",
            "layers.10 channels_first(layers.9) [15]",
            "layers.11 linear(layers.10; layers.11.weight[11, 15]) [11]",
            "layers.12 tanh(layers.11) [11]",
            "layers.13 linear(layers.12; layers.13.weight[7, 11] layers.13.bias[7]) [7]",
            "loss cross_entropy(layers.13 label) []",
            "correct correct(layers.13 label) []",
        ];
        assert_eq!(wiring(&model), expected);
    }

    #[test]
    fn a_residual_connection_adds_its_layers_to_its_input_or_its_shortcut() {
        let model = build(
            "layers = [{ residual = ['conv 3', 'relu'] }, { residual = ['conv 5 s2'], shortcut = ['conv 5 k1 s2'] },
             'globalpool', 'linear classes']",
        );
        let expected = [
            "layers.0.residual.0 conv2d(map; layers.0.residual.0.weight[3, 3, 3, 3] layers.0.residual.0.bias[3]) [13, 13, 3]",
            "layers.0.residual.1 relu(layers.0.residual.0) [13, 13, 3]",
            "layers.0 add(map layers.0.residual.1) [13, 13, 3]",
            "layers.1.residual.0 conv2d(layers.0; layers.1.residual.0.weight[5, 3, 3, 3] layers.1.residual.0.bias[5]) [7, 7, 5]",
            "layers.1.shortcut.0 conv2d(layers.0; layers.1.shortcut.0.weight[5, 3, 1, 1] layers.1.shortcut.0.bias[5]) [7, 7, 5]",
            "layers.1 add(layers.1.shortcut.0 layers.1.residual.0) [7, 7, 5]",
            "layers.2 mean_tokens(layers.1) [5]",
        ];
        assert_eq!(wiring(&model)[3..10], expected);
    }

    #[test]
    fn spatial_attention_is_the_experiments() {
        let model = build("layers = ['conv 10', 'attention 5', 'globalpool', 'linear classes']");
        let expected = [
            "layers.1.theta linear(layers.0; layers.1.theta.weight[2, 10, 1, 1] layers.1.theta.bias[2]) [13, 13, 2]",
            "layers.1.theta.tokens reshape(layers.1.theta) [169, 2]",
            "layers.1.phi linear(layers.0; layers.1.phi.weight[2, 10, 1, 1] layers.1.phi.bias[2]) [13, 13, 2]",
            "layers.1.phi.pool max_pool2d(layers.1.phi) [6, 6, 2]",
            "layers.1.phi.tokens reshape(layers.1.phi.pool) [36, 2]",
            "layers.1.g linear(layers.0; layers.1.g.weight[2, 10, 1, 1] layers.1.g.bias[2]) [13, 13, 2]",
            "layers.1.g.pool max_pool2d(layers.1.g) [6, 6, 2]",
            "layers.1.g.tokens reshape(layers.1.g.pool) [36, 2]",
            "layers.1.context attend(layers.1.theta.tokens layers.1.phi.tokens layers.1.g.tokens) [169, 2]",
            "layers.1.context.map reshape(layers.1.context) [13, 13, 2]",
            "layers.1.o linear(layers.1.context.map; layers.1.o.weight[10, 2, 1, 1] layers.1.o.bias[10]) [13, 13, 10]",
            "layers.1.add add(layers.0 layers.1.o) [13, 13, 10]",
        ];
        assert_eq!(wiring(&model)[4..16], expected);
    }

    #[test]
    fn convolutions_start_as_the_rule_says_and_linear_layers_as_torchs() {
        let start = |rule: &str, name: &str| {
            let model = build(&format!("layers = ['conv 5', 'flatten', 'linear 7']\ninit = '{rule}'"));
            model.graph.parameter(model.graph.find_parameter(name).expect("a parameter")).init
        };
        assert_eq!(start("pytorch", "layers.0.bias"), Init::fan_in_uniform(27));
        assert_eq!(start("kaiming", "layers.0.bias"), Init::Constant(0.0));
        assert!(matches!(start("kaiming", "layers.0.weight"), Init::Normal { std } if (std - 0.21082).abs() < 1e-5));
        assert_eq!(start("kaiming", "layers.2.weight"), Init::fan_in_uniform(5 * 13 * 13));
    }
}
