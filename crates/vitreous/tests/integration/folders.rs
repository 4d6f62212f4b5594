//! Data folders with links, pipes, other files and broken images: nothing is used or skipped silently.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use crate::common::{Folder, text, write_photos};
use assert_cmd::Command;

/// Runs the program, which must end by itself, whatever it finds.
fn ends(folder: &Folder, arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("vitreous").expect("the program is built");
    command.current_dir(folder.root()).env_remove("VITREOUS_DATA_DIR").timeout(Duration::from_secs(60)).args(arguments);
    let output = command.output().expect("the program runs");
    assert!(output.status.code().is_some(), "{arguments:?} does not end: {}", text(&output.stderr));
    output
}

fn said(folder: &Folder, arguments: &[&str]) -> [String; 2] {
    let output = ends(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    [text(&output.stdout), text(&output.stderr)]
}

fn refused(folder: &Folder, arguments: &[&str]) -> String {
    let output = ends(folder, arguments);
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
    stderr
}

/// Images that train or validate, of all classes and of each, as `data info` counts them: the split is not at stake here.
fn counted(folder: &Folder, arguments: &[&str]) -> (u64, Vec<(String, u64)>) {
    let [info, _] = said(folder, &[&["data", "info", "--json"], arguments].concat());
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    let count = |of: &serde_json::Value| of["train"].as_u64().unwrap() + of["validation"].as_u64().unwrap();
    let classes = info["classes"].as_array().unwrap().iter();
    (count(&info), classes.map(|class| (class["name"].as_str().unwrap().to_string(), count(class))).collect())
}

/// As [`counted`], of all images, from what `train` says.
fn counted_by_train(stderr: &str) -> u64 {
    let line = stderr.lines().find(|line| line.contains(" training images, ")).unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let before =
        |word: &str| -> u64 { words[words.iter().position(|other| *other == word).unwrap() - 1].parse().unwrap() };
    before("training") + before("validation")
}

fn pipe(path: PathBuf) {
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
}

const SMALL: [&str; 6] = ["--batch-size", "8", "--max-steps", "1", "--set=model.depth=1", "--set=model.embed_dim=16"];

#[test]
fn unused_files_are_counted_and_named_by_every_command() {
    let folder = Folder::new();
    write_photos(&folder);
    let at = |name: &[u8]| folder.path("photos").join(OsStr::from_bytes(name));
    fs::rename(at(b"ant/0.png"), at(b"ant/0.jfif")).unwrap();
    fs::rename(at(b"ant/1.png"), at(b"ant/1.jpe")).unwrap();
    for name in [&b"ant/a.gif"[..], b"ant/a.tiff", b"bee/a.avif", b"bee/a.heic", b"bee/a.txt"] {
        fs::write(at(name), "").unwrap();
    }
    for name in ["1.jpg", "2.jpg"] {
        symlink(Path::new("/gone").join(name), folder.path("photos/cow").join(name)).unwrap();
    }
    fs::rename(at(b"cow/0.png"), at(b"cow/caf\xE9.png")).unwrap();
    pipe(at(b"cow/pipe.png"));
    let expected = [
        "images in unsupported formats: 4 (ant/a.gif, ant/a.tiff, bee/a.avif and 1 more)",
        "broken links: 2 (cow/1.jpg, cow/2.jpg)",
        "pipes, sockets or devices, ignored: 1 (cow/pipe.png)",
        "image names that are not valid Unicode: 1 (cow/caf\\xE9.png)",
        "files with other extensions, ignored: 1 (bee/a.txt)",
    ];
    let train = [&["train", "--data", "photos"][..], &SMALL].concat();
    let [_, said_in_train] = said(&folder, &train);
    assert_eq!(counted_by_train(&said_in_train), 33);
    let dry = said(&folder, &[&train[..], &["--dry-run"]].concat())[0].clone();
    let info = said(&folder, &["data", "info", "--data", "photos"])[0].clone();
    for line in expected {
        assert!(said_in_train.contains(&format!("note: {line}; ")), "{line}: {said_in_train}");
        assert!(dry.contains(&format!("  {line}\n    fix: ")), "{line}: {dry}");
        assert!(info.contains(&format!("  {line}\n    fix: ")), "{line}: {info}");
    }
    assert!(info.contains("ignored      8 files in the class folders\n"), "{info}");
}

#[test]
fn pipes_in_place_of_images_and_data_files_do_not_block() {
    let folder = Folder::new();
    write_photos(&folder);
    pipe(folder.path("photos/ant/f.jpg"));
    let info = said(&folder, &["data", "info", "--data", "photos", "--skip-bad-images"])[0].clone();
    assert!(info.contains("1 (ant/f.jpg)"), "{info}");
    let [_, stderr] = said(&folder, &[&["train", "--data", "photos"][..], &SMALL].concat());
    assert!(stderr.contains("1 (ant/f.jpg)"), "{stderr}");
    fs::rename(folder.path("photos"), folder.path("others")).unwrap();
    let [_, stderr] = said(&folder, &["evaluate", "runs/photos", "--data", "others"]);
    assert!(stderr.starts_with("note: pipes, sockets or devices, ignored: 1 (ant/f.jpg); "), "{stderr}");
    pipe(folder.path("p.png"));
    let error = refused(&folder, &["predict", "p.png", "--run", "runs/photos"]);
    assert_eq!(error, "error: not a regular file (p.png)\n");
    for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "data_batch_1.bin", "data_batch_2.bin"] {
        pipe(folder.path(name));
    }
    for name in ["mnist", "cifar10"] {
        let error = refused(&folder, &["data", "info", "--data", name, "--data-dir", "."]);
        assert!(error.starts_with(&format!("error: {name} needs the file ")), "{error}");
    }
    pipe(folder.path("my.toml"));
    let error = refused(&folder, &["train", "--config", "my.toml"]);
    assert_eq!(error, "error: cannot read the config: not a regular file (my.toml)\n");
}

#[test]
fn circular_links_are_refused_or_followed_once() {
    let folder = Folder::new();
    write_photos(&folder);
    symlink("../bee", folder.path("photos/ant/x")).unwrap();
    let error = refused(&folder, &["data", "info", "--data", "photos"]);
    assert_eq!(
        error,
        "error: class `ant` and class `bee` share a folder: photos/ant/x links to photos/bee\n\
         hint: remove the link photos/ant/x: each image belongs to one class\n"
    );
    fs::remove_file(folder.path("photos/ant/x")).unwrap();
    fs::create_dir(folder.path("photos/ant/more")).unwrap();
    for link in ["a", "b"] {
        symlink("..", folder.path("photos/ant/more").join(link)).unwrap();
        symlink("more", folder.path("photos/ant").join(link)).unwrap();
    }
    assert_eq!(counted(&folder, &["--data", "photos"]).0, 33);
}

#[test]
fn a_run_folder_among_class_folders_is_not_a_class() {
    let folder = Folder::new();
    write_photos(&folder);
    let photos = |arguments: &[&str]| {
        let mut command = Command::cargo_bin("vitreous").unwrap();
        let output = command.current_dir(folder.path("photos")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let train = [&["train", "--data", "."][..], &SMALL].concat();
    let first = photos(&train);
    assert!(counted_by_train(&first) == 33 && !first.contains("ignored"), "{first}");
    let second = photos(&train);
    assert_eq!(counted_by_train(&second), 33, "{second}");
    assert!(second.contains("note: ./runs is ignored: it contains runs, not images\n"), "{second}");
    photos(&[&train[..], &["--out", "elsewhere"]].concat());
    let [info, _] = said(&folder, &["data", "info", "--data", "photos"]);
    for name in ["runs", "elsewhere"] {
        assert!(info.contains(&format!("ignored      photos/{name}, which contains runs\n")), "{info}");
    }
    // A name is not enough.
    fs::remove_dir_all(folder.path("photos/runs")).unwrap();
    fs::rename(folder.path("photos/ant"), folder.path("photos/runs")).unwrap();
    assert_eq!(counted(&folder, &["--data", "photos"]).1[2], ("runs".to_string(), 11));
}

#[test]
fn numbers_refer_to_class_names_that_are_numbers() {
    let folder = Folder::new();
    for (class, color) in [("0", 0), ("1", 50), ("2", 100), ("4", 150), ("5", 200)] {
        fs::create_dir_all(folder.path(&format!("base/{class}"))).unwrap();
        for number in 0..4 {
            let picture = image::RgbImage::from_pixel(19 + number, 23, image::Rgb([color, number as u8, 0]));
            picture.save(folder.path(&format!("base/{class}/{number}.png"))).unwrap();
        }
    }
    assert_eq!(
        refused(&folder, &["data", "info", "--data", "base", "--classes", "1,3"]),
        "error: classes lists `3`, which is not a class of the data (base, [data])\n\
         hint: the classes are 0, 1, 2, 4, 5\n"
    );
    for (classes, expected) in [("1,4", ["1", "4"].as_slice()), ("even", &["0", "2", "4"]), ("odd", &["1", "5"])] {
        let (all, found) = counted(&folder, &["--data", "base", "--classes", classes]);
        assert!(found.iter().map(|(name, _)| name.as_str()).eq(expected.iter().copied()), "{classes}: {found:?}");
        assert_eq!(all, 4 * expected.len() as u64);
    }
}

#[test]
fn a_utf16_config_from_powershell_is_named_in_the_error() {
    let folder = Folder::new();
    let utf16 = "\u{feff}[train]\r\nepochs = 1\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    fs::write(folder.path("my.toml"), utf16).unwrap();
    assert_eq!(
        refused(&folder, &["train", "--config", "my.toml"]),
        "error: cannot read the config: it is UTF-16, not UTF-8 (my.toml)\n\
         hint: PowerShell's `>` writes UTF-16: write the file with `| Out-File -Encoding utf8 FILE`\n"
    );
    assert!(refused(&folder, &["sweep", "my.toml"]).contains("it is UTF-16, not UTF-8 (my.toml)\nhint: PowerShell's"));
}

/// Fashion-MNIST's train labels as they are distributed (MIT licence), with images of one pixel.
fn write_fashion(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let labels = include_bytes!("labels/fashion-mnist-train.gz");
    fs::write(folder.join("train-labels-idx1-ubyte.gz"), labels).unwrap();
    let header = [0x0803, 60_000, 1, 1].map(u32::to_be_bytes).concat();
    let pixels = (0..60_000).map(|image| (image % 251) as u8);
    fs::write(folder.join("train-images-idx3-ubyte"), header.into_iter().chain(pixels).collect::<Vec<u8>>()).unwrap();
}

#[test]
fn fashion_mnist_is_recognized_by_its_labels() {
    let folder = Folder::new();
    for place in ["raw", "mnist"] {
        write_fashion(&folder.path(place));
        assert_eq!(
            refused(&folder, &["data", "info", "--data", &format!("./{place}")]),
            format!(
                "error: this folder contains the files of fashion-mnist, not class folders (./{place})\n\
                 hint: use --data fashion-mnist --data-dir ./{place}\n"
            )
        );
    }
    for dir in ["raw", "."] {
        let place = if dir == "." { "./mnist" } else { "raw" };
        assert_eq!(
            refused(&folder, &["data", "info", "--data", "mnist", "--data-dir", dir]),
            format!(
                "error: these are the files of fashion-mnist, not of mnist ({place}/train-images-idx3-ubyte)\n\
                 hint: use --data fashion-mnist --data-dir {place}, or name another --data-dir\n"
            )
        );
    }
    let (_, classes) = counted(&folder, &["--data", "fashion-mnist", "--data-dir", "raw"]);
    assert_eq!(classes[9], ("Ankle boot".to_string(), 6000));
}
