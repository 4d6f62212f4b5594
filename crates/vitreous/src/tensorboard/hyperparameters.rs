//! The hyperparameters of a run, for the table of runs: every key of every config, so that all runs have the same ones.

use super::events::Hyperparameter;
use super::messages::HParamValue;
use crate::config::difference::{FlatConfig, OUTSIDE, shown};
use crate::config::model::ModelKind;
use crate::config::schema::{Key, Kind};
use crate::config::{TABLES, keys_of};

/// What most studies vary: the table shows these first, and five of them without a click.
const FIRST: [&str; 5] = ["data.name", "model", "train.batch_size", "train.lr", "train.opt"];

/// Returns the hyperparameters of a run with these settings. `model` is the network in a few words; `first` are the keys
/// that the table shows first, such as those in which several runs differ.
pub fn hyperparameters(settings: &FlatConfig, model: &str, first: Option<&[String]>) -> Vec<Hyperparameter> {
    let is_first = |name: &str| match first {
        Some(first) => first.iter().any(|key| key == name),
        None => FIRST.contains(&name),
    };
    let text = |text: String| Some(HParamValue::Text(text));
    let mut all = vec![Hyperparameter {
        name: "model".to_string(),
        description: "The network in a few words".to_string(),
        is_number: false,
        value: text(model.to_string()),
        is_first: is_first("model"),
    }];
    let tables = TABLES.into_iter().flat_map(|table| ModelKind::ALL.iter().map(move |kind| (table, *kind)));
    let keys = tables.filter_map(|(table, kind)| keys_of(table, kind)).flatten().flat_map(inner);
    for key in keys.filter(|key| key.table != "slurm" && !OUTSIDE.contains(&key.path().as_str())) {
        let name = key.path();
        if all.iter().any(|one| one.name == name) {
            continue;
        }
        let is_number = matches!(key.kind, Kind::Whole | Kind::Number);
        let value = match settings.get(&name) {
            Some(toml::Value::Integer(number)) if is_number => Some(HParamValue::Number(*number as f64)),
            Some(toml::Value::Float(number)) if is_number => Some(HParamValue::Number(*number)),
            // All values of a column are of one type: a number that a run does not have stays empty.
            _ if is_number => None,
            value => text(shown(value)),
        };
        let description = key.summary().to_string();
        all.push(Hyperparameter { is_first: is_first(&name), name, description, is_number, value });
    }
    all
}

/// The keys of a table in a key, or the key itself.
fn inner(key: &'static Key) -> Vec<&'static Key> {
    match &key.kind {
        Kind::Table(keys) => keys.iter().collect(),
        _ => vec![key],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::difference::flat_config;

    #[test]
    fn all_runs_have_the_same_hyperparameters_and_only_what_decides_a_run_is_among_them() {
        let texts = ["", "[model]\nkind = 'stack'\nlayers = ['flatten', 'linear 3']\n[train]\nlr = 3e-4\nthreads = 5"];
        let [vit, stack] = texts.map(|text| hyperparameters(&flat_config(text, "a.toml").unwrap(), "a model", None));
        let names = |all: &[Hyperparameter]| all.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&vit), names(&stack));
        assert!(!names(&vit).iter().any(|name| OUTSIDE.contains(&name.as_str())));
        let value = |all: &[Hyperparameter], name: &str| {
            let found = all.iter().find(|one| one.name == name).unwrap_or_else(|| panic!("{name} is missing"));
            (found.value.clone(), found.is_number)
        };
        let text = |text: &str| Some(HParamValue::Text(text.to_string()));
        assert_eq!(value(&vit, "model.depth"), (Some(HParamValue::Number(4.0)), true));
        assert_eq!(value(&stack, "model.depth"), (None, true));
        assert_eq!(value(&stack, "train.lr"), (Some(HParamValue::Number(3e-4)), true));
        assert_eq!(value(&stack, "model.kind"), (text("stack"), false));
        assert_eq!(value(&vit, "model.layers"), (text("-"), false));
        assert_eq!(value(&vit, "augment.random_resized_crop.scale"), (text("-"), false));
        let first: Vec<String> = vit.iter().filter(|one| one.is_first).map(|one| one.name.clone()).collect();
        assert_eq!(first, ["model", "data.name", "train.batch_size", "train.opt", "train.lr"]);
        let differing = hyperparameters(&flat_config("", "a.toml").unwrap(), "a model", Some(&["train.seed".into()]));
        assert_eq!(differing.iter().filter(|one| one.is_first).count(), 1);
    }
}
