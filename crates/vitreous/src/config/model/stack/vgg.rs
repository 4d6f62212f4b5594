//! VGG as a stack (Simonyan and Zisserman 2015), with and without batch norm, as torchvision writes its features.
//!
//! The three wide linear layers of the paper are one here, as is usual for small images.

use super::{StackInit, StackSpec, WrittenLayer};
use crate::config::model::kind::{ImageFacts, NamedModel};

/// Names, convolutions in each of the five stages, and whether batch norm follows each convolution.
const VGGS: [(&str, [usize; 5], bool); 8] = [
    ("vgg11", [1, 1, 2, 2, 2], false),
    ("vgg13", [2, 2, 2, 2, 2], false),
    ("vgg16", [2, 2, 3, 3, 3], false),
    ("vgg19", [2, 2, 4, 4, 4], false),
    ("vgg11-bn", [1, 1, 2, 2, 2], true),
    ("vgg13-bn", [2, 2, 2, 2, 2], true),
    ("vgg16-bn", [2, 2, 3, 3, 3], true),
    ("vgg19-bn", [2, 2, 4, 4, 4], true),
];

/// Channels of each stage.
const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

/// The VGGs, with the names of torchvision.
pub(super) fn named() -> Vec<NamedModel<StackSpec>> {
    let facts = ImageFacts { image_size: 32, channels: 3, num_classes: 10 };
    let source = "Simonyan and Zisserman 2015";
    VGGS.map(|(name, stages, norms)| NamedModel { name, source, facts, spec: spec(stages, norms) }).into()
}

fn spec(stages: [usize; 5], norms: bool) -> StackSpec {
    let mut lines = Vec::new();
    for (convolutions, channels) in stages.into_iter().zip(CHANNELS) {
        for _ in 0..convolutions {
            lines.push(format!("conv {channels}"));
            lines.extend(norms.then(|| "batchnorm".to_string()));
            lines.push("relu".to_string());
        }
        lines.push("maxpool 2".to_string());
    }
    lines.extend(["flatten", "linear classes"].map(str::to_string));
    let layers = lines.into_iter().map(WrittenLayer::Line).collect();
    StackSpec { layers, init: StackInit::Kaiming, ..StackSpec::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::KindSpec;

    #[test]
    fn the_number_in_the_name_counts_convolutions_and_the_papers_linear_layers() {
        for NamedModel { name, spec, .. } in named() {
            let convolutions = spec.layers.iter().filter(|layer| {
                let WrittenLayer::Line(line) = layer else { return false };
                line.starts_with("conv ")
            });
            let digits: String = name.chars().filter(char::is_ascii_digit).collect();
            assert_eq!(digits, (convolutions.count() + 3).to_string());
            let norms = spec.layers.contains(&WrittenLayer::Line("batchnorm".to_string()));
            assert_eq!(norms, name.ends_with("-bn"));
        }
    }

    #[test]
    fn five_pools_need_images_of_32_pixels() {
        let facts = |image_size| ImageFacts { image_size, channels: 3, num_classes: 10 };
        let spec = spec([1, 1, 2, 2, 2], false);
        assert!(spec.with_facts(facts(32)).is_ok());
        let error = spec.with_facts(facts(28)).expect_err("28, 14, 7, 3, 1, nothing");
        assert_eq!(
            error.to_string(),
            "layers.20 \"maxpool 2\" has a 2x2 window; its input is a map of 512 channels, 1x1"
        );
    }
}
