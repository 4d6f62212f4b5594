//! Rules for code: layers, invariants, form.

use std::collections::BTreeMap;
use std::process::Command;

use super::{Source, assert_none, read, root, sources};

/// A file this long surely covers several subjects. Shorter files may too: that is for the reader to judge.
const MOST_LINES: usize = 900;

/// The layer of each module, 0 the lowest: from the block marked `layers` in ARCHITECTURE.md.
fn layers() -> BTreeMap<String, usize> {
    let text = read("ARCHITECTURE.md");
    let block = text.split("```layers\n").nth(1).and_then(|rest| rest.split("```").next());
    let layers = block.expect("ARCHITECTURE.md has a block marked `layers`").split('<').enumerate();
    let modules = layers.flat_map(|(layer, names)| names.split(',').map(move |name| (name.trim().to_string(), layer)));
    modules.collect()
}

/// The top-level modules that a file's code names, each with its line.
///
/// `path` is that of the file below `src`. Understands `crate::a`, `crate::{a, b::C}` and enough `super`s.
fn modules_named(path: &str, source: &Source) -> Vec<(usize, String)> {
    let folders = path.trim_end_matches("/mod.rs").trim_end_matches(".rs").split('/').count();
    let text: Vec<(usize, &str)> = source.code().collect();
    let mut found = Vec::new();
    let mut depth = folders;
    for (i, &(number, line)) in text.iter().enumerate() {
        // rustfmt puts the items of a file at its left edge.
        if line.starts_with("mod ") || line.starts_with("pub mod ") {
            depth += usize::from(line.ends_with('{'));
        } else if line == "}" {
            depth = folders;
        }
        let from_root = ["crate::".to_string(), "super::".repeat(depth)];
        for prefix in from_root {
            for (at, _) in line.match_indices(prefix.as_str()) {
                let before = &line[..at];
                if before.ends_with("super::") || before.ends_with(|c: char| c.is_alphanumeric() || c == '$') {
                    continue;
                }
                let rest = &line[at + prefix.len()..];
                match rest.strip_prefix('{') {
                    Some(group) => {
                        let lines = text[i + 1..].iter().map(|(_, line)| *line);
                        let group: String = std::iter::once(group).chain(lines).collect();
                        found.extend(first_names(&group).into_iter().map(|name| (number, name)));
                    }
                    None => found.push((number, first_name(rest))),
                }
            }
        }
    }
    found
}

fn first_name(path: &str) -> String {
    path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first names of the paths in a group, up to the brace that closes it.
fn first_names(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(first_name(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Arrows of one file that point up, or sideways within a layer.
fn wrong_arrows(source: &Source, layers: &BTreeMap<String, usize>) -> Vec<String> {
    let Some(path) = source.path.strip_prefix("crates/vitreous/src/") else { return Vec::new() };
    let own = first_name(path);
    if !path.ends_with(".rs") || own == "lib" || own == "main" {
        return Vec::new();
    }
    let Some(&layer) = layers.get(&own) else {
        return vec![format!("{}: module `{own}` is not in the layer list", source.path)];
    };
    let arrows = modules_named(path, source).into_iter().filter(|(_, name)| *name != own);
    let wrong = arrows.filter(|(_, name)| layers.get(name).is_some_and(|&other| other >= layer));
    wrong.map(|(number, name)| format!("{}:{number}: `{own}` uses `{name}`", source.path)).collect()
}

#[test]
fn modules_use_lower_layers_only() {
    let layers = layers();
    let broken: Vec<String> = sources().iter().flat_map(|source| wrong_arrows(source, &layers)).collect();
    assert_none("a module uses layers below its own (see ARCHITECTURE.md)", &broken);
    let library = read("crates/vitreous/src/lib.rs");
    let declared = library.lines().map(|line| line.trim_start_matches("pub(crate) ").trim_start_matches("pub "));
    let declared = declared.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let mut declared: Vec<&str> = declared.collect();
    declared.sort_unstable();
    assert_eq!(declared, layers.keys().collect::<Vec<_>>(), "the modules of lib.rs and the layer list");
}

#[test]
fn every_form_of_use_is_found() {
    let layers = [("low", 0), ("mid", 1), ("peer", 1), ("top", 2)];
    let layers: BTreeMap<String, usize> = layers.map(|(name, layer)| (name.to_string(), layer)).into();
    let arrows = |path: &str, text: &str| {
        let source = Source { path: format!("crates/vitreous/src/{path}"), text: text.to_string() };
        wrong_arrows(&source, &layers).len()
    };
    assert_eq!(arrows("mid/a.rs", "use crate::low::A;\nuse crate::mid::B;\nuse super::top;"), 0);
    assert_eq!(arrows("mid/a.rs", "use crate::top::A;"), 1);
    assert_eq!(arrows("mid.rs", "    let x = crate::peer::A(crate::top::B);"), 2);
    assert_eq!(
        arrows("mid/mod.rs", "use crate::{\n    low::{A, top},\n    peer,\n    top::B,\n};\nuse crate::low;"),
        2
    );
    assert_eq!(arrows("mid/mod.rs", "use super::top::A;"), 1);
    assert_eq!(arrows("mid/a/b.rs", "use super::super::super::top::A;"), 1);
    assert_eq!(arrows("mid/mod.rs", "mod tests {\n    use super::top;\n    use super::super::peer;\n}"), 1);
    assert_eq!(arrows("mid/a.rs", "//! [`crate::top`] does the rest."), 0);
    assert_eq!(arrows("new/a.rs", ""), 1);
}

#[test]
fn files_start_with_a_module_comment() {
    let all = sources();
    let code = all.iter().filter(|source| source.path.ends_with(".rs"));
    // A crate may have its README for that.
    let says = |text: &str| text.starts_with("//! ") || text.starts_with("#![doc = include_str!(\"../README.md\")]");
    let broken: Vec<String> = code.filter(|source| !says(&source.text)).map(|source| source.path.clone()).collect();
    assert_none("a file starts with `//!`", &broken);
}

#[test]
fn files_cover_one_subject() {
    let all = sources();
    let long = all.iter().filter(|source| source.is_crate_code() && source.text.lines().count() > MOST_LINES);
    let broken: Vec<String> = long.map(|s| format!("{}: {} lines", s.path, s.text.lines().count())).collect();
    assert_none("does this file cover several subjects? then split it by subject", &broken);
}

#[test]
fn tests_share_a_program_unless_they_have_a_reason() {
    // Each test program is linked on its own, with everything it uses: 30 of them took most of the build.
    let allowed = [
        "crates/engine/tests/integration/main.rs",
        "crates/engine/tests/memory.rs",
        "crates/engine/tests/no_allocation.rs",
        "crates/vitreous/tests/fuzzing/main.rs",
        "crates/vitreous/tests/integration/main.rs",
    ];
    let all = sources();
    let is_program = |path: &str| {
        let Some((_, inside)) = path.split_once("/tests/") else { return false };
        path.starts_with("crates/")
            && inside.ends_with(".rs")
            && (!inside.contains('/') || inside.ends_with("/main.rs"))
    };
    let found: Vec<&str> = all.iter().map(|source| source.path.as_str()).filter(|path| is_program(path)).collect();
    assert_eq!(found, allowed, "add new tests as a module of `tests/integration`");
}

#[test]
fn unsafe_code_is_under_cpu() {
    let all = sources();
    let outside = all.iter().filter(|source| source.is_crate_code() && !source.is_under("crates/engine/src/cpu/"));
    let forms = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern"];
    let broken: Vec<String> = outside.flat_map(|source| source.code_with(&forms)).collect();
    assert_none("`unsafe` lives only under crates/engine/src/cpu", &broken);
}

#[test]
fn only_the_command_line_prints_exits_and_reads_the_environment() {
    let all = sources();
    let outside = all.iter().filter(|source| {
        let may = source.is_under("crates/vitreous/src/cli/") || source.path == "crates/vitreous/src/main.rs";
        // What a test says is for those who run it.
        source.is_crate_code() && !may && !source.path.ends_with("/tests.rs")
    });
    let forms = [
        "print!(",
        "println!(",
        "process::exit",
        "env::var",
        "env::args",
        "env::current",
        "env::temp_dir",
        "env::{",
        "use std::env;",
        "io::stdin",
        "io::stdout",
        "io::stderr",
        "rustix::termios",
    ];
    let broken: Vec<String> = outside.flat_map(|source| source.code_with(&forms)).collect();
    assert_none("only cli/ prints, exits and reads the environment", &broken);
}

#[test]
fn only_the_command_line_names_flags() {
    let all = sources();
    let outside = all
        .iter()
        .filter(|source| source.is_under("crates/vitreous/src/") && !source.is_under("crates/vitreous/src/cli/"))
        // A batch script has the flags of other programs.
        .filter(|source| source.path != "crates/vitreous/src/slurm/script.rs");
    let is_flag = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
    let names_flag = |line: &str| line.match_indices("--").any(|(at, dashes)| is_flag(&line[at + dashes.len()..]));
    let mut broken = Vec::new();
    for source in outside.filter(|source| source.path.ends_with(".rs")) {
        let own = source.without_tests();
        let lines = own.code().filter(|(_, line)| names_flag(line));
        broken.extend(lines.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())));
    }
    assert_none("only cli/ names flags: use `Suggestion`, `Note` or a `Source` from the caller", &broken);
}

#[test]
fn no_code_searches_the_text_of_an_error() {
    let mut forms = Vec::new();
    for text in ["to_string()", "message()"] {
        forms.extend(["contains(", "starts_with(", "ends_with(", "split("].map(|search| format!("{text}.{search}")));
    }
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.is_crate_code()) {
        let own = source.without_tests();
        // A chain may be on several lines.
        let code: String = own.code().flat_map(|(_, line)| line.split_whitespace()).collect();
        let found = forms.iter().filter(|form| code.contains(form.as_str()));
        broken.extend(found.map(|form| format!("{}: {form}", source.path)));
    }
    assert_none("code decides by the type of an error, not by its text", &broken);
}

#[test]
fn only_fetch_uses_the_network() {
    let all = sources();
    let outside = all.iter().filter(|s| s.is_crate_code() && !s.is_under("crates/vitreous/src/fetch/"));
    let broken: Vec<String> = outside.flat_map(|source| source.code_with(&["ureq::", "std::net"])).collect();
    assert_none("only fetch/ uses the network", &broken);
}

#[test]
fn a_closed_terminal_or_a_failed_thread_ends_no_work() {
    let forms = ["eprintln!(", "eprint!(", "scope.spawn(", "thread::spawn("];
    let all = sources();
    let crates = all.iter().filter(|source| source.is_crate_code());
    let broken: Vec<String> = crates.flat_map(|source| source.without_tests().code_with(&forms)).collect();
    assert_none("these panic where stderr is closed or no thread starts: use `say!`, `on_threads`", &broken);
}

#[test]
fn the_engine_opens_no_file_and_reads_no_clock() {
    let all = sources();
    let engine = all.iter().filter(|source| source.is_crate_code() && source.is_under("crates/engine/"));
    let forms = ["std::fs", "std::net", "std::io", "std::time", "Instant::now", "SystemTime"];
    let broken: Vec<String> = engine.flat_map(|source| source.code_with(&forms)).collect();
    assert_none("the engine opens no file and reads no clock", &broken);
}

#[test]
fn only_models_build_graphs() {
    let all = sources();
    let outside = all
        .iter()
        .filter(|source| source.is_under("crates/vitreous/src/") && !source.is_under("crates/vitreous/src/models/"));
    let forms = ["Graph::new", "Graph::default"];
    let broken: Vec<String> = outside.flat_map(|source| source.without_tests().code_with(&forms)).collect();
    assert_none("only models/ builds graphs", &broken);
}

#[test]
fn no_crate_compiles_c() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--workspace", "-e", "normal,build", "--prefix", "none"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert!(tree.lines().any(|line| line.starts_with("vitreous v")), "cargo tree lists the workspace:\n{tree}");
    let compilers = tree.lines().filter(|line| line.starts_with("cc v") || line.starts_with("cmake v"));
    assert_none("no crate compiles C", &compilers.map(str::to_string).collect::<Vec<_>>());
}

#[test]
fn no_unfinished_work_and_no_local_paths() {
    // In pieces, so that this file does not hold them itself.
    let markers = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("throw", "away"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
        concat!("/tm", "p/"),
    ];
    let mut broken = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            if markers.iter().any(|marker| line.contains(marker)) {
                broken.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert_none("markers of unfinished work and paths of one machine stay out", &broken);
}
