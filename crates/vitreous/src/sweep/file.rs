//! A sweep as written, in a TOML file or in flags, and the settings that it makes.
//!
//! Settings are assignments as `--set` takes them: `train.lr=1e-3`. A list (`[[run]]`) and a grid (`each`) may be used
//! together: every run of the list then meets every cell of the grid.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::value::{self, StrDeserializer};
use toml::Spanned;
use toml::de::DeTable;

use super::{Origin, SweepError};
use crate::data::SplitName;
use crate::record::is_name;

/// Most runs of a sweep: of all settings, with each of their seeds.
const RUNS_MAX: usize = 10_000;

/// The keys of a sweep's file.
pub(super) const KEYS: &[&str] = &["preset", "config", "set", "each", "seeds", "evaluate", "reproduces", "run"];

/// The keys of a `[[run]]`.
pub(super) const RUN_KEYS: &[&str] = &["name", "why", "preset", "config", "set", "seeds"];

/// A sweep as written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SweepFile {
    /// The preset from which every run starts.
    pub preset: Option<String>,
    /// A config file from which every run starts, or which overrides the preset.
    pub config: Option<PathBuf>,
    /// Assignments for every run.
    pub set: Vec<String>,
    /// Keys that vary, with their values: `train.lr=1e-3,3e-4`.
    pub each: Vec<String>,
    /// Seeds with which every run is made; its own when there are none.
    pub seeds: Vec<u64>,
    /// Splits on which every run is measured, in addition to the validation split; the test split only with `reproduces`.
    pub evaluate: Option<Vec<SplitName>>,
    /// The published table that the sweep reproduces. Such a table reports what every run reaches on the test split, which
    /// a sweep that has something to choose must not look at before it has chosen.
    pub reproduces: Option<String>,
    /// The runs of the list.
    pub run: Vec<RunEntry>,
}

/// One run of the list.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunEntry {
    /// What it is called.
    pub name: String,
    /// Why it is tried, in a sentence.
    pub why: Option<String>,
    /// The preset from which it starts, instead of the sweep's.
    pub preset: Option<String>,
    /// The config file from which it starts, instead of the sweep's.
    pub config: Option<PathBuf>,
    /// Its assignments.
    #[serde(default)]
    pub set: Vec<String>,
    /// Seeds with which it is made, instead of the sweep's.
    #[serde(default)]
    pub seeds: Vec<u64>,
}

/// A key and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Each {
    key: String,
    values: Vec<String>,
}

/// One setting of a sweep: a config that is trained once, or once for each seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Variation {
    /// What it is called.
    pub name: String,
    /// Why it is tried.
    pub why: Option<String>,
    /// The preset from which it starts.
    pub preset: Option<String>,
    /// A config file from which it starts, or which overrides the preset.
    pub config: Option<PathBuf>,
    /// Assignments, the later over the earlier.
    pub set: Vec<String>,
    /// Seeds with which it is trained; that of its config when there are none.
    pub seeds: Vec<u64>,
    /// Where they were written.
    pub seeds_source: Origin,
}

impl SweepFile {
    /// Reads the text of a file; `source` is what errors call it.
    ///
    /// # Errors
    /// When it is not valid TOML, has an unknown key, or an empty `reproduces`.
    pub fn parse(text: &str, source: &str) -> Result<SweepFile, SweepError> {
        let line = |at: Option<Range<usize>>| {
            let before = at.and_then(|span| text.get(..span.start)).unwrap_or("");
            1 + before.matches('\n').count()
        };
        let syntax = |error: toml::de::Error| {
            let message = error.message().lines().next().unwrap_or("not TOML").to_string();
            SweepError::Syntax { message, source_name: source.to_string(), line: line(error.span()) }
        };
        let table = DeTable::parse(text).map_err(syntax)?;
        if let Some((key, span, known)) = unknown_key(&table) {
            let source_name = source.to_string();
            return Err(SweepError::UnknownKey { key, known, source_name, line: line(Some(span)) });
        }
        if let Some((name, span)) = unknown_split(&table) {
            let source_name = source.to_string();
            return Err(SweepError::UnknownSplit { name, source_name, line: line(Some(span)) });
        }
        let file: SweepFile = toml::from_str(text).map_err(syntax)?;
        if file.reproduces.as_ref().is_some_and(|table| table.trim().is_empty()) {
            return Err(SweepError::Reproduces { source_name: source.to_string() });
        }
        Ok(file)
    }

    /// Makes the settings, in the order of the list; within a run, the last key varies fastest.
    ///
    /// # Errors
    /// When nothing varies, a varied key has no values, there are too many runs, a seed is given twice or is too large, or a name is none or that of two settings.
    pub fn expand(&self) -> Result<Vec<Variation>, SweepError> {
        if self.run.is_empty() && self.each.is_empty() && self.seeds.len() < 2 {
            return Err(SweepError::Nothing);
        }
        check_seeds(&self.seeds, Origin::Seeds)?;
        self.run.iter().try_for_each(|entry| check_seeds(&entry.seeds, Origin::SeedsOf(entry.name.clone())))?;
        let each = self.each.iter().map(|text| Each::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let has_seeds = !self.seeds.is_empty() || self.run.iter().any(|entry| !entry.seeds.is_empty());
        if has_seeds && each.iter().any(|each| each.key == "train.seed") {
            return Err(SweepError::SeedsVary);
        }
        let alone = [RunEntry::default()];
        let list: &[RunEntry] = if self.run.is_empty() { &alone } else { &self.run };
        // A few keys of a few values each are soon more than there is memory for.
        let cells_number = each.iter().try_fold(1usize, |number, each| number.checked_mul(each.values.len()));
        let seeds = list.iter().map(|entry| if entry.seeds.is_empty() { self.seeds.len() } else { entry.seeds.len() });
        let in_cell: usize = seeds.map(|seeds| seeds.max(1)).sum();
        let runs = cells_number.and_then(|cells| cells.checked_mul(in_cell));
        if runs.is_none_or(|runs| runs > RUNS_MAX) {
            return Err(SweepError::TooMany { most: RUNS_MAX });
        }
        let cells = cells(&each);
        let (mut variations, mut names) = (Vec::new(), BTreeSet::new());
        for entry in list {
            for cell in &cells {
                let parts = std::iter::once(entry.name.clone()).chain(cell.iter().map(|(_, name)| name.clone()));
                let name = parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_");
                let name = if name.is_empty() { "base".to_string() } else { name };
                // A cell puts nothing before the name of a run, and nothing odd behind it: only too much.
                if !is_name(&name) {
                    let was_good = entry.name.is_empty() || is_name(&entry.name);
                    let origin = if was_good && !cell.is_empty() { Origin::SetEach } else { Origin::Run };
                    return Err(SweepError::Name { name, origin });
                }
                if !names.insert(name.clone()) {
                    return Err(SweepError::Twice { name });
                }
                let own_start = entry.preset.is_some() || entry.config.is_some();
                let (preset, config) =
                    if own_start { (&entry.preset, &entry.config) } else { (&self.preset, &self.config) };
                let own_seeds = !entry.seeds.is_empty();
                let seeds = if own_seeds { &entry.seeds } else { &self.seeds };
                let set = self.set.iter().chain(&entry.set).chain(cell.iter().map(|(assignment, _)| assignment));
                variations.push(Variation {
                    name,
                    why: entry.why.clone(),
                    preset: preset.clone(),
                    config: config.clone(),
                    set: set.cloned().collect(),
                    seeds: seeds.clone(),
                    seeds_source: if own_seeds { Origin::SeedsOf(entry.name.clone()) } else { Origin::Seeds },
                });
            }
        }
        Ok(variations)
    }
}

/// The first key that sweeps do not have, where it is, and the keys that they have there.
fn unknown_key(file: &Spanned<DeTable>) -> Option<(String, Range<usize>, &'static [&'static str])> {
    let unknown = |table: &DeTable, known: &'static [&'static str]| {
        let key = table.keys().find(|key| !known.contains(&key.get_ref().as_ref()))?;
        Some((key.get_ref().to_string(), key.span(), known))
    };
    let runs = file.get_ref().get("run").and_then(|runs| runs.get_ref().as_array());
    let in_runs = || runs?.iter().find_map(|run| unknown(run.get_ref().as_table()?, RUN_KEYS));
    unknown(file.get_ref(), KEYS).or_else(in_runs)
}

/// The first name in `evaluate` that is not a split's, and where it is.
fn unknown_split(file: &Spanned<DeTable>) -> Option<(String, Range<usize>)> {
    let splits = file.get_ref().get("evaluate")?.get_ref().as_array()?;
    let names = splits.iter().filter_map(|split| Some((split.get_ref().as_str()?, split.span())));
    let unknown = |name: &str| SplitName::deserialize(StrDeserializer::<value::Error>::new(name)).is_err();
    names.map(|(name, span)| (name.to_string(), span)).find(|(name, _)| unknown(name))
}

fn check_seeds(seeds: &[u64], origin: Origin) -> Result<(), SweepError> {
    let mut seen = BTreeSet::new();
    if let Some(&seed) = seeds.iter().find(|seed| !seen.insert(**seed)) {
        return Err(SweepError::SeedTwice { seed, origin });
    }
    match seeds.iter().find(|seed| i64::try_from(**seed).is_err()) {
        Some(&seed) => Err(SweepError::Seed { seed, origin }),
        None => Ok(()),
    }
}

impl Each {
    /// Reads `train.lr=1e-3,3e-4`; commas within brackets and quotes part nothing.
    ///
    /// # Errors
    /// When there is no key or no value.
    pub fn parse(text: &str) -> Result<Each, SweepError> {
        let wrong = || SweepError::Each { text: text.to_string() };
        let (key, values) = text.split_once('=').ok_or_else(wrong)?;
        let values = parts(values);
        if key.trim().is_empty() || values.iter().any(String::is_empty) {
            return Err(wrong());
        }
        Ok(Each { key: key.trim().to_string(), values })
    }
}

/// The folder of a run: its setting's name, with the seed where it is not the config's own.
pub fn folder_name(setting: &str, seed: u64, own: u64) -> String {
    if seed == own { setting.to_string() } else { format!("{setting}_seed={seed}") }
}

/// The product of all values; a cell is an assignment and a name for each key.
fn cells(each: &[Each]) -> Vec<Vec<(String, String)>> {
    let mut cells = vec![Vec::new()];
    for Each { key, values } in each {
        let of = |cell: &Vec<(String, String)>, value: &String| {
            let name = format!("{}={}", key.rsplit('.').next().unwrap_or(key), plain(value));
            cell.iter().cloned().chain([(format!("{key}={value}"), name)]).collect()
        };
        cells = cells.iter().flat_map(|cell| values.iter().map(move |value| of(cell, value))).collect();
    }
    cells
}

/// A value as a part of a folder's name: what separates its parts becomes a hyphen, such as `0.9-0.99` for `[0.9, 0.99]`.
fn plain(value: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.+=".contains(c);
    value.split(|c| !is_plain(c)).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// Splits at commas outside brackets and quotes, and trims blanks.
fn parts(text: &str) -> Vec<String> {
    let (mut parts, mut depth, mut quote) = (vec![String::new()], 0i32, None);
    for c in text.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth -= 1,
            (None, ',') if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("there is always one").push(c);
    }
    parts.into_iter().map(|part| part.trim().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::Explain;

    fn file(text: &str) -> SweepFile {
        SweepFile::parse(text, "my.toml").unwrap()
    }

    fn names(text: &str) -> Vec<String> {
        file(text).expand().unwrap().into_iter().map(|variation| variation.name).collect()
    }

    fn refused(text: &str) -> String {
        let error = SweepFile::parse(text, "my.toml").and_then(|file| file.expand()).unwrap_err();
        assert!(error.hint().is_some());
        error.to_string()
    }

    #[test]
    fn a_grid_is_the_product_of_its_values() {
        let expected = ["lr=1e-3_depth=2", "lr=1e-3_depth=3", "lr=3e-4_depth=2", "lr=3e-4_depth=3"];
        assert_eq!(names("each = ['train.lr=1e-3, 3e-4', 'model.depth=2,3']"), expected);
        let cell = file("set = ['train.epochs=1']\neach = ['augment.random_resized_crop.scale=[0.5, 1.0],[0.8, 1.0]']");
        let cell = cell.expand().unwrap().swap_remove(1);
        assert_eq!(cell.set, ["train.epochs=1", "augment.random_resized_crop.scale=[0.8, 1.0]"]);
        assert_eq!(cell.name, "scale=0.8-1.0");
        assert_eq!(names("each = ['train.betas=[0.9, 0.99]', 'data.name=\"a/b c\"']"), ["betas=0.9-0.99_name=a-b-c"]);
    }

    #[test]
    fn a_list_keeps_its_order_and_meets_the_grid() {
        let text = "preset = 'digits'\neach = ['train.lr=1,2']\n[[run]]\nname = 'b'\nset = ['model.depth=3']\n\
                    [[run]]\nname = 'a'\nwhy = 'because'\npreset = 'photos'\n";
        assert_eq!(names(text), ["b_lr=1", "b_lr=2", "a_lr=1", "a_lr=2"]);
        let variations = file(text).expand().unwrap();
        assert_eq!(variations[1].set, ["model.depth=3", "train.lr=2"]);
        assert_eq!(
            (variations[0].preset.as_deref(), variations[3].preset.as_deref()),
            (Some("digits"), Some("photos"))
        );
        assert_eq!(variations[2].why.as_deref(), Some("because"));
    }

    #[test]
    fn seeds_alone_repeat_the_base() {
        assert_eq!(names("seeds = [1, 2]"), ["base"]);
        let text = "seeds = [1, 2]\n[[run]]\nname = 'a'\nseeds = [3, 4, 5]\n[[run]]\nname = 'b'\n";
        let seeds: Vec<Vec<u64>> = file(text).expand().unwrap().into_iter().map(|variation| variation.seeds).collect();
        assert_eq!(seeds, [vec![3, 4, 5], vec![1, 2]], "a run's own come before the sweep's");
        assert_eq!([folder_name("base", 42, 42), folder_name("base", 7, 42)], ["base", "base_seed=7"]);
    }

    #[test]
    fn the_validation_split_has_the_name_of_the_flag_and_that_of_the_records() {
        assert_eq!(file("evaluate = ['val', 'test']"), file("evaluate = ['validation', 'test']"));
        assert_eq!(file("evaluate = ['val']").evaluate, Some(vec![SplitName::Validation]));
        assert_eq!((file("").evaluate, file("evaluate = []").evaluate), (None, Some(Vec::new())));
    }

    #[test]
    fn a_sweep_that_cannot_be_is_refused() {
        assert_eq!(refused(""), "the sweep varies nothing");
        assert_eq!(refused("each = ['train.lr']"), "`train.lr` is not a key with values");
        assert_eq!(refused("each = ['train.lr=1,,2']"), "`train.lr=1,,2` is not a key with values");
        assert_eq!(refused("[[run]]\nname = 'a'\n[[run]]\nname = 'a'"), "two runs of the sweep have the name `a`");
        assert_eq!(refused("each = ['train.lr=1,1']"), "two runs of the sweep have the name `lr=1`");
        let twice = "train.seed varies, and the sweep has seeds too";
        assert_eq!(refused("seeds = [3, 4]\neach = ['train.seed=1,2']"), twice);
        assert_eq!(refused("each = ['train.seed=1,2']\n[[run]]\nname = 'a'\nseeds = [3, 4]"), twice);
        let tens = "0,1,2,3,4,5,6,7,8,9";
        let wide = |keys: std::ops::Range<u32>| {
            keys.map(|key| format!("'train.k{key}={tens}'")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(names(&format!("each = [{}]", wide(0..4))).len(), 10_000);
        for keys in [5, 100] {
            assert_eq!(refused(&format!("each = [{}]", wide(0..keys))), "the sweep has more than 10,000 runs");
        }
        // Each seed of a setting is a run.
        let seeds = |many: usize| (0..many).map(|seed| seed.to_string()).collect::<Vec<_>>().join(", ");
        let grid = |many: usize| format!("seeds = [{}]\neach = [{}]", seeds(many), wide(0..3));
        assert_eq!(names(&grid(10)).len(), 1000);
        let own = |own: usize| format!("{}\n[[run]]\nname = 'a'\nseeds = [{}]", grid(9), seeds(own));
        assert_eq!(names(&own(10)).len(), 1000, "a run's own seeds count, not the sweep's");
        let both = format!("{}\n[[run]]\nname = 'b'", own(2));
        for text in [grid(11), own(11), both, format!("seeds = [{}]", seeds(10_001))] {
            assert_eq!(refused(&text), "the sweep has more than 10,000 runs");
        }
        let error = file(&grid(11)).expand().unwrap_err();
        assert_eq!(
            error.hint().unwrap(),
            "vary fewer keys, or use fewer values or seeds: each seed of a setting is a run"
        );
        for name in ["../a", "a ", " a", ".a", "-a", &"a".repeat(256)] {
            let expected = format!("invalid run name `{name}` ([[run]])");
            assert_eq!(refused(&format!("[[run]]\nname = '{name}'")), expected);
        }
        let long = "7".repeat(254);
        assert_eq!(refused(&format!("each = ['train.lr={long}']")), format!("invalid run name `lr={long}`"));
        assert_eq!(refused("seeds = [1, 2, 1]"), "duplicate seed 1");
        assert_eq!(refused("[[run]]\nname = 'a'\nseeds = [3, 3]"), "duplicate seed 3 (seeds of run a)");
        // TOML has no such number, --seeds has.
        let large = SweepFile { seeds: vec![1 << 63, 1], ..SweepFile::default() };
        let error = large.expand().unwrap_err();
        assert_eq!(error.to_string(), "seed 9223372036854775808 is more than 9223372036854775807");
        assert_eq!(error.hint().unwrap(), "use seeds such as 1,2,3");
        let unknown = refused("seeds = [1, 2]\nepochs = 3");
        assert!(unknown == "unknown key `epochs` (my.toml, line 2)", "{unknown}");
        assert!(refused("evaluate = ['tests']").ends_with("(my.toml, line 1)"));
        let hint = |text| SweepFile::parse(text, "my.toml").unwrap_err().hint().unwrap();
        assert_eq!(hint("seed = [1, 2]"), "did you mean `seeds`?");
        assert_eq!(hint("[[run]]\nname = 'a'\nsets = ['train.lr=1']"), "did you mean `set`?");
        assert_eq!(hint("evaluate = ['tests']"), "did you mean `test`?");
        assert!(hint("epochs = 3").starts_with("the keys are preset, config"), "{}", hint("epochs = 3"));
        for text in ["seeds = [1", "set = 'train.lr=1'"] {
            assert!(hint(text).starts_with("a sweep has the keys preset"), "{text}: {}", hint(text));
        }
    }
}
