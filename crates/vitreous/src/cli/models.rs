//! `vitreous models`: the models that have a name, and the kinds of models that a config can describe.

use serde::Serialize;

use super::screen::{Align, sentence, table};
use super::{CliError, json, show};
use crate::config::model::{ModelConfig, ModelKind, ModelSpec, NamedModel};
use crate::models;
use crate::numbers;

/// Lists the models for --model, and the kinds of models for the config's [model] table
#[derive(clap::Args)]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer {
    models: Vec<Named>,
    kinds: Vec<Kind>,
}

#[derive(Serialize)]
struct Named {
    name: &'static str,
    model: String,
    /// With the images and classes of the paper.
    parameters: u64,
    image_size: usize,
    num_classes: usize,
    source: &'static str,
}

#[derive(Serialize)]
struct Kind {
    kind: &'static str,
    summary: &'static str,
    source: &'static str,
}

impl Named {
    fn of(NamedModel { name, source, spec, facts }: NamedModel<ModelSpec>) -> Option<Named> {
        let config: ModelConfig = spec.with_facts(facts).ok()?;
        let parameters = models::build(&config, 0.0).ok()?.graph.parameter_count() as u64;
        let (image_size, num_classes) = (facts.image_size, facts.num_classes);
        Some(Named { name, model: config.describe(), parameters, image_size, num_classes, source })
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    let kind = |kind: &ModelKind| Kind { kind: kind.name(), summary: kind.summary(), source: kind.source() };
    let answer = Answer {
        models: ModelSpec::named_models().into_iter().filter_map(Named::of).collect(),
        kinds: ModelKind::ALL.iter().map(kind).collect(),
    };
    if args.json {
        return show(&json(&answer));
    }
    let mut rows = vec![["--model", "model", "parameters", "images", "classes"].map(str::to_string)];
    rows.extend(answer.models.iter().map(|model| {
        let size = format!("{0}x{0}", model.image_size);
        let [parameters, classes] = [model.parameters, model.num_classes as u64].map(numbers::count);
        [model.name.to_string(), model.model.clone(), parameters, size, classes]
    }));
    let (left, right, wrap) = (Align::Left, Align::Right, Align::Wrap);
    let mut text = table(&rows, &[left, wrap, right, right, right]);
    text.push_str(&sentence(
        "parameters are for these images and classes; weights start at random, none are downloaded",
    ));
    let mut rows = vec![["kind", "description", "source"].map(str::to_string)];
    rows.extend(answer.kinds.iter().map(|kind| [kind.kind, kind.summary, kind.source].map(str::to_string)));
    text.push_str(&format!("\n{}", table(&rows, &[left, wrap, wrap])));
    text.push_str(&sentence("describe one in a config's [model] table; `vitreous presets` has examples"));
    show(&text)
}
