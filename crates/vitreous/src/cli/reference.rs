//! The pages `docs/config.md` and `docs/cli.md`, written from the descriptions of keys and from the parser.

use std::fmt::Write;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::{Cli, EXIT_STATUS, flags};
use crate::advice::Value;
use crate::config::model::ModelKind;
use crate::config::schema::{Choice, Key, Kind, Range};
use crate::config::{TABLES, keys_of};
use crate::numbers::capital;

/// The command that rewrites the pages.
const REWRITE: &str = "UPDATE_DOCS=1 cargo test -p vitreous --lib reference";

fn header(title: &str) -> String {
    format!("# {title}\n\n<!-- Written by `{REWRITE}`; do not edit. -->\n\n")
}

/// Every key of every table.
fn config_page() -> String {
    let mut page = header("Config reference");
    page += "A config has every setting of a run. It is a TOML file of tables:\n\n";
    page += "```toml\n[data]\nname = \"mnist\"\n\n[augment]\nshift = 0.1\n\n[model]\nkind = \"vit\"\ndepth = 6\n\n";
    page += "[train]\nepochs = 20\nlr = 1e-3\n```\n\n";
    page += "A run's config is put together key by key, and later sources win: the preset (`--preset NAME`), the file \
             (`--config FILE`), the model (`--model NAME`), then flags and `--set TABLE.KEY=VALUE`. `--set TABLE.KEY=` \
             restores the default. Every key has a default, so a file may have a single line. An unknown key is an \
             error. `vitreous presets NAME` prints a preset's file to start from, and every run keeps its whole config \
             in `runs/NAME/config.toml`, which `--config` takes too.\n";
    for table in TABLES.into_iter().filter(|table| *table != "model") {
        let about = match table {
            "data" => "Which images, and how they become numbers.",
            "augment" => "Random changes to training images. Validation and test images are never changed.",
            "slurm" => {
                "What a job on a cluster needs (see [the guide](cluster.md)). It changes nothing that a run computes, and \
                 no run saves it. A site file, `~/.config/vitreous/slurm.toml`, has the same keys for all jobs of a user."
            }
            _ => "How the model is trained.",
        };
        let _ = write!(page, "\n## [{table}]\n\n{about}\n\n");
        page += &table_of(&keys_of(table, ModelKind::default()).unwrap_or_default());
    }
    page += "\n## [model]\n\nWhich network. The key `kind` decides which other keys the table has. `image_size`, \
             `channels` and `num_classes` follow from the data; a written one must agree with it.\n\n";
    page += &table_of(&[&ModelKind::KEY]);
    for &kind in ModelKind::ALL {
        let _ = write!(page, "\n### kind = \"{}\"\n\n", kind.name());
        let _ = write!(page, "{} ({}).\n\n", capital(kind.summary()), kind.source());
        page += &table_of(&kind.keys().iter().collect::<Vec<_>>());
    }
    page
}

/// Keys as a table, and below it what the words of closed sets mean.
fn table_of(keys: &[&Key]) -> String {
    let mut rows = "| key | values | default | flag | meaning |\n|---|---|---|---|---|\n".to_string();
    let mut words = String::new();
    let inner = keys.iter().flat_map(|key| match key.kind {
        Kind::Table(inner) => inner.iter().map(|inner| (format!("{}.{}", key.name, inner.name), inner)).collect(),
        _ => Vec::new(),
    });
    let all: Vec<(String, &Key)> = keys.iter().map(|key| (key.name.to_string(), *key)).chain(inner).collect();
    for (name, key) in all {
        let default = match (key.default)() {
            Some(default) => format!("`{}`", Value::from(default)),
            None => String::new(),
        };
        let flag = flags::of_key(&key.path()).map_or(String::new(), |flag| format!("`--{flag}`"));
        let meaning = key.doc.trim().replace('|', "\\|");
        let _ = writeln!(rows, "| `{name}` | {} | {default} | {flag} | {meaning} |", values(key));
        let choices = match key.kind {
            Kind::Choice(choices) => choices,
            Kind::List(Kind::Choice(choices)) => choices,
            _ => continue,
        };
        let _ = write!(words, "\nValues of `{name}`:\n\n{}", list(choices));
    }
    rows + &words
}

fn list(choices: &[Choice]) -> String {
    choices.iter().map(|choice| format!("- `{}`: {}\n", choice.name, choice.doc.trim())).collect()
}

/// The type and the range of a key's values.
fn values(key: &Key) -> String {
    let of_type = match &key.kind {
        Kind::Choice(choices) => {
            choices.iter().map(|choice| format!("`{}`", choice.name)).collect::<Vec<_>>().join(", ")
        }
        Kind::List(Kind::Choice(_)) => "list of words".to_string(),
        kind => kind.expected().trim_start_matches("a ").to_string(),
    };
    match key.range {
        Range::All => of_type,
        range => format!("{of_type}, {}", range.describe()),
    }
}

/// The help of every verb.
fn cli_page() -> String {
    let mut page = header("Command-line reference");
    page += "Results go to stdout, progress and messages to stderr. `vitreous VERB -h` prints the help below.\n\n";
    page += "With `--json`, stdout has the result as one JSON object. If the command fails, stderr has one JSON object: \
             `{\"error\": {...}}` with `what`, `key`, `place`, `suggestion` (its text, and each of its `ways` as parts for \
             programs), `status`, and `causes` where it is the sum of several errors. Notes, warnings and progress are not \
             printed, unless stderr is a terminal: what matters of them is in the result and in the run folder.\n\n";
    page += "`vitreous train` in a pipe: if stdout is closed, as by `| head`, the training continues and says on stderr \
             where its result is. If stderr is closed, as by `2>&1 | head`, it saves a checkpoint and ends as on Ctrl-C, \
             with status 130; `vitreous train --resume RUN` continues it.\n\n";
    let _ = write!(page, "```text\n{EXIT_STATUS}\n```\n");
    // Built, it has the flags of all verbs in each of them.
    let mut command = Cli::command().bin_name("vitreous").disable_help_subcommand(true);
    command.build();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        add_verb(&mut page, "vitreous", verb);
    }
    page
}

fn add_verb(page: &mut String, before: &str, verb: &Command) {
    let name = format!("{before} {}", verb.get_name());
    let inner: Vec<&Command> = verb.get_subcommands().filter(|inner| !inner.is_hide_set()).collect();
    // A verb with commands below it may do something by itself.
    if inner.is_empty() || verb.get_positionals().next().is_some() {
        let help = verb.clone().bin_name(&name).term_width(80).render_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    }
    inner.into_iter().for_each(|inner| add_verb(page, &name, inner));
}

#[test]
fn the_reference_pages_are_up_to_date() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for (name, page) in [("config.md", config_page()), ("cli.md", cli_page())] {
        let path = docs.join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &page).expect("docs/ can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let line = page.lines().zip(written.lines()).position(|(new, old)| new != old);
        assert!(page == written, "docs/{name} is out of date (line {line:?}); rewrite it: {REWRITE}");
    }
}
