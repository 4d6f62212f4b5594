//! The rules for models of kind `vit`, and their errors.

use thiserror::Error;

use super::{ImageFacts, PatchEmbed, Patching, Pooling, Position, VitSpec};
use crate::config::data::IMAGE_SIZE_MAX;
use crate::numbers;

/// Maximum number of channels.
pub const CHANNELS_MAX: usize = 64;
/// Maximum number of classes.
pub const NUM_CLASSES_MAX: usize = 1_000_000;
/// Maximum width of a token and of an MLP's hidden layer.
pub const WIDTH_MAX: usize = 65_536;
/// Maximum number of encoder blocks.
pub const DEPTH_MAX: usize = 1_000;
/// Maximum number of tokens and of learned positions; attention grows with its square.
pub const TOKENS_MAX: usize = 65_536;
/// Maximum probability of dropout: close to 1, no value is kept that could be scaled up.
pub const DROPOUT_MAX: f64 = 0.999;

impl VitSpec {
    /// Checks the table by itself; sizes that are to come from the data are not missed.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(super) fn check_rules(&self) -> Result<(), VitSpecError> {
        self.check_ranges()?;
        if !self.embed_dim.is_multiple_of(self.num_heads) {
            return Err(VitSpecError::Heads { embed_dim: self.embed_dim, num_heads: self.num_heads });
        }
        if self.position == Position::SineCosine && !self.embed_dim.is_multiple_of(2) {
            return Err(VitSpecError::OddWidth { embed_dim: self.embed_dim, num_heads: self.num_heads });
        }
        if self.position == Position::SineCosine2d && !self.embed_dim.is_multiple_of(4) {
            return Err(VitSpecError::NoFours { embed_dim: self.embed_dim, num_heads: self.num_heads });
        }
        if self.patching == Patching::Flat && self.patch_embed == PatchEmbed::Conv {
            return Err(VitSpecError::FlatConvolution);
        }
        if self.decoder && self.pooling == Pooling::Mean {
            return Err(VitSpecError::DecoderWithoutQuery);
        }
        let hidden = self.mlp_ratio * self.embed_dim as f64;
        // A ratio such as 8/3 is written in decimal, so its product is an integer only to within rounding.
        if hidden.round() < 1.0 || (hidden - hidden.round()).abs() > 1e-9 * hidden {
            return Err(VitSpecError::MlpRatio { mlp_ratio: self.mlp_ratio, embed_dim: self.embed_dim });
        }
        if hidden > WIDTH_MAX as f64 {
            return Err(VitSpecError::MlpWidth { hidden: hidden.round() as u64, mlp_ratio: self.mlp_ratio });
        }
        match self.image_size {
            Some(image_size) => self.check_tokens(image_size, false),
            None => Ok(()),
        }
    }

    /// Checks the sizes of the data, which a spec may leave out.
    pub(super) fn check_facts(&self, facts: ImageFacts) -> Result<(), VitSpecError> {
        let ImageFacts { image_size, channels, num_classes } = facts;
        let (image_size, channels, num_classes) = (Some(image_size), Some(channels), Some(num_classes));
        VitSpec { image_size, channels, num_classes, ..self.clone() }.check_ranges()?;
        self.check_tokens(facts.image_size, true)
    }

    fn check_ranges(&self) -> Result<(), VitSpecError> {
        let integer = |key, value: usize, least: usize, greatest: usize, fix: usize| {
            let holds = (least..=greatest).contains(&value);
            let must = || format!("between {least} and {greatest}");
            if holds { Ok(()) } else { Err(out_of_range(key, value, must(), fix)) }
        };
        let real = |key, value: f64, least: f64, greatest: f64, fix: f64| {
            let holds = (least..=greatest).contains(&value);
            let must = || format!("between {least} and {greatest}");
            if holds { Ok(()) } else { Err(out_of_range(key, numbers::number(value), must(), fix)) }
        };
        for (key, value, least, greatest, fix) in [
            ("image_size", self.image_size, 1, IMAGE_SIZE_MAX, 28),
            ("channels", self.channels, 1, CHANNELS_MAX, 3),
            ("num_classes", self.num_classes, 0, NUM_CLASSES_MAX, 10),
            ("num_positions", self.num_positions, 1, TOKENS_MAX, 65),
        ] {
            value.map_or(Ok(()), |value| integer(key, value, least, greatest, fix))?;
        }
        if let Some(num_classes) = self.num_classes.filter(|&n| n < 2) {
            return Err(VitSpecError::Classes { num_classes });
        }
        integer("patch_size", self.patch_size, 1, IMAGE_SIZE_MAX, 4)?;
        integer("embed_dim", self.embed_dim, 1, WIDTH_MAX, 64)?;
        integer("depth", self.depth, 1, DEPTH_MAX, 4)?;
        integer("num_heads", self.num_heads, 1, WIDTH_MAX, 4)?;
        real("dropout", self.dropout, 0.0, DROPOUT_MAX, 0.1)?;
        real("drop_path", self.drop_path, 0.0, DROPOUT_MAX, 0.1)?;
        real("norm_eps", self.norm_eps, 1e-12, 1.0, 1e-5)?;
        real("token_init_std", self.token_init_std, 0.0, 1e3, 0.02)?;
        if self.mlp_ratio.is_finite() && self.mlp_ratio > 0.0 {
            return Ok(());
        }
        Err(out_of_range("mlp_ratio", numbers::number(self.mlp_ratio), "a positive number".to_string(), 4))
    }

    fn check_tokens(&self, image_size: usize, size_is_fixed: bool) -> Result<(), VitSpecError> {
        let patch_size = self.patch_size;
        if !image_size.is_multiple_of(patch_size) {
            return Err(VitSpecError::Patches { image_size, patch_size, size_is_fixed });
        }
        let tokens = (image_size / patch_size).pow(2) + usize::from(self.encodes_class_token());
        if tokens > TOKENS_MAX {
            return Err(VitSpecError::Tokens { image_size, patch_size, tokens });
        }
        match self.num_positions {
            Some(num_positions) if self.position == Position::Learned && num_positions < tokens => {
                Err(VitSpecError::Positions { num_positions, tokens })
            }
            _ => Ok(()),
        }
    }
}

/// Says which rule a [`VitSpec`] breaks.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum VitSpecError {
    /// A number is out of range.
    #[error("{key} {value} is not {must} ([model])")]
    Range {
        /// The number's key.
        key: &'static str,
        /// The number.
        value: String,
        /// The range.
        must: String,
        /// A valid number.
        fix: String,
    },
    /// There are too few classes.
    #[error("num_classes {num_classes} is less than 2 ([model])")]
    Classes {
        /// Number of classes.
        num_classes: usize,
    },
    /// The heads cannot share the width evenly.
    #[error("embed_dim {embed_dim} is not a multiple of num_heads {num_heads} ([model])")]
    Heads {
        /// Length of one token vector.
        embed_dim: usize,
        /// Number of heads.
        num_heads: usize,
    },
    /// Fixed positions need as many sines as cosines.
    #[error("embed_dim {embed_dim} is odd, but position \"sine-cosine\" needs a multiple of 2 ([model])")]
    OddWidth {
        /// Length of one token vector.
        embed_dim: usize,
        /// Number of heads.
        num_heads: usize,
    },
    /// Fixed positions in two dimensions need as many sines as cosines for rows and for columns.
    #[error("embed_dim {embed_dim} is not a multiple of 4, but position \"sine-cosine-2d\" needs one ([model])")]
    NoFours {
        /// Length of one token vector.
        embed_dim: usize,
        /// Number of heads.
        num_heads: usize,
    },
    /// A convolution needs square patches.
    #[error("patch_embed \"conv\" needs square patches, but patching is \"flat\" ([model])")]
    FlatConvolution,
    /// The decoder has no query.
    #[error("decoder true needs a class token, but pooling \"mean\" has none ([model])")]
    DecoderWithoutQuery,
    /// The MLP's hidden width is no integer.
    #[error("mlp_ratio {mlp_ratio} times embed_dim {embed_dim} is not a whole number of at least 1 ([model])")]
    MlpRatio {
        /// The ratio.
        mlp_ratio: f64,
        /// Length of one token vector.
        embed_dim: usize,
    },
    /// The MLP's hidden layer is too wide.
    #[error("mlp_ratio {mlp_ratio} makes the MLP {hidden} wide, more than {WIDTH_MAX} ([model])")]
    MlpWidth {
        /// The hidden width.
        hidden: u64,
        /// The ratio.
        mlp_ratio: f64,
    },
    /// Patches do not cover the image.
    #[error("image_size {image_size} is not a multiple of patch_size {patch_size} ([model])")]
    Patches {
        /// Height and width of the image.
        image_size: usize,
        /// Height and width of a patch.
        patch_size: usize,
        /// Whether the image size comes from the data.
        size_is_fixed: bool,
    },
    /// The sequence is too long.
    #[error(
        "patch_size {patch_size} cuts image_size {image_size} into {tokens} tokens, more than {TOKENS_MAX} ([model])"
    )]
    Tokens {
        /// Height and width of the image.
        image_size: usize,
        /// Height and width of a patch.
        patch_size: usize,
        /// How many tokens that makes.
        tokens: usize,
    },
    /// The table of positions is shorter than the sequence.
    #[error("num_positions {num_positions} is less than the {tokens} tokens of an image ([model])")]
    Positions {
        /// Rows of the table.
        num_positions: usize,
        /// Length of the sequence.
        tokens: usize,
    },
    /// A size contradicts the data set.
    #[error("{key} {written} does not match the data set's {found} ([model])")]
    Contradiction {
        /// The key that contradicts.
        key: &'static str,
        /// The written size.
        written: usize,
        /// The data set's.
        found: usize,
    },
}

impl VitSpecError {
    /// Says what would work instead.
    pub fn hint(&self) -> Option<String> {
        Some(match *self {
            VitSpecError::Range { key, ref fix, .. } => format!("use {key} {fix}"),
            VitSpecError::Classes { .. } => "a classifier needs images of at least 2 classes".to_string(),
            VitSpecError::Heads { embed_dim, num_heads } => {
                let (width, heads) = (nearest_multiple(num_heads, embed_dim), nearest_divisor(embed_dim, num_heads));
                format!("use embed_dim {width}, or num_heads {heads}")
            }
            VitSpecError::OddWidth { embed_dim, num_heads } => {
                let width = nearest_multiple(if num_heads % 2 == 0 { num_heads } else { 2 * num_heads }, embed_dim);
                format!("use embed_dim {width}, or position \"learned\"")
            }
            VitSpecError::NoFours { embed_dim, num_heads } => {
                let step = [1, 2, 4].into_iter().find(|n| (n * num_heads).is_multiple_of(4)).unwrap_or(4) * num_heads;
                format!("use embed_dim {}, or position \"learned\"", nearest_multiple(step, embed_dim))
            }
            VitSpecError::FlatConvolution => "use patch_embed \"linear\", or patching \"square\"".to_string(),
            VitSpecError::DecoderWithoutQuery => "use pooling \"cls\", or decoder false".to_string(),
            VitSpecError::MlpRatio { mlp_ratio, embed_dim } => {
                let hidden = (mlp_ratio * embed_dim as f64).round().max(1.0);
                format!("use mlp_ratio {}, which makes the MLP {hidden} wide", hidden / embed_dim as f64)
            }
            VitSpecError::MlpWidth { hidden, mlp_ratio } => {
                let embed_dim = hidden as f64 / mlp_ratio;
                let ratio = (WIDTH_MAX as f64 / embed_dim).floor().clamp(1.0, 4.0);
                format!("use mlp_ratio {ratio}, or a smaller embed_dim")
            }
            VitSpecError::Patches { image_size, patch_size, size_is_fixed: true } => {
                format!(
                    "the data set decides the image size: use patch_size {}",
                    nearest_divisor(image_size, patch_size)
                )
            }
            VitSpecError::Patches { image_size, patch_size, size_is_fixed: false } => {
                let [patch, image] = near_patches(image_size, patch_size);
                format!("use patch_size {patch}, or image_size {image}")
            }
            VitSpecError::Tokens { image_size, .. } => {
                let few = |patch: &usize| image_size.is_multiple_of(*patch) && (image_size / patch).pow(2) < 1025;
                format!("use patch_size {}", (1..=image_size).find(few).unwrap_or(image_size))
            }
            VitSpecError::Positions { tokens, .. } => format!("use num_positions {tokens}, or leave it out"),
            VitSpecError::Contradiction { key, found, .. } => format!("use {key} {found}, or leave it out"),
        })
    }
}

fn out_of_range(key: &'static str, value: impl ToString, must: String, fix: impl ToString) -> VitSpecError {
    VitSpecError::Range { key, value: value.to_string(), must, fix: fix.to_string() }
}

/// A size of patches that divides the image's, and a size of images that the patches divide.
pub fn near_patches(image_size: usize, patch_size: usize) -> [usize; 2] {
    [nearest_divisor(image_size, patch_size), nearest_multiple(patch_size, image_size)]
}

pub(super) fn nearest_multiple(of: usize, to: usize) -> usize {
    ((to + of / 2) / of).max(1) * of
}

/// The divisor of `n` closest to `to`; the smaller of two.
pub(super) fn nearest_divisor(n: usize, to: usize) -> usize {
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
        [error.to_string(), error.hint().expect("every error has a hint")]
    }

    /// The same, checked with the facts of the data.
    fn with_data(change: impl FnOnce(&mut VitSpec)) -> [String; 2] {
        let mut spec = VitSpec::default();
        change(&mut spec);
        assert_eq!(spec.check(), Ok(()));
        let error = spec.with_facts(FACTS).expect_err("a rule is broken");
        [error.to_string(), error.hint().expect("every error has a hint")]
    }

    #[test]
    fn heads_divide_the_width() {
        let [text, hint] = alone(|s| (s.embed_dim, s.num_heads) = (190, 12));
        assert_eq!(text, "embed_dim 190 is not a multiple of num_heads 12 ([model])");
        assert_eq!(hint, "use embed_dim 192, or num_heads 10");
        let [_, hint] = alone(|s| (s.embed_dim, s.num_heads) = (2, 5));
        assert_eq!(hint, "use embed_dim 5, or num_heads 2");
    }

    #[test]
    fn fixed_positions_need_an_even_width() {
        let [text, hint] =
            alone(|s| (s.embed_dim, s.num_heads, s.position, s.mlp_ratio) = (63, 3, Position::SineCosine, 2.0));
        assert_eq!(text, "embed_dim 63 is odd, but position \"sine-cosine\" needs a multiple of 2 ([model])");
        assert_eq!(hint, "use embed_dim 66, or position \"learned\"");
    }

    #[test]
    fn fixed_positions_in_two_dimensions_need_a_multiple_of_4() {
        let [text, hint] =
            alone(|s| (s.embed_dim, s.num_heads, s.position, s.mlp_ratio) = (66, 3, Position::SineCosine2d, 2.0));
        assert_eq!(text, "embed_dim 66 is not a multiple of 4, but position \"sine-cosine-2d\" needs one ([model])");
        assert_eq!(hint, "use embed_dim 72, or position \"learned\"");
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let [text, hint] = alone(|s| (s.patching, s.patch_embed) = (Patching::Flat, PatchEmbed::Conv));
        assert_eq!(text, "patch_embed \"conv\" needs square patches, but patching is \"flat\" ([model])");
        assert_eq!(hint, "use patch_embed \"linear\", or patching \"square\"");
        let [text, hint] = alone(|s| (s.decoder, s.pooling) = (true, Pooling::Mean));
        assert_eq!(text, "decoder true needs a class token, but pooling \"mean\" has none ([model])");
        assert_eq!(hint, "use pooling \"cls\", or decoder false");
    }

    #[test]
    fn the_hidden_width_is_a_whole_number() {
        let [text, hint] = alone(|s| s.mlp_ratio = 1.33);
        assert_eq!(text, "mlp_ratio 1.33 times embed_dim 64 is not a whole number of at least 1 ([model])");
        assert_eq!(hint, "use mlp_ratio 1.328125, which makes the MLP 85 wide");
        let [_, hint] = alone(|s| s.mlp_ratio = 0.001);
        assert_eq!(hint, "use mlp_ratio 0.015625, which makes the MLP 1 wide");
        let [text, hint] = alone(|s| s.mlp_ratio = 2000.0);
        assert_eq!(text, "mlp_ratio 2000 makes the MLP 128000 wide, more than 65536 ([model])");
        assert_eq!(hint, "use mlp_ratio 4, or a smaller embed_dim");
        let [text, hint] = alone(|s| (s.embed_dim, s.mlp_ratio) = (65536, 2.0));
        assert_eq!(text, "mlp_ratio 2 makes the MLP 131072 wide, more than 65536 ([model])");
        assert_eq!(hint, "use mlp_ratio 1, or a smaller embed_dim");
        let third = VitSpec { embed_dim: 12, mlp_ratio: 8.0 / 3.0, ..VitSpec::default() };
        assert_eq!(third.with_facts(FACTS).expect("32 wide").spec().hidden_dim(), 32);
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        let cases: [([String; 2], [&str; 2]); 15] = [
            (alone(|s| s.image_size = Some(0)), ["image_size 0 is not between 1 and 4096", "use image_size 28"]),
            (alone(|s| s.channels = Some(0)), ["channels 0 is not between 1 and 64", "use channels 3"]),
            (
                alone(|s| s.num_classes = Some(1 << 20)),
                ["num_classes 1048576 is not between 0 and 1000000", "use num_classes 10"],
            ),
            (
                alone(|s| s.num_positions = Some(0)),
                ["num_positions 0 is not between 1 and 65536", "use num_positions 65"],
            ),
            (alone(|s| s.patch_size = 0), ["patch_size 0 is not between 1 and 4096", "use patch_size 4"]),
            (alone(|s| s.embed_dim = 0), ["embed_dim 0 is not between 1 and 65536", "use embed_dim 64"]),
            (
                alone(|s| s.embed_dim = 1 << 40),
                ["embed_dim 1099511627776 is not between 1 and 65536", "use embed_dim 64"],
            ),
            (alone(|s| s.depth = 0), ["depth 0 is not between 1 and 1000", "use depth 4"]),
            (alone(|s| s.num_heads = 0), ["num_heads 0 is not between 1 and 65536", "use num_heads 4"]),
            (alone(|s| s.mlp_ratio = f64::INFINITY), ["mlp_ratio inf is not a positive number", "use mlp_ratio 4"]),
            (alone(|s| s.dropout = 1.0), ["dropout 1 is not between 0 and 0.999", "use dropout 0.1"]),
            (alone(|s| s.dropout = f64::NAN), ["dropout NaN is not between 0 and 0.999", "use dropout 0.1"]),
            (alone(|s| s.drop_path = 1.0), ["drop_path 1 is not between 0 and 0.999", "use drop_path 0.1"]),
            (alone(|s| s.norm_eps = 0.0), ["norm_eps 0 is not between 0.000000000001 and 1", "use norm_eps 0.00001"]),
            (
                alone(|s| s.token_init_std = -1.0),
                ["token_init_std -1 is not between 0 and 1000", "use token_init_std 0.02"],
            ),
        ];
        for ([text, hint], [expected_text, expected_hint]) in cases {
            assert_eq!(text, format!("{expected_text} ([model])"));
            assert_eq!(hint, expected_hint);
        }
    }

    #[test]
    fn patches_cover_the_image() {
        let [text, hint] = alone(|s| (s.image_size, s.patch_size) = (Some(28), 5));
        assert_eq!(text, "image_size 28 is not a multiple of patch_size 5 ([model])");
        assert_eq!(hint, "use patch_size 4, or image_size 30");
        let [text, hint] = with_data(|s| s.patch_size = 16);
        assert_eq!(text, "image_size 28 is not a multiple of patch_size 16 ([model])");
        assert_eq!(hint, "the data set decides the image size: use patch_size 14");
        let [text, hint] = alone(|s| (s.image_size, s.patch_size) = (Some(2048), 4));
        assert_eq!(text, "patch_size 4 cuts image_size 2048 into 262145 tokens, more than 65536 ([model])");
        assert_eq!(hint, "use patch_size 64");
    }

    #[test]
    fn the_position_table_is_at_least_as_long_as_the_sequence() {
        let [text, hint] = with_data(|s| s.num_positions = Some(49));
        assert_eq!(text, "num_positions 49 is less than the 50 tokens of an image ([model])");
        assert_eq!(hint, "use num_positions 50, or leave it out");
        let mean = VitSpec { num_positions: Some(49), pooling: Pooling::Mean, ..VitSpec::default() };
        assert!(mean.with_facts(FACTS).is_ok());
        let decoder = VitSpec { num_positions: Some(49), decoder: true, ..VitSpec::default() };
        assert!(decoder.with_facts(FACTS).is_ok());
    }

    #[test]
    fn a_size_that_contradicts_the_data_is_refused() {
        let [text, hint] = with_data(|s| s.image_size = Some(32));
        assert_eq!(text, "image_size 32 does not match the data set's 28 ([model])");
        assert_eq!(hint, "use image_size 28, or leave it out");
        assert_eq!(with_data(|s| s.channels = Some(3))[0], "channels 3 does not match the data set's 1 ([model])");
        assert_eq!(
            with_data(|s| s.num_classes = Some(7))[0],
            "num_classes 7 does not match the data set's 10 ([model])"
        );
        let one_class = VitSpec::default().with_facts(ImageFacts { num_classes: 1, ..FACTS });
        let error = one_class.expect_err("one class");
        assert_eq!(error.to_string(), "num_classes 1 is less than 2 ([model])");
        assert_eq!(error.hint().as_deref(), Some("a classifier needs images of at least 2 classes"));
    }
}
