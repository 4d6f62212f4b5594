//! Models of kind `convnet`: stages of residual blocks, as in ResNet, MobileNetV2 and ConvNeXt.

use super::kind::{Checked, ImageFacts, KindSpec, NamedModel, agree};
use super::vit::{CHANNELS_MAX, DROPOUT_MAX, NUM_CLASSES_MAX, WIDTH_MAX};
use crate::advice::Suggestion;
use crate::config::data::IMAGE_SIZE_MAX;
use crate::config::error::RuleError;
use crate::config::schema::{Range, choices, config_table};
use crate::numbers::counted;

/// A checked [`ConvnetSpec`]; its layout is the name of a batch norm of one pixel, if there is one.
pub type ConvnetConfig = Checked<ConvnetSpec>;

/// Maximum number of stages.
const STAGES_MAX: usize = 16;
/// Maximum number of blocks in a stage.
const DEPTH_MAX: u64 = 100;
/// Maximum factor between the widths of a block's layers.
const EXPANSION_MAX: u64 = 16;

config_table! {
    /// Stages of residual blocks as written, not yet checked.
    pub struct ConvnetSpec in "model" {
        /// Height and width of the square input image, in pixels. The data decides it.
        image_size: Option<usize> = None, range Range::Whole(1, IMAGE_SIZE_MAX as u64), example 224;
        /// Channels of the input image. The data decides them.
        channels: Option<usize> = None, range Range::Whole(1, CHANNELS_MAX), example 3;
        /// Number of classes. The data decides it.
        num_classes: Option<usize> = None, range Range::Whole(2, NUM_CLASSES_MAX), example 10;
        /// Layers of a block.
        block: ConvBlock = ConvBlock::Basic;
        /// Layers before the first block.
        stem: Stem = Stem::Imagenet;
        /// Channels after the stem. Those of the first stage if it is not given.
        stem_width: Option<usize> = None, range Range::Whole(1, WIDTH_MAX as u64), example 32;
        /// Number of blocks in each stage.
        depths: Vec<usize> = vec![2, 2, 2, 2], range Range::Whole(1, DEPTH_MAX);
        /// Channels of each stage. The output of a `bottleneck` has `expansion` times as many.
        widths: Vec<usize> = vec![64, 128, 256, 512], range Range::Whole(1, WIDTH_MAX as u64);
        /// Stride of the first block of each stage. The others have stride 1.
        strides: Vec<usize> = vec![1, 2, 2, 2], range Range::Whole(1, 4);
        /// How many times as wide a block's wide layers are as its narrow ones. Blocks `basic` do not use it, nor does the
        /// first stage of `inverted`, as in MobileNetV2.
        expansion: usize = 4, range Range::Whole(1, EXPANSION_MAX);
        /// Channels of a 1x1 convolution after the last stage. None if it is not given.
        head_width: Option<usize> = None, range Range::Whole(1, WIDTH_MAX as u64), example 1280;
        /// Dropout probability before the classification head.
        dropout: f64 = 0.0, range Range::Between(0.0, DROPOUT_MAX), example 0.2;
        /// Drop path probability of the last block (stochastic depth). A block is skipped for an image with this
        /// probability, which grows linearly from 0 at the first block.
        drop_path: f64 = 0.0, range Range::Between(0.0, DROPOUT_MAX), example 0.1;
        /// Initial factors of each block's output (layer scale). Only blocks `convnext` have them.
        layer_scale: f64 = 1e-6, range Range::Between(0.0, 1.0);
        /// Added to the variance in norms.
        norm_eps: f64 = 1e-5, range Range::Between(1e-12, 1.0);
    }
}

choices! {
    /// Layers of a block, whose output is added to its input.
    pub enum ConvBlock {
        /// Two 3x3 convolutions, each with batch norm and ReLU (ResNet-18 and 34).
        Basic = "basic",
        /// 1x1, 3x3 and 1x1 convolutions with batch norm and ReLU, the last one `expansion` times as wide (ResNet-50).
        Bottleneck = "bottleneck",
        /// A 1x1 convolution that widens, a 3x3 one of each channel by itself, and a 1x1 one that narrows, with batch norm
        /// and ReLU6 (MobileNetV2).
        Inverted = "inverted",
        /// A 7x7 convolution of each channel by itself, layer norm, two linear layers with a GELU, and layer scale.
        Convnext = "convnext",
    }
}

choices! {
    /// Layers before the first block.
    pub enum Stem {
        /// For images of about 224 pixels: a 7x7 convolution and a max pool, which quarter the size (ResNet), a 3x3
        /// convolution of stride 2 (MobileNetV2), or patches of 4x4 pixels (ConvNeXt).
        Imagenet = "imagenet",
        /// For images of about 32 pixels: a 3x3 convolution of stride 1, or patches of 2x2 pixels (ConvNeXt).
        Small = "small",
    }
}

impl KindSpec for ConvnetSpec {
    type Layout = Option<String>;

    const SUMMARY: &'static str = "stages of residual blocks: ResNet, MobileNetV2, ConvNeXt";
    const SOURCE: &'static str = "He et al. 2016";

    fn sizes(&mut self) -> [&mut Option<usize>; 3] {
        [&mut self.image_size, &mut self.channels, &mut self.num_classes]
    }

    fn check(&self) -> Result<(), RuleError> {
        self.check_ranges()?;
        let stages = self.depths.len();
        if !(1..=STAGES_MAX).contains(&stages) {
            let rule = RuleError::about("model.depths", format!("has {stages} stages, not between 1 and {STAGES_MAX}"));
            return Err(rule.suggest(Suggestion::new().set("model.depths", vec![2, 2, 2, 2])));
        }
        for (key, list) in [("model.widths", &self.widths), ("model.strides", &self.strides)] {
            if list.len() != stages {
                let problem = format!("has {}, but depths has {stages}", counted(list.len(), "number"));
                let last = list.last().copied().unwrap_or(1);
                let fitting: Vec<i64> =
                    list.iter().copied().chain(std::iter::repeat(last)).take(stages).map(|n| n as i64).collect();
                let suggestion = Suggestion::new().set(key, fitting);
                return Err(RuleError::about(key, problem).and("model.depths").suggest(suggestion));
            }
        }
        let widest = self.widths.iter().max().map_or(0, |width| width * self.expansion);
        if self.block != ConvBlock::Basic && widest > WIDTH_MAX {
            let problem = format!("makes layers {widest} wide, more than {WIDTH_MAX}");
            let rule = RuleError::new("model.expansion", self.expansion, problem).and("model.widths");
            let suggestion = Suggestion::new().using("a smaller").key("model.expansion").or().using("smaller");
            return Err(rule.suggest(suggestion.key("model.widths")));
        }
        self.image_size.map_or(Ok(()), |image_size| self.map_sizes(image_size).map(drop))
    }

    fn fit(&self, facts: ImageFacts) -> Result<Option<String>, RuleError> {
        agree(facts, [self.image_size, self.channels, self.num_classes])?;
        let ImageFacts { image_size, channels, num_classes } = facts;
        let (channels, num_classes) = (Some(channels), Some(num_classes));
        ConvnetSpec { image_size: Some(image_size), channels, num_classes, ..self.clone() }.check()?;
        let sizes = self.map_sizes(image_size)?;
        Ok(self.norm_of_one_pixel(&sizes, image_size))
    }

    fn describe(model: &ConvnetConfig) -> String {
        let ConvnetSpec { block, depths, widths, .. } = model.spec();
        let blocks = depths.iter().map(usize::to_string).collect::<Vec<_>>().join(" + ");
        let word = match block {
            ConvBlock::Basic => "basic",
            ConvBlock::Bottleneck => "bottleneck",
            ConvBlock::Inverted => "inverted residual",
            ConvBlock::Convnext => "ConvNeXt",
        };
        format!("{blocks} {word} blocks, width {} to {}", widths[0], widths[widths.len() - 1])
    }

    fn batch_norm_of_one_place(model: &ConvnetConfig) -> Option<&str> {
        model.layout().as_deref()
    }

    fn named() -> Vec<NamedModel<ConvnetSpec>> {
        let facts = ImageFacts { image_size: 224, channels: 3, num_classes: 1000 };
        let resnet = |block, depths: [usize; 4]| ConvnetSpec { block, depths: depths.into(), ..Default::default() };
        let mobilenet = ConvnetSpec {
            block: ConvBlock::Inverted,
            stem_width: Some(32),
            depths: vec![1, 2, 3, 4, 3, 3, 1],
            widths: vec![16, 24, 32, 64, 96, 160, 320],
            strides: vec![1, 2, 2, 2, 1, 2, 1],
            expansion: 6,
            head_width: Some(1280),
            dropout: 0.2,
            ..Default::default()
        };
        let convnext = ConvnetSpec {
            block: ConvBlock::Convnext,
            depths: vec![3, 3, 9, 3],
            widths: vec![96, 192, 384, 768],
            norm_eps: 1e-6,
            ..Default::default()
        };
        let (he, basic) = ("He et al. 2016", ConvBlock::Basic);
        [
            ("resnet18", he, resnet(basic, [2, 2, 2, 2])),
            ("resnet34", he, resnet(basic, [3, 4, 6, 3])),
            ("resnet50", he, resnet(ConvBlock::Bottleneck, [3, 4, 6, 3])),
            ("mobilenet-v2", "Sandler et al. 2018", mobilenet),
            ("convnext-tiny", "Liu et al. 2022", convnext),
        ]
        .map(|(name, source, spec)| NamedModel { name, source, facts, spec })
        .into()
    }
}

impl ConvnetSpec {
    /// Channels after the stem.
    pub fn stem_width(&self) -> usize {
        self.stem_width.unwrap_or(self.widths[0])
    }

    /// Channels after a stage.
    pub fn stage_width(&self, stage: usize) -> usize {
        self.widths[stage] * if self.block == ConvBlock::Bottleneck { self.expansion } else { 1 }
    }

    /// Probability that block number `index`, counted over all stages, is skipped for an image.
    pub fn drop_path_at(&self, index: usize) -> f32 {
        let last = self.depths.iter().sum::<usize>() - 1;
        (self.drop_path * index as f64 / last.max(1) as f64) as f32
    }

    /// Height and width of the map after the stem and after each stage.
    ///
    /// # Errors
    /// When ConvNeXt has no whole patch left.
    fn map_sizes(&self, image_size: usize) -> Result<Vec<usize>, RuleError> {
        let is_convnext = self.block == ConvBlock::Convnext;
        // Stem and convolutions of other blocks are padded, and round up.
        let stem = match (is_convnext, self.stem, self.block) {
            (true, Stem::Imagenet, _) => 4,
            (true, Stem::Small, _) | (_, Stem::Imagenet, ConvBlock::Inverted) => 2,
            (_, Stem::Imagenet, _) => 4,
            (_, Stem::Small, _) => 1,
        };
        let mut sizes = Vec::new();
        let mut size = image_size;
        for stride in [stem].iter().chain(&self.strides) {
            size = if is_convnext { size / stride } else { size.div_ceil(*stride) };
            if size == 0 {
                let least = self.strides.iter().product::<usize>() * stem;
                let problem = format!("is too small: stem and strides divide it by {least}");
                let rule = RuleError::new("model.image_size", image_size, problem).and("model.strides");
                let suggestion = Suggestion::new().using("larger images").or().set("model.stem", "small");
                return Err(rule.suggest(suggestion.or().using("smaller").key("model.strides")));
            }
            sizes.push(size);
        }
        Ok(sizes)
    }

    /// The first batch norm that has only one value per channel when a batch is one image.
    fn norm_of_one_pixel(&self, sizes: &[usize], image_size: usize) -> Option<String> {
        let at = sizes.iter().position(|size| *size == 1).filter(|_| self.block != ConvBlock::Convnext)?;
        // The first block of a stage has its stride in the first or the second convolution.
        Some(match (self.block, at.checked_sub(1)) {
            // The stem has a max pool after its batch norm.
            (ConvBlock::Basic | ConvBlock::Bottleneck, None) if self.stem == Stem::Imagenet && image_size > 2 => {
                "layer1.0.bn1".to_string()
            }
            (_, None) => "bn1".to_string(),
            (ConvBlock::Basic, Some(stage)) => format!("layer{}.0.bn1", stage + 1),
            (ConvBlock::Bottleneck, Some(stage)) => format!("layer{}.0.bn2", stage + 1),
            (_, Some(0)) => "blocks.0.0.bn1".to_string(),
            (_, Some(stage)) => format!("blocks.{stage}.0.bn2"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::ModelSpec;

    const FACTS: ImageFacts = ImageFacts { image_size: 32, channels: 3, num_classes: 10 };

    fn refused(toml: &str) -> [String; 2] {
        let spec: ConvnetSpec = toml::from_str(toml).expect("a table");
        let error = spec.with_facts(FACTS).expect_err("a rule is broken");
        [error.to_string(), error.suggestion.expect("every error has a hint").to_string()]
    }

    #[test]
    fn lists_have_a_number_for_each_stage() {
        let [text, hint] = refused("depths = [2, 2, 2]\nwidths = [16, 32]\nstrides = [1, 2, 2]");
        assert_eq!(text, "widths has 2 numbers, but depths has 3");
        assert_eq!(hint, "use model.widths = [16, 32, 32]");
        let [text, hint] = refused("depths = []");
        assert_eq!(text, "depths has 0 stages, not between 1 and 16");
        assert_eq!(hint, "use model.depths = [2, 2, 2, 2]");
        let [text, _] = refused("block = 'bottleneck'\nexpansion = 16\nwidths = [64, 128, 256, 8192]");
        assert_eq!(text, "expansion 16 makes layers 131072 wide, more than 65536");
    }

    #[test]
    fn patches_need_images_of_at_least_one() {
        let small = "block = 'convnext'\nimage_size = 24";
        let error = toml::from_str::<ConvnetSpec>(small).unwrap().check().expect_err("24 / 4 / 2 / 2 / 2");
        assert_eq!(error.to_string(), "image_size 24 is too small: stem and strides divide it by 32");
        let hint = error.suggestion.expect("a hint").to_string();
        assert_eq!(hint, "use larger images, model.stem = \"small\", or smaller model.strides");
        let spec: ConvnetSpec = toml::from_str(&format!("{small}\nstem = 'small'")).unwrap();
        assert_eq!(spec.map_sizes(24), Ok(vec![12, 12, 6, 3, 1]));
    }

    #[test]
    fn a_batch_norm_of_one_pixel_is_found() {
        let found = |name: &str, image_size: usize| {
            let spec = ModelSpec::named(name).unwrap();
            let config = spec.with_facts(ImageFacts { image_size, ..FACTS }).unwrap();
            config.batch_norm_of_one_place().map(str::to_string)
        };
        assert_eq!(found("resnet18", 64), None);
        assert_eq!(found("resnet18", 32).as_deref(), Some("layer4.0.bn1"));
        assert_eq!(found("resnet50", 16).as_deref(), Some("layer3.0.bn2"));
        assert_eq!(found("mobilenet-v2", 32).as_deref(), Some("blocks.5.0.bn2"));
        assert_eq!(found("mobilenet-v2", 33), None);
        assert_eq!(found("convnext-tiny", 32), None);
        assert_eq!(found("resnet34", 2).as_deref(), Some("bn1"));
        // Two pixels before the max pool, one after it.
        assert_eq!(found("resnet34", 3).as_deref(), Some("layer1.0.bn1"));
    }
}
