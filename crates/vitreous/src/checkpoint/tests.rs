//! Loading returns what was saved; damaged and forged weights files are refused.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use vitreous_engine::Init;

use super::*;
use crate::data::Normalization;
use crate::record::RecordError;

/// A graph of parameters alone, of the given shapes.
fn graph(shapes: &[Vec<usize>]) -> Graph {
    let mut graph = Graph::new();
    for (i, shape) in shapes.iter().enumerate() {
        graph.new_parameter(&format!("blocks.{i}.weight"), shape.as_slice(), Init::Constant(0.0)).unwrap();
    }
    graph
}

/// Saves parameters of a graph.
fn save(path: &Path, graph: &Graph, parameters: &Parameters, metadata: &Metadata) -> Result<String, RecordError> {
    TensorFile::weights(graph, &Arc::new(parameters.clone()), metadata).save(path)
}

/// Parameters and metadata of the file.
fn load(path: &Path, graph: &Graph) -> Result<(Parameters, Metadata), CheckpointError> {
    let saved = SavedWeights::read(path)?;
    Ok((saved.parameters(graph)?, saved.metadata().clone()))
}

fn metadata() -> Metadata {
    Metadata {
        class_names: vec!["cat".to_string(), "\"dog\"\n".to_string()],
        normalization: Normalization { mean: vec![0.1, 0.2, 0.3], std: vec![0.7, 0.11, 0.13] },
        config: "[model]\ndepth = 3\n".to_string(),
        epoch: 5,
        step: 17,
    }
}

fn filled(graph: &Graph, seed: u32) -> Parameters {
    let mut parameters = Parameters::zeros(graph);
    let mut bits = seed;
    for (_, id) in header::sorted(graph) {
        for value in parameters.get_mut(id) {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // All finite bit patterns, including subnormal numbers and negative zero.
            *value = Some(f32::from_bits(bits)).filter(|x| x.is_finite()).unwrap_or(-0.0);
        }
    }
    parameters
}

fn bits(graph: &Graph, parameters: &Parameters) -> Vec<u32> {
    header::sorted(graph).iter().flat_map(|&(_, id)| parameters.get(id)).map(|x| x.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_saved_is_loaded_bit_for_bit(
        shapes in prop::collection::vec(prop::collection::vec(1usize..6, 0..4), 0..12),
        seed in any::<u32>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let graph = graph(&shapes);
        let parameters = filled(&graph, seed);
        save(&path, &graph, &parameters, &metadata()).unwrap();
        let (loaded, about) = load(&path, &graph).unwrap();
        prop_assert_eq!(bits(&graph, &loaded), bits(&graph, &parameters));
        prop_assert_eq!(&about, &metadata());
    }

    #[test]
    fn a_file_cut_off_anywhere_or_with_a_byte_too_many_is_damaged(part in 0.0f64..1.0) {
        let (_folder, path, graph) = saved();
        let mut bytes = fs::read(&path).unwrap();
        let whole = bytes.len();
        let longer = [&bytes[..], &[0]].concat();
        bytes.truncate((part * whole as f64) as usize);
        for bytes in [bytes, longer] {
            fs::write(&path, &bytes).unwrap();
            let damaged = matches!(load(&path, &graph).err().unwrap(), CheckpointError::Damaged { .. });
            prop_assert!(damaged);
        }
    }

    #[test]
    fn a_changed_byte_is_an_error_or_changes_nothing(place in 0.0f64..1.0, to in any::<u8>()) {
        let (_folder, path, graph) = saved();
        let (parameters, about) = load(&path, &graph).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let place = (place * bytes.len() as f64) as usize;
        bytes[place] = to;
        fs::write(&path, &bytes).unwrap();
        match load(&path, &graph) {
            Err(error) => prop_assert!(error.to_string().contains("a.safetensors")),
            Ok((found, said)) => {
                prop_assert_eq!(bits(&graph, &found), bits(&graph, &parameters));
                prop_assert_eq!(said, about);
            }
        }
    }
}

fn saved() -> (tempfile::TempDir, PathBuf, Graph) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let graph = graph(&[vec![3, 5], vec![7]]);
    save(&path, &graph, &filled(&graph, 1), &metadata()).unwrap();
    (folder, path, graph)
}

#[test]
fn the_hash_of_tensors_is_of_names_and_values_alone_and_the_same_in_memory_and_on_disk() {
    let graph = graph(&[vec![3, 5], vec![7]]);
    let parameters = Arc::new(filled(&graph, 1));
    let file = |epoch| TensorFile::weights(&graph, &parameters, &Metadata { epoch, ..metadata() });
    let (first, second) = (file(1).hashes(), file(2).hashes());
    assert_ne!(first.file, second.file);
    assert_eq!(first.tensors, second.tensors);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    assert_eq!(file(1).save(&path).unwrap(), first.file);
    assert_eq!(SavedWeights::read(&path).unwrap().tensors_sha256().unwrap(), first.tensors);
    // The format's description, written out by hand.
    let mut bytes = Vec::new();
    for (name, id) in header::sorted(&graph) {
        let values = parameters.get(id);
        bytes.extend(format!("{name} {}\n", values.len()).into_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    assert_eq!(first.tensors, crate::record::sha256_of_bytes(&bytes));
    let other = Arc::new(filled(&graph, 2));
    assert_ne!(TensorFile::weights(&graph, &other, &metadata()).hashes().tensors, first.tensors);
}

#[test]
fn a_flipped_bit_of_a_weight_is_told() {
    let (_folder, path, graph) = saved();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = load(&path, &graph).err().unwrap();
    let expected = "the weights are damaged: their SHA-256 differs from the one in the header";
    assert_eq!(error.to_string(), format!("{expected} ({})", path.display()));
}

/// Loads a file with this header, metadata filled in, and so many bytes of data.
fn load_lie(tensors: &str, data: &[u8]) -> String {
    let (_folder, path, graph) = saved();
    let whole = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&whole[8..8 + length]).unwrap();
    // A forger leaves out the hash, which would reveal the change.
    header["__metadata__"].as_object_mut().unwrap().remove("vitreous.sha256").unwrap();
    let text = format!("{{\"__metadata__\":{},{tensors}}}", header["__metadata__"]);
    let lie = [&(text.len() as u64).to_le_bytes(), text.as_bytes(), data].concat();
    fs::write(&path, lie).unwrap();
    let error = load(&path, &graph).err().expect("a lie is not believed").to_string();
    error.replace(&path.display().to_string(), "FILE")
}

#[test]
fn every_tensor_must_be_there_with_its_shape_and_type_and_no_other() {
    let first = r#""blocks.0.weight":{"dtype":"F32","shape":[3,5],"data_offsets":[0,60]}"#;
    let second = r#""blocks.1.weight":{"dtype":"F32","shape":[7],"data_offsets":[60,88]}"#;
    assert_eq!(load_lie(first, &[0; 60]), "the tensor `blocks.1.weight` is missing (FILE)");
    let swapped = first.replace("[3,5]", "[5,3]");
    assert_eq!(
        load_lie(&format!("{swapped},{second}"), &[0; 88]),
        "the tensor `blocks.0.weight` has shape [5, 3], but the model's has [3, 5] (FILE)"
    );
    let whole_numbers = first.replace("F32", "I32");
    assert_eq!(
        load_lie(&format!("{whole_numbers},{second}"), &[0; 88]),
        "the tensor `blocks.0.weight` holds I32, not F32 (FILE)"
    );
    let third = r#""head.weight":{"dtype":"F32","shape":[2],"data_offsets":[88,96]}"#;
    assert_eq!(
        load_lie(&format!("{first},{second},{third}"), &[0; 96]),
        "the model has no tensor `head.weight` (FILE)"
    );
    let infinite = [&[0u8; 84][..], &f32::INFINITY.to_le_bytes()].concat();
    assert_eq!(
        load_lie(&format!("{first},{second}"), &infinite),
        "the tensor `blocks.1.weight` holds NaN or infinite values (FILE)"
    );
}

#[test]
fn places_that_overlap_or_reach_beyond_the_file_are_damage() {
    let first = r#""blocks.0.weight":{"dtype":"F32","shape":[3,5],"data_offsets":[0,60]}"#;
    for second in [
        r#""blocks.1.weight":{"dtype":"F32","shape":[7],"data_offsets":[32,60]}"#,
        r#""blocks.1.weight":{"dtype":"F32","shape":[7],"data_offsets":[60,9999]}"#,
        r#""blocks.1.weight":{"dtype":"F32","shape":[7],"data_offsets":[64,92]}"#,
        r#""blocks.1.weight":{"dtype":"F32","shape":[4611686018427387904,7],"data_offsets":[60,88]}"#,
    ] {
        let error = load_lie(&format!("{first},{second}"), &[0; 88]);
        assert!(error.starts_with("the weights are damaged: "), "{error}");
    }
    let error = load_lie(first, &[0; 64]);
    assert!(error.starts_with("the weights are damaged: the header promises another size than "), "{error}");
}

#[test]
fn a_header_longer_than_the_file_and_a_file_of_another_kind_are_damage() {
    let (_folder, path, graph) = saved();
    for bytes in [&b""[..], b"PK\x03\x04", &u64::MAX.to_le_bytes(), &[99, 0, 0, 0, 0, 0, 0, 0, b'{']] {
        fs::write(&path, bytes).unwrap();
        let error = load(&path, &graph).err().unwrap();
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
    }
    fs::remove_file(&path).unwrap();
    let expected = format!("cannot read the weights: no such file or folder ({})", path.display());
    assert_eq!(load(&path, &graph).err().unwrap().to_string(), expected);
}

#[test]
fn weights_of_another_program_are_told_apart() {
    let (_folder, path, graph) = saved();
    let text = r#"{"__metadata__":{"format":"pt"}}"#;
    fs::write(&path, [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()).unwrap();
    let expected = format!("`vitreous.format` is missing from the header of the weights file ({})", path.display());
    assert_eq!(load(&path, &graph).err().unwrap().to_string(), expected);
}

#[test]
fn data_starts_at_a_whole_vector() {
    let (_folder, path, _) = saved();
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!((8 + length) % 64, 0);
    assert_eq!(bytes.len(), 8 + length + 88);
}
