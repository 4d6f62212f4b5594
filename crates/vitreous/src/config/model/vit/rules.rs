//! The rules for models of kind `vit` that concern several keys.

use super::{ImageFacts, PatchEmbed, Patching, Pooling, Position, VitSpec};
use crate::advice::Suggestion;
use crate::config::error::RuleError;

/// Maximum number of channels.
pub const CHANNELS_MAX: u64 = 64;
/// Maximum number of classes.
pub const NUM_CLASSES_MAX: u64 = 1_000_000;
/// Maximum width of a token and of an MLP's hidden layer.
pub const WIDTH_MAX: usize = 65_536;
/// Maximum number of encoder blocks.
pub const DEPTH_MAX: u64 = 1_000;
/// Maximum number of tokens and of learned positions; attention grows with its square.
pub const TOKENS_MAX: usize = 65_536;
/// Maximum probability of dropout: close to 1, no value is kept that could be scaled up.
pub const DROPOUT_MAX: f64 = 0.999;

impl VitSpec {
    /// Checks the table by itself; sizes that come from the data may be missing.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(super) fn check_rules(&self) -> Result<(), RuleError> {
        self.check_ranges()?;
        let VitSpec { embed_dim, num_heads, mlp_ratio, .. } = *self;
        let width = |step: usize| Suggestion::new().set("model.embed_dim", nearest_multiple(step, embed_dim)).or();
        let wide = |problem: &str| RuleError::new("model.embed_dim", embed_dim, problem);
        if !embed_dim.is_multiple_of(num_heads) {
            let suggestion = width(num_heads).set("model.num_heads", nearest_divisor(embed_dim, num_heads));
            let rule = wide(&format!("is not a multiple of num_heads {num_heads}"));
            return Err(rule.and("model.num_heads").suggest(suggestion));
        }
        let fixed = match self.position {
            Position::SineCosine => Some((2, "sine-cosine")),
            Position::SineCosine2d => Some((4, "sine-cosine-2d")),
            Position::Learned | Position::None => None,
        };
        if let Some((parts, name)) = fixed.filter(|(parts, _)| !embed_dim.is_multiple_of(*parts)) {
            let step = (1..=parts).map(|n| n * num_heads).find(|step| step.is_multiple_of(parts)).unwrap_or(parts);
            let suggestion = width(step).set("model.position", "learned");
            let rule = wide(&format!("is not a multiple of {parts}, but position \"{name}\" needs one"));
            return Err(rule.and("model.position").suggest(suggestion));
        }
        self.check_patch_embed()?;
        if self.decoder && self.pooling == Pooling::Mean {
            let suggestion = Suggestion::new().set("model.pooling", "cls").or().set("model.decoder", false);
            let rule = RuleError::new("model.decoder", true, "needs a class token, but pooling \"mean\" has none");
            return Err(rule.and("model.pooling").suggest(suggestion));
        }
        let ratio = |problem: String| RuleError::new("model.mlp_ratio", mlp_ratio, problem).and("model.embed_dim");
        let hidden = mlp_ratio * embed_dim as f64;
        // A ratio such as 8/3 is written in decimal, so its product is an integer only to within rounding.
        if hidden.round() < 1.0 || (hidden - hidden.round()).abs() > 1e-9 * hidden {
            let near = hidden.round().max(1.0);
            let suggestion = Suggestion::new().set("model.mlp_ratio", near / embed_dim as f64);
            let suggestion = suggestion.text(format!(", which makes the MLP {near} wide"));
            let rule = ratio(format!("times embed_dim {embed_dim} is not a whole number of at least 1"));
            return Err(rule.suggest(suggestion));
        }
        if hidden > WIDTH_MAX as f64 {
            let less = (WIDTH_MAX as f64 / embed_dim as f64).floor().clamp(1.0, 4.0);
            let suggestion =
                Suggestion::new().set("model.mlp_ratio", less).or().using("a smaller").key("model.embed_dim");
            let rule = ratio(format!("makes the MLP {} wide, more than {WIDTH_MAX}", hidden.round()));
            return Err(rule.suggest(suggestion));
        }
        self.image_size.map_or(Ok(()), |image_size| self.check_tokens(image_size, false))
    }

    fn check_patch_embed(&self) -> Result<(), RuleError> {
        let name = match self.patch_embed {
            PatchEmbed::Linear => return Ok(()),
            PatchEmbed::Conv => "conv",
            PatchEmbed::ConvStem => "conv-stem",
        };
        if self.patching == Patching::Flat {
            let suggestion = Suggestion::new().set("model.patch_embed", "linear").or().set("model.patching", "square");
            let rule = RuleError::new("model.patch_embed", name, "needs square patches, but patching is \"flat\"");
            return Err(rule.and("model.patching").suggest(suggestion));
        }
        let patch_size = self.patch_size;
        if self.patch_embed == PatchEmbed::ConvStem && (patch_size < 2 || !patch_size.is_power_of_two()) {
            let problem = format!(
                "is not 2, 4, 8 or another power of 2, but each layer of patch_embed \"{name}\" halves the image"
            );
            // A smaller power is more likely to divide the image's size.
            let near = 1usize << patch_size.max(2).ilog2();
            let suggestion = Suggestion::new().set("model.patch_size", near).or().set("model.patch_embed", "linear");
            let rule = RuleError::new("model.patch_size", patch_size, problem).and("model.patch_embed");
            return Err(rule.suggest(suggestion));
        }
        Ok(())
    }

    /// Checks the sizes of the data, which a spec may leave out.
    pub(super) fn check_facts(&self, facts: ImageFacts) -> Result<(), RuleError> {
        let ImageFacts { image_size, channels, num_classes } = facts;
        let (image_size, channels, num_classes) = (Some(image_size), Some(channels), Some(num_classes));
        VitSpec { image_size, channels, num_classes, ..self.clone() }.check_ranges()?;
        self.check_tokens(facts.image_size, true)
    }

    fn check_tokens(&self, image_size: usize, data_decides: bool) -> Result<(), RuleError> {
        let patch_size = self.patch_size;
        if !image_size.is_multiple_of(patch_size) {
            let patch = Suggestion::new().set("model.patch_size", nearest_divisor(image_size, patch_size));
            let near = nearest_multiple(patch_size, image_size);
            let rule =
                RuleError::new("model.image_size", image_size, format!("is not a multiple of patch_size {patch_size}"));
            // Whether the data's size can be changed is known to `CheckedConfig::resolve`.
            let suggestion = if data_decides { patch } else { patch.or().set("model.image_size", near) };
            return Err(rule.and("model.patch_size").suggest(suggestion));
        }
        let tokens = (image_size / patch_size).pow(2) + usize::from(self.encodes_class_token());
        if tokens > TOKENS_MAX {
            let few = |patch: &usize| image_size.is_multiple_of(*patch) && (image_size / patch).pow(2) < 1025;
            let larger = (1..=image_size).find(few).unwrap_or(image_size);
            let problem = format!("cuts image_size {image_size} into {tokens} tokens, more than {TOKENS_MAX}");
            let rule = RuleError::new("model.patch_size", patch_size, problem).and("model.image_size");
            return Err(rule.suggest(Suggestion::new().set("model.patch_size", larger)));
        }
        match self.num_positions {
            Some(num_positions) if self.position == Position::Learned && num_positions < tokens => {
                let problem = format!("is less than the {tokens} tokens of an image");
                let rule = RuleError::new("model.num_positions", num_positions, problem).and("model.patch_size");
                let suggestion = Suggestion::new().set("model.num_positions", tokens).or().unset("model.num_positions");
                Err(rule.suggest(suggestion))
            }
            _ => Ok(()),
        }
    }
}

/// The multiple of `of` closest to `to`.
pub(in crate::config) fn nearest_multiple(of: usize, to: usize) -> usize {
    ((to + of / 2) / of).max(1) * of
}

/// The divisor of `n` closest to `to`; the smaller of two.
fn nearest_divisor(n: usize, to: usize) -> usize {
    (1..=n).filter(|&d| n.is_multiple_of(d)).min_by_key(|d| d.abs_diff(to)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{ImageFacts, KindSpec};

    const FACTS: ImageFacts = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };

    /// The error's text and its hint, of a default spec after a change, checked by itself.
    fn alone(change: impl FnOnce(&mut VitSpec)) -> [String; 2] {
        let mut spec = VitSpec::default();
        assert_eq!(spec.check(), Ok(()));
        change(&mut spec);
        let error = spec.check().expect_err("a rule is broken");
        [error.to_string(), error.suggestion.expect("every error has a hint").to_string()]
    }

    /// The same, checked with the facts of the data.
    fn with_data(change: impl FnOnce(&mut VitSpec)) -> [String; 2] {
        let mut spec = VitSpec::default();
        change(&mut spec);
        assert_eq!(spec.check(), Ok(()));
        let error = spec.with_facts(FACTS).expect_err("a rule is broken");
        [error.to_string(), error.suggestion.expect("every error has a hint").to_string()]
    }

    #[test]
    fn heads_divide_the_width() {
        let [text, hint] = alone(|s| (s.embed_dim, s.num_heads) = (190, 12));
        assert_eq!(text, "embed_dim 190 is not a multiple of num_heads 12");
        assert_eq!(hint, "use model.embed_dim = 192, or model.num_heads = 10");
        let [_, hint] = alone(|s| (s.embed_dim, s.num_heads) = (2, 5));
        assert_eq!(hint, "use model.embed_dim = 5, or model.num_heads = 2");
    }

    #[test]
    fn fixed_positions_need_an_even_width() {
        let [text, hint] =
            alone(|s| (s.embed_dim, s.num_heads, s.position, s.mlp_ratio) = (63, 3, Position::SineCosine, 2.0));
        assert_eq!(text, "embed_dim 63 is not a multiple of 2, but position \"sine-cosine\" needs one");
        assert_eq!(hint, "use model.embed_dim = 66, or model.position = \"learned\"");
    }

    #[test]
    fn fixed_positions_in_two_dimensions_need_a_multiple_of_4() {
        let [text, hint] =
            alone(|s| (s.embed_dim, s.num_heads, s.position, s.mlp_ratio) = (66, 3, Position::SineCosine2d, 2.0));
        assert_eq!(text, "embed_dim 66 is not a multiple of 4, but position \"sine-cosine-2d\" needs one");
        assert_eq!(hint, "use model.embed_dim = 72, or model.position = \"learned\"");
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let [text, hint] = alone(|s| (s.patching, s.patch_embed) = (Patching::Flat, PatchEmbed::Conv));
        assert_eq!(text, "patch_embed \"conv\" needs square patches, but patching is \"flat\"");
        assert_eq!(hint, "use model.patch_embed = \"linear\", or model.patching = \"square\"");
        let [text, _] = alone(|s| (s.patching, s.patch_embed) = (Patching::Flat, PatchEmbed::ConvStem));
        assert_eq!(text, "patch_embed \"conv-stem\" needs square patches, but patching is \"flat\"");
        let [text, hint] = alone(|s| (s.decoder, s.pooling) = (true, Pooling::Mean));
        assert_eq!(text, "decoder true needs a class token, but pooling \"mean\" has none");
        assert_eq!(hint, "use model.pooling = \"cls\", or model.decoder = false");
    }

    #[test]
    fn a_convolutional_stem_halves_patches_until_one_pixel_is_left() {
        for (patch_size, near) in [(1, 2), (6, 4), (7, 4), (12, 8)] {
            let [text, hint] = alone(|s| (s.patch_size, s.patch_embed) = (patch_size, PatchEmbed::ConvStem));
            let problem =
                "is not 2, 4, 8 or another power of 2, but each layer of patch_embed \"conv-stem\" halves the image";
            assert_eq!(text, format!("patch_size {patch_size} {problem}"));
            assert_eq!(hint, format!("use model.patch_size = {near}, or model.patch_embed = \"linear\""));
        }
        let channels = |patch_size, embed_dim| {
            let spec = VitSpec { patch_size, embed_dim, patch_embed: PatchEmbed::ConvStem, ..VitSpec::default() };
            assert_eq!(spec.check(), Ok(()));
            spec.stem_channels()
        };
        assert_eq!(channels(16, 192), [24, 48, 96, 192]);
        assert_eq!(channels(2, 64), [64]);
        assert_eq!(channels(16, 4), [1, 1, 2, 4]);
    }

    #[test]
    fn the_hidden_width_is_a_whole_number() {
        let [text, hint] = alone(|s| s.mlp_ratio = 1.33);
        assert_eq!(text, "mlp_ratio 1.33 times embed_dim 64 is not a whole number of at least 1");
        assert_eq!(hint, "use model.mlp_ratio = 1.328125, which makes the MLP 85 wide");
        let [_, hint] = alone(|s| s.mlp_ratio = 0.001);
        assert_eq!(hint, "use model.mlp_ratio = 0.015625, which makes the MLP 1 wide");
        let [text, hint] = alone(|s| s.mlp_ratio = 2000.0);
        assert_eq!(text, "mlp_ratio 2000 makes the MLP 128000 wide, more than 65536");
        assert_eq!(hint, "use model.mlp_ratio = 4, or a smaller model.embed_dim");
        let [text, hint] = alone(|s| (s.embed_dim, s.mlp_ratio) = (65536, 2.0));
        assert_eq!(text, "mlp_ratio 2 makes the MLP 131072 wide, more than 65536");
        assert_eq!(hint, "use model.mlp_ratio = 1, or a smaller model.embed_dim");
        let third = VitSpec { embed_dim: 12, mlp_ratio: 8.0 / 3.0, ..VitSpec::default() };
        assert_eq!(third.with_facts(FACTS).expect("32 wide").spec().hidden_dim(), 32);
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        let cases = [
            (
                alone(|s| s.image_size = Some(0)),
                "image_size 0 is not between 1 and 4096",
                "image_size = 28, or remove model.image_size",
            ),
            (
                alone(|s| s.channels = Some(0)),
                "channels 0 is not between 1 and 64",
                "channels = 3, or remove model.channels",
            ),
            (
                alone(|s| s.num_classes = Some(1 << 20)),
                "num_classes 1048576 is not between 2 and 1000000",
                "num_classes = 10, or remove model.num_classes",
            ),
            (
                alone(|s| s.num_positions = Some(0)),
                "num_positions 0 is not between 1 and 65536",
                "num_positions = 65, or remove model.num_positions",
            ),
            (alone(|s| s.patch_size = 0), "patch_size 0 is not between 1 and 4096", "patch_size = 4"),
            (alone(|s| s.embed_dim = 0), "embed_dim 0 is not between 1 and 65536", "embed_dim = 64"),
            (alone(|s| s.embed_dim = 1 << 40), "embed_dim 1099511627776 is not between 1 and 65536", "embed_dim = 64"),
            (alone(|s| s.depth = 0), "depth 0 is not between 1 and 1000", "depth = 4"),
            (alone(|s| s.num_heads = 0), "num_heads 0 is not between 1 and 65536", "num_heads = 4"),
            (alone(|s| s.mlp_ratio = f64::INFINITY), "mlp_ratio inf is not above 0 and finite", "mlp_ratio = 2"),
            (alone(|s| s.dropout = 1.0), "dropout 1 is not between 0 and 0.999", "dropout = 0.1"),
            (alone(|s| s.dropout = f64::NAN), "dropout NaN is not between 0 and 0.999", "dropout = 0.1"),
            (alone(|s| s.drop_path = 1.0), "drop_path 1 is not between 0 and 0.999", "drop_path = 0.1"),
            (alone(|s| s.norm_eps = 0.0), "norm_eps 0 is not between 1e-12 and 1", "norm_eps = 1e-5"),
            (
                alone(|s| s.token_init_std = -1.0),
                "token_init_std -1 is not between 0 and 1000",
                "token_init_std = 0.02",
            ),
        ];
        for ([text, hint], expected_text, expected_hint) in cases {
            assert_eq!(text, expected_text);
            assert_eq!(hint, format!("use model.{expected_hint}"));
        }
    }

    #[test]
    fn patches_cover_the_image() {
        let [text, hint] = alone(|s| (s.image_size, s.patch_size) = (Some(28), 5));
        assert_eq!(text, "image_size 28 is not a multiple of patch_size 5");
        assert_eq!(hint, "use model.patch_size = 4, or model.image_size = 30");
        let [text, hint] = with_data(|s| s.patch_size = 16);
        assert_eq!(text, "image_size 28 is not a multiple of patch_size 16");
        assert_eq!(hint, "use model.patch_size = 14");
        let [text, hint] = alone(|s| (s.image_size, s.patch_size) = (Some(2048), 4));
        assert_eq!(text, "patch_size 4 cuts image_size 2048 into 262145 tokens, more than 65536");
        assert_eq!(hint, "use model.patch_size = 64");
    }

    #[test]
    fn the_position_table_is_at_least_as_long_as_the_sequence() {
        let [text, hint] = with_data(|s| s.num_positions = Some(49));
        assert_eq!(text, "num_positions 49 is less than the 50 tokens of an image");
        assert_eq!(hint, "use model.num_positions = 50, or remove model.num_positions");
        let mean = VitSpec { num_positions: Some(49), pooling: Pooling::Mean, ..VitSpec::default() };
        assert!(mean.with_facts(FACTS).is_ok());
        let decoder = VitSpec { num_positions: Some(49), decoder: true, ..VitSpec::default() };
        assert!(decoder.with_facts(FACTS).is_ok());
    }

    #[test]
    fn a_size_that_contradicts_the_data_is_refused() {
        let [text, hint] = with_data(|s| s.image_size = Some(32));
        assert_eq!(text, "image_size 32 does not match the data set's 28");
        assert_eq!(hint, "use model.image_size = 28, or remove model.image_size");
        assert_eq!(with_data(|s| s.channels = Some(3))[0], "channels 3 does not match the data set's 1");
        assert_eq!(with_data(|s| s.num_classes = Some(7))[0], "num_classes 7 does not match the data set's 10");
        let one_class = VitSpec::default().with_facts(ImageFacts { num_classes: 1, ..FACTS });
        let error = one_class.expect_err("one class");
        assert_eq!(error.to_string(), "num_classes 1 is not between 2 and 1000000");
    }
}
