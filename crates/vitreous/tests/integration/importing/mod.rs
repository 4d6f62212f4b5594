//! Weights of timm, Hugging Face, torchvision and big_vision: small files that these libraries wrote, and the logits that
//! they compute with them. `benches/make_import_golden.py` made both.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vitreous::advice::Explain;
use vitreous::experiment::{ExperimentError, ImportOptions, Imported, compare_activations, import};
use vitreous::import::{Source, Tensor};
use vitreous::models;

use crate::common::{Folder, json, said, text, vitreous};

/// PyTorch's rounding errors in f32; the golden logits have six digits after the point.
const TOLERANCE: f64 = 2e-5;

/// What a file without config.json does not show.
const ASSUMED: &str = "not in the file, and assumed: the exact GELU (model.activation), epsilon 1e-6 (model.norm_eps)";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/importing").join(name)
}

fn imported(file: &str, set: &[&str]) -> Imported {
    let set = set.iter().map(ToString::to_string).collect();
    let options = ImportOptions { path: golden(file), set, ..ImportOptions::default() };
    import(&options).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The logits of an image that has the size of the model.
fn logits(imported: &Imported) -> Vec<f32> {
    let mut classifier = imported.classifier(1).unwrap();
    let shape = classifier.shape();
    let image = golden(&format!("image-{}-{}.png", shape.height, shape.channels));
    let pixels = vitreous::data::decode_picture(&image, shape, classifier.config().data.resize).unwrap().pixels;
    classifier.logits(&[&pixels]).remove(0)
}

#[track_caller]
fn assert_computes(imported: &Imported, name: &str) {
    let expected: Value = serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap();
    let expected: Vec<f64> = serde_json::from_value(expected[name].clone()).unwrap();
    let found = logits(imported);
    assert_eq!(found.len(), expected.len(), "{name}");
    let near = |(found, expected): (&f32, &f64)| (f64::from(*found) - expected).abs() < TOLERANCE;
    assert!(found.iter().zip(&expected).all(near), "{name}: {found:?} {expected:?}");
}

#[test]
fn every_librarys_files_give_its_logits() {
    // Heads of 16 channels are not in the tensors: the files are of models with 2 heads. So it is with the normalization.
    let two = ["model.num_heads=2", "data.mean=[0.5, 0.5, 0.5]", "data.std=[0.5, 0.5, 0.5]"];
    let files = [
        ("timm.pth", "timm"),
        ("timm-legacy.pth", "timm"),
        ("timm-bfloat16.safetensors", "timm-bfloat16"),
        ("augreg.npz", "augreg"),
        ("big_vision.npz", "big_vision"),
        ("deit-distilled.pth", "deit-distilled"),
        ("torchvision.pth", "torchvision"),
    ];
    for (file, name) in files {
        let imported = imported(file, &two);
        assert_eq!(imported.fitted.loaded, imported.model.graph.parameters().len(), "{file}");
        assert_computes(&imported, name);
    }
    assert_eq!(
        imported("timm-bfloat16.safetensors", &two).fitted.lines,
        ["converted to float32: 32 tensors of bfloat16", ASSUMED]
    );
    let distilled = imported("deit-distilled.pth", &two).fitted.lines;
    let left_out = "left out: dist_token, head_dist.bias, head_dist.weight (the distillation's own token and head)";
    assert_eq!(distilled, [left_out, ASSUMED]);
}

#[test]
fn hugging_faces_settings_say_what_the_tensors_do_not_show() {
    let imported = imported("hugging-face", &[]);
    assert_eq!(imported.config.model.describe(), "ViT 2 blocks, 4 heads, width 16");
    assert_computes(&imported, "hugging-face");
    assert_eq!(imported.classifier(1).unwrap().class_names(), ["ant", "bee", "cat"]);
    assert_eq!(imported.normalization().mean, [0.5; 3]);
}

/// A config.json and a preprocessor_config.json next to timm's weights, or none.
fn with_settings(set: &[&str], files: &[(&str, &str)]) -> Result<Imported, ExperimentError> {
    let folder = Folder::new();
    fs::copy(golden("timm.pth"), folder.path("timm.pth")).unwrap();
    files.iter().for_each(|(name, text)| fs::write(folder.path(name), text).unwrap());
    let set = set.iter().map(ToString::to_string).collect();
    import(&ImportOptions { path: folder.path("timm.pth"), set, ..Default::default() })
}

#[test]
fn a_normalization_that_the_file_does_not_show_is_assumed_with_a_line() {
    let of = |file: &str, set: &[&str]| {
        let imported = imported(file, &[&["model.num_heads=2"], set].concat());
        let line = imported.fitted.lines.iter().find(|line| line.starts_with("normalization is not in the file"));
        (imported.normalization().clone(), line.cloned())
    };
    let line = |end: &str| Some(format!("normalization is not in the file: {end}; data.mean and data.std set another"));
    let imagenet = "assumed mean [0.485, 0.456, 0.406] and std [0.229, 0.224, 0.225]";
    for file in ["torchvision.pth", "deit-distilled.pth"] {
        let (found, said) = of(file, &[]);
        assert_eq!((found.mean, found.std), (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]), "{file}");
        assert_eq!(said, line(imagenet));
    }
    assert_eq!(of("torchvision.pth", &["model.channels=1"]).0.mean, [(0.485 + 0.456 + 0.406) / 3.0]);
    let (found, said) = of("timm.pth", &[]);
    assert_eq!(found.mean, [0.5; 3]);
    assert_eq!(said, line("assumed mean [0.5, 0.5, 0.5] and std [0.5, 0.5, 0.5]"));
    let (found, said) = of("timm.pth", &["data.mean=[0.1, 0.2, 0.3]", "data.std=[0.4, 0.5, 0.6]"]);
    assert_eq!((found.mean, found.std, said), (vec![0.1, 0.2, 0.3], vec![0.4, 0.5, 0.6], None));
}

#[test]
fn what_the_file_does_not_show_of_a_transformer_is_assumed_with_a_line() {
    let error = with_settings(&[], &[]).err().expect("width 16");
    assert!(
        error
            .to_string()
            .starts_with("the number of heads is not in the file, and heads of 64 channels do not divide width 16 (")
    );
    assert_eq!(error.hint().unwrap(), "set it with model.num_heads, or get the model's config.json");
    let line = |set: &[&str]| with_settings(set, &[]).unwrap().fitted.lines;
    assert!(line(&["model.num_heads=2"]).iter().any(|line| line == ASSUMED));
    let expected = "not in the file, and assumed: the exact GELU (model.activation)";
    assert!(line(&["model.num_heads=2", "model.norm_eps=1e-6"]).iter().any(|line| line == expected));
    // timm's config.json may have them.
    let args = r#"{"model_args": {"num_heads": 4, "act_layer": "gelu_tanh"}}"#;
    let zero = r#"{"model_args": {"num_heads": 4}, "pretrained_cfg": {"mean": [0.5], "std": [0]}}"#;
    let error = with_settings(&["model.channels=1"], &[("config.json", zero)]).err().expect("std is 0");
    assert!(error.to_string().contains("images cannot be normalized by 0"), "{error}");
    let found = with_settings(&[], &[("config.json", args)]).unwrap();
    assert_eq!(found.config.model.describe(), "ViT 2 blocks, 4 heads, width 16");
    assert!(found.config.to_toml().contains("activation = \"gelu-tanh\""));
}

#[test]
fn images_are_prepared_as_the_settings_say() {
    let of = |text: &str| {
        let found = with_settings(&["model.num_heads=2"], &[("preprocessor_config.json", text)]).unwrap();
        (found.normalization().clone(), found.fitted.lines.join("\n"))
    };
    let (found, _) = of(r#"{"do_normalize": false, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.1, 0.2, 0.3]}"#);
    assert_eq!((found.mean, found.std), (vec![0.0; 3], vec![1.0; 3]));
    // Pixels from 0 to 510, not to 1.
    let (found, lines) = of(
        r#"{"rescale_factor": 2, "image_mean": [51, 102, 153], "image_std": [51, 51, 102], "size": 256, "crop_size": 224, "do_center_crop": true}"#,
    );
    assert_eq!((found.mean, found.std), (vec![0.1, 0.2, 0.3], vec![0.1, 0.1, 0.2]));
    assert!(lines.contains("the middle 0.875 out of each image"), "{lines}");
}

#[test]
fn an_own_file_with_other_settings_gets_a_config_of_them() {
    let folder = Folder::new();
    let first = folder.path("a.safetensors");
    imported("timm.pth", &["model.num_heads=2"]).save(&first).unwrap();
    let again = |set: &str| import(&ImportOptions { path: first.clone(), set: vec![set.into()], ..Default::default() });
    let larger = again("model.image_size=24").unwrap();
    assert_eq!(larger.classifier(1).unwrap().shape().height, 24);
    let second = folder.path("b.safetensors");
    again("model.num_heads=4").unwrap().save(&second).unwrap();
    let read = import(&ImportOptions { path: second, ..Default::default() }).unwrap();
    assert_eq!(read.config.model.describe(), "ViT 2 blocks, 4 heads, width 16");
    assert_eq!(read.normalization().mean, [0.5; 3]);
    let error = again("model.channels=4").err().expect("images have other channels");
    assert!(
        error.to_string().starts_with("the weights are for images of 4 channels, and images have 1 or 3 ("),
        "{error}"
    );
    assert_eq!(error.hint().unwrap(), "use model.channels = 3");
    // The source is never overwritten.
    let output = vitreous(folder.root(), &["import", "a.safetensors", "--output=./a.safetensors"]);
    assert!(text(&output.stderr).contains("error: the output is the file that is read (./a.safetensors)"));
}

#[test]
fn positions_patches_and_channels_are_resampled_as_by_timm() {
    let cases = [
        ("model.image_size=24", "image_size 24", "the position embedding is resampled: 4x4 to 6x6 patches"),
        ("model.image_size=8", "image_size 8", "the position embedding is resampled: 4x4 to 2x2 patches"),
        ("model.patch_size=8", "patch_size 8", "the patch embedding is resampled: 4x4 to 8x8 pixels, as FlexiViT does"),
        ("model.patch_size=2", "patch_size 2", "the patch embedding is resampled: 4x4 to 2x2 pixels, as FlexiViT does"),
        ("model.channels=1", "channels 1", "the patch embedding is resampled: 3 to 1 channels, summed to gray"),
    ];
    for (set, name, line) in cases {
        let imported = imported("timm.pth", &["model.num_heads=2", set]);
        assert!(imported.fitted.lines.iter().any(|one| one == line), "{:?}", imported.fitted.lines);
        assert_computes(&imported, name);
    }
}

#[test]
fn models_have_timms_names_and_shapes() {
    let mut compared = 0;
    for named in vitreous::config::model::ModelSpec::named_models() {
        let Ok(expected) = fs::read_to_string(golden(&format!("{}.txt", named.name))) else { continue };
        compared += 1;
        let config = named.spec.with_facts(named.facts).unwrap();
        let graph = models::build(&config, 0.0).unwrap().graph;
        let is_vgg = named.name.starts_with("vgg");
        let lines = graph.parameters().iter().filter_map(|param| {
            let name = match is_vgg {
                true => vitreous::import::names::VGG.theirs(&param.name)?,
                false => param.name.clone(),
            };
            let shape: Vec<String> = param.shape.0.iter().map(ToString::to_string).collect();
            Some(format!("{name} {}", shape.join("x")))
        });
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        let expected: Vec<&str> = expected.lines().collect();
        // The head of a VGG is one layer here, and three there, which are not among the features.
        lines.retain(|line| {
            !is_vgg || expected.contains(&line.as_str()) || !line.ends_with("x512") && !line.ends_with(" 10")
        });
        assert_eq!(lines, expected, "{}", named.name);
    }
    assert_eq!(compared, 6);
}

/// A safetensors file after a change to its header, whose length may differ.
fn with_header(file: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let length = usize::try_from(u64::from_le_bytes(file[..8].try_into().unwrap())).unwrap();
    let (header, values) = file[8..].split_at(length);
    let header = change(std::str::from_utf8(header).unwrap());
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), values].concat()
}

/// A safetensors file of tensors with one number each.
fn numbers(names: &[&str]) -> Vec<u8> {
    let tensors = names.iter().enumerate().map(|(i, name)| {
        format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[{},{}]}}", 4 * i, 4 * i + 4)
    });
    let header = format!("{{{}}}", tensors.collect::<Vec<_>>().join(","));
    let values = vec![0; 4 * names.len()];
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &values].concat()
}

#[test]
fn a_header_may_have_any_length() {
    let folder = Folder::new();
    let whole = fs::read(golden("timm-bfloat16.safetensors")).unwrap();
    // A length whose lowest byte is that of a pickle.
    let padded = with_header(&whole, |header| {
        let blanks = (0x80 + 256 - header.len() % 256) % 256;
        header.to_string() + &" ".repeat(blanks)
    });
    assert_eq!(padded[0], 0x80);
    fs::write(folder.path("padded.safetensors"), &padded).unwrap();
    let found = vitreous::import::read_file(&folder.path("padded.safetensors")).unwrap();
    assert_eq!(found.len(), 32);
    let error = refused(&folder, "half.safetensors", &padded[..1000]);
    assert!(error.starts_with("the weights are damaged: "), "{error}");
}

#[test]
fn names_are_joined_only_where_a_library_has_the_parts() {
    let read = |names: &[&str]| Source::of_bytes(Path::new("file"), &numbers(names));
    let of = |names: &[&str]| -> Vec<String> {
        read(names).unwrap().tensors().iter().map(|tensor| tensor.name.clone()).collect()
    };
    // A reader of this program has them apart.
    let parts = ["k", "q", "v"].map(|part| format!("encoder.blocks.0.attn.{part}.weight"));
    let mut found = of(&parts.each_ref().map(String::as_str));
    found.sort();
    assert_eq!(found, parts);
    let theirs = ["query", "key", "value"].map(|part| format!("encoder.layer.0.attention.attention.{part}.bias"));
    let found = of(&[&theirs[0], &theirs[1], &theirs[2], "embeddings.cls_token"]);
    assert!(found.contains(&"blocks.0.attn.qkv.bias".to_string()), "{found:?}");
    let error = read(&["embeddings.cls_token", "classifier.bias", "cls_classifier.bias"]).err().unwrap().to_string();
    assert_eq!(error, "the weights are damaged: two tensors are named `head.bias` (file)");
}

#[test]
fn what_a_file_takes_is_known_before_it_is_read() {
    let folder = Folder::new();
    for name in ["timm-bfloat16.safetensors", "hugging-face/model.safetensors"] {
        // The file, and each value as 32 bits in its tensor and in the model.
        let (path, count) = (golden(name), |tensor: &Tensor| tensor.values.len() as u64);
        let values: u64 = vitreous::import::read_file(&path).unwrap().iter().map(count).sum();
        assert_eq!(Source::memory_bytes(&path), fs::metadata(&path).unwrap().len() + 8 * values, "{name}");
    }
    // What a zip file says of the sizes of its files counts, 16 to 1 here.
    let mut array = b"\x93NUMPY\x01\x00\x46\x00".to_vec();
    array.extend(format!("{:<69}\n", "{'descr': '|u1', 'fortran_order': False, 'shape': (3200000,), }").as_bytes());
    let noise = (0..200_000u32).map(|i| {
        let mixed = i.wrapping_mul(2_654_435_761);
        ((mixed ^ mixed >> 15).wrapping_mul(0x85EB_CA6B) >> 24) as u8
    });
    array.extend(noise);
    array.resize(array.len() + 3_000_000, 0);
    let inside = zip_of(&[("a.npy", &array)]);
    assert!((150_000..250_000).contains(&inside.len()), "{}", inside.len());
    assert_eq!(refused(&folder, "bomb.npz", &inside), "the weights would take more than 8 times the file's size");
    assert!(Source::memory_bytes(&folder.path("bomb.npz")) > 3_200_000);
}

/// The error of importing a file, with its hint.
fn refused(folder: &Folder, name: &str, bytes: &[u8]) -> String {
    fs::write(folder.path(name), bytes).unwrap();
    let options =
        ImportOptions { path: folder.path(name), set: vec!["model.num_heads=2".into()], ..Default::default() };
    let error = import(&options).err().unwrap_or_else(|| panic!("{name} was imported"));
    assert!(error.hint().is_some(), "{error}");
    error.to_string().replace(&format!(" ({})", folder.path(name).display()), "")
}

#[test]
fn damaged_and_hostile_files_are_refused_by_name() {
    let folder = Folder::new();
    let [zip, legacy, npz] =
        ["timm.pth", "timm-legacy.pth", "big_vision.npz"].map(|name| fs::read(golden(name)).unwrap());
    for (name, whole) in [("half.pth", &zip), ("half-legacy.pth", &legacy), ("half.npz", &npz)] {
        let error = refused(&folder, name, &whole[..whole.len() / 2]);
        assert!(error.starts_with("the weights are damaged: "), "{error}");
    }
    assert_eq!(refused(&folder, "text.pth", b"weights"), "neither a safetensors file nor a PyTorch or .npz file");
    let attack = b"\x80\x02cposix\nsystem\nX\x05\x00\x00\x00touch\x85R.";
    let error = "the file would run code: it calls `posix.system`, and only tensors are read";
    assert_eq!(refused(&folder, "attack.pkl", attack), error);
    // In the place of the tensors of a file that is otherwise right.
    let mut inside = zip_of(&[("archive/data.pkl", attack), ("archive/version", b"3\n")]);
    assert_eq!(refused(&folder, "attack.pth", &inside), error);
    inside = zip_of(&[("../../outside.npy", b"")]);
    assert_eq!(
        refused(&folder, "outside.npz", &inside),
        "the weights are damaged: it holds a file outside of it, `../../outside.npy`"
    );
    let header = b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }              \n";
    inside = zip_of(&[("a.npy", header)]);
    assert_eq!(
        refused(&folder, "objects.npz", &inside),
        "the file would run code: it calls `pickle.load`, and only tensors are read"
    );
    // Ten million zeros take ten thousand bytes.
    inside = zip_of(&[("a.npy", &vec![0; 10_000_000])]);
    assert!(inside.len() < 20_000);
    assert_eq!(refused(&folder, "bomb.npz", &inside), "the weights would take more than 8 times the file's size");
    let (mut nan, at) = (fs::read(golden("timm-bfloat16.safetensors")).unwrap(), 1);
    let end = nan.len() - at;
    nan[end - 1..].copy_from_slice(&[0xC0, 0x7F]);
    let error = refused(&folder, "nan.safetensors", &nan);
    assert!(error.ends_with("holds NaN or infinite values"), "{error}");
}

/// A zip file of compressed files.
fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn weights_of_another_model_are_listed_and_partly_loaded_on_request() {
    let with = |set: &[&str], partial| {
        let set = ["model.num_heads=2"].iter().chain(set).map(ToString::to_string).collect();
        import(&ImportOptions { path: golden("timm.pth"), set, partial, ..Default::default() })
    };
    let error = with(&["model.depth=3"], false).err().expect("a block is missing").to_string();
    let start =
        "12 tensors do not fit the model: `blocks.2.norm1.weight` is missing in the file, `blocks.2.norm1.bias` is";
    assert!(error.starts_with(start), "{error}");
    let fitted = with(&["model.depth=3"], true).unwrap().fitted;
    assert_eq!((fitted.loaded, fitted.lines.len()), (32, 12 + 2), "{:?}", fitted.lines);
    let error = with(&["model.mlp_ratio=2"], false).err().expect("fc1 is smaller").to_string();
    let start =
        "6 tensors do not fit the model: `blocks.0.mlp.fc1.weight` is [64, 16] in the file and [32, 16] in the model, ";
    assert!(error.starts_with(start), "{error}");
    let folder = Folder::new();
    let whole = fs::read(golden("timm-bfloat16.safetensors")).unwrap();
    let changed = |from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|bytes| bytes == from.as_bytes()).expect("it is in the header");
        let changed = [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat();
        refused(&folder, "changed.safetensors", &changed)
    };
    assert_eq!(
        changed("\"blocks.1.norm2.weight\"", "\"blocks.1.nrom2.weight\""),
        "2 tensors do not fit the model: `blocks.1.norm2.weight` is missing in the file, nearest is `blocks.1.nrom2.weight`, \
         `blocks.1.nrom2.weight` [16] is unknown to the model"
    );
    let fc2 = "\"blocks.0.mlp.fc2.weight\":{\"dtype\":\"BF16\",\"shape\":[";
    assert_eq!(
        changed(&format!("{fc2}16,64]"), &format!("{fc2}64,16]")),
        "1 tensor does not fit the model: `blocks.0.mlp.fc2.weight` is [64, 16] in the file and [16, 64] in the model, which \
         looks transposed"
    );
    let changed =
        |from: &str, to: &str| refused(&folder, "changed.safetensors", &with_header(&whole, |h| h.replace(from, to)));
    let norm = "\"blocks.0.norm1.weight\":{\"dtype\":\"";
    assert_eq!(
        changed(&format!("{norm}BF16"), &format!("{norm}I16")),
        "1 tensor does not fit the model: `blocks.0.norm1.weight` holds integers, as in a quantized model"
    );
    // Half a head is none.
    fs::write(folder.path("half.safetensors"), with_header(&whole, |h| h.replace("head.bias", "mask_token"))).unwrap();
    let set = vec!["model.num_heads=2".into()];
    let half = import(&ImportOptions { path: folder.path("half.safetensors"), set, ..Default::default() }).unwrap();
    assert_eq!(half.fitted.loaded, 30);
    let line = "the classification head is replaced: the file lacks `head.bias`";
    assert!(half.fitted.lines.iter().any(|one| one == line), "{:?}", half.fitted.lines);
    let options =
        ImportOptions { path: golden("timm.pth"), model: Some("vit-small".to_string()), ..Default::default() };
    let error = import(&options).err().unwrap().to_string();
    let start = "the weights are of a model with width 16 and 2 blocks, but vit-small has width 384 and 12 blocks (";
    assert!(error.starts_with(start), "{error}");
}

#[test]
fn settings_that_contradict_the_tensors_are_refused() {
    let folder = Folder::new();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(golden("hugging-face").join(name), folder.path(name)).unwrap();
    }
    let text = folder.text("config.json").replace("\"hidden_size\": 16", "\"hidden_size\": 24");
    fs::write(folder.path("config.json"), text).unwrap();
    let error = import(&ImportOptions { path: folder.root().to_path_buf(), ..Default::default() }).err().unwrap();
    let expected = format!("hidden_size is 24, but the tensors have 16 ({})", folder.path("config.json").display());
    assert_eq!(error.to_string(), expected);
    // Patches in a rectangle have the same tensors as those in another one.
    let text = folder.text("config.json").replace("\"hidden_size\": 24", "\"hidden_size\": 16");
    let wide = text.replace("\"image_size\": 16", "\"image_size\": [8, 32]");
    assert_ne!(wide, text);
    fs::write(folder.path("config.json"), wide).unwrap();
    let error = import(&ImportOptions { path: folder.root().to_path_buf(), ..Default::default() }).err().unwrap();
    let found = error.to_string();
    assert!(found.starts_with("cannot use the weights: the images have 8x32 pixels, not as many in both "), "{found}");
    // The same numbers in a table of another form.
    let whole = fs::read(golden("timm-bfloat16.safetensors")).unwrap();
    let table = |shape: &str| {
        let changed = with_header(&whole, |header| header.replace("[1,17,16]", shape));
        Source::of_bytes(Path::new("a"), &changed).map(|source| source.settings().vit.clone().unwrap().image_size)
    };
    assert_eq!(table("[1,17,16]").unwrap(), Some(16));
    // Without a row for the class token.
    assert_eq!(table("[1,16,17]").unwrap(), Some(16));
    let error = "cannot use the weights: its position embedding has 34 rows, not those of a square of patches (a)";
    assert_eq!(table("[1,34,8]").err().unwrap().to_string(), error);
}

#[test]
fn a_training_starts_from_weights_and_resumes_without_the_file() {
    let folder = Folder::new();
    fs::copy(golden("timm.pth"), folder.path("timm.pth")).unwrap();
    let model = "[model]\npatch_size = 7\nembed_dim = 16\ndepth = 2\nnum_heads = 2\nmlp_ratio = 4.0\nnorm_eps = 1e-6\n";
    fs::write(folder.path("my.toml"), model).unwrap();
    let common = ["train", "--config=my.toml", "--set=data.name=digits", "--name=a", "--init-from=timm.pth"];
    // What is said on stderr by a command that succeeds.
    let noted = |arguments: &[&str]| {
        let output = vitreous(folder.root(), arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let found = noted(&[&common[..], &["--max-steps=1", "-b4", "--limit-train=40"]].concat());
    for line in [
        "timm.pth: 30 of 32 tensors have the file's values (timm names)",
        "the classification head is replaced: 5 classes in the file, 10 here",
        "the patch embedding is resampled: 3 to 1 channels, summed to gray; 4x4 to 7x7 pixels, as FlexiViT does",
    ] {
        assert!(found.contains(line), "{found}");
    }
    let manifest = folder.manifest("a");
    assert_eq!(manifest["initial"]["loaded"], 30);
    assert!(!String::from_utf8_lossy(&folder.read("runs/a/weights/last.safetensors")).contains("init_from"));
    fs::remove_file(folder.path("timm.pth")).unwrap();
    let resumed = noted(&["train", "--resume=runs/a", "--max-steps=2"]);
    assert!(!resumed.contains("timm names"), "{resumed}");
    // A run is a source too, with its model and normalization.
    let second =
        ["train", "--init-from=runs/a", "--data=digits", "--name=b", "--max-steps=1", "-b4", "--limit-train=40"];
    let found = noted(&second);
    assert!(found.contains("32 of 32 tensors have the file's values (vitreous names)"), "{found}");
    assert_eq!(folder.manifest("b")["model"], "ViT 2 blocks, 2 heads, width 16");
    // Also where the name is not certain to have a run.
    fs::rename(folder.path("runs/a"), folder.path("a")).unwrap();
    let found =
        noted(&[&second[..3], &["--name=b", "--resume=auto", "--max-steps=2", "-b4", "--limit-train=40"]].concat());
    assert!(found.contains("runs/b"), "{found}");
    assert_eq!(folder.manifest("b")["results"]["steps"], 2);
    // Keys of another kind of model are not forgotten.
    let model = "[model]\nkind = \"convnet\"\nstem = \"small\"\ndepths = [1]\nwidths = [2]\nstrides = [1]\n";
    fs::write(folder.path("my.toml"), model).unwrap();
    let small = ["--max-steps=1", "-b4", "--limit-train=40"];
    noted(&[&["train", "--config=my.toml", "--set=data.name=digits", "--name=c"], &small[..]].concat());
    let output = vitreous(folder.root(), &["train", "--init-from=runs/c", "--data=digits", "--set=model.num_heads=2"]);
    let error = text(&output.stderr);
    assert!(error.contains("error: unknown key `num_heads` (--set, [model])"), "{error}");
}

#[test]
fn the_command_writes_a_file_that_predicts() {
    let folder = Folder::new();
    let file = golden("hugging-face");
    let image = golden("image-16-3.png");
    let (file, image) = (file.to_str().unwrap(), image.to_str().unwrap());
    let found = json(folder.root(), &["import", file, "--output=a.safetensors", "--check", image]);
    let expected: Value = serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap();
    let (found, expected) = (found["logits"].as_array().unwrap(), expected["hugging-face"].as_array().unwrap());
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found.as_f64().unwrap() - expected.as_f64().unwrap()).abs() < TOLERANCE, "{found} {expected}");
    }
    let predicted = json(folder.root(), &["predict", "--weights=a.safetensors", image]);
    assert!(["ant", "bee", "cat"].contains(&predicted["predictions"][0]["top"][0]["class"].as_str().unwrap()));
    // Of an own file, the hash is checked.
    let mut changed = folder.read("a.safetensors");
    *changed.last_mut().unwrap() ^= 1;
    let error = self::refused(&folder, "changed.safetensors", &changed);
    assert_eq!(error, "the weights are damaged: their SHA-256 differs from the one in the header");
    // One that cannot be read is not taken for another program's.
    let whole = folder.read("a.safetensors");
    let later = with_header(&whole, |h| h.replace("\"vitreous.format\":\"1\"", "\"vitreous.format\":\"2\""));
    let error = self::refused(&folder, "later.safetensors", &later);
    assert_eq!(error, "`vitreous.format` in the header is unreadable: 2 is not 1");
    let text = said(folder.root(), &["import", "--pretrained"]);
    assert!(text.contains("vitreous train --data photos --init-from vit_tiny.pth"), "{text}");
}

#[test]
fn the_first_layer_that_differs_is_named_with_the_likely_reason() {
    let image = golden("image-16-3.png");
    let check = |set: &[&str], file: &str| {
        let set: Vec<&str> = ["model.num_heads=2"].iter().chain(set).copied().collect();
        let report = compare_activations(&imported("timm.pth", &set), &image, &golden(file)).unwrap();
        (report.first, report.reason)
    };
    assert_eq!(check(&[], "activations.npz"), (None, None));
    let larger = imported("timm.pth", &["model.num_heads=2", "model.image_size=24"]);
    let report = compare_activations(&larger, &golden("image-24-3.png"), &golden("activations.npz")).unwrap();
    assert_eq!(report.first.as_deref(), Some("input"));
    assert_eq!(
        report.reason.as_deref(),
        Some("the other program's input has 768 values, not 1728: images of another size")
    );
    let reason = |first: &str, reason: &str| (Some(first.to_string()), Some(reason.to_string()));
    assert_eq!(
        check(&["model.norm_eps=1e-3"], "activations.npz"),
        reason("blocks.0.norm1", "the other model's layer norms have epsilon 1e-6, not 1e-3")
    );
    assert_eq!(
        check(&["model.activation=gelu-tanh"], "activations.npz"),
        reason("blocks.0.mlp.fc2", "the other model's activation is the exact GELU")
    );
    assert_eq!(
        check(&[], "activations-qkv.npz"),
        reason("blocks.0.attn.qkv", "the rows of qkv are in the order key, query, value")
    );
}
