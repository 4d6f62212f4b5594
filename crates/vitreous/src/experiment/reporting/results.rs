//! What a report says of a run's results and settings.

use super::{Known, Words, card, evaluate, interval, table};
use crate::advice::{Note, Suggestion};
use crate::config::difference::{FlatConfig, OF_THE_DATA, changes, flat_config, shown};
use crate::config::{key, presets};
use crate::data::SplitName;
use crate::evaluate::Accuracy;
use crate::record::{ListedRun, Manifest, Run};
use crate::report::{Part, Section, Table, facts};
use crate::{durations, numbers};

/// The keys that a reader of results looks for.
const MATTER: [&str; 27] = [
    "data.name",
    "data.classes",
    "model.kind",
    "model.patch_size",
    "model.embed_dim",
    "model.depth",
    "model.num_heads",
    "model.mlp_ratio",
    "model.position",
    "model.activation",
    "model.pooling",
    "model.dropout",
    "model.layers",
    "train.epochs",
    "train.max_steps",
    "train.batch_size",
    "train.grad_accum_steps",
    "train.opt",
    "train.lr",
    "train.sched",
    "train.warmup_epochs",
    "train.weight_decay",
    "train.clip_grad",
    "train.smoothing",
    "train.model_ema_decay",
    "train.keep",
    "train.seed",
];

/// What was requested and what was reached.
pub fn results(run: &Run, known: Option<&Known>, words: &Words) -> Section {
    let manifest = run.manifest();
    let (mut cards, mut parts) = (Vec::new(), Vec::new());
    let results = manifest.results.as_ref();
    let test = manifest.evaluation(SplitName::Test);
    if let Some(test) = test {
        let accuracy = Accuracy::from(test);
        let below = format!(
            "{} weights, {} images, {}",
            test.weights,
            numbers::count(test.images),
            interval(accuracy.interval())
        );
        cards.push(card("Test accuracy", numbers::percent(accuracy.value), below));
    }
    let best = results.and_then(|results| Some((results.best_val_acc?, results.best_epoch)));
    let last = results.and_then(|results| Some((results.val_acc?, None)));
    if let Some((value, epoch)) = best.or(last) {
        let images = manifest.data.validation as u64;
        let when = epoch.map_or("after the last epoch".to_string(), |epoch| format!("best, epoch {epoch}"));
        let below = format!("{when}; {}", interval(Accuracy { value, images }.interval()));
        cards.push(card("Validation accuracy", numbers::percent(value), below));
    }
    cards.push(card("Parameters", numbers::count(manifest.parameters as u64), String::new()));
    if let Some(results) = results {
        let machine = &manifest.machine;
        let below = format!("{} on {}", numbers::counted(machine.threads, "thread"), machine.instruction_set);
        cards.push(card("Training time", durations::duration(results.seconds), below));
    }
    parts.push(Part::Cards { cards });

    let requested = known.map(|known| match known.settings.get("train.max_steps") {
        Some(steps) => {
            let epochs = numbers::counted(known.config.train.epochs, "epoch");
            format!("{epochs}, at most {} steps", shown(Some(steps)))
        }
        None => numbers::counted(known.config.train.epochs, "epoch"),
    });
    let status = ListedRun::read(run.folder()).map_or(manifest.status.to_string(), |listed| listed.status());
    let mut rows = vec![vec!["Status".to_string(), status]];
    rows.extend(requested.map(|requested| vec!["Requested".to_string(), requested]));
    if let Some(results) = results {
        let epochs = numbers::counted(usize::try_from(results.epochs).unwrap_or(usize::MAX), "epoch");
        let mut done = format!("{epochs}, {} steps", numbers::count(results.steps));
        if results.skipped_steps > 0 {
            done.push_str(&format!(", {} of them skipped", numbers::count(results.skipped_steps)));
        }
        rows.push(vec!["Trained".to_string(), done]);
        rows.extend(results.train_loss.map(|loss| vec!["Training loss".to_string(), format!("{loss:.4}")]));
        rows.extend(results.train_acc.map(|acc| {
            vec![
                "Training accuracy".to_string(),
                format!("{} (last epoch, while the weights change)", numbers::percent(acc)),
            ]
        }));
    }
    rows.push(vec!["Different test results seen".to_string(), numbers::count(manifest.test_evaluations)]);
    parts.push(facts("Requested and reached", rows));

    let train = match (manifest.evaluation(SplitName::Train), results.and_then(|results| results.train_acc)) {
        (Some(measured), _) => numbers::percent(measured.top1),
        (None, Some(running)) => format!("~{}", numbers::percent(running)),
        (None, None) => "-".to_string(),
    };
    let of = |key: &str| known.map_or("-".to_string(), |known| known.value(key));
    let row = vec![
        manifest.model.clone().unwrap_or_else(|| of("model.kind")),
        of("model.position"),
        of("model.activation"),
        results.map_or("-".to_string(), |results| durations::duration(results.seconds)),
        train,
        test.map_or("-".to_string(), |test| numbers::percent(test.top1)),
    ];
    let caption = match row[4].starts_with('~') {
        true => "Row for a write-up (accuracies; ~ is the mean over the last epoch, while the weights change)",
        false => "Row for a write-up (accuracies)",
    };
    parts.push(Part::Table(table(
        caption,
        &["model", "position", "activation", "time", "train", "test"],
        &[3, 4, 5],
        vec![row],
    )));
    if test.is_none() && manifest.data.test != Some(0) {
        let what = Note::new("the test accuracy has not been measured")
            .suggest(Suggestion::new().text("measure it with").run(evaluate(run)));
        parts.push(Part::Missing { text: (words.note)(&what) });
    }
    Section { title: "Results".to_string(), command: None, parts }
}

/// The settings that matter, and those that differ from the preset.
pub fn settings(manifest: &Manifest, known: &Known) -> Section {
    let row = |path: &&str| {
        let value = known.settings.get(*path)?;
        let meaning = key(path).map_or(String::new(), |key| key.summary().replace('`', ""));
        Some(vec![path.to_string(), shown(Some(value)), meaning])
    };
    let rows = MATTER.iter().filter_map(row).collect();
    let mut parts =
        vec![Part::Table(table("The settings that matter most", &["Setting", "Value", "Meaning"], &[], rows))];
    if let Some((name, preset)) = preset(manifest) {
        let mut found = changes(&preset, &known.settings);
        found.retain(|(key, before, _)| !(OF_THE_DATA.contains(key) && before.is_none()));
        if found.is_empty() {
            parts.push(Part::Text { text: format!("All settings are those of the preset {name}.") });
        } else {
            let rows =
                found.iter().map(|(key, before, now)| vec![key.to_string(), shown(*before), shown(*now)]).collect();
            let caption = format!("Settings that differ from the preset {name}");
            parts.push(Part::Table(table(caption, &["Setting", "Preset", "This run"], &[], rows)));
        }
    }
    let all = known.settings.iter().map(|(key, value)| vec![key.clone(), shown(Some(value))]).collect();
    let all = Table { is_folded: true, ..table("All settings", &["Setting", "Value"], &[], all) };
    parts.push(Part::Table(all));
    Section { title: "Settings".to_string(), command: None, parts }
}

/// The preset that a run was started from, and its settings. Earlier versions noted the command line alone.
fn preset(manifest: &Manifest) -> Option<(&'static str, FlatConfig)> {
    let noted = manifest.preset.as_deref().and_then(known);
    let name = noted.or_else(|| preset_of(&manifest.command))?;
    Some((name, flat_config(presets::text(name)?, name).ok()?))
}

fn known(word: &str) -> Option<&'static str> {
    presets::names().find(|name| *name == word)
}

/// The preset that a command line names.
fn preset_of(command: &[String]) -> Option<&'static str> {
    // A word that follows another flag may be that flag's value.
    let named = |pair: &[String]| {
        let [before, word] = [pair[0].as_str(), pair[1].as_str()];
        let is_own = before.ends_with("-preset") || !before.starts_with('-') || before.contains('=');
        let value = word.split_once("preset=").filter(|(flag, _)| flag.chars().all(|c| c == '-'));
        known(value.map(|(_, value)| value).or(is_own.then_some(word))?)
    };
    command.windows(2).skip(1).find_map(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_the_operand_or_the_value_of_its_flag() {
        let of = |line: &str| preset_of(&line.split(' ').map(str::to_string).collect::<Vec<_>>());
        for (line, preset) in [
            ("vitreous train mnist-vit", Some("mnist-vit")),
            ("vitreous train --name=digits --preset=mnist-vit", Some("mnist-vit")),
            ("vitreous train --epochs=2 mnist-vit", Some("mnist-vit")),
            ("vitreous train --name digits --preset mnist-vit", Some("mnist-vit")),
            ("vitreous train --name digits", None),
            ("vitreous train --data=digits", None),
        ] {
            assert_eq!(of(line), preset, "{line}");
        }
    }
}
