//! Output for terminals, spreadsheets and other programs when names of classes, files and folders are hostile.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::{Folder, said, text, vitreous};
use assert_cmd::cargo::CommandCargoExt;
use serde_json::Value;

/// A model of a moment.
const SMALL: [&str; 7] = [
    "--set=model.depth=1",
    "--set=model.embed_dim=16",
    "--set=model.num_heads=1",
    "--img-size=12",
    "--patch-size=4",
    "--batch-size=5",
    "--epochs=1",
];

/// Class names that control a terminal, start lines, reverse the text, or are formulas.
const CLASSES: [&str; 5] = ["\x1b[31mred\x07", "=cmd|'x'!A1", "new\nline", "left\u{202e}thgir\u{9b}2J", "日本語"];

/// Writes seven small pictures into each class folder of `name`.
fn write_classes(folder: &Folder, name: &str, classes: &[&str]) {
    for (class, shade) in classes.iter().zip([10u8, 60, 110, 160, 210]) {
        let path = folder.path(name).join(class);
        fs::create_dir_all(&path).unwrap();
        for number in 0..7 {
            let picture = image::RgbImage::from_pixel(13 + number, 13, image::Rgb([shade, number as u8, 7]));
            picture.save(path.join(format!("=\x1b[2J{number}.png"))).unwrap();
        }
    }
}

/// The lines of an output, which must hold nothing that a terminal obeys or does not show.
fn lines(output: &Output) -> Vec<String> {
    let all = [text(&output.stdout), text(&output.stderr)].concat();
    let hidden = |c: char| {
        (c.is_control() && c != '\n')
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    assert!(!all.contains(hidden), "{all:?}");
    all.lines().map(str::to_string).collect()
}

#[test]
fn names_cannot_control_the_terminal_or_start_a_line() {
    let folder = Folder::new();
    write_classes(&folder, "pets", &CLASSES);
    fs::write(folder.path("pets/new\nline/b\x1b[2Jad.png"), "no picture").unwrap();
    let train = [&["train", "--data=pets", "--skip-bad-images", "--name=a", "--out", "r\x1b[2J\nerror: x"], &SMALL[..]]
        .concat();
    let run = "r\x1b[2J\nerror: x/a";
    let picture = "pets/new\nline/=\x1b[2J0.png";
    for arguments in [
        &["data", "info", "--data=pets", "--skip-bad-images"][..],
        &["data", "info", "--data=pets"],
        &[&train[..], &["--dry-run"]].concat(),
        &train,
        &train,
        &["evaluate", run, "--split=train", "--skip-bad-images"],
        &["evaluate", run, "--split=train"],
        &["predict", picture, "--run", run],
        &["predict", "\x1b[2J.png", "--run", run],
        &["predict", "a", "--run", run, "--\x1b[2J"],
        &["compare", run, "\x1b[2J"],
        &["compare", run, "\x1b[2J", "--format=csv"],
        &["compare", run, "\x1b[2J", "--format=markdown"],
        &["train", "--resume", run],
        &["train", "--preset=\x1b[2J"],
        &["train", "--set=model.\x1b[2J=4"],
        &["train", "--config", "\x1b[2J.toml"],
        &["train", "--data=\x1b[2J"],
    ] {
        let lines = lines(&vitreous(folder.root(), arguments));
        assert!(
            !lines.is_empty() && !lines.iter().any(|line| line.starts_with("line") || line == "error: x"),
            "{arguments:?}: {lines:?}"
        );
    }
    let info = lines(&vitreous(folder.root(), &["data", "info", "--data=pets", "--skip-bad-images"]));
    for name in ["\\u{1b}[31mred\\u{7}", "=cmd|'x'!A1", "new\\nline", "left\\u{202e}thgir\\u{9b}2J", "日本語"] {
        assert!(info.iter().any(|line| line.starts_with(&format!("{name} "))), "{name}: {info:?}");
    }
    // The numbers behind wide characters and long escapes stand in one column.
    let column = |class: &str| {
        let line = info.iter().find(|line| line.starts_with(class)).unwrap();
        let wide = line.chars().filter(|c| *c > '\u{3000}').count();
        line.chars().count() + wide
    };
    assert_eq!(column("日本語"), column("new\\nline"));
}

#[test]
fn non_unicode_paths_work_with_json() {
    let folder = Folder::new();
    write_classes(&folder, "pets", &CLASSES[..3]);
    let out = OsStr::from_bytes(b"o\xff");
    let run = Path::new(out).join("a");
    let says = |arguments: &[&OsStr]| {
        let mut command = Command::cargo_bin("vitreous").unwrap();
        let output = command.current_dir(folder.root()).args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
        (output.status.code(), text(&output.stdout), stderr)
    };
    let json = |arguments: &[&OsStr]| -> Value {
        let (status, stdout, stderr) = says(&[arguments, &[OsStr::new("--json")]].concat());
        assert_eq!(status, Some(0), "{arguments:?}: {stderr}");
        assert!(!stdout.trim_end().contains(char::is_control), "{stdout:?}");
        serde_json::from_str(&stdout).unwrap()
    };
    let of = |words: &[&'static str]| words.iter().map(|word| OsStr::new(*word)).collect::<Vec<_>>();
    let train = [of(&["train", "--data=pets", "--name=a"]), of(&SMALL), of(&["--out"]), vec![out]].concat();
    let tried = json(&[&train[..], &of(&["--dry-run"])].concat());
    assert_eq!(tried["out"], "o\u{fffd}");
    assert_eq!(json(&train)["run"], "o\u{fffd}/a");
    let run = run.as_os_str();
    let compared = json(&[OsStr::new("compare"), run, OsStr::from_bytes(b"none\xff")]);
    assert_eq!(compared["rows"][0]["folders"][0], "o\u{fffd}/a");
    assert_eq!(compared["left_out"][0]["folder"], "none\u{fffd}");
    let evaluated = json(&[OsStr::new("evaluate"), run, OsStr::new("--split=train")]);
    assert_eq!(evaluated["classes"][0]["name"], CLASSES[0], "escapes in JSON are those of JSON: the value is the name");
    fs::copy(
        folder.path("pets").join(CLASSES[2]).join("=\x1b[2J0.png"),
        folder.root().join(OsStr::from_bytes(b"p\xff.png")),
    )
    .unwrap();
    let predicted = json(&[OsStr::new("predict"), OsStr::from_bytes(b"p\xff.png"), OsStr::new("--run"), run]);
    assert_eq!(predicted["predictions"][0]["image"], "p\u{fffd}.png");
    // Elsewhere a path that is not Unicode works or is refused in words.
    for arguments in [
        vec![OsStr::new("train"), OsStr::new("--resume"), run],
        vec![OsStr::new("train"), OsStr::new("--data"), out],
        vec![OsStr::new("train"), OsStr::new("--data-dir"), out, OsStr::new("--data=mnist")],
        vec![OsStr::new("train"), OsStr::new("--config"), out],
        vec![OsStr::new("summary"), OsStr::new("--run"), run, OsStr::new("--json")],
        vec![OsStr::new("data"), OsStr::new("info"), OsStr::new("--json"), OsStr::new("--data"), out],
        vec![OsStr::new("sweep"), OsStr::new("--seeds=1,2"), OsStr::new("--list"), OsStr::new("--out"), out],
        vec![OsStr::new("sweep"), out],
    ] {
        assert!(says(&arguments).0.is_some(), "{arguments:?}");
    }
}

#[test]
fn csv_cells_are_never_formulas_and_names_still_match() {
    let folder = Folder::new();
    write_classes(&folder, "=pets", &["=1+1", "-cat", "@dog", "-1.5", "plain"]);
    for seed in ["1", "2"] {
        let arguments = [&["train", "--data==pets", "--seed", seed], &SMALL[..]].concat();
        said(
            folder.root(),
            &[&arguments[..], &["--name", &format!("run{seed}"), "--set=data.val_fraction=0.3"]].concat(),
        );
        said(folder.root(), &["evaluate", &format!("runs/run{seed}"), "--split=train"]);
    }
    let formulas = |csv: &str| {
        let cells = csv.lines().flat_map(|line| line.split(',')).map(|cell| cell.trim_start_matches('"').to_string());
        cells.filter(|cell| cell.starts_with(['=', '+', '-', '@']) && cell.parse::<f64>().is_err()).collect::<Vec<_>>()
    };
    let kept = |file: &str| folder.text(&format!("runs/run1/evaluation/train/{file}"));
    for csv in
        [kept("predictions.csv"), kept("confusion.csv"), said(folder.root(), &["compare", "runs", "--format=csv"])]
    {
        assert_eq!(formulas(&csv), [""; 0], "{csv}");
    }
    let confusion = kept("confusion.csv");
    assert!(confusion.starts_with("true\\predicted,-1.5,'-cat,'=1+1,'@dog,plain\n"), "{confusion}");
    let predictions = kept("predictions.csv");
    assert!(predictions.contains("'=1+1/=\x1b[2J0.png,'=1+1,"), "{predictions:?}");
    let report: Value = serde_json::from_str(&kept("report.json")).unwrap();
    assert_eq!(report["classes"][2]["name"], "=1+1");
}
