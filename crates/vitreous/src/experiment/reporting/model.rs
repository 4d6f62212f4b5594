//! What a report says of a run's images and of its model.

use super::{Known, Words, picture, table};
use crate::advice::{Argument, Command, Note, Suggestion, Verb};
use crate::models;
use crate::models::modules::modules;
use crate::numbers;
use crate::plots::architecture::architecture;
use crate::plots::positions;
use crate::record::Run;
use crate::report::{Drawing, Part, Section, Table, facts};

/// Most classes that are listed by name.
const CLASSES_MAX: usize = 1000;

/// The images.
pub fn data(run: &Run, known: Option<&Known>, words: &Words) -> Section {
    let data = &run.manifest().data;
    let count = |n: usize| numbers::count(n as u64);
    let mut rows = vec![
        vec!["Data set".to_string(), data.name.clone()],
        vec!["Training images".to_string(), count(data.train)],
        vec!["Validation images".to_string(), count(data.validation)],
        vec!["Test images".to_string(), data.test.map_or("not counted".to_string(), count)],
        vec!["Classes".to_string(), count(data.class_names.len())],
    ];
    if let Some(config) = known.and_then(|known| known.resolved.as_ref()) {
        let [size, channels] = [config.model.image_size(), config.model.channels()];
        let colors = if channels == 1 { "gray".to_string() } else { format!("{channels} color channels") };
        rows.push(vec!["Image size".to_string(), format!("{size} x {size} pixels, {colors}")]);
    }
    let list = |values: &[f32]| values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(", ");
    let normalization =
        format!("mean {}; standard deviation {}", list(&data.normalization.mean), list(&data.normalization.std));
    rows.push(vec!["Normalization".to_string(), normalization]);
    rows.push(vec!["Fingerprint (SHA-256)".to_string(), data.fingerprint.clone()]);
    let mut parts = vec![facts("The images of this run", rows)];
    let mut warn = |text: String| parts.push(Part::Warning { text });
    if data.validation == 0 {
        warn("there are no validation images, so the best epoch cannot be chosen by accuracy".to_string());
    }
    if !data.skipped.is_empty() {
        let first = &data.skipped[0];
        let many = numbers::counted(data.skipped.len(), "image");
        warn(format!("{many} could not be decoded and took no part, such as {} ({})", first.name, first.reason));
    }
    if let Some(forced) = data.forced.as_ref().filter(|forced| forced.train + forced.validation > 0) {
        let many = numbers::counted(forced.train + forced.validation, "image");
        warn(format!("{many} changed sides between train and validation, so that each class has images in both"));
    }
    let names = data.class_names.iter().take(CLASSES_MAX).enumerate();
    let rows = names.map(|(label, name)| vec![label.to_string(), name.clone()]).collect();
    let caption = match data.class_names.len() {
        many if many > CLASSES_MAX => format!("The first {} classes", count(CLASSES_MAX)),
        _ => "The classes".to_string(),
    };
    parts.push(Part::Table(Table { is_folded: true, ..table(caption, &["Label", "Class"], &[], rows) }));
    for (name, what) in [("samples", "Training images"), ("patches", "What the model reads of an image")] {
        match picture(run, name, what) {
            Some(drawing) => parts.push(Part::Figure { drawing }),
            None if name == "samples" => {
                let show = Command::new(Verb::Show).operand(run.folder());
                let look = Suggestion::new().text("see them with").run(show);
                let text = "no picture of the samples: the run was trained without plots, or by an earlier version";
                parts.push(Part::Missing { text: (words.note)(&Note::new(text).suggest(look)) });
            }
            None => {}
        }
    }
    Section { title: "Data".to_string(), command: None, parts }
}

/// The layers.
pub fn model(run: &Run, known: Option<&Known>, words: &Words) -> Section {
    let title = "Model".to_string();
    let resolved = known.and_then(|known| known.resolved.as_ref());
    let built = resolved.and_then(|config| Some((config, models::build_for_training(config).ok()?)));
    let Some((config, built)) = built else {
        let text = "the layers are unknown: the config of this run does not say the size of its images".to_string();
        return Section { title, command: None, parts: vec![Part::Missing { text }] };
    };
    let root = modules(&built, &config.model);
    let count = |n: u64| if n == 0 { String::new() } else { numbers::count(n) };
    let mut path: Vec<&str> = Vec::new();
    let (mut rows, mut mult_adds) = (Vec::new(), 0);
    // The first is the model itself.
    for (depth, module) in root.flat().into_iter().skip(1) {
        path.truncate(depth - 1);
        path.push(&module.name);
        let shape: Vec<String> = module.output.iter().map(usize::to_string).collect();
        let cells = [path.join("."), module.class.clone(), format!("[{}]", shape.join(", "))];
        rows.push(cells.into_iter().chain([count(module.params), count(module.mult_adds)]).collect::<Vec<String>>());
        mult_adds += module.mult_adds;
    }
    let all = [root.all_params(), mult_adds].map(numbers::count);
    rows.push(vec!["Total".into(), String::new(), String::new(), all[0].clone(), all[1].clone()]);
    let caption = "Layers; shapes are without the batch, multiply-adds are those of one image: torchinfo's, but for linear layers, \
         attention and embeddings (docs/models.md)";
    let columns = ["Layer", "Module", "Output shape", "Parameters", "Multiply-adds"];
    let drawn = Drawing::made("architecture", |theme| architecture(&root, &run.name()).figure(theme.style()));
    let mut parts: Vec<Part> = drawn.into_iter().map(|drawing| Part::Figure { drawing }).collect();
    parts.push(Part::Table(table(caption, &columns, &[3, 4], rows)));
    let encoded = Drawing::made("positions", |theme| positions(run, &config.model, u64::MAX, theme));
    parts.extend(encoded.map(|drawing| Part::Figure { drawing }));
    let command = Command::new(Verb::Summary).with(Argument::Run, run.folder());
    Section { title, command: Some((words.command)(&command)), parts }
}
