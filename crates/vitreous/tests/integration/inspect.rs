//! `summary`, `data info`, `presets` and `bench` end to end.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::common::{Folder, vitreous};

/// Runs the program in an empty folder; it must succeed.
fn said(arguments: &[&str]) -> String {
    crate::common::said(Folder::new().root(), arguments)
}

fn json(arguments: &[&str]) -> Value {
    crate::common::json(Folder::new().root(), arguments)
}

/// Runs the program in an empty folder; it must refuse with status 2.
fn refused(arguments: &[&str]) -> String {
    crate::common::refused(Folder::new().root(), arguments)
}

#[test]
fn a_batch_that_does_not_fit_into_memory_is_refused() {
    for what in ["step", "infer"] {
        let model = ["--model=vit-base", "--set=data.image_size=224", "--batch-size=1048576"];
        let text = refused(&[&["bench", what, "--data=none"][..], &model].concat());
        assert!(text.starts_with("error: training needs ") && text.contains("smaller --batch-size"), "{text}");
    }
}

/// Writes `count` pictures into each of two class folders.
fn pictures(folder: &Path, count: u8) {
    pictures_of(folder, count, [13, 11]);
}

/// The same, of another width and height.
fn pictures_of(folder: &Path, count: u8, [width, height]: [u32; 2]) {
    for (class, red) in [("cat", 255), ("dog", 0)] {
        fs::create_dir_all(folder.join(class)).expect("a folder can be made");
        for number in 0..count {
            let picture = image::RgbImage::from_pixel(width, height, image::Rgb([red, number, 0]));
            picture.save(folder.join(class).join(format!("{number}.png"))).expect("a picture can be written");
        }
    }
}

#[test]
fn a_summary_needs_no_data_and_ends_with_the_parameters() {
    let counts = [
        ("--preset=mnist-vit", "106,122"),
        ("--preset=fashion-vit-128", "805,130"),
        ("--preset=cifar-vit-64", "159,498"),
        ("--preset=vit-lite-7-4", "3,716,874"),
        ("--model=vit-tiny", "5,717,416"),
        ("--model=vit-small", "22,050,664"),
    ];
    for (which, count) in counts {
        let text = said(&["summary", which, "--threads=2"]);
        assert_eq!(text.lines().last(), Some(format!("total parameters {count}").as_str()), "{which}");
    }
    let cifar = said(&["summary", "--model=vit-tiny", "--data=cifar10", "--set=model.patch_size=4"]);
    assert_eq!(row(&cifar, "image"), ["image", "input", "[3,", "32,", "32]"]);
    let even = said(&["summary", "--preset=cifar-vit-64", "--classes=even"]);
    assert_eq!(row(&even, "head")[..4], ["head", "linear", "[5]", "325"]);
    let named = said(&["summary", "--preset=photos", "--classes=cat,dog,emu"]);
    assert_eq!(row(&named, "head")[..3], ["head", "linear", "[3]"]);
    let folder = said(&["summary", "--preset=photos", "--set=model.num_classes=3"]);
    assert_eq!(row(&folder, "head")[..4], ["head", "linear", "[3]", "387"]);
}

#[test]
fn data_info_counts_the_classes_asked_for() {
    let text = said(&["data", "info", "digits", "--classes=odd"]);
    assert_eq!(said(&["data", "info", "--data=digits", "--classes=odd"]), text);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["classes", "5"]), "{text}");
    assert!(
        rows.contains(&vec!["3", "1,440", "160", "-"]) && !rows.iter().any(|row| row.first() == Some(&"2")),
        "{text}"
    );
    assert!(rows.contains(&vec!["all", "7,200", "800", "2,000"]), "{text}");
    let why = "-: test labels are not read here, so test images are not counted by class\n";
    assert!(text.ends_with(why), "{text}");
    let refused = refused(&["data", "info", "--data=digits", "--classes=3,33"]);
    assert!(refused.starts_with("error: classes lists `33`, which is not a class of the data (digits, "), "{refused}");
}

/// The words of a layer's row.
fn row<'a>(summary: &'a str, layer: &str) -> Vec<&'a str> {
    let words = summary.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.into_iter().find(|words| words.first() == Some(&layer)).expect("a row of that layer")
}

#[test]
fn presets_are_listed_and_printed() {
    let text = said(&["presets"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("preset ") && lines[0].ends_with("  time"), "{text}");
    assert!(lines[1].starts_with("digits  ") && lines[1].contains("  105,418  98.32 % test "), "{text}");
    let names = json(&["presets"]);
    assert_eq!(names["presets"].as_array().unwrap().len(), lines.len() - 1);
    let folder = Folder::new();
    fs::write(folder.path("mine.toml"), said(&["presets", "mnist-vit"])).unwrap();
    let copied = crate::common::said(folder.root(), &["summary", "--config=mine.toml"]);
    assert_eq!(copied.lines().last(), Some("total parameters 106,122"));
    assert_eq!(refused(&["presets", "mnist-vti"]).lines().last(), Some("hint: did you mean `mnist-vit`?"));
}

#[test]
fn presets_are_found_by_what_is_in_their_rows() {
    let names = |arguments: &[&str]| {
        let presets = json(&[&["presets"], arguments].concat())["presets"].clone();
        let names = presets.as_array().unwrap().iter().map(|preset| preset["name"].as_str().unwrap().to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&["--filter=CNN"]), ["cifar-cnn4", "cifar-attention-cnn", "photos-cnn"]);
    assert_eq!(names(&["--filter", "coursework E6"]), ["mnist-vit"]);
    let none = "error: no preset contains `zebra` (--filter)\nhint: list them all with `vitreous presets`\n";
    assert_eq!(refused(&["presets", "--filter=zebra"]), none);
    let few = "error: unknown preset `mnist` (--preset)\nhint: did you mean `mnist-vit` or `mnist-vit-upright`?\n";
    assert_eq!(refused(&["train", "mnist"]), few);
    assert_eq!(said(&["summary", "mnist-vit"]), said(&["summary", "--preset=mnist-vit"]));
}

#[test]
fn models_and_sweeps_are_listed() {
    let models = json(&["models"]);
    let tiny = models["models"].as_array().unwrap().iter().find(|model| model["name"] == "vit-tiny").unwrap();
    assert_eq!((&tiny["parameters"], &tiny["image_size"]), (&5_717_416.into(), &224.into()));
    let kinds = ["vit", "stack", "sequence-vit", "reader"];
    assert!(kinds.iter().all(|kind| models["kinds"].to_string().contains(&format!("\"kind\":\"{kind}\""))));
    let sweeps = json(&["sweeps"]);
    assert_eq!((&sweeps["sweeps"][0]["name"], &sweeps["sweeps"][0]["runs"]), (&"e1".into(), &6.into()));
    assert!(said(&["sweeps", "fashion"]).starts_with("# vitreous sweep fashion --test-winner"));
    assert!(refused(&["sweeps", "fasion"]).ends_with("hint: did you mean `fashion`?\n"));
}

#[test]
fn commands_of_other_programs_lead_to_ours_and_files_to_their_flags() {
    assert_eq!(refused(&["test"]), "error: unknown command `test`\nhint: did you mean `vitreous evaluate`?\n");
    let folder = Folder::new();
    fs::create_dir(folder.path("pets")).unwrap();
    let refused = crate::common::refused(folder.root(), &["train", "pets"]);
    assert_eq!(refused, "error: `pets` is a folder, not a preset\nhint: use --data pets\n");
    assert!(said(&["help", "train"]).contains("Exit status:\n  0    success"));
}

#[test]
fn completions_come_from_the_parser() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(said(&["completions", shell]).contains("log-interval"), "{shell}");
    }
}

#[test]
fn manual_pages_come_from_the_parser() {
    assert!(said(&["man"]).contains(".TH vitreous 1"));
    let folder = Folder::new();
    crate::common::said(folder.root(), &["man", "--out=man1"]);
    assert!(folder.text("man1/vitreous-data-fetch.1").contains("mirror"));
    assert!(folder.text("man1/vitreous.1").contains(".SH \"EXIT STATUS\"\n  0 "));
    assert!(folder.text("man1/vitreous-completions.1").contains(".SH \"EXAMPLES\"\n  echo "));
}

#[test]
fn a_summary_in_json_has_the_promised_fields() {
    let summary = json(&["summary", "--preset=mnist-vit", "--batch-size=7", "--threads=3"]);
    assert_eq!(
        (&summary["params"], &summary["batch_size"], &summary["threads"]),
        (&106_122.into(), &7.into(), &3.into())
    );
    let qkv = summary["layers"].as_array().unwrap().iter().find(|layer| layer["name"] == "blocks.2.attn.qkv").unwrap();
    assert_eq!(
        (&qkv["op"], &qkv["shape"], &qkv["params"]),
        (&"linear".into(), &serde_json::json!([50, 192]), &12_480.into())
    );
    assert!(qkv["flops_backward"].as_u64() > qkv["flops_forward"].as_u64());
    let memory = &summary["memory_bytes"];
    let parts = ["parameters", "optimizer", "gradients", "packed", "activations"];
    let sum: u64 = parts.iter().map(|part| memory[part].as_u64().unwrap()).sum();
    assert_eq!(memory["total"].as_u64(), Some(sum));
}

#[test]
fn an_impossible_summary_is_refused() {
    let heads = "error: embed_dim 190 is not a multiple of num_heads 4 (--set, [model])\n\
                 hint: use --set model.embed_dim=192, or --set model.num_heads=5\n";
    assert_eq!(refused(&["summary", "--set", "model.embed_dim=190"]), heads);
    let batch = refused(&["summary", "--batch-size", "0"]);
    assert!(batch.starts_with("error: batch_size 0 is not between 1 and "), "{batch}");
}

#[test]
fn data_info_describes_an_image_folder() {
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pets"), 11);
    fs::write(folder.path().join("pets/cat/notes.txt"), "").unwrap();
    fs::copy(folder.path().join("pets/cat/0.png"), folder.path().join("pets/loose.png")).unwrap();
    let output = vitreous(folder.path(), &["data", "info", "--data=pets", "--set=data.image_size=8"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["data         pets", "shape        3x8x8 (channels x height x width)", "classes      2"]);
    assert!(lines[3].starts_with("mean         0.") && lines[3].ends_with(", 0.0000"), "{text}");
    let ignored = ["ignored      1 file in the class folders", "ignored      1 image outside class folders"];
    assert_eq!(lines[7..9], ignored);
    assert_eq!(lines[10], "class  train  validation  test");
    // The bytes of the files decide which of the 11 validate.
    for (line, class) in lines[11..13].iter().zip(["cat", "dog"]) {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let counts = [cells[1], cells[2]].map(|count| count.parse::<usize>().unwrap());
        assert!(cells[0] == class && cells[3] == "-" && counts[0] + counts[1] == 11 && counts[1] > 0, "{text}");
    }
    assert!(!text.contains("-: "), "there is no test split: {text}");

    let output = vitreous(folder.path(), &["data", "info", "--data=pets", "--json"]);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |key: &str| summary[key].as_u64().expect("a number");
    assert_eq!((count("train") + count("validation"), &summary["test"]), (22, &Value::Null));
    assert_eq!(summary["fingerprint"].as_str().map(str::len), Some(64));
}

#[test]
fn a_broken_image_is_named_or_skipped() {
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pets"), 5);
    fs::write(folder.path().join("pets/dog/bad.jpg"), "no picture").unwrap();
    let output = vitreous(folder.path(), &["data", "info", "--data=pets"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let expected = "error: the image cannot be decoded: not a JPEG, PNG, WebP or BMP file (pets/dog/bad.jpg)\n";
    assert!(stderr.starts_with(expected), "{stderr}");
    let output = vitreous(folder.path(), &["data", "info", "--data=pets", "--skip-bad-images"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("skipped      1 image that cannot be decoded\n"), "{text}");
    assert!(text.ends_with("skipped dog/bad.jpg: not a JPEG, PNG, WebP or BMP file\n"), "{text}");
}

#[test]
fn a_step_and_an_inference_are_timed() {
    let arguments = ["--preset=mnist-vit", "--precision=f32", "--seconds=0", "--threads=2"];
    let clock = Instant::now();
    let step = json(&[["bench", "step", "--batch-size=5"].as_slice(), &arguments].concat());
    let wall_ms = 1e3 * clock.elapsed().as_secs_f64();
    assert_eq!((&step["model"], &step["batch"], &step["threads"]), (&"mnist-vit".into(), &5.into(), &2.into()));
    assert_eq!((&step["params"], &step["steps"]), (&106_122.into(), &3.into()));
    let ms = |key: &str| step[key].as_f64().expect("a time");
    assert!(0.0 < ms("ms_min") && ms("ms_min") <= ms("ms_p10") && ms("ms_p10") <= ms("ms") && ms("ms") <= ms("ms_max"));
    // Its three steps were taken while this clock ran, and sixteen times the images take longer than once.
    assert!(3.0 * ms("ms_min") < wall_ms && 5e3 / ms("images_per_s") < wall_ms, "{step}, {wall_ms} ms");
    assert!((5e3 / ms("ms_max")..=5e3 / ms("ms_min")).contains(&ms("images_per_s")), "{step}");
    let more = json(&[["bench", "step", "--batch-size=80"].as_slice(), &arguments].concat());
    assert!(more["ms_min"].as_f64().unwrap() > 4.0 * ms("ms_min"), "{step}, {more}");
    let infer = json(&[["bench", "infer", "--batch-size=5"].as_slice(), &arguments].concat());
    assert_eq!((&infer["bench"], &infer["batch"]), (&"infer".into(), &5.into()));
}

#[test]
fn bench_epoch_compares_an_epoch_with_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pets"), 23);
    pictures_of(&folder.path().join("large"), 23, [700, 600]);
    let small = ["--set=data.image_size=8", "--set=model.patch_size=4", "--set=model.depth=1"];
    let clock = Instant::now();
    let epoch = |data: &str| {
        let arguments = ["bench", "epoch", "--data", data, "--batch-size=7"];
        crate::common::json(folder.path(), &[arguments.as_slice(), &small].concat())
    };
    let timing = epoch("pets");
    let wall_s = clock.elapsed().as_secs_f64();
    // About a fifth of 46 validates; the last batch may be smaller.
    let count = |key: &str| timing[key].as_u64().expect("a number");
    assert!((25..46).contains(&count("images")), "{timing}");
    assert_eq!((count("steps"), count("batch")), (count("images").div_ceil(7), 7));
    let s = |key: &str| timing[key].as_f64().expect("a number");
    assert!(s("read_s") > 0.0 && s("read_s") + s("epoch_s") + s("ready_s") < wall_s, "{timing}, {wall_s} s");
    assert!(s("images") / s("images_per_s") < wall_s, "{timing}, {wall_s} s");
    // Pictures that take long to read make the epoch longer, but not its steps.
    let large = epoch("large");
    assert!(large["ratio"].as_f64().unwrap() > 2.0 * s("ratio"), "{timing}, {large}");
}

#[test]
fn impossible_bench_arguments_are_refused() {
    let preset = "error: unknown preset `mnist-vt` (--preset)\nhint: did you mean `mnist-vit`?\n";
    assert_eq!(refused(&["bench", "step", "--preset=mnist-vt"]), preset);
    let patches = "error: image_size 28 is not a multiple of patch_size 16 (--model, [model])\n\
                   hint: use --set model.patch_size=14\n";
    assert_eq!(refused(&["bench", "step", "--model=vit-tiny"]), patches);
    let precision = "error: invalid precision `bf16` (--precision)\nhint: use --precision f32\n";
    assert_eq!(refused(&["bench", "step", "--preset=mnist-vit", "--precision=bf16"]), precision);
    let seconds = "error: invalid time `-1` (--seconds)\nhint: use --seconds 5\n";
    assert_eq!(refused(&["bench", "step", "--seconds", "-1"]), seconds);
    let data = refused(&["bench", "epoch", "--preset=mnist-vit"]);
    assert!(data.starts_with("error: mnist needs the file train-images-idx3-ubyte.gz (looked in "), "{data}");
}
