//! `data show` and the drawing of `summary` end to end: figures, and what cannot be shown.

use std::fs;

use crate::common::{Folder, json, refused, said, vitreous, write_photos};

#[test]
fn a_grid_has_the_images_that_were_asked_for() {
    let folder = Folder::new();
    let text = said(folder.root(), &["data", "show", "digits", "--output=grid.svg"]);
    assert_eq!(text, "grid.svg: Training images of digits (9 images)\n");
    let grid = folder.text("grid.svg");
    assert_eq!(grid.matches("<image").count(), 9);
    assert!(grid.contains("9 of 14,400, 28 x 28 pixels"), "{}", &grid[..600]);
    // The same images again, and others with another seed; validation images are others.
    let images = |more: &[&str]| json(folder.root(), &[&["data", "show", "digits"], more].concat())["images"].clone();
    assert_eq!(images(&[]), images(&["--seed=42"]));
    assert_ne!(images(&[]), images(&["--seed=7"]));
    assert_ne!(images(&[]), images(&["--split=val"]));
    said(folder.root(), &["data", "show", "digits", "--by-class", "--count=3", "--output=rows.svg", "--classes=2,5"]);
    let rows = folder.text("rows.svg");
    assert_eq!((rows.matches("<image").count(), rows.matches(">5</text>").count()), (6, 1));
    let png = ["data", "show", "--preset=mnist-vit", "--data=digits", "--patches", "--count=1", "--output=p.png"];
    said(folder.root(), &png);
    assert_eq!(folder.read("p.png")[1..4], *b"PNG");
    said(folder.root(), &["data", "show", "--preset=read-digits", "--data=digits", "--count=4", "--output=strips.pdf"]);
    assert_eq!(folder.read("strips.pdf")[..4], *b"%PDF");
}

#[test]
fn names_of_classes_are_text_and_every_size_of_image_is_shown() {
    let folder = Folder::new();
    let long = "n".repeat(250);
    for (class, size) in
        [("<img src=x onerror=alert(1)>", [1, 1]), ("\u{5e9}\u{5dc}\u{5d5}\u{5dd}", [700, 300]), (&long, [9, 9])]
    {
        fs::create_dir_all(folder.path("photos").join(class)).unwrap();
        for i in 0..3 {
            let picture = image::RgbImage::from_pixel(size[0], size[1], image::Rgb([200, 40 * i, size[0] as u8]));
            picture.save(folder.path("photos").join(class).join(format!("{i}.png"))).unwrap();
        }
    }
    let show = |more: &[&str]| said(folder.root(), &[&["data", "show", "photos", "--output=x.svg"], more].concat());
    for view in [&["--by-class"][..], &["--augmented", "--count=2"], &["--patches", "--count=2"], &[]] {
        show(view);
        let svg = folder.text("x.svg");
        assert!(!svg.contains("<img") && !svg.contains("NaN"), "{view:?}");
    }
    // Few images with more of each are of different classes, or one of each.
    let shown = json(folder.root(), &["data", "show", "photos", "--augmented", "--count=3"]);
    let shown = shown["images"].as_array().unwrap();
    let labels: std::collections::BTreeSet<String> = shown.iter().map(|image| image["label"].to_string()).collect();
    assert_eq!(labels.len(), 3, "{shown:?}");
    show(&["--augmented", "--by-class"]);
    assert_eq!(folder.text("x.svg").matches("<image").count(), 3 * (1 + 5));
    let output = vitreous(folder.root(), &["data", "show", "photos", "--count=30", "--output=x.png"]);
    let stderr = crate::common::text(&output.stderr);
    assert!(stderr.contains("note: all 6 images of the train split are shown (--count 30)"), "{stderr}");
}

#[test]
fn a_model_is_drawn_and_printed_as_other_programs_do() {
    let folder = Folder::new();
    let text = said(folder.root(), &["summary", "mnist-vit", "--style=pytorch", "--output=model.svg"]);
    assert!(text.starts_with("VisionTransformer(\n  (patch_embed): PatchEmbed(\n"), "{text}");
    let svg = folder.text("model.svg");
    assert!(svg.contains("× 3</text>") && svg.contains("4 heads of 16, dropout 0.1"), "{svg}");
    let of_64 = said(folder.root(), &["summary", "mnist-vit", "--style=torchinfo", "--batch-size=64"]);
    assert!(of_64.contains("├─Linear (head): 1-8") && of_64.contains("[64, 10]"), "{of_64}");
    let refused = refused(folder.root(), &["summary", "mnist-vit", "--output=model"]);
    assert!(refused.starts_with("error: invalid file name `model` (--output)"), "{refused}");
}

#[test]
fn what_cannot_be_shown_is_refused_with_a_way_out() {
    let folder = Folder::new();
    write_photos(&folder);
    let refusals: [(&[&str], &str); 8] = [
        (
            &["digits"],
            "images are drawn in a terminal only, and stdout is not one\nhint: save a figure with --output samples.png",
        ),
        (
            &["digits", "--output=x.jpg"],
            "invalid file name `x.jpg` (--output)\nhint: use a name that ends in .png, .svg or .pdf",
        ),
        (&["digits", "--output=none/x.svg"], "no folder none (--output)\nhint: make it with `mkdir -p none`"),
        (&["photos", "--split=test", "--output=x.svg"], "photos/ has no test split"),
        (&["digits", "--augmented", "--output=x.svg"], "the config has no augmentation (--augmented)"),
        (
            &["photos", "--augmented", "--split=val", "--output=x.svg"],
            "images of the validation split are not augmented",
        ),
        (&["photos-cnn", "--patches", "--output=x.svg"], "a model of kind stack reads no patches (--patches)"),
        (&["digits", "--count=0", "--output=x.svg"], "error: invalid value `0`: use 1 to 400 (--count)"),
    ];
    for (arguments, expected) in refusals {
        let text = refused(folder.root(), &[&["data", "show"], arguments].concat());
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    assert!(!folder.path("x.svg").exists());
}
