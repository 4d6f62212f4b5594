//! What is drawn of a model's modules: blocks as frames, equal ones once, attention and MLP as one box each.

use crate::models::modules::{Kind, Module};
use crate::numbers;
use crate::plot::architecture::{Architecture, Part, Role};

/// The drawing of a model with this tree of modules.
pub fn architecture(root: &Module, name: &str) -> Architecture {
    let place = |name: &str| root.children.iter().position(|child| child.name == name);
    let second = place("decoder").and_then(|decoder| {
        let start = [place("words"), place("cls_token")].into_iter().flatten().find(|start| *start < decoder)?;
        let input = if root.children[start].name == "words" { "the digits so far" } else { "" };
        // Without a start of its own, the second column starts with its token.
        Some((start, if input.is_empty() { "query".to_string() } else { input.to_string() }))
    });
    let before = second.as_ref().map_or(0, |(start, _)| parts_of(&root.children[..*start]).len());
    let tensors: usize = root.flat().iter().map(|(_, part)| part.tensors).sum();
    Architecture {
        title: format!("{} {name}", root.class),
        below: format!(
            "{} parameters in {}; output shapes at the right",
            numbers::count(root.all_params()),
            numbers::counted(tensors, "tensor")
        ),
        input: format!("image {}", shape(&root.input)),
        parts: parts_of(&root.children),
        second: second.map(|(_, input)| (before, input)),
    }
}

fn shape(axes: &[usize]) -> String {
    axes.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ")
}

/// The parts for modules that follow each other.
fn parts_of(modules: &[Module]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for module in modules {
        match module.class.as_str() {
            // Frames around everything say nothing.
            "Sequential" => parts.extend(parts_of(&module.children)),
            "ModuleList" => {
                let mut at = 0;
                while let Some(first) = module.children.get(at) {
                    let equal = module.children[at..].iter().take_while(|other| other.is_like(first)).count();
                    parts.push(Part { times: equal, ..part(first) });
                    at += equal;
                }
            }
            _ => parts.push(part(module)),
        }
    }
    parts
}

fn part(module: &Module) -> Part {
    let params = |count: u64| if count == 0 { String::new() } else { format!("{} parameters", numbers::count(count)) };
    let mut drawn = Part {
        role: role(module),
        title: module.class.clone(),
        detail: detail(module),
        shape: shape(&module.output),
        times: 1,
        skips: module.skips,
        reads_first: module.name == "cross_attn",
        parts: Vec::new(),
    };
    match (module.kind, drawn.role) {
        (Kind::Group, Role::Frame) if module.class == "Residual" => {
            let named = |name: &str| module.children.iter().find(|child| child.name == name);
            drawn.parts = named("residual").map_or(Vec::new(), |body| parts_of(&body.children));
            let words = named("shortcut").map(|body| parts_of(&body.children)).unwrap_or_default();
            let words: Vec<String> = words.iter().map(|part| format!("{} {}", part.title, part.detail)).collect();
            let detail = if words.is_empty() { String::new() } else { format!("shortcut {}", words.join(", ")) };
            let sum = module.children.iter().find(|child| child.kind == Kind::Sum);
            drawn.parts.extend(sum.map(|sum| Part { skips: Some(0), detail, ..part(sum) }));
            drawn.detail = params(module.all_params());
        }
        (Kind::Group, Role::Frame) => {
            drawn.parts = parts_of(&module.children);
            drawn.detail = params(module.all_params());
        }
        _ => {}
    }
    drawn
}

fn role(module: &Module) -> Role {
    match module.class.as_str() {
        _ if module.kind == Kind::Sum => Role::Sum,
        "Attention" | "SelfAttention2d" => Role::Attention,
        "Mlp" | "Linear" | "Conv2d" | "PerHeadLinear" => Role::Weights,
        "PatchEmbed" | "ClassToken" | "PositionEmbedding" | "PositionEncoding" | "Embedding" | "Patches" => {
            Role::Tokens
        }
        "LayerNorm" | "GroupNorm" => Role::Norm,
        "ReLU" | "ReLU6" | "GELU" | "Tanh" | "LayerScale" | "Dropout" | "DropPath" | "BatchNorm2d" | "Softmax" => {
            Role::Small
        }
        _ if module.kind == Kind::Group => Role::Frame,
        _ => Role::Shape,
    }
}

/// The settings of a module in a few words.
fn detail(module: &Module) -> String {
    let last = |axes: &[usize]| axes.last().copied().unwrap_or(1);
    let inner = |class: &str| module.children.iter().find(|child| child.class == class);
    let rate = |from: &Module| match value(&from.settings, "dropout").or_else(|| value(&from.settings, "p")) {
        None | Some("0.0" | "0") => String::new(),
        Some(rate) => format!(", dropout {rate}"),
    };
    let square =
        |settings: &str, key: &str| value(settings, key).map_or(String::new(), |side| format!("{side}×{side}"));
    match module.class.as_str() {
        "Attention" | "SelfAttention2d" => {
            let heads = match value(&module.settings, "num_heads") {
                Some(heads) => heads.to_string(),
                None => inner("ModuleList").map_or(1, |list| list.children.len()).to_string(),
            };
            let wide = value(&module.settings, "head_dim");
            let wide = wide.map_or(String::new(), |wide| format!(" of {wide}"));
            let word = if heads == "1" { "head" } else { "heads" };
            let to = if module.name == "cross_attn" { ", to the encoder" } else { "" };
            let causal = if module.settings.contains("causal") { ", causal" } else { "" };
            format!("{heads} {word}{wide}{to}{causal}{}", rate(module))
        }
        "Mlp" => {
            let hidden = inner("Linear").map_or(0, |fc1| last(&fc1.output));
            let activation = ["ReLU", "GELU", "Tanh"].into_iter().find(|class| inner(class).is_some()).unwrap_or("");
            let rate = inner("Dropout").map_or(String::new(), rate);
            format!("hidden width {hidden}, {activation}{rate}")
        }
        "PatchEmbed" => {
            let patches = module.children.first();
            let tokens = module.output.first().copied().unwrap_or(1);
            match patches.map(|first| (first.class.as_str(), first)) {
                Some(("FlatTokens", first)) => format!("{tokens} tokens of {} consecutive values", last(&first.output)),
                Some(("Patches", first)) => {
                    format!("{tokens} patches of {} pixels", square(&first.settings, "patch_size"))
                }
                Some(("Sequential", stem)) => {
                    let count = stem.children.iter().filter(|child| child.class == "Conv2d").count();
                    format!("{tokens} patches by {count} convolutions")
                }
                Some((_, first)) => format!("{tokens} patches of {} pixels", square(&first.settings, "kernel_size")),
                None => String::new(),
            }
        }
        "Linear" | "PerHeadLinear" => format!("{} → {}", last(&module.input), last(&module.output)),
        "Conv2d" => {
            let mut text = format!(
                "{} → {}, {}",
                module.input.first().copied().unwrap_or(1),
                module.output.first().copied().unwrap_or(1),
                square(&module.settings, "kernel_size")
            );
            for (key, usual) in [("stride", "1"), ("padding", "0"), ("groups", "1")] {
                if let Some(found) = value(&module.settings, key).filter(|found| *found != usual) {
                    text += &format!(", {key} {found}");
                }
            }
            text
        }
        "MaxPool2d" | "AvgPool2d" => {
            let stride = value(&module.settings, "stride").unwrap_or("1");
            format!("{}, stride {stride}", square(&module.settings, "kernel_size"))
        }
        "Dropout" => format!("p = {}", value(&module.settings, "p").unwrap_or("0")),
        "PositionEmbedding" => "learned, added".to_string(),
        "PositionEncoding" => "sine and cosine, added".to_string(),
        "ClassToken" => "learned".to_string(),
        "Embedding" => format!("{} words", module.settings.split(',').next().unwrap_or("")),
        _ => String::new(),
    }
}

/// The value of a setting; of two equal numbers in parentheses, one of them.
fn value<'a>(settings: &'a str, key: &str) -> Option<&'a str> {
    let found = settings.split(", ").find_map(|one| one.strip_prefix(key)?.strip_prefix('='));
    found.map(|found| found.trim_start_matches('('))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{ImageFacts, ModelSpec};
    use crate::models::modules::modules;

    fn drawn(toml: &str) -> Architecture {
        let spec: ModelSpec = toml::from_str(toml).expect("a good table");
        let config = spec.with_facts(ImageFacts { image_size: 8, channels: 3, num_classes: 7 }).expect("it fits");
        architecture(&modules(&crate::models::build(&config, 0.0).expect("a checked config"), &config), "test")
    }

    /// A line for each part.
    fn lines(parts: &[Part], depth: usize, found: &mut Vec<String>) {
        for part in parts {
            found.push(format!("{}{} {} x{} {}", " ".repeat(depth), part.title, part.detail, part.times, part.shape));
            lines(&part.parts, depth + 1, found);
        }
    }

    #[test]
    fn equal_blocks_are_drawn_once() {
        let model =
            drawn("patch_size = 4\nembed_dim = 12\nnum_heads = 3\ndepth = 6\ndropout = 0.1\nactivation = 'relu'");
        let mut found = Vec::new();
        lines(&model.parts, 0, &mut found);
        let expected = [
            "PatchEmbed 4 patches of 4×4 pixels x1 4 × 12",
            "ClassToken learned x1 5 × 12",
            "PositionEmbedding learned, added x1 5 × 12",
            "Dropout p = 0.1 x1 5 × 12",
            "EncoderBlock 1,284 parameters x6 5 × 12",
            " LayerNorm  x1 5 × 12",
            " Attention 3 heads of 4, dropout 0.1 x1 5 × 12",
            " Sum  x1 5 × 12",
            " LayerNorm  x1 5 × 12",
            " Mlp hidden width 24, ReLU, dropout 0.1 x1 5 × 12",
        ];
        assert_eq!(found[..expected.len()], expected);
        assert_eq!((model.second, model.input.as_str()), (None, "image 3 × 8 × 8"));
        let stem = drawn("patch_size = 4\npatch_embed = 'conv-stem'");
        assert_eq!(stem.parts[0].detail, "4 patches by 3 convolutions");
    }

    #[test]
    fn convolutions_have_their_kernels_and_a_decoder_its_own_column() {
        let model = drawn(
            "kind = 'stack'\nlayers = [{ residual = ['conv 6 k5 s2', 'relu'], shortcut = ['conv 6 k1 s2'] }, 'flatten', 'linear classes']",
        );
        let mut found = Vec::new();
        lines(&model.parts, 0, &mut found);
        assert_eq!(
            found[1..4],
            [
                " Conv2d 3 → 6, 5×5, stride 2, padding 2 x1 6 × 4 × 4",
                " ReLU  x1 6 × 4 × 4",
                " Sum shortcut Conv2d 3 → 6, 1×1, stride 2 x1 6 × 4 × 4",
            ]
        );
        let model = drawn("patch_size = 4\nembed_dim = 12\nnum_heads = 3\ndepth = 2\ndecoder = true\npooling = 'cls'");
        let (start, input) = model.second.expect("it has a decoder");
        assert_eq!((model.parts[start].title.as_str(), input.as_str()), ("ClassToken", "query"));
        assert!(model.parts[start + 1].parts.iter().any(|part| part.reads_first && part.detail.contains("encoder")));
    }
}
