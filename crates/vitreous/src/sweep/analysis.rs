//! Describes the results of a sweep: the best setting by the validation split, and each setting compared with the
//! first. Test accuracies are not used for ranking.

use super::ranking::{Figure, Setting, ranked};
use crate::compare::{Difference, LEVEL, Measure, Spread, holm, pairs, probability};
use crate::config::difference::{changes, shown};
use crate::text::visible;
use crate::{durations, numbers};

/// What surrounds the numbers.
#[derive(Clone, Debug)]
pub struct AnalysisContext<'a> {
    /// The sweep's name.
    pub sweep: &'a str,
    /// The command that made it.
    pub command: &'a str,
    /// The table of all runs, as Markdown.
    pub table: &'a str,
    /// Runs side by side, which share the machine.
    pub jobs: usize,
    /// The published table that the sweep reproduces.
    pub reproduces: Option<&'a str>,
    /// The settings besides the winner that were measured on the test split before.
    pub tested: &'a [String],
}

/// Writes the analysis as Markdown. Settings without a finished run are named and left out.
pub fn analysis(settings: &[Setting], context: &AnalysisContext) -> String {
    let (done, missing): (Vec<Setting>, Vec<Setting>) =
        settings.iter().cloned().partition(|setting| !setting.runs.is_empty());
    let mut text = format!("# Sweep {}\n\nMade by `{}`.\n\n{}\n", context.sweep, context.command, context.table);
    let missing: Vec<String> = missing.iter().map(|setting| format!("`{}`", setting.name)).collect();
    if !missing.is_empty() {
        text.push_str(&format!("Without a finished run, and left out: {}.\n\n", missing.join(", ")));
    }
    let figure_of_all = Figure::of(&done, context.reproduces.is_some());
    let (Some((base, others)), Some(measure)) = (done.split_first(), figure_of_all) else {
        text.push_str("No setting has an accuracy that could be compared.\n");
        return text;
    };
    text.push_str(&overall(&done, measure, context));
    text.push_str(&format!("## `{}`, the base\n\n{}", base.name, why(base)));
    if let Some(spread) = measure.spread(base) {
        let figure = figure(&spread);
        text.push_str(&format!(
            "- {}: {figure}, trained in {}.\n",
            capital(&measure.name()),
            durations::duration(seconds(base))
        ));
    }
    for (setting, difference) in others.iter().zip(differences(base, others, measure)) {
        text.push_str(&format!("\n## `{}`\n\n{}", setting.name, why(setting)));
        text.push_str(&against(base, setting, measure, difference));
    }
    text
}

/// A setting's difference from the base.
struct AgainstBase {
    difference: Difference,
    /// The test over seeds, corrected for the number of comparisons.
    p_adjusted: Option<f64>,
    /// Settings that are held against the base.
    comparisons: usize,
}

/// Compares each setting with the base, except those with other images.
fn differences(base: &Setting, others: &[Setting], measure: Figure) -> Vec<Option<AgainstBase>> {
    let of = |setting: &Setting| -> Option<Difference> {
        let is_comparable = measure.is_on_the_same_images(base, setting);
        is_comparable.then(|| Some(Difference::of(&measure.spread(base)?, &measure.spread(setting)?)))?
    };
    let found: Vec<Option<Difference>> = others.iter().map(of).collect();
    let comparisons = found.iter().flatten().count();
    let p: Vec<Option<f64>> = found.iter().map(|found| Some(found.as_ref()?.seeds?.p)).collect();
    let adjusted = holm(&p, comparisons);
    let with_p = |(difference, p_adjusted)| Some(AgainstBase { difference: difference?, p_adjusted, comparisons });
    found.into_iter().zip(adjusted).map(with_p).collect()
}

/// The summary of all settings.
fn overall(done: &[Setting], measure: Figure, context: &AnalysisContext) -> String {
    let base = &done[0];
    let mut text = context.reproduces.map_or_else(String::new, |table| {
        format!("This sweep reproduces {table}: the test accuracies in its table were not used to choose anything. ")
    });
    let is_comparable = |setting: &&Setting| measure.is_on_the_same_images(base, setting);
    let (comparable, other): (Vec<&Setting>, Vec<&Setting>) = done.iter().partition(is_comparable);
    let comparable = comparable.len();
    let is_validated = measure == Figure::Ranked(Measure::Validation);
    let is_ranked = is_validated && (comparable > 1 || other.is_empty());
    text.push_str(match measure {
        _ if is_ranked => "Settings are ranked by validation accuracy; the test split is not used for that. ",
        _ if is_validated => "Nothing is ranked, because no other setting is validated on the images of the first. ",
        Figure::Ranked(_) => "Nothing is ranked, because there is no validation accuracy. ",
        Figure::Train => "Nothing is ranked, because some settings have no validation accuracy. ",
    });
    text.push_str(&format!("Each setting is compared with the first, `{}`, by its {}. ", base.name, measure.name()));
    if !other.is_empty() {
        let names: Vec<String> = other.iter().map(|setting| format!("`{}`", setting.name)).collect();
        text.push_str(&format!(
            "Measured on other images, and therefore not ranked or compared: {}. ",
            names.join(", ")
        ));
    }
    let most = done.iter().map(|setting| setting.runs.len()).max().unwrap_or(0);
    text.push_str(&if most > 1 {
        let adjusted = match comparable - 1 {
            0 | 1 => String::new(),
            many => format!(", adjusted for {many} comparisons by Holm's method"),
        };
        format!(
            "A difference is more than noise if p is below {LEVEL}: p is the probability of a difference at least this \
             large if both settings had the same mean accuracy (Student's t-test, up to {most} seeds per \
             setting{adjusted}). "
        )
    } else {
        "Each setting has one seed, so noise cannot be estimated: the same setting with another seed may differ as much. \
         Repeat the sweep with several seeds to estimate it. "
            .to_string()
    });
    if context.jobs > 1 {
        let jobs = context.jobs;
        text.push_str(&format!("{jobs} runs shared the machine at a time, so their times are too long. "));
    }
    if is_ranked {
        text.push_str(&best(done, most > 1, context.tested));
    }
    format!("{}\n\n", text.trim_end())
}

/// Which setting the validation split chooses, by how much, and what it reaches on the test split if that was measured.
fn best(done: &[Setting], has_seeds: bool, tested: &[String]) -> String {
    let ranked = ranked(&done.iter().collect::<Vec<_>>());
    let Some(&(at, spread)) = ranked.first() else { return String::new() };
    let best = &done[at];
    let mut text = String::new();
    if let Some((second, next)) = ranked.get(1) {
        let highest = if has_seeds { "The best mean is" } else { "The best is" };
        let (first, then) = (figure(&spread), figure(next));
        text.push_str(&format!("{highest} that of `{}`, {first}, then `{}`, {then}", best.name, done[*second].name));
        let pairs = pairs(ranked.len());
        let p: Vec<_> =
            ranked[1..].iter().map(|(_, other)| Difference::of(other, &spread).seeds.map(|seeds| seeds.p)).collect();
        text.push_str(&match holm(&p, pairs)[0] {
            None => ". ".to_string(),
            Some(p) => {
                let verdict = if p < LEVEL { "more than noise" } else { "within noise" };
                format!(". Their difference is {verdict} ({}{}). ", probability(p), adjusted_for(pairs, "pairs"))
            }
        });
    }
    match Figure::Ranked(Measure::Test).spread(best).filter(|test| test.n == best.runs.len()) {
        Some(test) => text.push_str(&format!("On the test split `{}` reaches {}. ", best.name, figure(&test))),
        None if ranked.len() > 1 => text.push_str(
            "It was chosen by its validation accuracy, which is therefore too high on average: measure the winner alone \
             on the test split. ",
        ),
        None => {}
    }
    if !tested.is_empty() {
        let names: Vec<String> = tested.iter().map(|name| format!("`{name}`")).collect();
        text.push_str(&format!(
            "Measured on the test split before: {}. Later settings may have been tried because of that, so the test \
             accuracy of `{}` is no longer free of choice. ",
            names.join(", "),
            best.name
        ));
    }
    text
}

fn adjusted_for(comparisons: usize, what: &str) -> String {
    if comparisons > 1 {
        format!(", adjusted for {} {what}", numbers::count(comparisons as u64))
    } else {
        String::new()
    }
}

/// What a setting changed, and what that did.
fn against(base: &Setting, setting: &Setting, measure: Figure, found: Option<AgainstBase>) -> String {
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
        let [own, first] = [own.parameters, first.parameters].map(|n| numbers::count(n as u64));
        text.push_str(&format!("- Parameters: {own}, the base has {first}.\n"));
    }
    if let Some(after) = measure.spread(setting) {
        let accuracy = format!("- {}: {}", capital(&measure.name()), figure(&after));
        match found {
            Some(found) => {
                let by = points(found.difference.mean);
                let how = match found.difference.mean {
                    x if x > 0.0 => format!("{by} above the base"),
                    x if x < 0.0 => format!("{by} below the base"),
                    _ => "the same as the base".to_string(),
                };
                text.push_str(&format!("{accuracy}, {how}.\n{}", chance(&found)));
            }
            None => text.push_str(&format!("{accuracy}, on other images than the base's: the two are not compared.\n")),
        }
    }
    let [own, first] = [setting, base].map(seconds);
    if first > 0.0 {
        let [own_text, first_text] = [own, first].map(durations::duration);
        text.push_str(&format!("- Training time: {own_text}, {:.2} times the base's {first_text}.\n", own / first));
    }
    text
}

/// Whether the seeds alone may account for a difference.
fn chance(found: &AgainstBase) -> String {
    let (Some(seeds), Some(p)) = (found.difference.seeds, found.p_adjusted) else {
        return "- One seed each: other seeds may give another order. A p in the table is about these weights only.\n"
            .to_string();
    };
    let [low, high] = seeds.interval.map(|x| format!("{:+.2}", 100.0 * x));
    let verdict = if p < LEVEL { "more than noise" } else { "within noise" };
    format!(
        "- The difference is {verdict} ({}{}): seeds of one setting have a standard deviation of {} (pooled), and the \
         difference has a 95 % interval of {low} to {high} points (not adjusted).\n",
        probability(p),
        adjusted_for(found.comparisons, "comparisons"),
        points(seeds.sd)
    )
}

fn why(setting: &Setting) -> String {
    setting.why.as_ref().map_or_else(String::new, |why| format!("{}\n\n", markdown_prose(why)))
}

/// A text from a sweep's file as a paragraph of Markdown: nothing in it is a heading, a list, a link or HTML.
fn markdown_prose(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_whitespace() {
        out.push_str(if out.is_empty() { "" } else { " " });
        if out.is_empty() && word.starts_with(['-', '+', '>', '=']) {
            out.push('\\');
        }
        for c in visible(word).chars() {
            if "\\*_[]<#|".contains(c) {
                out.push('\\');
            }
            out.push(c);
        }
    }
    out
}

/// Mean training time of a setting.
fn seconds(setting: &Setting) -> f64 {
    setting.runs.iter().map(|run| run.seconds).sum::<f64>() / setting.runs.len() as f64
}

/// `97.25 %`, or `97.25 % (mean of 3 seeds, 97.10 to 97.41)`.
fn figure(spread: &Spread) -> String {
    let Spread { n, mean, min, max, .. } = *spread;
    if n == 1 {
        return numbers::percent(mean);
    }
    format!("{} (mean of {n} seeds, {:.2} to {:.2})", numbers::percent(mean), 100.0 * min, 100.0 * max)
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
    use super::super::winner;
    use super::*;
    use crate::compare::{RunFacts, TrainAccuracy};
    use crate::config::difference::flat_config;
    use crate::evaluate::Accuracy;
    use crate::record::Weights;

    /// Runs of these validation accuracies, with as good as opposite ones on the test split.
    fn setting(name: &str, lr: f64, validation: &[f64]) -> Setting {
        let run = |(seed, value): (u64, &f64)| RunFacts {
            folder: name.into(),
            name: name.to_string(),
            model: None,
            settings: flat_config(&format!("[train]\nlr = {lr}\n"), "config.toml").unwrap(),
            seed,
            fingerprint: String::new(),
            parameters: 7,
            flops_forward: None,
            seconds: 40.0 * lr,
            weights: Some(Weights::Best),
            train: Some(TrainAccuracy::Running(0.25)),
            validation: Some(Accuracy { value: *value, images: 10 }),
            test: Some(Accuracy { value: 1.0 - *value, images: 10 }),
            has_validation: true,
            beam: None,
        };
        Setting { name: name.to_string(), why: None, runs: (1..).zip(validation).map(run).collect() }
    }

    fn untested(mut setting: Setting) -> Setting {
        setting.runs.iter_mut().for_each(|run| run.test = None);
        setting
    }

    const TELLING: AnalysisContext = AnalysisContext {
        sweep: "s",
        command: "vitreous sweep s",
        table: "| run |\n",
        jobs: 1,
        reproduces: None,
        tested: &[],
    };

    fn told(settings: &[Setting]) -> String {
        analysis(settings, &TELLING)
    }

    #[test]
    fn one_seed_is_said_to_be_one() {
        let settings = [setting("base", 0.5, &[0.75]), setting("low", 0.25, &[0.7]), setting("same", 0.5, &[0.75])];
        let text = told(&settings.map(untested));
        let expected = "\
# Sweep s

Made by `vitreous sweep s`.

| run |

Settings are ranked by validation accuracy; the test split is not used for that. Each setting is compared with the first, \
`base`, by its validation accuracy. Each setting has one seed, so noise cannot be estimated: the same setting with another \
seed may differ as much. Repeat the sweep with several seeds to estimate it. The best is that of `base`, \
75.00 %, then `same`, 75.00 %. It was chosen by its validation accuracy, which is therefore too high on average: measure \
the winner alone on the test split.

## `base`, the base

- Validation accuracy: 75.00 %, trained in 20 s.

## `low`

- Changed: `train.lr` 0.5 → 0.25.
- Validation accuracy: 70.00 %, 5.00 points below the base.
- One seed each: other seeds may give another order. A p in the table is about these weights only.
- Training time: 10 s, 0.50 times the base's 20 s.

## `same`

- Changed: nothing against the base.
- Validation accuracy: 75.00 %, the same as the base.
- One seed each: other seeds may give another order. A p in the table is about these weights only.
- Training time: 20 s, 1.00 times the base's 20 s.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn test_accuracies_choose_nothing() {
        // On the test split the order is the other way round.
        let settings = [setting("base", 0.5, &[0.7]), setting("high", 0.25, &[0.9]), setting("low", 0.125, &[0.2])];
        assert_eq!(winner(&settings), Some(1));
        let text = told(&settings);
        let expected = "The best is that of `high`, 90.00 %, then `base`, 70.00 %. On the test split `high` reaches \
                        10.00 %.\n";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("- Validation accuracy: 20.00 %, 50.00 points below the base.\n"), "{text}");
        assert!(!text.contains("80.00"), "nothing is said of what another one reaches there: {text}");
        let unfinished = Setting { runs: Vec::new(), ..setting("gone", 0.5, &[]) };
        let [base, high, _] = settings;
        assert_eq!(winner(&[unfinished.clone(), base, high]), Some(2));
        assert_eq!(winner(&[unfinished]), None);
    }

    #[test]
    fn seeds_tell_chance_from_more() {
        let base = setting("base", 0.5, &[0.70, 0.71, 0.72]);
        let far = told(&[base.clone(), setting("far", 0.25, &[0.80, 0.81, 0.82])]);
        assert!(
            far.contains(
                "Validation accuracy: 81.00 % (mean of 3 seeds, 80.00 to 82.00), 10.00 points above the base.\n"
            ),
            "{far}"
        );
        // t is 0.1 / (0.01 sqrt(2/3)) = 12.25 with four degrees of freedom: p is 0.000255 (scipy.stats.ttest_ind).
        let expected = "The difference is more than noise (p = 0.0003): seeds of one setting have a standard deviation \
                        of 1.00 points (pooled), and the difference has a 95 % interval of +7.73 to +12.27 points (not \
                        adjusted).\n";
        assert!(far.contains(expected), "{far}");
        assert!(far.contains("`far`, 81.00 % (mean of 3 seeds, 80.00 to 82.00), then `base`, "), "{far}");
        assert!(far.contains(". Their difference is more than noise (p = 0.0003). "), "{far}");
        let near = told(&[base, setting("near", 0.25, &[0.705, 0.715, 0.725])]);
        assert!(near.contains("The difference is within noise (p = 0.57): "), "{near}");
        assert!(near.contains(". Their difference is within noise (p = 0.57). "), "{near}");
    }

    #[test]
    fn of_many_settings_one_that_looks_better_by_chance_is_not_said_to_be_better() {
        // By itself t is 3.06 with four degrees of freedom, p 0.0376 (scipy.stats.ttest_ind), the interval leaves out 0.
        let base = setting("base", 0.5, &[0.70, 0.71, 0.72]);
        let other = |name: &str, lr, first: f64| setting(name, lr, &[first, first + 0.01, first + 0.02]);
        let alone = told(&[base.clone(), other("up", 0.25, 0.725)]);
        let interval = "95 % interval of +0.23 to +4.77 points";
        assert!(
            alone.contains("The difference is more than noise (p = 0.0376): ") && alone.contains(interval),
            "{alone}"
        );
        let among = told(&[base, other("up", 0.25, 0.725), other("a", 0.125, 0.70), other("b", 0.75, 0.705)]);
        // Three comparisons with the base: 3 * 0.0376. The best of four is in three of six pairs, of which `b` has the third
        // p: 4 * 0.0705.
        assert!(among.contains("The difference is within noise (p = 0.11, adjusted for 3 comparisons): "), "{among}");
        assert!(among.contains(interval), "{among}");
        assert!(among.contains("up to 3 seeds per setting, adjusted for 3 comparisons by Holm's method). "), "{among}");
        assert!(among.contains(". Their difference is within noise (p = 0.28, adjusted for 6 pairs). "), "{among}");
    }

    #[test]
    fn settings_on_other_data_are_not_held_against_each_other() {
        for (key, value) in [("data.classes", "even"), ("data.val_fraction", "0.5")] {
            let mut other = setting("other", 0.5, &[0.9, 0.91]);
            for run in &mut other.runs {
                run.settings.insert(key.to_string(), value.into());
            }
            let settings = [setting("base", 0.5, &[0.75, 0.76]), other, setting("low", 0.25, &[0.70, 0.71])];
            assert_eq!(winner(&settings), Some(0));
            let text = told(&settings);
            let expected = "Validation accuracy: 90.50 % (mean of 2 seeds, 90.00 to 91.00), on other images than the base's: \
                            the two are not compared.\n- Training time: ";
            assert!(text.contains(expected), "{text}");
            assert!(
                text.contains("Measured on other images, and therefore not ranked or compared: `other`. "),
                "{text}"
            );
            assert!(text.contains("The best mean is that of `base`, "), "{text}");
            let text = told(&settings[..2]);
            let expected = "Nothing is ranked, because no other setting is validated on the images of the first. ";
            assert!(text.contains(expected) && !text.contains("ranked by") && !text.contains("best"), "{text}");
        }
    }

    #[test]
    fn only_a_sweep_that_reproduces_a_table_is_told_by_test_accuracies() {
        let without = |mut setting: Setting| {
            setting.runs.iter_mut().for_each(|run| run.validation = None);
            setting
        };
        let settings = [setting("base", 0.5, &[0.75]), setting("low", 0.25, &[0.5])].map(without);
        let reproduces = analysis(&settings, &AnalysisContext { reproduces: Some("the table of E1"), ..TELLING });
        let start = "This sweep reproduces the table of E1: the test accuracies in its table were not used to choose anything. Nothing is \
                     ranked, because there is no validation accuracy. Each setting is compared with the first, `base`, by \
                     its test accuracy. ";
        assert!(reproduces.contains(start), "{reproduces}");
        assert!(reproduces.contains("- Test accuracy: 50.00 %, 25.00 points above the base.\n"), "{reproduces}");
        assert!(!reproduces.contains("best"), "{reproduces}");
        assert_eq!(winner(&settings), None);
        let other = told(&settings);
        assert!(other.contains("Nothing is ranked, because some settings have no validation accuracy. "), "{other}");
        assert!(other.contains("- Train accuracy: 25.00 %, the same as the base.\n"), "{other}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let unfinished = Setting { runs: Vec::new(), ..setting("gone", 0.5, &[]) };
        let text = told(&[setting("base", 0.5, &[0.75]), setting("low", 0.25, &[0.5]), unfinished]);
        assert!(text.contains("Without a finished run, and left out: `gone`.\n"), "{text}");
        assert!(told(&[]).ends_with("No setting has an accuracy that could be compared.\n"));
    }
    #[test]
    fn a_reason_from_a_file_is_a_paragraph_whatever_is_in_it() {
        let why = "# *Not* a [heading](x),\n- no list, <b>no HTML</b> | `code`";
        let expected = "\\# \\*Not\\* a \\[heading\\](x), - no list, \\<b>no HTML\\</b> \\| `code`";
        assert_eq!(markdown_prose(why), expected);
        assert_eq!(markdown_prose("- item"), "\\- item");
        let setting = Setting { why: Some("# heading".to_string()), ..setting("base", 0.5, &[0.75]) };
        assert!(told(&[setting]).contains("\n\\# heading\n"));
    }

    #[test]
    fn images_that_have_changed_between_runs_are_not_ranked() {
        let mut other = setting("other", 0.25, &[0.9]);
        other.runs[0].fingerprint = "changed".to_string();
        let settings = [setting("base", 0.5, &[0.75]), other];
        assert_eq!(winner(&settings), Some(0));
        assert!(told(&settings).contains("Measured on other images, and therefore not ranked or compared: `other`. "));
    }
}
