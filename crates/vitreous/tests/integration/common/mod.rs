//! Helpers of the end-to-end tests: run the real program in a folder, and read its output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// Runs the program in a folder.
pub fn vitreous(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("vitreous").expect("the program is built");
    // Drawing takes longer than a training of a few steps; the tests of plots ask for them.
    command.current_dir(folder).env_remove("VITREOUS_DATA_DIR").env("VITREOUS_NO_PLOTS", "1").args(arguments);
    command.output().expect("the program runs")
}

/// Runs the program, which must succeed, and returns its stdout.
pub fn said(folder: &Path, arguments: &[&str]) -> String {
    let output = vitreous(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// As [`said`], with `--json`.
pub fn json(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(folder, &[arguments, &["--json"]].concat())).expect("one JSON object")
}

/// Runs the program, which must end with status 2 and an empty stdout; returns its stderr.
pub fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = vitreous(folder, arguments);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}: {stderr}");
    stderr
}

/// Signals a process, such as `TERM`.
pub fn signal(child: &std::process::Child, name: &str) {
    assert!(std::process::Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The manifest of a run.
pub fn manifest(folder: &Path, run: &str) -> Value {
    let bytes = fs::read(folder.join("runs").join(run).join("manifest.json")).expect("a manifest");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// A temporary folder, removed when the test ends.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.root().join(inside)
    }

    pub fn read(&self, inside: &str) -> Vec<u8> {
        fs::read(self.path(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"))
    }

    pub fn text(&self, inside: &str) -> String {
        text(&self.read(inside))
    }

    pub fn manifest(&self, run: &str) -> Value {
        manifest(self.root(), run)
    }
}

/// Writes `photos/` with eleven images of odd sizes in each of three classes, one color per class.
pub fn write_photos(folder: &Folder) {
    for (class, color) in [("ant", [200u8, 30, 20]), ("bee", [20, 190, 40]), ("cow", [10, 40, 220])] {
        fs::create_dir_all(folder.path(&format!("photos/{class}"))).unwrap();
        for number in 0..11 {
            let picture = image::RgbImage::from_pixel(19 + number, 23, image::Rgb(color));
            picture.save(folder.path(&format!("photos/{class}/{number}.png"))).unwrap();
        }
    }
}

/// Colors that a small model can learn.
pub const COLORS: [(&str, [u8; 3]); 3] = [("blue", [10, 20, 230]), ("green", [15, 220, 25]), ("red", [240, 5, 10])];

/// Writes an image of one color.
pub fn picture(path: &Path, color: [u8; 3]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
    image::RgbImage::from_pixel(13, 11, image::Rgb(color)).save(path).expect("a picture can be written");
}

/// Writes images of the given colors, each a little different.
pub fn pictures(folder: &Path, split: &str, colors: &[(&str, [u8; 3])], count: u8) {
    for (name, color) in colors {
        for number in 0..count {
            let color = color.map(|value| value.saturating_add(number));
            picture(&folder.join(split).join(name).join(format!("{number}.png")), color);
        }
    }
}

/// Evaluation folders for other data: names with this start and eight digits of a fingerprint.
pub fn of_others(folder: &Path, run: &str, start: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.join("runs").join(run).join("evaluation")).expect("evaluations");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("Unicode"));
    let is_hexadecimal = |digits: &str| digits.len() == 8 && digits.chars().all(|c| c.is_ascii_hexdigit());
    let mut names: Vec<String> = names.filter(|name| name.strip_prefix(start).is_some_and(is_hexadecimal)).collect();
    names.sort();
    names
}
