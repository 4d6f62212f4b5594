//! `vitreous summary`: the layers of a model, and the memory that training takes. No data file is needed.

use std::path::{Path, PathBuf};

use serde::Serialize;
use vitreous_engine::{Memory, training_memory};

use super::plots::{ThemeArg, check_figure, save_figure};
use super::presets::preset_of;
use super::screen::{indented, stdout_columns};
use super::settings::{SettingsArgs, as_written, image_facts, run_config};
use super::{CliError, json, show};
use crate::config::ResolvedConfig;
use crate::config::model::ImageFacts;
use crate::models;
use crate::models::modules::modules;
use crate::models::summary::{FOOT, Summary, summarise};
use crate::models::torch_text::{pytorch, torchinfo};
use crate::numbers;
use crate::plots::architecture::architecture;
use crate::record::is_run;
use crate::train::{optimizer, threads};

/// Images of timm's named sizes: ImageNet's.
const NAMED_MODEL_IMAGES: ImageFacts = ImageFacts { image_size: 224, channels: 3, num_classes: 1000 };

/// Shows a model's layers with their shapes, parameters and floating-point operations
#[derive(clap::Args)]
pub struct Args {
    /// Show the model of this preset, such as mnist-vit, or of the run in this folder
    #[arg(value_name = "PRESET|RUN", conflicts_with_all = ["preset", "run"])]
    start: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Show the model of the run in this folder
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["preset", "config", "model", "data"])]
    run: Option<PathBuf>,
    /// Images per optimizer step, to estimate the memory
    #[arg(short, long, value_name = "N")]
    batch_size: Option<usize>,
    /// Threads, to estimate the memory [default: one per processor]
    #[arg(short = 'j', long, value_name = "N")]
    threads: Option<usize>,
    /// How to show the layers
    #[arg(long, value_name = "STYLE", default_value = "table", conflicts_with = "json")]
    style: Style,
    /// Draw the architecture: a file that ends in .svg, .png or .pdf
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Colors of the drawing [default: light]
    #[arg(long, value_name = "NAME", requires = "output")]
    plot_theme: Option<ThemeArg>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How the layers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Style {
    /// Layers with their operations, and the memory of a training
    Table,
    /// The table of torchinfo: shapes, parameters, kernels, multiply-adds
    Torchinfo,
    /// The text of PyTorch's print(model)
    Pytorch,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Answer {
    batch_size: usize,
    threads: usize,
    memory_bytes: MemoryBytes,
    #[serde(flatten)]
    summary: Summary,
}

#[derive(Serialize)]
struct MemoryBytes {
    parameters: u64,
    optimizer: u64,
    gradients: u64,
    packed: u64,
    activations: u64,
    total: u64,
}

/// Runs the command.
pub fn run(mut args: Args) -> Result<(), CliError> {
    args.output.as_deref().map(|path| check_figure(path, "--output")).transpose()?;
    if let Some(start) = args.start.take() {
        match is_run(Path::new(&start)) {
            true => args.run = Some(start.into()),
            false => args.settings.preset = Some(preset_of(start)?),
        }
    }
    let config = config(&args)?;
    let model = models::build_for_training(&config)?;
    let root = modules(&model, &config.model);
    if let Some(path) = &args.output {
        let drawing = architecture(&root, &args.settings.name());
        let figure = drawing.figure(ThemeArg::style_of(args.plot_theme));
        let figure = figure.ok_or_else(|| CliError::failure("the model has no layers to draw", None))?;
        save_figure(&figure, path, "--output")?;
        if args.style == Style::Table && !args.json {
            return show(&line!("{}: architecture of {}", path.display(), args.settings.name()));
        }
    }
    if args.style != Style::Table {
        return show(&match args.style {
            Style::Pytorch => pytorch(&root),
            _ => torchinfo(&root, args.batch_size.unwrap_or(1), stdout_columns()),
        });
    }
    let summary = summarise(&model);
    let (batch_size, threads) = (config.train.batch_size, threads(config.train.threads));
    let optimizer = optimizer(&config.train);
    let memory = training_memory(&model.graph, model.loss, &[model.correct], &optimizer, batch_size, threads);
    if args.json {
        let Memory { parameters, optimizer, gradients, packed, activations } = memory;
        let memory_bytes = MemoryBytes { parameters, optimizer, gradients, packed, activations, total: memory.total() };
        show(&json(&Answer { batch_size, threads, memory_bytes, summary }))?;
        return Ok(());
    }
    let table = summary.table(stdout_columns());
    // The number of parameters stays the last thing to be read.
    let (layers, parameters) = table.trim_end().rsplit_once('\n').unwrap_or(("", &table));
    show(&format!("{layers}\n{}{parameters}\n", memory_line(&memory, batch_size, threads)))
}

fn config(args: &Args) -> Result<ResolvedConfig, CliError> {
    let numbers = [("train.batch_size", args.batch_size, "--batch-size"), ("train.threads", args.threads, "--threads")];
    if let Some(folder) = &args.run {
        let checked = run_config(folder, &args.settings, &numbers)?;
        return Ok(checked.resolve(image_facts(&checked)?.0)?);
    }
    let checked = args.settings.checked(&numbers)?;
    let settings = &args.settings;
    let model_alone = settings.model.is_some() && settings.preset.is_none() && settings.config.is_none();
    if model_alone && settings.data.is_none() {
        return Ok(checked.resolve(as_written(&checked.config().model, NAMED_MODEL_IMAGES))?);
    }
    let (facts, remark) = image_facts(&checked)?;
    if let Some(remark) = remark {
        say!("note: {remark}");
    }
    Ok(checked.resolve(facts)?)
}

fn memory_line(memory: &Memory, batch_size: usize, threads: usize) -> String {
    let parts = [
        ("parameters", memory.parameters),
        ("optimizer", memory.optimizer),
        ("gradients", memory.gradients),
        ("packed weights", memory.packed),
        ("activations", memory.activations),
    ];
    let parts: Vec<String> = parts.iter().map(|(name, bytes)| format!("{name} {}", numbers::bytes(*bytes))).collect();
    let text = format!(
        "training memory  {} for steps of {} images on {}: {}",
        numbers::bytes(memory.total()),
        numbers::count(batch_size as u64),
        numbers::counted(threads, "thread"),
        parts.join(", ")
    );
    indented(&text, FOOT)
}

#[cfg(test)]
mod tests {
    use vitreous_engine::graph::ParameterKind;
    use vitreous_engine::ops::{self, Op};

    use super::*;
    use crate::config::presets;

    #[test]
    fn all_styles_count_the_same_for_every_preset() {
        for preset in presets::names() {
            let settings = SettingsArgs { preset: Some(preset.to_string()), ..SettingsArgs::default() };
            let checked = settings.checked(&[]).unwrap();
            let config = checked.resolve(image_facts(&checked).unwrap().0).unwrap();
            let model = models::build_for_training(&config).unwrap();
            let (root, graph) = (modules(&model, &config.model), &model.graph);
            assert_eq!(root.all_params(), summarise(&model).params, "{preset}");
            let tensors = graph.parameters().iter().filter(|param| param.kind == ParameterKind::Trained).count();
            assert_eq!(root.flat().iter().map(|(_, part)| part.tensors).sum::<usize>(), tensors, "{preset}");
            // The floating-point operations but for those that are not multiply-adds.
            let of_node = |node: &vitreous_engine::graph::Node| {
                let (flops, rows) = (ops::cost(graph, node).flops, node.shape.rows() as u64);
                let sizes = node.params.iter().map(|&id| graph.parameter(id).shape.len() as u64);
                match &node.op {
                    Op::Linear | Op::Conv2d(_) | Op::PerHeadLinear { .. } => {
                        (flops + sizes.skip(1).sum::<u64>() * rows) / 2
                    }
                    Op::Attention(attention) => (flops - 6 * attention.heads as u64 * rows * rows) / 2,
                    Op::Attend(attention) => {
                        let keys = graph.node(node.inputs[1]).shape.rows() as u64;
                        (flops - 6 * attention.heads as u64 * rows * keys) / 2
                    }
                    Op::LayerNorm { .. } | Op::GroupNorm { .. } | Op::BatchNorm { .. } => sizes.take(2).sum(),
                    _ => 0,
                }
            };
            let expected = graph.nodes().iter().map(of_node).sum::<u64>();
            assert_eq!(root.flat().iter().map(|(_, part)| part.mult_adds).sum::<u64>(), expected, "{preset}");
        }
    }
}
