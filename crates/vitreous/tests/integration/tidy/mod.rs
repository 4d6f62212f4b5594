//! Rules for code and documents, checked by reading the repository's files as text; violations are listed one per line.

mod code;
mod documents;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file of the repository.
pub struct Source {
    /// From the root, with `/` between folders.
    pub path: String,
    pub text: String,
}

impl Source {
    /// The code before the file's own tests.
    fn without_tests(&self) -> Source {
        let text = if self.path.ends_with("/tests.rs") { "" } else { self.text.as_str() };
        // Other modules may use helpers of these tests.
        let start = ["mod tests {", "pub(super) mod tests {"].map(|start| text.find(&format!("#[cfg(test)]\n{start}")));
        let text = text[..start.into_iter().flatten().min().unwrap_or(text.len())].to_string();
        Source { path: self.path.clone(), text }
    }

    fn is_under(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// Rust code of one of the two crates, its unit tests included.
    fn is_crate_code(&self) -> bool {
        self.path.ends_with(".rs") && (self.is_under("crates/engine/src/") || self.is_under("crates/vitreous/src/"))
    }

    /// Lines with their numbers, comment lines left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(i, line)| (i + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Code lines that hold one of these texts.
    fn code_with(&self, texts: &[&str]) -> Vec<String> {
        let hits = self.code().filter(|(_, line)| texts.iter().any(|text| line.contains(text)));
        hits.map(|(number, line)| format!("{}:{number}: {}", self.path, line.trim())).collect()
    }
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Reads all text files of the repository: those tracked by git, since other files may be next to them (a folder of
/// Python packages), or, without git, all.
pub fn sources() -> Vec<Source> {
    let known = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let known = known.ok().filter(|output| output.status.success() && !output.stdout.is_empty());
    let Some(output) = known else { return walked() };
    let names = String::from_utf8(output.stdout).expect("names of files are Unicode");
    let read = |path: &str| Some(Source { path: path.to_string(), text: fs::read_to_string(root().join(path)).ok()? });
    let found: Vec<Source> = names.split_terminator('\0').filter_map(read).collect();
    assert!(found.len() > 50, "git knows of {} files at {}", found.len(), root().display());
    found
}

/// Walks through all folders; what git ignores is ignored by name.
fn walked() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository can be listed") {
            let path = entry.expect("an entry can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_string();
            let ignored =
                [".git", "target", "runs", "proptest-regressions", "corpus", "artifacts"].contains(&name.as_str());
            if path.is_dir() && !ignored {
                folders.push(path);
            } else if path.is_file() && !ignored && !name.ends_with(".part") {
                let Ok(text) = fs::read_to_string(&path) else { continue };
                let inside = path.strip_prefix(root()).expect("the walk began at the root");
                found.push(Source { path: inside.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    assert!(found.len() > 50, "the repository was not found at {}", root().display());
    found
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
pub fn assert_none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}
