//! Stages of residual blocks: ResNet (He et al. 2016), MobileNetV2 (Sandler et al. 2018), ConvNeXt (Liu et al. 2022).
//!
//! Names are timm's; those of ResNet are torchvision's too. As in both, a bottleneck has its stride in the 3x3
//! convolution. A shortcut has weights where a block changes the size of its map.

use vitreous_engine::ops::{Activation, Convolution, LinearInit, Pool};
use vitreous_engine::{Graph, GraphError, Init, NodeId};

use super::layers::init;
use super::{BuildModel, Model};
use crate::config::model::{ConvBlock, ConvnetConfig, ConvnetSpec, Stem};

/// The weight of a new batch in batch norm's running mean and variance: PyTorch's default.
const BATCH_NORM_MOMENTUM: f32 = 0.1;

/// Kernel of ConvNeXt's convolutions of each channel by itself.
const CONVNEXT_KERNEL: usize = 7;

impl BuildModel for ConvnetConfig {
    fn build(&self, smoothing: f32) -> Result<Model, GraphError> {
        let mut graph = Graph::new();
        let (facts, spec) = (self.facts(), self.spec());
        let image = graph.input("image", [facts.channels, facts.image_size, facts.image_size])?;
        let label = graph.input("label", [])?;
        let map = graph.channels_last("map", image)?;
        let mut network = Network { graph: &mut graph, spec };
        let mut x = network.stem(map)?;
        let mut blocks = 0;
        for (stage, &depth) in spec.depths.iter().enumerate() {
            if spec.block == ConvBlock::Convnext {
                x = network.downsample(stage, x)?;
            }
            for number in 0..depth {
                let block = Block {
                    out: spec.stage_width(stage),
                    stride: if number == 0 { spec.strides[stage] } else { 1 },
                    drop_path: spec.drop_path_at(blocks),
                };
                x = match spec.block {
                    ConvBlock::Basic | ConvBlock::Bottleneck => {
                        network.resnet_block(&format!("layer{}.{number}", stage + 1), x, block, spec.widths[stage])?
                    }
                    ConvBlock::Inverted => {
                        network.inverted_block(&format!("blocks.{stage}.{number}"), x, block, stage > 0)?
                    }
                    ConvBlock::Convnext => {
                        network.convnext_block(&format!("stages.{stage}.blocks.{number}"), x, block)?
                    }
                };
                blocks += 1;
            }
        }
        let logits = network.head(x, facts.num_classes)?;
        Model::classifier(graph, image, label, logits, smoothing)
    }
}

/// Sizes of a block.
#[derive(Clone, Copy)]
struct Block {
    /// Channels of its output.
    out: usize,
    /// Stride of its first layers.
    stride: usize,
    /// Probability that it is skipped for an image.
    drop_path: f32,
}

/// A network that is being built.
struct Network<'a> {
    graph: &'a mut Graph,
    spec: &'a ConvnetSpec,
}

impl Network<'_> {
    fn channels(&self, x: NodeId) -> usize {
        self.graph.node(x).shape.features()
    }

    /// A convolution without bias, which batch norm would remove, padded so that stride 1 keeps the map's size.
    fn conv(&mut self, name: &str, x: NodeId, convolution: Convolution) -> Result<NodeId, GraphError> {
        let convolution = convolution.padding((convolution.kernel - 1) / 2);
        let init = LinearInit { weight: init::kaiming_normal(convolution), bias: None };
        self.graph.conv2d(name, x, convolution, init)
    }

    /// A convolution of each channel by itself.
    fn depthwise(&self, x: NodeId, kernel: usize) -> Convolution {
        let channels = self.channels(x);
        Convolution::new(channels, kernel).groups(channels)
    }

    fn batch_norm(&mut self, name: &str, x: NodeId) -> Result<NodeId, GraphError> {
        self.graph.batch_norm(name, x, self.spec.norm_eps as f32, BATCH_NORM_MOMENTUM)
    }

    fn layer_norm(&mut self, name: &str, x: NodeId) -> Result<NodeId, GraphError> {
        let params = self.graph.layer_norm_parameters(name, self.channels(x))?;
        self.graph.layer_norm(name, x, params, self.spec.norm_eps as f32)
    }

    /// The activation after batch norm.
    fn act(&mut self, name: &str, x: NodeId) -> Result<NodeId, GraphError> {
        let is_inverted = self.spec.block == ConvBlock::Inverted;
        self.graph.activation(name, x, if is_inverted { Activation::Relu6 } else { Activation::Relu })
    }

    /// Convolution, batch norm and activation.
    fn conv_norm_act(
        &mut self,
        [conv, norm, act]: [&str; 3],
        x: NodeId,
        convolution: Convolution,
    ) -> Result<NodeId, GraphError> {
        let x = self.conv(conv, x, convolution)?;
        let x = self.batch_norm(norm, x)?;
        self.act(act, x)
    }

    /// A convolution that cuts the map into squares, with bias.
    fn patches(&mut self, name: &str, x: NodeId, out: usize, side: usize) -> Result<NodeId, GraphError> {
        let convolution = Convolution::new(out, side).stride(side);
        self.graph.conv2d(name, x, convolution, init::truncated_normal())
    }

    fn stem(&mut self, x: NodeId) -> Result<NodeId, GraphError> {
        let (width, is_small) = (self.spec.stem_width(), self.spec.stem == Stem::Small);
        match self.spec.block {
            ConvBlock::Convnext => {
                let x = self.patches("stem.0", x, width, if is_small { 2 } else { 4 })?;
                self.layer_norm("stem.1", x)
            }
            ConvBlock::Inverted => {
                let convolution = Convolution::new(width, 3).stride(if is_small { 1 } else { 2 });
                self.conv_norm_act(["conv_stem", "bn1", "act1"], x, convolution)
            }
            ConvBlock::Basic | ConvBlock::Bottleneck if is_small => {
                self.conv_norm_act(["conv1", "bn1", "act1"], x, Convolution::new(width, 3))
            }
            ConvBlock::Basic | ConvBlock::Bottleneck => {
                let x = self.conv_norm_act(["conv1", "bn1", "act1"], x, Convolution::new(width, 7).stride(2))?;
                self.graph.max_pool2d("maxpool", x, Pool { kernel: 3, stride: 2, padding: 1 })
            }
        }
    }

    /// Adds a block's result to its input, or to what a shortcut made of it.
    fn add(&mut self, name: &str, kept: NodeId, made: NodeId, block: Block) -> Result<NodeId, GraphError> {
        let made = self.graph.drop_path(&format!("{name}.drop_path"), made, block.drop_path)?;
        self.graph.add(&format!("{name}.add"), kept, made)
    }

    fn resnet_block(&mut self, name: &str, x: NodeId, block: Block, width: usize) -> Result<NodeId, GraphError> {
        let at = |part: &str| format!("{name}.{part}");
        let mut kernels = match self.spec.block {
            ConvBlock::Bottleneck => vec![(width, 1, 1), (width, 3, block.stride), (block.out, 1, 1)],
            _ => vec![(width, 3, block.stride), (block.out, 3, 1)],
        };
        let (out, kernel, stride) = kernels.pop().expect("there are two or three");
        let mut y = x;
        for (i, &(out, kernel, stride)) in (1..).zip(&kernels) {
            let [conv, norm, act] = ["conv", "bn", "act"].map(|part| at(&format!("{part}{i}")));
            y = self.conv_norm_act([&conv, &norm, &act], y, Convolution::new(out, kernel).stride(stride))?;
        }
        let last = kernels.len() + 1;
        y = self.conv(&at(&format!("conv{last}")), y, Convolution::new(out, kernel).stride(stride))?;
        y = self.batch_norm(&at(&format!("bn{last}")), y)?;
        let mut kept = x;
        if block.stride > 1 || self.channels(x) != block.out {
            kept = self.conv(&at("downsample.0"), x, Convolution::new(block.out, 1).stride(block.stride))?;
            kept = self.batch_norm(&at("downsample.1"), kept)?;
        }
        let sum = self.add(name, kept, y, block)?;
        self.act(&at(&format!("act{last}")), sum)
    }

    fn inverted_block(&mut self, name: &str, x: NodeId, block: Block, expands: bool) -> Result<NodeId, GraphError> {
        let at = |part: &str| format!("{name}.{part}");
        let (mut y, mut norms) = (x, 1);
        if expands {
            let convolution = Convolution::new(self.channels(x) * self.spec.expansion, 1);
            y = self.conv_norm_act([&at("conv_pw"), &at("bn1"), &at("act1")], y, convolution)?;
            norms = 2;
        }
        let convolution = self.depthwise(y, 3).stride(block.stride);
        let [norm, act] = ["bn", "act"].map(|part| at(&format!("{part}{norms}")));
        y = self.conv_norm_act([&at("conv_dw"), &norm, &act], y, convolution)?;
        let last = at(if expands { "conv_pwl" } else { "conv_pw" });
        y = self.conv(&last, y, Convolution::new(block.out, 1))?;
        y = self.batch_norm(&at(&format!("bn{}", norms + 1)), y)?;
        let is_residual = block.stride == 1 && self.channels(x) == block.out;
        if is_residual { self.add(name, x, y, block) } else { Ok(y) }
    }

    /// The layers before a stage of a ConvNeXt, where they change the map.
    fn downsample(&mut self, stage: usize, x: NodeId) -> Result<NodeId, GraphError> {
        let (width, stride) = (self.spec.widths[stage], self.spec.strides[stage]);
        if stride == 1 && self.channels(x) == width {
            return Ok(x);
        }
        let x = self.layer_norm(&format!("stages.{stage}.downsample.0"), x)?;
        self.patches(&format!("stages.{stage}.downsample.1"), x, width, stride)
    }

    fn convnext_block(&mut self, name: &str, x: NodeId, block: Block) -> Result<NodeId, GraphError> {
        let at = |part: &str| format!("{name}.{part}");
        let init = init::truncated_normal();
        let convolution = self.depthwise(x, CONVNEXT_KERNEL).padding(CONVNEXT_KERNEL / 2);
        let y = self.graph.conv2d(&at("conv_dw"), x, convolution, init)?;
        let y = self.layer_norm(&at("norm"), y)?;
        let y = self.graph.linear(&at("mlp.fc1"), y, block.out * self.spec.expansion, init)?;
        let y = self.graph.activation(&at("mlp.act"), y, Activation::Gelu)?;
        let y = self.graph.linear(&at("mlp.fc2"), y, block.out, init)?;
        let start = Init::Constant(self.spec.layer_scale as f32);
        let gamma = self.graph.new_parameter(&at("gamma"), [block.out], start)?;
        let y = self.graph.scale_features(&at("layer_scale"), y, gamma)?;
        self.add(name, x, y, block)
    }

    fn head(&mut self, x: NodeId, classes: usize) -> Result<NodeId, GraphError> {
        let spec = self.spec;
        let mut x = x;
        if let Some(width) = spec.head_width {
            x = self.conv_norm_act(["conv_head", "bn2", "act2"], x, Convolution::new(width, 1))?;
        }
        let is_convnext = spec.block == ConvBlock::Convnext;
        x = self.graph.global_avg_pool(if is_convnext { "head.global_pool" } else { "global_pool" }, x)?;
        if is_convnext {
            x = self.layer_norm("head.norm", x)?;
        }
        x = self.graph.dropout(if is_convnext { "head.drop" } else { "drop" }, x, spec.dropout as f32)?;
        let (name, init) = match spec.block {
            ConvBlock::Basic | ConvBlock::Bottleneck => ("fc", LinearInit::pytorch(self.channels(x))),
            ConvBlock::Inverted => {
                let (weight, bias) = (Init::Normal { std: 0.01 }, Some(Init::Constant(0.0)));
                ("classifier", LinearInit { weight, bias })
            }
            ConvBlock::Convnext => ("head.fc", init::truncated_normal()),
        };
        self.graph.linear(name, x, classes, init)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{ImageFacts, KindSpec};
    use crate::models::tests::wiring;

    const FACTS: ImageFacts = ImageFacts { image_size: 32, channels: 3, num_classes: 7 };

    fn build(toml: &str) -> Model {
        let spec: ConvnetSpec = toml::from_str(toml).expect("a table");
        spec.with_facts(FACTS).expect("it fits").build(0.1).expect("a checked config")
    }

    /// The lines of a wiring without parameters, which follow from the names.
    fn short(model: &Model) -> Vec<String> {
        let cut = |line: &String| {
            let (start, end) = line.split_once(';').map_or((line.as_str(), ""), |(start, rest)| {
                (start, rest.rsplit_once(')').map_or("", |(_, shape)| shape))
            });
            if end.is_empty() { start.to_string() } else { format!("{start}){end}") }
        };
        wiring(model).iter().skip(3).map(cut).collect()
    }

    #[test]
    fn a_resnet_has_shortcuts_where_the_map_changes() {
        let model = build("depths = [1, 1]\nwidths = [5, 11]\nstrides = [1, 2]\ndrop_path = 0.25");
        let expected = [
            "conv1 conv2d(map) [16, 16, 5]",
            "bn1 batch_norm(conv1) [16, 16, 5]",
            "act1 relu(bn1) [16, 16, 5]",
            "maxpool max_pool2d(act1) [8, 8, 5]",
            "layer1.0.conv1 conv2d(maxpool) [8, 8, 5]",
            "layer1.0.bn1 batch_norm(layer1.0.conv1) [8, 8, 5]",
            "layer1.0.act1 relu(layer1.0.bn1) [8, 8, 5]",
            "layer1.0.conv2 conv2d(layer1.0.act1) [8, 8, 5]",
            "layer1.0.bn2 batch_norm(layer1.0.conv2) [8, 8, 5]",
            "layer1.0.add add(maxpool layer1.0.bn2) [8, 8, 5]",
            "layer1.0.act2 relu(layer1.0.add) [8, 8, 5]",
            "layer2.0.conv1 conv2d(layer1.0.act2) [4, 4, 11]",
            "layer2.0.bn1 batch_norm(layer2.0.conv1) [4, 4, 11]",
            "layer2.0.act1 relu(layer2.0.bn1) [4, 4, 11]",
            "layer2.0.conv2 conv2d(layer2.0.act1) [4, 4, 11]",
            "layer2.0.bn2 batch_norm(layer2.0.conv2) [4, 4, 11]",
            "layer2.0.downsample.0 conv2d(layer1.0.act2) [4, 4, 11]",
            "layer2.0.downsample.1 batch_norm(layer2.0.downsample.0) [4, 4, 11]",
            "layer2.0.drop_path drop_path(layer2.0.bn2) [4, 4, 11]",
            "layer2.0.add add(layer2.0.downsample.1 layer2.0.drop_path) [4, 4, 11]",
            "layer2.0.act2 relu(layer2.0.add) [4, 4, 11]",
            "global_pool mean_tokens(layer2.0.act2) [11]",
            "fc linear(global_pool) [7]",
        ];
        assert_eq!(short(&model)[..expected.len()], expected);
    }

    #[test]
    fn a_convnext_downsamples_before_its_first_stage_where_that_differs_from_the_stem() {
        let found = |stem_width, stride| {
            let sizes = format!("stem_width = {stem_width}\ndepths = [1]\nwidths = [5]\nstrides = [{stride}]");
            let lines = short(&build(&format!("block = 'convnext'\nstem = 'small'\n{sizes}")));
            lines.into_iter().filter(|line| line.starts_with("stages.0.downsample.1")).collect::<Vec<_>>()
        };
        assert_eq!(found(5, 1), [""; 0]);
        for (stem_width, stride, side) in [(3, 1, 16), (5, 2, 8)] {
            let [line] = &found(stem_width, stride)[..] else { panic!("no layer") };
            assert!(line.ends_with(&format!("[{side}, {side}, 5]")), "{line}");
        }
    }

    #[test]
    fn a_bottleneck_has_its_stride_in_the_3x3_convolution() {
        let model =
            build("block = 'bottleneck'\ndepths = [1]\nwidths = [5]\nstrides = [2]\nstem = 'small'\nexpansion = 3");
        let expected = [
            "conv1 conv2d(map) [32, 32, 5]",
            "layer1.0.conv1 linear(act1) [32, 32, 5]",
            "layer1.0.conv2 conv2d(layer1.0.act1) [16, 16, 5]",
            "layer1.0.conv3 linear(layer1.0.act2) [16, 16, 15]",
            "layer1.0.downsample.0 conv2d(act1) [16, 16, 15]",
        ];
        let found = short(&model);
        let convolutions: Vec<&String> = found
            .iter()
            .filter(|line| {
                line.contains("conv2d")
                    || line.contains("5] linear")
                    || line.contains(".conv1 ")
                    || line.contains(".conv3 ")
            })
            .collect();
        assert_eq!(convolutions, expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn inverted_blocks_widen_from_the_second_stage_on() {
        let model = build(
            "block = 'inverted'\nstem_width = 8\ndepths = [1, 2]\nwidths = [5, 7]\nstrides = [1, 2]\nexpansion = 3
             head_width = 13\ndropout = 0.2",
        );
        let expected = [
            "conv_stem conv2d(map) [16, 16, 8]",
            "act1 relu6(bn1) [16, 16, 8]",
            "blocks.0.0.conv_dw conv2d(act1) [16, 16, 8]",
            "blocks.0.0.act1 relu6(blocks.0.0.bn1) [16, 16, 8]",
            "blocks.0.0.conv_pw linear(blocks.0.0.act1) [16, 16, 5]",
            "blocks.1.0.conv_pw linear(blocks.0.0.bn2) [16, 16, 15]",
            "blocks.1.0.act1 relu6(blocks.1.0.bn1) [16, 16, 15]",
            "blocks.1.0.conv_dw conv2d(blocks.1.0.act1) [8, 8, 15]",
            "blocks.1.0.act2 relu6(blocks.1.0.bn2) [8, 8, 15]",
            "blocks.1.0.conv_pwl linear(blocks.1.0.act2) [8, 8, 7]",
            "blocks.1.1.conv_pw linear(blocks.1.0.bn3) [8, 8, 21]",
            "blocks.1.1.act1 relu6(blocks.1.1.bn1) [8, 8, 21]",
            "blocks.1.1.conv_dw conv2d(blocks.1.1.act1) [8, 8, 21]",
            "blocks.1.1.act2 relu6(blocks.1.1.bn2) [8, 8, 21]",
            "blocks.1.1.conv_pwl linear(blocks.1.1.act2) [8, 8, 7]",
            "blocks.1.1.add add(blocks.1.0.bn3 blocks.1.1.bn3) [8, 8, 7]",
            "conv_head linear(blocks.1.1.add) [8, 8, 13]",
            "act2 relu6(bn2) [8, 8, 13]",
            "global_pool mean_tokens(act2) [13]",
            "drop dropout(global_pool) [13]",
            "classifier linear(drop) [7]",
        ];
        let found = short(&model);
        let found: Vec<&String> = found.iter().filter(|line| !line.contains(" batch_norm(")).collect();
        assert_eq!(found[..expected.len()], expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_convnext_has_norms_before_each_change_of_the_map() {
        let model = build("block = 'convnext'\ndepths = [1, 1]\nwidths = [5, 7]\nstrides = [1, 2]\nexpansion = 2");
        let expected = [
            "stem.0 conv2d(map) [8, 8, 5]",
            "stem.1 layer_norm(stem.0) [8, 8, 5]",
            "stages.0.blocks.0.conv_dw conv2d(stem.1) [8, 8, 5]",
            "stages.0.blocks.0.norm layer_norm(stages.0.blocks.0.conv_dw) [8, 8, 5]",
            "stages.0.blocks.0.mlp.fc1 linear(stages.0.blocks.0.norm) [8, 8, 10]",
            "stages.0.blocks.0.mlp.act gelu(stages.0.blocks.0.mlp.fc1) [8, 8, 10]",
            "stages.0.blocks.0.mlp.fc2 linear(stages.0.blocks.0.mlp.act) [8, 8, 5]",
            "stages.0.blocks.0.layer_scale scale_features(stages.0.blocks.0.mlp.fc2) [8, 8, 5]",
            "stages.0.blocks.0.add add(stem.1 stages.0.blocks.0.layer_scale) [8, 8, 5]",
            "stages.1.downsample.0 layer_norm(stages.0.blocks.0.add) [8, 8, 5]",
            "stages.1.downsample.1 conv2d(stages.1.downsample.0) [4, 4, 7]",
        ];
        let found = short(&model);
        assert_eq!(found[..expected.len()], expected);
        let expected = [
            "head.global_pool mean_tokens(stages.1.blocks.0.add) [7]",
            "head.norm layer_norm(head.global_pool) [7]",
            "head.fc linear(head.norm) [7]",
        ];
        assert_eq!(found[found.len() - 5..found.len() - 2], expected);
        let gamma = model.graph.find_parameter("stages.0.blocks.0.gamma").expect("a parameter");
        assert_eq!(model.graph.parameter(gamma).init, Init::Constant(1e-6));
    }
}
