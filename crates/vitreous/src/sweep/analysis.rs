//! What a sweep says, in words made from its numbers: each setting against the first.

use crate::compare::{Difference, RunFacts, SeedSpread, Spread, TrainAccuracy, changes, shown, tested_on};
use crate::units;

/// The runs of one setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What it is called.
    pub name: String,
    /// Why it was tried.
    pub why: Option<String>,
    /// Its runs that came to their end, one for each seed.
    pub runs: Vec<RunFacts>,
}

/// What surrounds the numbers.
#[derive(Clone, Debug)]
pub struct Telling<'a> {
    /// The sweep's name.
    pub sweep: &'a str,
    /// The command that made it.
    pub command: &'a str,
    /// The table of all runs, as Markdown.
    pub table: &'a str,
    /// Runs side by side, which share the machine.
    pub jobs: usize,
}

/// The accuracy that is told.
#[derive(Clone, Copy)]
enum Measure {
    Test,
    Validation,
    Train,
}

impl Measure {
    /// The best that every setting has.
    fn of(settings: &[Setting]) -> Option<Measure> {
        let all = |measure: &Measure| settings.iter().all(|setting| measure.spread(setting).is_some());
        [Measure::Test, Measure::Validation, Measure::Train].into_iter().find(all)
    }

    fn name(self) -> &'static str {
        match self {
            Measure::Test => "test accuracy",
            Measure::Validation => "validation accuracy",
            Measure::Train => "train accuracy",
        }
    }

    fn spread(self, setting: &Setting) -> Option<Spread> {
        let value = |run: &RunFacts| match self {
            Measure::Test => run.test.map(|test| test.value),
            Measure::Validation => run.validation.map(|validation| validation.value),
            Measure::Train => run.train.map(TrainAccuracy::value),
        };
        Spread::of(&setting.runs.iter().filter_map(value).collect::<Vec<_>>())
    }
}

/// Writes the analysis as Markdown. Settings without a finished run are named and left out.
pub fn analysis(settings: &[Setting], telling: &Telling) -> String {
    let (done, missing): (Vec<Setting>, Vec<Setting>) =
        settings.iter().cloned().partition(|setting| !setting.runs.is_empty());
    let mut text = format!("# Sweep {}\n\nMade by `{}`.\n\n{}\n", telling.sweep, telling.command, telling.table);
    let missing: Vec<String> = missing.iter().map(|setting| format!("`{}`", setting.name)).collect();
    if !missing.is_empty() {
        text.push_str(&format!("Without a finished run, and left out: {}.\n\n", missing.join(", ")));
    }
    let (Some((base, others)), Some(measure)) = (done.split_first(), Measure::of(&done)) else {
        text.push_str("No setting has an accuracy that could be compared.\n");
        return text;
    };
    text.push_str(&overall(&done, measure, telling.jobs));
    text.push_str(&format!("## `{}`, the base\n\n{}", base.name, why(base)));
    if let Some(spread) = measure.spread(base) {
        let figure = figure(&spread);
        text.push_str(&format!("- {}: {figure}, in {}.\n", capital(measure.name()), units::duration(seconds(base))));
    }
    for setting in others {
        text.push_str(&format!("\n## `{}`\n\n{}", setting.name, why(setting)));
        text.push_str(&against(base, setting, measure));
    }
    text
}

/// What can be said of all settings together.
fn overall(done: &[Setting], measure: Measure, jobs: usize) -> String {
    let ranked = done.iter().filter(|setting| is_on_the_same_data(&done[0], setting));
    let mut ranked: Vec<(&Setting, Spread)> =
        ranked.filter_map(|setting| Some((setting, measure.spread(setting)?))).collect();
    ranked.sort_by(|(_, a), (_, b)| b.mean.total_cmp(&a.mean));
    let mut text = format!("Each setting is held against the first, `{}`, by its {}. ", done[0].name, measure.name());
    if ranked.len() < done.len() {
        text.push_str("Those on other data than its own have no part in that. ");
    }
    let most = done.iter().map(|setting| setting.runs.len()).max().unwrap_or(0);
    text.push_str(&if most > 1 {
        format!(
            "A difference counts as more than chance where its 95 % interval over the seeds, up to {most} a setting, \
             leaves out 0. "
        )
    } else {
        "There is one seed only, so nothing here says how much of a difference is chance: the same setting with another \
         seed may differ as much. Repeat the sweep with --seeds for that. "
            .to_string()
    });
    if jobs > 1 {
        text.push_str(&format!("Runs were made {jobs} side by side, so their times are those of a shared machine. "));
    }
    if let [(best, spread), (second, next), ..] = ranked[..] {
        let highest = if most > 1 { "The highest mean is" } else { "The highest is" };
        let (first, then) = (figure(&spread), figure(&next));
        text.push_str(&format!("{highest} that of `{}`, {first}, then `{}`, {then}", best.name, second.name));
        text.push_str(match Difference::of(&next, &spread).seeds {
            Some(seeds) if seeds.is_exceeded() => ": more than chance apart. ",
            Some(_) => ": no more apart than seeds are. ",
            None => ". ",
        });
    }
    format!("{}\n\n", text.trim_end())
}

/// What a setting changed, and what that did.
fn against(base: &Setting, setting: &Setting, measure: Measure) -> String {
    let (first, own) = (&base.runs[0], &setting.runs[0]);
    let changed: Vec<String> = changes(&first.settings, &own.settings)
        .into_iter()
        .map(|(key, before, after)| format!("`{key}` {} → {}", shown(before), shown(after)))
        .collect();
    let mut text = if changed.is_empty() {
        "- Changed: nothing against the base.\n".to_string()
    } else {
        format!("- Changed: {}.\n", changed.join("; "))
    };
    if own.parameters != first.parameters {
        let [own, first] = [own.parameters, first.parameters].map(|n| units::count(n as u64));
        text.push_str(&format!("- Parameters: {own}, the base has {first}.\n"));
    }
    if let (Some(before), Some(after)) = (measure.spread(base), measure.spread(setting)) {
        let found = format!("- {}: {}", capital(measure.name()), figure(&after));
        let difference = Difference::of(&before, &after);
        let by = points(difference.mean);
        let how = match difference.mean {
            x if x > 0.0 => format!("{by} above the base"),
            x if x < 0.0 => format!("{by} below the base"),
            _ => "the same as the base".to_string(),
        };
        if is_on_the_same_data(base, setting) {
            text.push_str(&format!("{found}, {how}.\n{}", chance(difference.seeds)));
        } else {
            text.push_str(&format!("{found}, on other data than the base's: the two say nothing of each other.\n"));
        }
    }
    let [own, first] = [setting, base].map(seconds);
    if first > 0.0 {
        let [own_text, first_text] = [own, first].map(units::duration);
        text.push_str(&format!("- Training time: {own_text}, {:.2} times the base's {first_text}.\n", own / first));
    }
    text
}

/// Whether accuracies of two settings can be held against each other.
fn is_on_the_same_data(base: &Setting, setting: &Setting) -> bool {
    tested_on(&base.runs[0].settings) == tested_on(&setting.runs[0].settings)
}

/// Whether the seeds alone may account for a difference.
fn chance(seeds: Option<SeedSpread>) -> String {
    let Some(seeds) = seeds else {
        return "- One seed each: whether other seeds would say the same cannot be known. A p in the table is about these very weights.\n".to_string();
    };
    let [low, high] = seeds.interval.map(|x| format!("{:+.2}", 100.0 * x));
    let verdict =
        if seeds.is_exceeded() { "more than the seeds account for" } else { "no more than the seeds account for" };
    format!(
        "- That is {verdict}: seeds of one setting have a standard deviation of {} (pooled), the difference a 95 % interval \
         of {low} to {high} points.\n",
        points(seeds.sd)
    )
}

fn why(setting: &Setting) -> String {
    setting.why.as_ref().map_or_else(String::new, |why| format!("{why}\n\n"))
}

/// Mean training time of a setting.
fn seconds(setting: &Setting) -> f64 {
    setting.runs.iter().map(|run| run.seconds).sum::<f64>() / setting.runs.len() as f64
}

/// `97.25 %`, or `97.25 % (mean of 3 seeds, 97.10 to 97.41)`.
fn figure(spread: &Spread) -> String {
    let Spread { n, mean, min, max, .. } = *spread;
    if n == 1 {
        return units::percent(mean);
    }
    format!("{} (mean of {n} seeds, {:.2} to {:.2})", units::percent(mean), 100.0 * min, 100.0 * max)
}

/// A difference of accuracies, without its sign.
fn points(fraction: f64) -> String {
    format!("{:.2} points", 100.0 * fraction.abs())
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::settings_of;
    use crate::evaluate::Accuracy;
    use crate::record::Weights;

    fn setting(name: &str, lr: f64, tests: &[f64]) -> Setting {
        let run = |(seed, test): (u64, &f64)| RunFacts {
            folder: name.into(),
            name: name.to_string(),
            model: None,
            settings: settings_of(&format!("[train]\nlr = {lr}\n"), "config.toml").unwrap(),
            seed,
            fingerprint: String::new(),
            parameters: 7,
            flops_forward: None,
            seconds: 40.0 * lr,
            weights: Some(Weights::Best),
            train: None,
            validation: Some(Accuracy { value: 0.5, images: 10 }),
            test: Some(Accuracy { value: *test, images: 10 }).filter(|test| test.value > 0.0),
            beam: None,
        };
        Setting { name: name.to_string(), why: None, runs: (1..).zip(tests).map(run).collect() }
    }

    fn told(settings: &[Setting]) -> String {
        analysis(settings, &Telling { sweep: "s", command: "vitreous sweep s", table: "| run |\n", jobs: 1 })
    }

    #[test]
    fn one_seed_is_said_to_be_one() {
        let text = told(&[setting("base", 0.5, &[0.75]), setting("low", 0.25, &[0.7]), setting("same", 0.5, &[0.75])]);
        let expected = "\
# Sweep s

Made by `vitreous sweep s`.

| run |

Each setting is held against the first, `base`, by its test accuracy. There is one seed only, so nothing here says how \
much of a difference is chance: the same setting with another seed may differ as much. Repeat the sweep with --seeds \
for that. The highest is that of `base`, 75.00 %, then `same`, 75.00 %.

## `base`, the base

- Test accuracy: 75.00 %, in 20 s.

## `low`

- Changed: `train.lr` 0.5 → 0.25.
- Test accuracy: 70.00 %, 5.00 points below the base.
- One seed each: whether other seeds would say the same cannot be known. A p in the table is about these very weights.
- Training time: 10 s, 0.50 times the base's 20 s.

## `same`

- Changed: nothing against the base.
- Test accuracy: 75.00 %, the same as the base.
- One seed each: whether other seeds would say the same cannot be known. A p in the table is about these very weights.
- Training time: 20 s, 1.00 times the base's 20 s.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn seeds_tell_chance_from_more() {
        let base = setting("base", 0.5, &[0.70, 0.71, 0.72]);
        let far = told(&[base.clone(), setting("far", 0.25, &[0.80, 0.81, 0.82])]);
        assert!(
            far.contains("Test accuracy: 81.00 % (mean of 3 seeds, 80.00 to 82.00), 10.00 points above the base.\n"),
            "{far}"
        );
        let expected = "That is more than the seeds account for: seeds of one setting have a standard deviation of 1.00 \
                        points (pooled), the difference a 95 % interval of +7.73 to +12.27 points.\n";
        assert!(far.contains(expected), "{far}");
        assert!(far.contains("`far`, 81.00 % (mean of 3 seeds, 80.00 to 82.00), then `base`, "), "{far}");
        assert!(far.contains(": more than chance apart.\n"), "{far}");
        let near = told(&[base, setting("near", 0.25, &[0.705, 0.715, 0.725])]);
        assert!(near.contains("That is no more than the seeds account for: "), "{near}");
        assert!(near.contains(": no more apart than seeds are.\n"), "{near}");
    }

    #[test]
    fn settings_on_other_data_are_not_held_against_each_other() {
        let mut even = setting("even", 0.5, &[0.9, 0.91]);
        for run in &mut even.runs {
            run.settings.insert("data.classes".to_string(), "even".into());
        }
        let text = told(&[setting("base", 0.5, &[0.75, 0.76]), even, setting("low", 0.25, &[0.70, 0.71])]);
        let expected = "Test accuracy: 90.50 % (mean of 2 seeds, 90.00 to 91.00), on other data than the base's: the two say \
                        nothing of each other.\n- Training time: ";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("Those on other data than its own have no part in that. "), "{text}");
        assert!(text.contains("The highest mean is that of `base`, "), "{text}");
    }

    #[test]
    fn what_is_missing_is_named_and_the_next_best_measure_taken() {
        let unfinished = Setting { runs: Vec::new(), ..setting("gone", 0.5, &[]) };
        let text = told(&[setting("base", 0.5, &[0.75]), setting("low", 0.25, &[0.0]), unfinished]);
        assert!(text.contains("Without a finished run, and left out: `gone`.\n"), "{text}");
        assert!(
            text.contains("## `low`\n\n- Changed: `train.lr` 0.5 → 0.25.\n- Validation accuracy: 50.00 %, "),
            "{text}"
        );
        assert!(told(&[]).ends_with("No setting has an accuracy that could be compared.\n"));
    }
}
