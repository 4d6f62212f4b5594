//! Reports: what they contain, that nothing in the data can run in them, and what is said of missing parts.

use std::io::Read;

use crate::common::{Folder, json, picture, refused, said, text};

/// A name of a class that would run as a script where it was taken for markup.
const EVIL: &str = "<img src=x onerror=alert(1)>";

/// A training of well under a second on images of three classes, one of them with an evil name.
fn trained(folder: &Folder, plots: &str) {
    for (number, name) in [EVIL, "</script><b>", "שלום"].into_iter().enumerate() {
        for i in 0..11u8 {
            // A name with a slash would be two folders.
            let class = folder.path("photos").join(name.replace('/', "\u{2215}"));
            picture(&class.join(format!("{i}.png")), [40 * number as u8 + i, 200 - i, 7 * i]);
        }
    }
    let small = ["--set=model.depth=1", "--set=model.embed_dim=16", "--set=model.num_heads=1", "--epochs=2"];
    let data = ["train", "--data=photos", "--set=data.image_size=16", "--batch-size=8", "--name=run", plots];
    said(folder.root(), &[&data[..], &small].concat());
}

/// The contents of the elements with this tag.
fn elements<'a>(page: &'a str, tag: &str) -> Vec<&'a str> {
    let (start, end) = (format!("<{tag}"), format!("</{tag}>"));
    let inside = |rest: &'a str| rest.split_once('>').map(|(_, rest)| rest.split(end.as_str()).next().unwrap_or(rest));
    page.split(start.as_str()).skip(1).filter_map(inside).collect()
}

#[test]
fn a_report_has_all_parts_and_runs_nothing_of_the_data() {
    let folder = Folder::new();
    trained(&folder, "--plot-formats=svg");
    let before = text(&folder.read("runs/run/config.toml"));
    let manifest: serde_json::Value = serde_json::from_slice(&folder.read("runs/run/manifest.json")).unwrap();
    assert_eq!(manifest["preset"], "photos");
    let missing = said(folder.root(), &["report", "run"]);
    assert!(missing.starts_with("runs/run/report.html ("), "{missing}");
    let page = folder.text("runs/run/report.html");
    assert!(page.contains("has not been evaluated") && page.contains("vitreous evaluate runs&#x2f;run"), "{page}");
    said(folder.root(), &["evaluate", "run", "--split=val", "--plot-formats=svg"]);

    let files = ["--output=out.html", "--bundle=all.zip", "--notebook"];
    let written = json(folder.root(), &[&["report", "runs/run"][..], &files].concat());
    let paths: Vec<&str> =
        written["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["out.html", "out.ipynb", "all.zip"]);
    let page = folder.text("out.html");
    assert!(page.len() < 2_000_000, "{} bytes", page.len());

    // One h1, then h2 for each section; each is in the contents.
    let titles = ["Results", "Settings", "Training", "Evaluation: validation images", "Data", "Model", "Repeat it"];
    let found: Vec<String> =
        elements(&page, "h2").iter().map(|title| title.replace("<bdi>", "").replace("</bdi>", "")).collect();
    assert_eq!((elements(&page, "h1").len(), found), (1, titles.map(str::to_string).to_vec()));
    assert!(
        (1..=titles.len()).all(|i| page.contains(&format!("href=\"#s{i}\"")) && page.contains(&format!("id=\"s{i}\"")))
    );
    // Every figure has words, every table a caption, and their titles a scope.
    let figures = elements(&page, "figure");
    assert!(figures.len() >= 7, "{} figures", figures.len());
    for figure in &figures {
        let has_words = figure.contains("<title>") && figure.contains("role=\"img\"") || figure.contains(" alt=\"");
        assert!(has_words && !figure.contains(" alt=\"\""), "{figure}");
    }
    assert_eq!(elements(&page, "table").len(), page.matches("<caption").count());
    let titles = page.matches("<th scope=").count();
    assert!(titles > 20 && !page.contains("<th>"), "{titles}");
    for part in [
        "Row for a write-up",
        "differ from the preset photos",
        "Multiply-adds",
        "Ledger (SHA-256)",
        "vitreous train --data=photos",
    ] {
        assert!(page.contains(part), "{part}");
    }

    // The names are texts everywhere: in tables, in figures, and in the data of the script.
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;"));
    assert!(!page.contains("<img src=x"));
    let scripts = elements(&page, "script");
    assert_eq!(scripts.len(), 2);
    let charts: serde_json::Value = serde_json::from_str(scripts[0]).unwrap();
    assert_eq!(charts["charts"][0]["title"], "Loss");
    let policy = page.split("Content-Security-Policy\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(policy.starts_with("default-src 'none'; img-src data:; style-src 'sha256-"), "{policy}");
    assert!(
        !policy.contains("unsafe") && !page.contains(" onclick") && !page.contains("http-equiv=\"refresh"),
        "{policy}"
    );
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http"));

    // The archive has the report and what it is made of.
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(folder.read("all.zip"))).unwrap();
    for name in [
        "report.html",
        "report.ipynb",
        "figures/curves.svg",
        "run/config.toml",
        "run/results.csv",
        "run/plots/samples.svg",
        "run/evaluation/val/report.json",
    ] {
        assert!(archive.by_name(name).is_ok(), "{name}: {:?}", archive.file_names().collect::<Vec<_>>());
    }
    let mut names = archive.file_names().map(|name| name.unwrap().into_owned());
    assert!(names.any(|name| name.starts_with("run/weights/")));
    drop(names);
    let mut config = String::new();
    archive.by_name("run/config.toml").unwrap().read_to_string(&mut config).unwrap();
    assert_eq!(config, before);

    let cells: serde_json::Value = serde_json::from_slice(&folder.read("out.ipynb")).unwrap();
    assert_eq!((cells["nbformat"].as_u64(), cells["nbformat_minor"].as_u64()), (Some(4), Some(5)));
    let all = cells["cells"].as_array().unwrap();
    let code: Vec<_> = all.iter().filter(|cell| cell["cell_type"] == "code").collect();
    assert_eq!((code.len(), all.len()), (7, 15));
    assert!(code.iter().any(|cell| cell["source"].as_str().unwrap().starts_with("!vitreous train --data=photos")));
    let outputs = code.iter().flat_map(|cell| cell["outputs"].as_array().unwrap());
    let pictures = outputs.filter(|output| output["data"]["image/png"].is_string()).count();
    assert_eq!(pictures, elements(&page, "figure").len(), "each figure of the page is a picture of the notebook");
}

#[test]
fn runs_without_records_and_several_runs_have_reports() {
    let folder = Folder::new();
    trained(&folder, "--no-plots");
    // Nothing was recorded, and the curves have values that are NaN.
    for (name, results, metrics) in [
        ("empty", "", ""),
        (
            "nan",
            "epoch,step,train_loss,train_acc,val_loss,val_acc,lr\n1,4,NaN,0.5,,,0.1\n2,8",
            "{\"step\":1,\"loss\":null}\n{\"st",
        ),
    ] {
        said(
            folder.root(),
            &["train", "--config=runs/run/config.toml", "--max-steps=1", "--no-plots", &format!("--name={name}")],
        );
        std::fs::write(folder.path(&format!("runs/{name}/results.csv")), results).unwrap();
        std::fs::write(folder.path(&format!("runs/{name}/metrics.jsonl")), metrics).unwrap();
        said(folder.root(), &["report", name]);
    }
    let page = folder.text("runs/empty/report.html");
    assert!(page.contains("metrics.jsonl is missing or empty: the curves are incomplete"), "{page}");
    assert!(page.contains("the records of the training are missing or damaged") && elements(&page, "h2").len() == 7);
    assert!(!page.contains("--resume"));
    // JSON has no NaN: in the charts they are gaps.
    let page = folder.text("runs/nan/report.html");
    assert!(page.contains("2 lines of metrics.jsonl cannot be read: the curves are incomplete"), "{page}");
    let charts: serde_json::Value = serde_json::from_str(elements(&page, "script")[0]).unwrap();
    assert_eq!(charts["charts"][0]["title"], "Accuracy (%)");
    assert!(!elements(&page, "figure")[0].contains("NaN"), "{}", elements(&page, "figure")[0]);

    // Names of runs are in the data of the script, where nothing may end it.
    let evil = format!("{EVIL}\u{2028}");
    std::fs::rename(folder.path("runs/nan"), folder.path("runs").join(&evil)).unwrap();
    said(folder.root(), &["report", "runs/run", "runs/empty", &format!("runs/{evil}"), "--bundle=all.zip"]);
    let page = folder.text("report.html");
    assert!(!page.contains("<img src=x") && !page.contains('\u{2028}'));
    let found: Vec<&str> = elements(&page, "h2");
    // The charts show the runs of the figure, with its words.
    let charts: serde_json::Value = serde_json::from_str(elements(&page, "script")[0]).unwrap();
    let chart = &charts["charts"][0];
    assert_eq!(chart["title"], "Loss on the validation images; training where a run has none");
    let all = charts["charts"].as_array().unwrap().iter().flat_map(|chart| chart["series"].as_array().unwrap());
    let names: std::collections::BTreeSet<&str> = all.map(|series| series["name"].as_str().unwrap()).collect();
    assert_eq!(names, [evil.as_str(), "run"].into());
    assert!(["run", "&lt;img src=x"].iter().all(|name| page.contains(&format!(">{name}"))), "{page}");
    assert!(
        found.len() >= 2 && found[0].contains("Comparison") && found.last().unwrap().contains("Figures"),
        "{found:?}"
    );
    let archive = zip::ZipArchive::new(std::io::Cursor::new(folder.read("all.zip"))).unwrap();
    for name in ["run/config.toml", "empty/config.toml", &format!("{evil}/manifest.json")] {
        assert!(archive.file_names().any(|file| file.unwrap() == name), "{name}");
    }

    // Names of files are checked before any work, and no file of a run is replaced.
    assert!(refused(folder.root(), &["report", "gone"]).contains("gone"));
    let manifest = folder.read("runs/run/manifest.json");
    for (files, error) in [
        (
            &["--output=a.pdf"][..],
            "error: invalid file name `a.pdf` (--output)\nhint: use a name that ends in .html: a browser prints the \
             report as a PDF file\n",
        ),
        (
            &["--output=runs/run/manifest.json"],
            "error: invalid file name `runs/run/manifest.json` (--output)\nhint: use a name that ends in .html\n",
        ),
        (
            &["--output=b.html", "--bundle=b.html"],
            "error: invalid file name `b.html` (--bundle)\nhint: use a name that ends in .zip\n",
        ),
        (
            &["--output=b.html", "--bundle=none/b.zip"],
            "error: no folder none (--bundle)\nhint: make it with `mkdir -p none`\n",
        ),
        (
            &["--output=runs/run/config.toml/b.html"],
            "error: runs/run/config.toml is not a folder (--output)\nhint: choose another name\n",
        ),
    ] {
        assert_eq!(refused(folder.root(), &[&["report", "run"], files].concat()), error);
    }
    assert!(!folder.path("b.html").exists() && folder.read("runs/run/manifest.json") == manifest);

    // A damaged evaluation is one error, and a remark in the report.
    said(folder.root(), &["evaluate", "run", "--split=val", "--no-plots"]);
    let mut report: serde_json::Value =
        serde_json::from_slice(&folder.read("runs/run/evaluation/val/report.json")).unwrap();
    report["confusion"]["rows"][0][0] = u64::MAX.into();
    std::fs::write(folder.path("runs/run/evaluation/val/report.json"), report.to_string()).unwrap();
    let error = refused(folder.root(), &["plot", "run", "--plot-formats=svg"]);
    let start = "error: the saved evaluation is damaged: these are not the values of an evaluation";
    assert!(error.starts_with(start) && error.ends_with("hint: evaluate the run again\n"), "{error}");
    said(folder.root(), &["report", "run"]);
    assert!(folder.text("runs/run/report.html").contains("the saved evaluation is damaged"));
}
