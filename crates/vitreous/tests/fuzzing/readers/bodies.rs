//! The readers. For most, the first byte of the input selects which file the rest becomes.

use std::fs;
use std::io::{BufReader, Cursor, Write};
use std::path::{Path, PathBuf};

use vitreous::advice::{Explain, Note, Source};
use vitreous::checkpoint::find_state;
use vitreous::compare::{self, Against, Comparison, Measure, Sheet, Verdicts};
use vitreous::config::classes::ClassSubset;
use vitreous::config::data::{DataSpec, Resize};
use vitreous::config::layers::Layers;
use vitreous::config::model::{ImageFacts, KindSpec, VitSpec};
use vitreous::data::{self, ImageShape, Wanted};
use vitreous::data_sets::Member;
use vitreous::evaluate::Classifier;
use vitreous::fetch::archive;
use vitreous::import;
use vitreous::models::{self, BuildModel, summary};
use vitreous::record::{Folder, sha256_of_bytes};
use vitreous::sweep::SweepFile;
use vitreous::train::CheckpointInfo;

use vitreous_engine::Parameters;

use super::seeds;

/// Compresses quickly, because it runs for each input.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for this try");
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).expect("a file for this try");
    }
    folder
}

fn spec(name: &str, dir: &Path, is_subset: bool) -> DataSpec {
    let classes = is_subset.then(|| ClassSubset::parse("0,2,4"));
    DataSpec { name: name.to_string(), dir: Some(dir.to_path_buf()), classes, ..DataSpec::default() }
}

/// Looks at a data set and loads its splits, as `train` and `evaluate` do.
fn load(spec: &DataSpec) {
    match data::inspect(spec) {
        Ok(facts) => {
            for wanted in [Wanted::TrainAndValidation, Wanted::Test] {
                match data::load(spec, &facts, wanted, 1, &|_, _| ()) {
                    Ok(loaded) => assert_eq!(loaded.fingerprint.len(), 64),
                    Err(error) => drop((error.to_string(), error.hint())),
                }
            }
        }
        Err(error) => drop((error.to_string(), error.hint())),
    }
}

/// MNIST's images or labels (bit 0), compressed here (1), of which some classes are used (2), for train or also test (3).
pub fn idx(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let input = if kind & 2 != 0 { gzip(rest) } else { rest.to_vec() };
    let (images, labels) = (seeds::idx_images(), seeds::idx_labels());
    let pair = if kind & 1 != 0 { [&images, &input] } else { [&input, &labels] };
    let names =
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
    let files: Vec<(&str, &[u8])> =
        names.into_iter().zip(pair.into_iter().chain(pair).map(|bytes| &bytes[..])).collect();
    let folder = folder(if kind & 8 != 0 { &files } else { &files[..2] });
    load(&spec("mnist", folder.path(), kind & 4 != 0));
}

/// CIFAR's files: all are the input, or one of them (bit 0), or the class names (1); some classes (2); CIFAR-100 (3).
pub fn cifar(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    if kind & 8 != 0 {
        return cifar100(*kind, rest);
    }
    let good = seeds::cifar_file();
    let others = if kind & 3 == 0 { rest } else { &good };
    let third = if kind & 2 == 0 { rest } else { &good };
    let names: &[u8] = if kind & 2 != 0 { rest } else { b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n" };
    let folder = folder(&[
        ("data_batch_1.bin", others),
        ("data_batch_2.bin", others),
        ("data_batch_3.bin", third),
        ("data_batch_4.bin", others),
        ("data_batch_5.bin", others),
        ("test_batch.bin", others),
        ("batches.meta.txt", names),
    ]);
    load(&spec("cifar10", folder.path(), kind & 4 != 0));
}

fn cifar100(kind: u8, input: &[u8]) {
    let (train, test) = (seeds::cifar100_file(5), seeds::cifar100_file(1));
    let folder = match kind & 3 {
        0 => folder(&[("train.bin", input), ("test.bin", &test)]),
        1 => folder(&[("train.bin", &train), ("test.bin", input)]),
        2 => folder(&[("train.bin", &train), ("fine_label_names.txt", input)]),
        _ => folder(&[("train.bin", input), ("coarse_label_names.txt", input)]),
    };
    ["cifar100", "cifar100-coarse"].iter().for_each(|name| load(&spec(name, folder.path(), kind & 4 != 0)));
}

/// A config file, and, after a line with `%`, assignments as `--set` takes them, one on each line.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (file, assignments) = text.split_once("\n%\n").unwrap_or((&text, ""));
    let mut layers = Layers::new();
    let mut added = layers.add_toml(file, "hostile.toml");
    for assignment in assignments.lines() {
        added = added.and_then(|()| layers.set(assignment, Source::Default));
    }
    let facts = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };
    let resolved = added.and_then(|()| layers.finish()).and_then(|checked| checked.resolve(facts));
    match resolved {
        Ok(config) => {
            let text = config.to_toml();
            let mut again = Layers::new();
            again.add_toml(&text, "its own").expect("what is written can be read");
            let again = again.finish().and_then(|checked| checked.resolve(facts)).expect("a good config stays good");
            assert_eq!(again.to_toml(), text);
            let model = models::build_for_training(&config).expect("a checked config makes a model");
            assert!(!summary::summarise(&model).layers.is_empty());
        }
        Err(error) => drop((error.to_string(), error.suggestion().map(|suggestion| suggestion.to_string()))),
    }
}

/// A sweep file.
pub fn sweep(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match SweepFile::parse(text, "hostile.toml").and_then(|file| file.expand()) {
        Ok(settings) => assert!(!settings.is_empty()),
        Err(error) => drop((error.to_string(), error.hint())),
    }
}

/// A weights file; with bit 0 of the first byte, its length is put before its header.
pub fn weights(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let mut input = rest.to_vec();
    if kind & 1 != 0 {
        // The header is a line, since JSON needs none.
        let header = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        input =
            [&(header as u64).to_le_bytes()[..], &rest[..header], rest.get(header + 1..).unwrap_or_default()].concat();
    }
    let folder = folder(&[("hostile.safetensors", &input)]);
    match Classifier::from_file(&folder.path().join("hostile.safetensors"), 1) {
        Ok(classifier) => assert_eq!(classifier.class_names().len(), classifier.config().model.num_classes()),
        Err(error) => drop((error.to_string(), error.hint())),
    }
}

/// A saved state: the small file (first byte 0), what it says with its hash made right (1), or its tensors, the same (2).
pub fn state(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let [mut said, mut tensors] = seeds::state_files();
    let seal = |mut state: serde_json::Value, tensors: &[u8]| {
        state["tensors"] = sha256_of_bytes(tensors).into();
        serde_json::json!({ "sha256": sha256_of_bytes(state.to_string().as_bytes()), "state": state }).to_string()
    };
    match kind % 3 {
        0 => said = rest.to_vec(),
        1 => match serde_json::from_slice(rest) {
            Ok(state @ serde_json::Value::Object(_)) => said = seal(state, &tensors).into_bytes(),
            _ => return,
        },
        _ => {
            let whole: serde_json::Value = serde_json::from_slice(&said).expect("JSON");
            tensors = rest.to_vec();
            said = seal(whole["state"].clone(), &tensors).into_bytes();
        }
    }
    let folder = folder(&[]);
    fs::create_dir(folder.path().join("state")).expect("a folder");
    for (kind, bytes) in [("json", &said), ("safetensors", &tensors)] {
        fs::write(folder.path().join(format!("state/3.{kind}")), bytes).expect("it is written");
    }
    let found = find_state(&Folder::open(folder.path()).expect("it was made"));
    assert_eq!(found.refused.len() + usize::from(found.state.is_some()), 1);
    found.refused.iter().for_each(|error| drop((error.to_string(), error.hint())));
    if let Some(state) = found.state {
        if let Err(error) = CheckpointInfo::of(&state) {
            drop((error.to_string(), error.hint()));
        }
        let tensors = state.tensors().expect("it was read before");
        match tensors.parameters(&seeds::small_graph(), "weights") {
            Ok(_) => assert!(state.path().is_file()),
            Err(error) => drop((error.to_string(), error.hint())),
        }
    }
}

/// A run folder next to a valid one: the input is its manifest, its config (bit 0 of the first byte), or a result of
/// `evaluate`, the predictions (2) or the report (3).
pub fn run(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let (manifest, config) = (seeds::manifest(), seeds::run_config());
    let (answers, report) = (seeds::answers(), seeds::report());
    let files: [&[u8]; 4] = match kind {
        kind if kind & 8 != 0 => [&manifest, &config, &answers, rest],
        kind if kind & 4 != 0 => [&manifest, &config, rest, &report],
        kind if kind & 1 != 0 => [&manifest, rest, &answers, &report],
        _ => [rest, &config, &answers, &report],
    };
    let run_folder = |[manifest, config, answers, report]: [&[u8]; 4]| {
        let run = folder(&[("manifest.json", manifest), ("config.toml", config)]);
        let kept = run.path().join("evaluation/test");
        fs::create_dir_all(&kept).expect("a folder");
        for (name, bytes) in [("predictions.csv", answers), ("report.json", report)] {
            fs::write(kept.join(name), bytes).expect("it is written");
        }
        run
    };
    let hostile = run_folder(files);
    let good = run_folder([&manifest, &config, &answers, &report]);
    let folders: Vec<PathBuf> = [&hostile, &good].map(|folder| folder.path().to_path_buf()).to_vec();
    let by = if kind & 4 != 0 { Measure::Validation } else { Measure::Test };
    let (runs, left_out) = compare::read(&folders, by);
    assert_eq!(runs.len() + left_out.len(), 2);
    assert!(left_out.iter().all(|left| left.folder == folders[0]), "the good run is compared: {left_out:?}");
    let mut comparison = Comparison::new(runs, left_out, kind & 2 != 0, by);
    comparison.hold_against(Against::Best).expect("the best is known, or there is none");
    for verdicts in comparison.groups.iter().filter_map(|group| Verdicts::new(&comparison, group)) {
        assert!(verdicts.markdown(Note::to_string).contains("against"));
    }
    comparison.sort("test", true).expect("every table can be sorted by it");
    assert!(!Sheet::new(&comparison).markdown(Note::to_string).is_empty());
    assert!(serde_json::to_string(&comparison).is_ok());
}

/// Files that a download is taken from: compressed already, or here (bit 0 of the first byte).
pub fn archive(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let input = if kind & 1 != 0 { gzip(rest) } else { rest.to_vec() };
    let members = [Member { path: "set/one.bin", bytes: 700 }, Member { path: "set/two.bin", bytes: 7 }];
    let mut taken = 0;
    let walked: Result<(), archive::Unfit> =
        archive::walk(BufReader::new(Cursor::new(&input)), &members, |member, file| {
            taken += member.bytes;
            let mut found = Vec::new();
            file.read_to_end(&mut found).map_err(|error| archive::Unfit(error.to_string()))?;
            assert!(found.len() as u64 <= member.bytes);
            Ok(())
        });
    assert!(walked.is_err() || taken == 707);
    assert!(archive::check_gzip(&input[..], 700, "no sum at all").is_err());
}

/// A picture, to become gray or in color (bit 0 of the first byte), cut or squashed (1), small or as large as most (2).
pub fn picture(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let folder = folder(&[("hostile", rest)]);
    let side = if kind & 4 != 0 { 224 } else { 8 };
    let shape = ImageShape { channels: if kind & 1 != 0 { 3 } else { 1 }, height: side, width: side };
    let resize = if kind & 2 != 0 { Resize::Squash } else { Resize::Crop };
    match data::decode_picture(&folder.path().join("hostile"), shape, resize) {
        Ok(image) => assert_eq!(image.pixels.len(), shape.len()),
        Err(error) => drop((error.to_string(), error.hint())),
    }
}

/// The pixels that a picture says it has, with those of blocks that go beyond its edges; 0 for one that is too large.
pub fn pixels(bytes: &[u8]) -> usize {
    let reader = image::ImageReader::new(Cursor::new(bytes.get(1..).unwrap_or_default())).with_guessed_format();
    let size = reader.ok().and_then(|reader| reader.into_dimensions().ok()).unwrap_or_default();
    let is_taken = size.0.max(size.1) <= 65_535 && u64::from(size.0) * u64::from(size.1) <= 1 << 27;
    if is_taken { (size.0 as usize + 32) * (size.1 as usize + 32) } else { 0 }
}

/// Reads weights of another program, and loads what fits into a small model.
fn load_weights(bytes: &[u8]) {
    let spec = VitSpec { patch_size: 4, embed_dim: 16, depth: 2, num_heads: 2, mlp_ratio: 4.0, ..VitSpec::default() };
    let facts = ImageFacts { image_size: 8, channels: 1, num_classes: 3 };
    let model = spec.with_facts(facts).expect("a good spec").build(0.0).expect("a checked config");
    let loaded = import::Source::of_bytes(Path::new("hostile"), bytes).and_then(|source| {
        assert!(source.tensors().iter().all(|tensor| tensor.shape.iter().product::<usize>() == tensor.values.len()));
        source.fit(&model, Parameters::zeros(&model.graph), true)
    });
    match loaded {
        Ok(fitted) => assert!(fitted.loaded > 0),
        Err(error) => drop((error.to_string(), error.hint())),
    }
}

/// A zip file of these files, whose checksums are right.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).expect("memory takes all");
        zip.write_all(bytes).expect("memory takes all");
    }
    zip.finish().expect("memory takes all").into_inner()
}

/// A file of PyTorch; or the pickle in one (bit 0 of the first byte), of the older form (bit 1).
pub fn pickle(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind & 3 {
        0 => load_weights(rest),
        1 => load_weights(&zip(&[("a/data.pkl", rest), ("a/data/0", &[1; 64])])),
        _ => load_weights(&[seeds::OLD_START, rest].concat()),
    }
}

/// A file of NumPy; or one of its arrays (bit 0 of the first byte).
pub fn npz(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    if kind & 1 == 0 { load_weights(rest) } else { load_weights(&zip(&[("cls.npy", rest), ("head/kernel.npy", rest)])) }
}
