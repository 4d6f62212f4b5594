//! A model as torchinfo's table and as PyTorch's `print(model)` show it.
//!
//! Source: torchinfo 1.8, with the columns input and output shape, parameters, kernel and multiply-adds, and names in the
//! first column. It counts as torchinfo does, with three differences: a linear layer is counted for every token, not once
//! for each image; the products of attention are counted, in the row of their module; an embedding multiplies nothing.

use std::fmt::Write;

use super::modules::{Kind, Module};
use crate::numbers;

/// Columns of a value, unless the terminal is narrower.
const VALUE: usize = 25;

/// Fewest columns of a value: those of a shape with four axes.
const VALUE_MIN: usize = 17;

/// Columns of the names, unless one is longer.
const NAME: usize = 40;

/// Writes torchinfo's table for a batch of so many images, in as many columns as a terminal has, if it can.
pub fn torchinfo(root: &Module, batch: usize, columns: Option<usize>) -> String {
    let parts = root.flat();
    let mut numbers_at = vec![0; parts.iter().map(|(depth, _)| depth + 1).max().unwrap_or(1)];
    let mut names = Vec::with_capacity(parts.len());
    let mut longest = 0;
    for (depth, module) in &parts {
        numbers_at[*depth] += 1;
        let name = match *depth {
            0 => module.class.clone(),
            _ => format!("{} ({}): {depth}-{}", module.class, module.name, numbers_at[*depth]),
        };
        longest = longest.max(name.chars().count() + depth * 5 + 1);
        let start = match *depth {
            0 => String::new(),
            1 => "├─".to_string(),
            _ => "│    ".repeat(depth - 1) + "└─",
        };
        names.push(start + &name);
    }
    let first = if longest >= NAME { longest.div_ceil(5) * 5 } else { NAME };
    let value = columns.map_or(VALUE, |columns| (columns.saturating_sub(first + 1) / 5).saturating_sub(1));
    let value = value.clamp(VALUE_MIN, VALUE);
    let row = |name: &str, values: [&str; 5]| {
        let mut line = format!("{name:<first$} ");
        values.iter().for_each(|text| _ = write!(line, "{text:<value$} "));
        line.trim_end().to_string() + "\n"
    };
    let divider = "=".repeat(5 * value + first) + "\n";
    let titles = ["Input Shape", "Output Shape", "Param #", "Kernel Shape", "Mult-Adds"];
    let mut text = divider.clone() + &row("Layer (type (var_name):depth-idx)", titles) + &divider;
    let some = |number: u64| if number == 0 { "--".to_string() } else { numbers::count(number) };
    let shape = |axes: &[usize]| {
        let axes: Vec<String> = [batch].iter().chain(axes).map(usize::to_string).collect();
        format!("[{}]", axes.join(", "))
    };
    for ((_, module), name) in parts.iter().zip(&names) {
        let params = if module.is_shared { "(recursive)".to_string() } else { some(module.params) };
        let kernel = module.kernel.as_deref().unwrap_or("--");
        let mult_adds = some(module.mult_adds * batch as u64);
        text += &row(name, [&shape(&module.input), &shape(&module.output), &params, kernel, &mult_adds]);
    }
    let sum = |part: fn(&Module) -> u64| parts.iter().map(|(_, module)| part(module)).sum::<u64>();
    let params = sum(|module| module.params);
    let total = numbers::count(params);
    text += &format!("{divider}Total params: {total}\nTrainable params: {total}\nNon-trainable params: 0\n");
    text += &format!("Total mult-adds{}\n{divider}", in_millions(sum(|module| module.mult_adds) * batch as u64));
    let input = 4 * (batch * root.input.iter().product::<usize>()) as u64;
    // Twice, for the gradients; layers without parameters are not counted.
    let kept = parts.iter().filter(|(_, module)| module.kind == Kind::Layer && (module.params > 0 || module.is_shared));
    let outputs = 8 * kept.map(|(_, module)| (batch * module.output.iter().product::<usize>()) as u64).sum::<u64>();
    let megabytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1e6);
    text += &format!("Input size (MB): {}\n", megabytes(input));
    text += &format!("Forward/backward pass size (MB): {}\n", megabytes(outputs));
    text += &format!("Params size (MB): {}\n", megabytes(4 * params));
    text += &format!("Estimated Total Size (MB): {}\n{divider}", megabytes(input + outputs + 4 * params));
    text + &settings(root)
}

/// The settings of the layers, which torchinfo does not show, and the number of parameter tensors.
fn settings(root: &Module) -> String {
    let mut found: Vec<(String, usize)> = Vec::new();
    for (_, module) in root.flat() {
        if module.kind == Kind::Group && module.settings.is_empty() {
            continue;
        }
        let text = format!("{}({})", module.class, module.settings);
        match found.iter_mut().find(|(other, _)| *other == text) {
            Some((_, count)) => *count += 1,
            None => found.push((text, 1)),
        }
    }
    let width = found.iter().map(|(_, count)| count.to_string().len()).max().unwrap_or(1);
    let lines = found.iter().map(|(text, count)| format!("{count:>width$} x {text}\n"));
    format!("Settings of the layers:\n{}{}\n", lines.collect::<String>(), tensors(root))
}

fn tensors(root: &Module) -> String {
    let (params, tensors) = root
        .flat()
        .iter()
        .fold((0, 0), |(params, tensors), (_, module)| (params + module.params, tensors + module.tensors));
    format!("Parameter tensors: {tensors}, with {} values", numbers::count(params))
}

/// A count as torchinfo writes it: in millions, or in billions.
fn in_millions(count: u64) -> String {
    let (unit, by) = match count {
        1_000_000_000_000.. => ("T", 1e12),
        1_000_000_000.. => ("G", 1e9),
        _ => ("M", 1e6),
    };
    let shown = count as f64 / by;
    if shown.fract() == 0.0 { format!(" ({unit}): {shown}") } else { format!(" ({unit}): {shown:.2}") }
}

/// Writes what PyTorch's `print(model)` does, and the number of parameters.
pub fn pytorch(root: &Module) -> String {
    format!("{}\n\n{}\n", repr(root), tensors(root))
}

fn repr(module: &Module) -> String {
    let parts: Vec<&Module> = module.children.iter().filter(|child| child.kind != Kind::Sum).collect();
    if parts.is_empty() {
        return format!("{}({})", module.class, module.settings);
    }
    let mut lines: Vec<String> = Some(module.settings.clone()).filter(|text| !text.is_empty()).into_iter().collect();
    let texts: Vec<String> = parts.iter().map(|part| repr(part).replace('\n', "\n  ")).collect();
    let mut at = 0;
    while at < parts.len() {
        // A list shows equal parts that follow each other once.
        let is_list = module.class == "ModuleList";
        let equal = if is_list { texts[at..].iter().take_while(|text| **text == texts[at]).count() } else { 1 };
        lines.push(match equal {
            1 => format!("({}): {}", parts[at].name, texts[at]),
            _ => format!("({}-{}): {equal} x {}", parts[at].name, parts[at + equal - 1].name, texts[at]),
        });
        at += equal;
    }
    format!("{}(\n  {}\n)", module.class, lines.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::super::modules::modules;
    use super::*;
    use crate::config::model::{ImageFacts, ModelSpec};

    fn tree(toml: &str, image_size: usize) -> Module {
        let spec: ModelSpec = toml::from_str(toml).expect("a good table");
        let facts = ImageFacts { image_size, channels: 1, num_classes: 10 };
        let config = spec.with_facts(facts).expect("it fits");
        modules(&crate::models::build(&config, 0.0).expect("a checked config"), &config)
    }

    #[test]
    fn the_numbers_of_torchinfos_own_example_come_out() {
        let root = tree(
            "kind = 'stack'\nlayers = ['conv 10 k5 p0', 'maxpool 2', 'relu', 'conv 20 k5 p0', 'maxpool 2', 'relu',
             'flatten', 'linear 50', 'relu', 'linear classes']",
            28,
        );
        let text = torchinfo(&root, 7, None);
        // From the README of torchinfo, for a batch of 7; kernels are from its column of that name.
        let expected = [
            "│    └─Conv2d (0): 2-1                   [7, 1, 28, 28]            [7, 10, 24, 24]           260                       [5, 5]                    1,048,320",
            "│    └─MaxPool2d (1): 2-2                [7, 10, 24, 24]           [7, 10, 12, 12]           --                        2                         --",
            "│    └─Conv2d (3): 2-4                   [7, 10, 12, 12]           [7, 20, 8, 8]             5,020                     [5, 5]                    2,248,960",
            "│    └─Linear (7): 2-8                   [7, 320]                  [7, 50]                   16,050                    --                        112,350",
            "│    └─Linear (9): 2-10                  [7, 50]                   [7, 10]                   510                       --                        3,570",
            "Total params: 21,840",
            "Trainable params: 21,840",
            "Non-trainable params: 0",
            "Total mult-adds (M): 3.41",
            "Input size (MB): 0.02",
            "Forward/backward pass size (MB): 0.40",
            "Params size (MB): 0.09",
            "Estimated Total Size (MB): 0.51",
            "1 x Conv2d(10, 20, kernel_size=(5, 5), stride=(1, 1))",
            "Parameter tensors: 8, with 21,840 values",
        ];
        for line in expected {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert_eq!(text.lines().next(), Some("=".repeat(5 * 25 + 40).as_str()));
        let narrow = torchinfo(&root, 7, Some(120));
        assert!(narrow.lines().all(|line| line.chars().count() <= 130), "{narrow}");
    }

    #[test]
    fn equal_blocks_are_printed_once_and_shared_norms_counted_once() {
        let text = "patch_size = 4\nembed_dim = 12\nnum_heads = 3\ndepth = 3\nblock = 'norm-activation'\ndropout = 0.1";
        let expected = "  (blocks): ModuleList(
    (0-2): 3 x EncoderBlock(
      (norm1): LayerNorm((12,), eps=1e-05, elementwise_affine=True)
      (norm1_act): GELU(approximate='none')
      (attn): Attention(
        num_heads=3, head_dim=4, scale=0.5, dropout=0.1
        (qkv): Linear(in_features=12, out_features=36, bias=True)
        (proj): Linear(in_features=12, out_features=12, bias=True)
      )
";
        let root = tree(text, 8);
        let printed = pytorch(&root);
        assert!(printed.contains(expected), "{printed}");
        // Five tokens: what a head computes for each pair of them, twice.
        let attention = root.flat().into_iter().find(|(_, module)| module.name == "attn").expect("there is one").1;
        assert_eq!(attention.mult_adds, 2 * 5 * 5 * 12);
        let shared = tree(&text.replace("norm-activation", "shared-norm"), 8);
        assert_eq!(torchinfo(&shared, 1, None).matches("(recursive)").count(), 3);
        // Sums are there for drawings, and know where their connection starts.
        let block = &root.children.iter().find(|child| child.name == "blocks").expect("there is one").children[0];
        let sums = block.children.iter().filter(|child| child.kind == Kind::Sum).map(|sum| sum.skips);
        assert_eq!(sums.collect::<Vec<_>>(), [Some(0), Some(4)]);
    }
}
