//! Rules for documents: paths, links, and what has to be documented.

use std::process::Command;

use super::{Source, assert_none, read, root, sources};

/// Texts between backticks on one line, blocks of code left out.
fn inline_code(text: &str) -> Vec<String> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_string));
        }
    }
    found
}

#[test]
fn paths_in_the_architecture_exist() {
    let code = inline_code(&read("ARCHITECTURE.md"));
    let is_path = |text: &&String| {
        let ending = [".rs", ".toml", ".md", ".py", ".json"].iter().any(|ending| text.ends_with(ending));
        (text.contains('/') || ending) && !text.starts_with('/') && !text.contains([' ', '<', '*', '('])
    };
    let paths: Vec<&String> = code.iter().filter(is_path).collect();
    assert!(paths.len() > 20, "paths are found: {paths:?}");
    let broken: Vec<String> = paths.into_iter().filter(|path| !root().join(path).exists()).cloned().collect();
    assert_none("a path in ARCHITECTURE.md exists", &broken);
}

#[test]
fn links_between_documents_are_valid() {
    let all = sources();
    let mut broken = Vec::new();
    for document in all.iter().filter(|source| source.path.ends_with(".md")) {
        let folder = root().join(&document.path).parent().expect("a file is in a folder").to_path_buf();
        for link in document.text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !link.is_empty() && !link.contains("://") && !folder.join(link).exists() {
                broken.push(format!("{}: {link}", document.path));
            }
        }
    }
    assert_none("a link leads somewhere", &broken);
}

#[test]
fn the_changelog_has_this_version_first() {
    let text = read("CHANGELOG.md");
    let version = text.lines().find_map(|line| line.strip_prefix("## ")).expect("CHANGELOG.md has a section");
    let current = env!("CARGO_PKG_VERSION");
    assert_eq!(version.split_whitespace().next(), Some(current), "the first section is that of the workspace version");
    let kinds = text.lines().filter_map(|line| line.strip_prefix("### "));
    let other: Vec<String> =
        kinds.filter(|kind| !["Added", "Changed", "Fixed", "Measured"].contains(kind)).map(str::to_string).collect();
    assert_none("changes are Added, Changed, Fixed or Measured", &other);
}

#[test]
fn presets_are_documented() {
    let all = sources();
    let pages = pages();
    let presets: Vec<&Source> = all
        .iter()
        .filter(|source| source.is_under("crates/vitreous/presets/") && source.path.ends_with(".toml"))
        .collect();
    assert!(presets.len() >= 5, "presets are found");
    let mut broken = Vec::new();
    for preset in presets {
        let name = preset.path.trim_start_matches("crates/vitreous/presets/").trim_end_matches(".toml");
        if !pages.contains(&format!("`{name}`")) {
            broken.push(format!("{}: neither README.md nor docs/ names `{name}`", preset.path));
        }
    }
    assert_none("README.md or docs/ names every preset", &broken);
}

#[test]
fn sweeps_start_with_their_command_and_are_documented() {
    let all = sources();
    let pages = pages();
    let sweeps: Vec<&Source> = all.iter().filter(|source| source.is_under("crates/vitreous/sweeps/")).collect();
    assert!(sweeps.len() >= 2, "sweeps are found");
    let mut broken = Vec::new();
    for sweep in sweeps {
        let name = sweep.path.trim_start_matches("crates/vitreous/sweeps/").trim_end_matches(".toml");
        if !sweep.text.starts_with(&format!("# vitreous sweep {name}")) || !pages.contains(&format!("`{name}`")) {
            broken.push(format!("{}: its first line is its command, and README.md or docs/ names it", sweep.path));
        }
    }
    assert_none("a sweep says how it is run", &broken);
}

/// The text of README.md and of all pages in docs/.
fn pages() -> String {
    let all = sources();
    let is_page = |path: &str| path == "README.md" || (path.starts_with("docs/") && path.ends_with(".md"));
    all.iter().filter(|source| is_page(&source.path)).map(|source| source.text.as_str()).collect::<Vec<_>>().join("\n")
}

/// What `--help` prints for a verb.
fn help(verbs: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_vitreous")).args(verbs).arg("--help").output().expect("it runs");
    assert!(output.status.success(), "{verbs:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The entries of a help text's section, each with what is said about it.
fn entries(help: &str, is_section: impl Fn(&str) -> bool) -> Vec<[String; 2]> {
    let mut found: Vec<[String; 2]> = Vec::new();
    let mut inside = false;
    for line in help.lines() {
        let indent = line.len() - line.trim_start().len();
        if indent == 0 && !line.is_empty() {
            inside = line.strip_suffix(':').is_some_and(&is_section);
        } else if inside && (indent == 2 || (indent == 6 && line.trim_start().starts_with("--"))) {
            let (name, about) = line.trim().split_once("  ").unwrap_or((line.trim(), ""));
            found.push([name.to_string(), about.trim().to_string()]);
        } else if inside && let Some([_, about]) = found.last_mut() {
            about.push_str(line.trim());
        }
    }
    found
}

/// Collects the verbs below these, and what stands in their help without a word about it.
fn look_at_help(verbs: &mut Vec<String>, all: &mut Vec<String>, broken: &mut Vec<String>) {
    let text = help(verbs);
    let long = text.lines().filter(|line| line.chars().count() > 80);
    broken.extend(long.map(|line| format!("vitreous {}: longer than 80 columns: {line}", verbs.join(" "))));
    for [name, about] in entries(&text, |section| {
        section != "Commands" && !["Usage", "Example"].iter().any(|other| section.starts_with(other))
    }) {
        let own = about.split(['[', '{']).next().unwrap_or_default();
        if own.trim().is_empty() {
            broken.push(format!("vitreous {}: {name} is not explained", verbs.join(" ")));
        }
    }
    for [name, about] in entries(&text, |section| section == "Commands").into_iter().filter(|[name, _]| name != "help")
    {
        verbs.push(name);
        all.push(verbs.join(" "));
        if about.is_empty() {
            broken.push(format!("vitreous {} is not explained", verbs.join(" ")));
        }
        look_at_help(verbs, all, broken);
        verbs.pop();
    }
}

#[test]
fn every_verb_and_flag_is_documented() {
    let (mut all, mut broken) = (Vec::new(), Vec::new());
    look_at_help(&mut Vec::new(), &mut all, &mut broken);
    for verb in
        ["train", "sweep", "compare", "evaluate", "predict", "presets", "summary", "data info", "data fetch", "bench"]
    {
        assert!(all.iter().any(|known| known == verb), "`vitreous {verb}` is there: {all:?}");
    }
    let pages = pages();
    let missing = all.iter().filter(|verb| !pages.contains(&format!("vitreous {verb}")));
    broken.extend(missing.map(|verb| format!("neither README.md nor docs/ shows `vitreous {verb}`")));
    assert_none("verbs and flags are documented", &broken);
}
