//! The profiles of the base and the winner: which kinds of operations make the difference, and the slowest layers of both.

use std::path::Path;

use super::search::Search;
use crate::layout::{Align, markdown_table};
use crate::profile::{Profile, Row};

/// The files of the profiles.
const FILES: [&str; 2] = ["profile-base.json", "profile-advised.json"];

/// Kinds of operations that are named.
const KINDS: usize = 3;

/// Layers of each model in the table.
const LAYERS: usize = 12;

/// The profiles of the base and the winner.
pub struct Profiles([Profile; 2]);

impl Profiles {
    /// Reads the profiles that an earlier start made, or makes them; none where the machine cannot.
    pub fn of(search: &Search, winner: &str) -> Option<Profiles> {
        let read = |file: &&str| Profile::read(&search.options.folder.join(file)).ok();
        if let [Some(base), Some(own)] = FILES.each_ref().map(read) {
            return Some(Profiles([base, own]));
        }
        let candidate = search.hood.find(winner)?;
        let profiles =
            search.stopwatch.profiles([("base", &search.base.config), (winner, &search.base.timed(&candidate))])?;
        for (profile, file) in profiles.iter().zip(FILES) {
            // They are only shown: the answer is complete without the files.
            let _ = profile.write(&search.options.folder.join::<&Path>(file.as_ref()));
        }
        Some(Profiles(profiles))
    }

    /// Says in which operations the time is saved.
    pub fn sentence(&self) -> String {
        let [base, own] = self.0.each_ref().map(|profile| &profile.kinds[..]);
        let changes: Vec<String> = changes(base, own)
            .into_iter()
            .take(KINDS)
            .map(|(name, [before, now])| format!("{name} {now:.1} ms instead of {before:.1}"))
            .collect();
        format!("By the profile, the largest changes of a step are: {}. ", changes.join(", "))
    }

    /// The slowest layers of both side by side.
    pub fn markdown(&self) -> String {
        let titles = ["base", "ms", "share", "limit", "advised", "ms", "share", "limit"].map(str::to_string);
        let [base, own] = self.0.each_ref().map(|profile| slowest(&profile.layers));
        let mut rows = vec![titles.to_vec()];
        let absent = || ["", "", "", ""].map(str::to_string);
        for at in 0..base.len().max(own.len()) {
            let cells = [&base, &own].map(|layers| layers.get(at).cloned().unwrap_or_else(absent));
            rows.push(cells.concat());
        }
        let align = [Align::Left, Align::Right, Align::Right, Align::Left];
        format!(
            "## Profiles\n\nThe slowest layers of a step, before and after. `profile diff` reads both profiles: {}.\n\n{}\n",
            FILES.map(|file| format!("`{file}`")).join(" and "),
            markdown_table(&rows, &[align, align].concat())
        )
    }
}

/// The times of each kind of operation, before and after, the largest change first.
fn changes(base: &[Row], own: &[Row]) -> Vec<(String, [f64; 2])> {
    // An empty sum is -0.0.
    let ms = |rows: &[Row], name: &str| {
        rows.iter().filter(|row| row.name() == name).map(|row| row.ms.median).sum::<f64>() + 0.0
    };
    let mut names: Vec<String> = base.iter().chain(own).map(Row::name).collect();
    names.sort_unstable();
    names.dedup();
    let times = names.into_iter().map(|name| {
        let times = [ms(base, &name), ms(own, &name)];
        (name, times)
    });
    let mut times: Vec<(String, [f64; 2])> = times.collect();
    let change = |(_, [before, now]): &(String, [f64; 2])| (now - before).abs();
    times.sort_by(|a, b| change(b).total_cmp(&change(a)));
    times
}

fn slowest(rows: &[Row]) -> Vec<[String; 4]> {
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by(|a, b| b.ms.median.total_cmp(&a.ms.median));
    let cells = |row: &&Row| {
        let limit = row.limit.map_or("", |limit| limit.name());
        [row.name(), format!("{:.2}", row.ms.median), format!("{:.1} %", row.share * 100.0), limit.to_string()]
    };
    rows.iter().take(LAYERS).map(cells).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Spread;

    #[test]
    fn the_largest_change_comes_first_and_what_only_one_has_counts_from_nothing() {
        let row = |name: &str, median: f64| Row {
            names: vec![name.to_string()],
            ms: Spread { median, ..Spread::default() },
            ..Row::default()
        };
        let base = [row("conv", 70.0), row("pool", 5.0), row("relu", 3.0)];
        let own = [row("conv", 40.0), row("batchnorm", 11.0), row("relu", 2.5)];
        let expected = [("conv", [70.0, 40.0]), ("batchnorm", [0.0, 11.0]), ("pool", [5.0, 0.0]), ("relu", [3.0, 2.5])];
        let found = changes(&base, &own);
        assert!(found.iter().all(|(_, times)| times.iter().all(|ms| ms.is_sign_positive())), "{found:?}");
        assert_eq!(found, expected.map(|(name, times)| (name.to_string(), times)));
    }
}
