//! `vitreous import`: weights of other programs become a weights file of this one.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::advice::Context;
use super::settings::shell_word;
use super::{CliError, json, show};
use crate::data::decode_picture;
use crate::evaluate::{Verdict, top};
use crate::experiment::{ActivationReport, ImportOptions, Imported, compare_activations, import};
use crate::import::summary;
use crate::numbers;
use crate::train::threads;

/// Where weights come from, printed by `--pretrained`.
pub const PRETRAINED: &str = "\
This program does not download weights. Get a file from one of these, then start a training from it:

  timm, in Python (names as in `timm.list_models(\"vit_*\", pretrained=True)`):
    import timm, torch
    model = timm.create_model(\"vit_tiny_patch16_224\", pretrained=True)
    torch.save(model.state_dict(), \"vit_tiny.pth\")
  Hugging Face (model.safetensors, config.json and preprocessor_config.json in one folder):
    https://huggingface.co/WinKawaks/vit-tiny-patch16-224/tree/main
    https://huggingface.co/google/vit-base-patch16-224/tree/main
    https://huggingface.co/facebook/deit-tiny-patch16-224/tree/main
  torchvision:
    https://download.pytorch.org/models/vgg16_bn-6c64b313.pth
  AugReg (the list of files is in its README):
    https://github.com/google-research/vision_transformer

Fine-tune on a folder of images, one folder for each class:
  vitreous train --data photos --init-from vit_tiny.pth
See that the file is read correctly, and what it says of an image:
  vitreous import vit_tiny.pth --check cat.jpg
";

/// Makes a weights file from weights of timm, Hugging Face, torchvision or big_vision
///
/// The file may be a safetensors file, a PyTorch file (.pth, .bin) or a .npz file. Nothing in it is executed. Size and depth of
/// a vision transformer are read from the tensors, and normalization and class names from config.json and
/// preprocessor_config.json next to the file. `vitreous predict --weights` uses the result.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vitreous import vit_tiny.pth --check cat.jpg
  vitreous import deit-tiny/ --set model.image_size=64 --output deit.safetensors
  vitreous train --data photos --init-from vit_tiny.pth")]
pub struct Args {
    /// The weights file, or a folder with one
    #[arg(value_name = "FILE|DIR", required_unless_present = "pretrained")]
    file: Option<PathBuf>,
    /// The model, where the file does not show it: vit-tiny, vgg16, ... (`vitreous models` lists them)
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Set a config key, such as model.image_size=64; may be repeated
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE")]
    set: Vec<String>,
    /// Load the tensors that fit, although others do not
    #[arg(long)]
    partial: bool,
    /// Write the weights to this file [default: with --check none, else FILE with the ending .vitreous.safetensors]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the logits of an image
    #[arg(long, value_name = "IMAGE")]
    check: Option<PathBuf>,
    /// Compare each layer for that image with another program's values (benches/save_activations.py writes them)
    #[arg(long, value_name = "FILE", requires = "check")]
    activations: Option<PathBuf>,
    /// Print where to get weights, and what to do with the file
    #[arg(long)]
    pretrained: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Logits that are printed as text.
const TOP: usize = 5;

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    let Some(path) = args.file.filter(|_| !args.pretrained) else { return show(PRETRAINED) };
    let [model_source, set_source] = ["--model", "--set"].map(str::to_string);
    let (model, set, partial) = (args.model, args.set, args.partial);
    let options = ImportOptions { path, model, set, partial, model_source, set_source };
    let output = match (&args.output, &args.check) {
        (Some(output), _) => Some(output.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(default_output(&options.path)),
    };
    if args.output.is_none()
        && let Some(output) = output.as_ref().filter(|output| output.exists())
    {
        let hint =
            format!("remove it, or choose another name with --output {}", shell_word(Path::new("NAME.safetensors")));
        return Err(CliError::user(format!("the file exists ({})", output.display()), Some(hint)));
    }
    let imported = import(&options)?;
    if let Some(output) = output.as_ref().filter(|output| is_same_file(output, &imported.file)) {
        let hint = format!("choose another name with --output {}", shell_word(Path::new("NAME.safetensors")));
        return Err(CliError::user(format!("the output is the file that is read ({})", output.display()), Some(hint)));
    }
    let logits = args.check.as_deref().map(|image| logits(&imported, image)).transpose()?;
    let report = match (&args.check, &args.activations) {
        (Some(image), Some(file)) => Some(compare_activations(&imported, image, file)?),
        _ => None,
    };
    if let Some(output) = &output {
        imported.save(output)?;
    }
    let context = Context::named(&["import"]);
    if args.json {
        return show(&as_json(&imported, output.as_deref(), logits.as_ref(), report.as_ref()));
    }
    let mut text = line!("{}: {}", imported.file.display(), loaded(&imported));
    imported.fitted.lines.iter().for_each(|one| text += &line!("  {one}"));
    let facts = imported.config.model.facts();
    text += &line!(
        "{}; images {}x{}, {} classes",
        imported.config.model.describe(),
        facts.image_size,
        facts.image_size,
        numbers::count(facts.num_classes as u64)
    );
    if let Some((names, logits)) = &logits {
        text += &line!("logits:");
        for Verdict { class, probability } in top(logits, TOP) {
            text += &line!("  {:>10.5}  {:>8}  {}", logits[class], numbers::percent(probability), names[class]);
        }
    }
    report.iter().for_each(|report| text += &activations(report, &context));
    if let Some(output) = &output {
        text += &line!("wrote {}", output.display());
    }
    show(&text)?;
    if let Some(output) = &output {
        say!("use it: vitreous predict --weights {} IMAGE", shell_word(output));
    }
    Ok(())
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    matches!([a, b].map(Path::canonicalize), [Ok(a), Ok(b)] if a == b)
}

fn loaded(imported: &Imported) -> String {
    summary(&imported.fitted, &imported.model.graph, imported.program)
}

/// The file that is written if none is named.
fn default_output(path: &Path) -> PathBuf {
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let stem = stem.map_or_else(|| "weights".into(), |stem| stem.to_string_lossy().into_owned());
    PathBuf::from(format!("{stem}.vitreous.safetensors"))
}

/// Computes the logits of an image; also the names of the classes.
fn logits(imported: &Imported, image: &Path) -> Result<(Vec<String>, Vec<f32>), CliError> {
    let mut classifier = imported.classifier(threads(0))?;
    let decoded = decode_picture(image, classifier.shape(), classifier.config().data.resize)?;
    let logits = classifier.logits(&[&decoded.pixels]).remove(0);
    Ok((classifier.class_names().to_vec(), logits))
}

fn activations(report: &ActivationReport, context: &Context) -> String {
    let all = report.layers.len();
    let Some(first) = &report.first else {
        let worst = report.layers.iter().fold(0.0f64, |worst, (_, difference)| worst.max(*difference));
        return line!(
            "all {} agree with the other program (largest difference {worst:.1e})",
            numbers::counted(all, "layer")
        );
    };
    let difference = report.layers.iter().find(|(name, _)| name == first).map_or(0.0, |(_, difference)| *difference);
    let by = if difference.is_finite() { format!(", by {difference:.1e} of its largest value") } else { String::new() };
    let mut text = line!("the first layer that differs is {first}{by}");
    if let Some(reason) = &report.reason {
        text += &line!("likely reason: {reason}");
    } else {
        text +=
            &line!("the reason is not among the usual ones: epsilon, GELU, order of patches or of qkv, normalization");
    }
    let hint = report.suggestion.as_ref().map(|suggestion| context.render(suggestion, None));
    hint.iter().for_each(|hint| text += &line!("hint: {hint}"));
    text
}

fn as_json(
    imported: &Imported,
    output: Option<&Path>,
    logits: Option<&(Vec<String>, Vec<f32>)>,
    report: Option<&ActivationReport>,
) -> String {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    json(&json!({
        "file": path(&imported.file),
        "names": imported.program,
        "model": imported.config.model.describe(),
        "loaded": imported.fitted.loaded,
        "tensors": imported.model.graph.parameters().len(),
        "notes": imported.fitted.lines,
        "output": output.map(path),
        "logits": logits.map(|(_, logits)| logits),
        "class_names": logits.map(|(names, _)| names),
        "activations": report,
    }))
}
