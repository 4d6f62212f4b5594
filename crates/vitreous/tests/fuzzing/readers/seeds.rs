//! Seed inputs: small valid files, made as the program makes them, and files with false headers.

use std::io::{Cursor, Write};
use std::sync::Arc;

use image::{DynamicImage, ImageFormat, RgbImage};
use vitreous::checkpoint::{BestWeights, Metadata, State, TensorFile};
use vitreous::config::layers::Layers;
use vitreous::config::model::ImageFacts;
use vitreous::data::Normalization;
use vitreous::models;
use vitreous::record::{Folder, JournalLengths};
use vitreous_engine::random::Key;
use vitreous_engine::{Graph, Init, Parameters};

use super::bodies::gzip;

/// Each way of putting an input somewhere, before each of these.
fn with_kinds(kinds: u8, inputs: &[Vec<u8>]) -> Vec<Vec<u8>> {
    (0..kinds).flat_map(|kind| inputs.iter().map(move |input| [&[kind][..], input].concat())).collect()
}

/// Eleven images of 5x3 pixels.
pub fn idx_images() -> Vec<u8> {
    let header = [0x0803, 11, 3, 5].map(u32::to_be_bytes).concat();
    header.into_iter().chain((0..11 * 15).map(|i| (i % 251) as u8)).collect()
}

pub fn idx_labels() -> Vec<u8> {
    let header = [0x0801, 11].map(u32::to_be_bytes).concat();
    header.into_iter().chain((0..11).map(|i| i % 10)).collect()
}

pub fn idx() -> Vec<Vec<u8>> {
    let stated = |sizes: [u32; 4]| sizes.map(u32::to_be_bytes).concat();
    let all = [
        idx_images(),
        idx_labels(),
        gzip(&idx_images()),
        gzip(&idx_labels()),
        stated([0x0803, u32::MAX, 4096, 4096]),
        stated([0x0803, 11, 4096, 4096]),
        stated([0x0801, u32::MAX, 0, 0]),
    ];
    with_kinds(16, &all)
}

/// Two records.
pub fn cifar_file() -> Vec<u8> {
    (0..2 * 3073).map(|i| if i % 3073 == 0 { 3 } else { (i % 251) as u8 }).collect()
}

/// Records with two labels.
pub fn cifar100_file(records: usize) -> Vec<u8> {
    (0..records * 3074).map(|i| if i % 3074 < 2 { 3 } else { (i % 251) as u8 }).collect()
}

pub fn cifar() -> Vec<Vec<u8>> {
    with_kinds(
        16,
        &[
            cifar_file(),
            cifar100_file(5),
            b"cat\ndog\n".to_vec(),
            (b'a'..=b'j').flat_map(|name| [name, b'\n']).collect(),
        ],
    )
}

pub fn config() -> Vec<Vec<u8>> {
    let stack = "[model]\nkind = 'stack'\nlayers = ['conv 8 k3 s2 p1 g2 nobias', 'batchnorm', 'relu', 'maxpool 2', \
                 { residual = ['conv 8', 'gelu'], shortcut = ['conv 8 k1'] }, 'attention 4', 'groupnorm 2', \
                 'globalpool', 'dropout 0.1', 'linear classes']\n";
    let presets = ["digits", "mnist-vit", "cifar-cnn4", "photos-vit-52m", "read-digits", "cifar-vit-cosine-6b8h8d"];
    let presets = presets.iter().filter_map(|name| vitreous::config::presets::text(name));
    let texts = [
        stack,
        "[data]\nname = 'mnist'\nclasses = 'even'\nmean = [0.5]\nstd = [0.5]\n[train]\nepochs = 2\n%\nmodel.depth=3\n\
         train.lr=1e-3\naugment.random_resized_crop={ scale = [0.6, 1.0], ratio = [0.75, 1.33] }\nmodel.kind=",
        "[model]\ndepth = 9223372036854775807\nembed_dim = 4611686018427387904\n",
        "[model]\npatch_size = 1\nembed_dim = 65536\ndepth = 1000000\nnum_heads = 1\n",
        "[model]\nkind = 'stack'\nlayers = ['conv 4294967296', 'linear 18446744073709551615', 'linear classes']\n",
        "[model]\nkind = 'stack'\nlayers = ['conv 8 k99 s99 p99', 'avgpool 3 s2 p1', 'flatten', 'linear classes']\n",
    ];
    let deep = format!("[model]\nkind = 'stack'\nlayers = {}'relu'{}\n", "[{ residual = ".repeat(70), " }]".repeat(70));
    presets.map(str::to_string).chain(texts.map(str::to_string)).chain([deep]).map(String::into_bytes).collect()
}

pub fn sweep() -> Vec<Vec<u8>> {
    let key = |key: usize| format!("'train.k{key}=0,1,2,3,4,5,6,7,8,9'");
    let wide = |keys: usize| format!("each = [{}]\n", (0..keys).map(key).collect::<Vec<_>>().join(", "));
    let builtin = vitreous::sweep::names().filter_map(vitreous::sweep::text).map(str::to_string);
    let texts = [
        "preset = 'digits'\nseeds = [1, 2]\nevaluate = ['val', 'test']\neach = ['train.lr=1e-3,3e-4', \
         'augment.scale=[0.5, 1.0],\"a,b\"']\n[[run]]\nname = 'a'\nwhy = 'because'\nset = ['model.depth=3']\n"
            .to_string(),
        wide(3),
        wide(9),
    ];
    builtin.chain(texts).map(String::into_bytes).collect()
}

/// The config of a small network.
pub fn run_config() -> Vec<u8> {
    let text = "[data]\nname = 'mnist'\n[model]\nimage_size = 8\nchannels = 1\nnum_classes = 3\npatch_size = 4\n\
                embed_dim = 8\ndepth = 1\nnum_heads = 2\n[train]\nepochs = 1\nwarmup_epochs = 0\n";
    let mut layers = Layers::new();
    layers.add_toml(text, "seed").expect("a good config");
    let facts = ImageFacts { image_size: 8, channels: 1, num_classes: 3 };
    let config = layers.finish().and_then(|checked| checked.resolve(facts)).expect("a good config");
    config.to_toml().into_bytes()
}

/// A weights file.
fn saved() -> Vec<u8> {
    let config = String::from_utf8(run_config()).expect("text");
    let mut layers = Layers::new();
    layers.add_toml(&config, "seed").expect("a good config");
    let facts = ImageFacts { image_size: 8, channels: 1, num_classes: 3 };
    let resolved = layers.finish().and_then(|checked| checked.resolve(facts)).expect("a good config");
    let graph = models::build(&resolved.model, 0.0).expect("a good model").graph;
    let metadata = Metadata {
        class_names: ["a", "b", "c"].map(str::to_string).to_vec(),
        normalization: Normalization { mean: vec![0.5], std: vec![0.5] },
        config,
        epoch: 1,
        step: 2,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.safetensors");
    let parameters = Parameters::initialize(&graph, Key::new(1));
    TensorFile::weights(&graph, &Arc::new(parameters), &metadata).save(&path).expect("it is saved");
    std::fs::read(&path).expect("it is there")
}

/// A model of three numbers, the least of which there can be a state.
pub fn small_graph() -> Graph {
    let mut graph = Graph::new();
    graph.new_parameter("head.weight", [3], Init::Constant(0.5)).expect("a good shape");
    graph
}

/// The two files of a state: what it says of itself, and its tensors.
pub fn state_files() -> [Vec<u8>; 2] {
    let graph = small_graph();
    let values = Arc::new(Parameters::initialize(&graph, Key::new(1)));
    let about = serde_json::json!({ "config": "", "instruction_set": "avx2", "updates": 7 });
    let sets = [("weights".to_string(), values)];
    let state = State::new(&graph, 7, JournalLengths::default(), about, BestWeights::None, &sets);
    let folder = tempfile::tempdir().expect("a folder");
    state.save(&Folder::open(folder.path()).expect("it was made")).expect("it is saved");
    ["json", "safetensors"]
        .map(|kind| std::fs::read(folder.path().join(format!("state/1.{kind}"))).expect("it is there"))
}

pub fn state() -> Vec<Vec<u8>> {
    let [said, tensors] = state_files();
    let whole: serde_json::Value = serde_json::from_slice(&said).expect("JSON");
    let inside = whole["state"].to_string().into_bytes();
    [&[0][..], &[1], &[2]]
        .iter()
        .zip([&said, &inside, &tensors])
        .map(|(kind, input)| [kind, &input[..]].concat())
        .collect()
}

pub fn weights() -> Vec<Vec<u8>> {
    let whole = saved();
    let length = u64::from_le_bytes(whole[..8].try_into().expect("eight bytes")) as usize;
    let (header, tensors) = whole[8..].split_at(length);
    // The hash is left out, so that a changed header is read further.
    let mut about: serde_json::Value = serde_json::from_slice(header).expect("JSON");
    about["__metadata__"].as_object_mut().expect("it says of itself").remove("vitreous.sha256");
    let lines = |about: &serde_json::Value| [about.to_string().as_bytes(), b"\n", tensors].concat();
    let good = lines(&about);
    let config = about["__metadata__"]["vitreous.config"].as_str().expect("a config").to_string();
    let larger = |from: &str, to: &str| {
        let mut about = about.clone();
        about["__metadata__"]["vitreous.config"] = config.replace(from, to).into();
        lines(&about)
    };
    let inputs = [
        good,
        larger("embed_dim = 8", "embed_dim = 32768"),
        larger("depth = 1", "depth = 1000000"),
        larger("mlp_ratio = ", "mlp_ratio = 999999"),
        b"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}\n".to_vec(),
    ];
    let mut all = with_kinds(2, &inputs);
    all.push([&[0], &whole[..]].concat());
    all.push([&[0][..], &u64::MAX.to_le_bytes(), b"{}"].concat());
    all
}

/// The manifest of a finished run.
pub fn manifest() -> Vec<u8> {
    let text = r#"{
        "format": 1, "version": "0.1.0", "command": ["vitreous", "train"], "status": "finished",
        "started": "2025-03-09T17:04:05Z", "finished": "2025-03-09T17:05:05Z", "seed": 7, "model": "a network",
        "parameters": 11, "flops": { "forward": 7, "backward": 13 },
        "data": {
            "name": "photos", "fingerprint": "ab", "class_names": ["cat", "dog"], "train": 13, "validation": 5,
            "test": null, "normalization": { "mean": [0.1], "std": [0.7] }, "skipped": []
        },
        "machine": {
            "os": "linux", "arch": "x86_64", "instruction_set": "avx2", "threads": 2, "processors": 3
        },
        "results": {
            "epochs": 1, "steps": 2, "train_loss": 0.5, "train_acc": 0.5, "val_acc": 0.25, "best_val_acc": 0.5,
            "best_epoch": 1, "lowest_train_loss": null, "lowest_step": null, "last_sha256": "ab", "seconds": 1.5
        },
        "test_evaluations": 1,
        "evaluations": [
            { "split": "test", "weights": "best", "data": "photos", "images": 7, "loss": 0.5, "top1": 0.25, "top5": 1.0 }
        ]
    }"#;
    text.as_bytes().to_vec()
}

/// Answers to eight images, two of them right, as many as the manifest says.
pub fn answers() -> Vec<u8> {
    let lines = (0..8).map(|image| format!("{image}.png,cat,{},0.5\n", if image < 2 { "cat" } else { "dog" }));
    format!("image,label,prediction,probability\n{}", lines.collect::<String>()).into_bytes()
}

/// The report that `evaluate` saves next to them.
pub fn report() -> Vec<u8> {
    let text = r#"{
        "run": "a", "weights": "best", "epoch": 1, "step": 2, "data": "photos", "fingerprint": "ab", "split": "test",
        "test_evaluations": 1, "strips": 8, "beam": 1, "loss": 0.5, "exact_match": 0.25,
        "exact_match_interval": [0.0, 1.0], "digit_accuracy": 0.5, "lengths": []
    }"#;
    text.as_bytes().to_vec()
}

pub fn run() -> Vec<Vec<u8>> {
    let odd = [b"{\"format\": 4294967296}".to_vec(), vec![b'['; 5000], b"a,b,c,d\n\"x".to_vec()];
    with_kinds(12, &[&[manifest(), run_config(), answers(), report()][..], &odd].concat())
}

/// An entry of a tar archive.
fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    header[257..263].copy_from_slice(b"ustar\0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    [&header[..], content, &vec![0; content.len().next_multiple_of(512) - content.len()]].concat()
}

pub fn archive() -> Vec<Vec<u8>> {
    let (one, two) = (entry("set/one.bin", b'0', &[7; 700]), entry("set/two.bin", b'0', b"7 bytes"));
    let (evil, link) = (entry("../../evil", b'0', b"evil"), entry("set/two.bin", b'2', b""));
    let end = [0; 1024];
    let tars = [[&one[..], &two, &end].concat(), [&evil[..], &one, &link, &end].concat(), two];
    let mut all = with_kinds(2, &tars);
    all.extend(tars.iter().map(|tar| [&[0][..], &gzip(tar)].concat()));
    all.push([&[0][..], &gzip(&vec![0; 2_000_000])].concat());
    all
}

pub fn picture() -> Vec<Vec<u8>> {
    let pixels = (0..11 * 7 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let color = DynamicImage::from(RgbImage::from_raw(11, 7, pixels).expect("the size is right"));
    let mut inputs = Vec::new();
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp] {
        let pictures = [color.clone(), color.to_luma8().into()];
        for picture in &pictures {
            let mut bytes = Cursor::new(Vec::new());
            // WebP has no gray.
            if picture.write_to(&mut bytes, format).is_ok() {
                inputs.push(bytes.into_inner());
            }
        }
    }
    // A BMP whose header states 3000x3000 pixels.
    let mut large = inputs[inputs.len() - 2].clone();
    large[18..22].copy_from_slice(&3000_u32.to_le_bytes());
    large[22..26].copy_from_slice(&3000_u32.to_le_bytes());
    inputs.push(large);
    // PNGs: a profile and a text that inflate to 16 MB, a picture of one pixel in a row.
    let zeros = zlib(&vec![0; 16 << 20]);
    let header = |width: u32, height: u32| {
        let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
        png_chunk(b"IHDR", &[&size[..], &[8, 0, 0, 0, 0]].concat())
    };
    for (name, head) in [(b"iCCP", "profile\0\0"), (b"zTXt", "Raw profile type iptc\0\0")] {
        let chunk = png_chunk(name, &[head.as_bytes(), &zeros].concat());
        inputs.push(png(&[header(8, 8), chunk, png_chunk(b"IDAT", &zlib(&[0; 72]))]));
    }
    for height in [25_000, 10_000_000] {
        let rows = zlib(&vec![0; 2 * height as usize]);
        inputs.push(png(&[header(1, height), png_chunk(b"IDAT", &rows)]));
    }
    // A WebP of 8x8 pixels whose lossy frame states 16383x16383.
    let mut webp = [b"RIFF\0\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0\x07\0\0\x07\0\0VP8 ", &[100, 0, 0, 0][..]].concat();
    webp.extend(b"\x10\x02\0\x9D\x01\x2A\xFF\x3F\xFF\x3F");
    webp.resize(webp.len() + 90, 7);
    let length = (webp.len() as u32 - 8).to_le_bytes();
    webp[4..8].copy_from_slice(&length);
    inputs.push(webp);
    with_kinds(8, &inputs)
}

/// Pictures of 1000x700 pixels, with their names.
pub fn large_pictures() -> Vec<(&'static str, Vec<u8>)> {
    let pixels = (0..1000 * 700 * 3).map(|i| (i / 3 % 251 + i % 3 * 40) as u8).collect();
    let color = DynamicImage::from(RgbImage::from_raw(1000, 700, pixels).expect("the size is right"));
    let kinds = [
        ("jpeg", ImageFormat::Jpeg, color.clone()),
        ("gray jpeg", ImageFormat::Jpeg, color.to_luma8().into()),
        ("png", ImageFormat::Png, color.clone()),
        ("gray png", ImageFormat::Png, color.to_luma8().into()),
        ("gray alpha png", ImageFormat::Png, color.to_luma_alpha8().into()),
        ("alpha png", ImageFormat::Png, color.to_rgba8().into()),
        ("16-bit gray png", ImageFormat::Png, color.to_luma16().into()),
        ("16-bit png", ImageFormat::Png, color.to_rgb16().into()),
        ("16-bit alpha png", ImageFormat::Png, color.to_rgba16().into()),
        ("webp", ImageFormat::WebP, color.clone()),
        ("alpha webp", ImageFormat::WebP, color.to_rgba8().into()),
        ("bmp", ImageFormat::Bmp, color.clone()),
        ("alpha bmp", ImageFormat::Bmp, color.to_rgba8().into()),
    ];
    let encoded = kinds.map(|(name, format, picture)| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("the kind can be encoded");
        (name, bytes.into_inner())
    });
    let mut pictures = Vec::from(encoded);
    // A profile that inflates to more than the pixels take, after the header.
    let (_, png) = pictures.iter().find(|(name, _)| *name == "png").expect("it is among them");
    let profile = png_chunk(b"iCCP", &[b"profile\0\0", &zlib(&vec![0; 8 << 20])[..]].concat());
    let with_profile = [&png[..33], &profile, &png[33..]].concat();
    let transparent = |name: &str, color: &[u8]| {
        let (_, png) = pictures.iter().find(|(known, _)| *known == name).expect("it is among them");
        [&png[..33], &png_chunk(b"tRNS", color), &png[33..]].concat()
    };
    let with_color = [transparent("png", &[0, 1, 0, 2, 0, 3]), transparent("gray png", &[0, 1])];
    pictures.push(("png with a profile", with_profile));
    pictures.extend(["png with a transparent color", "gray png with one"].into_iter().zip(with_color));
    pictures
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

fn png_chunk(name: &[u8; 4], bytes: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(name);
    sum.update(bytes);
    [&(bytes.len() as u32).to_be_bytes(), &name[..], bytes, &sum.sum().to_be_bytes()].concat()
}

fn png(chunks: &[Vec<u8>]) -> Vec<u8> {
    [b"\x89PNG\r\n\x1A\n", &chunks.concat()[..], &png_chunk(b"IEND", &[])].concat()
}

/// What precedes the tensors in a file of PyTorch's older form.
pub const OLD_START: &[u8] =
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.";

/// A file that PyTorch or NumPy wrote for the tests of imports.
macro_rules! golden {
    ($name:literal) => {
        &include_bytes!(concat!("../../integration/importing/", $name))[..]
    };
}

/// The pickle of one tensor of 2x3 numbers, by this call.
fn small_pickle(call: &[u8]) -> Vec<u8> {
    let storage = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ";
    let view = b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR";
    let start = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x0b\x00\x00\x00head.weightq\x02";
    [&start[..], call, storage, view, b"s."].concat()
}

/// A small file whose tensors share a number and a long name, in the older form.
fn shared_name() -> Vec<u8> {
    let good = small_pickle(b"ctorch._utils\n_rebuild_tensor_v2\n");
    let name = b"blocks.".repeat(14_000);
    let tensor = [&good[..good.len() - 2], b"q\x09X", &(name.len() as u32).to_le_bytes(), &name, b"q\x0800"].concat();
    [
        &tensor[..],
        b"0h\x01(",
        &b"h\x08h\x09".repeat(5_000),
        b"u.",
        b"\x80\x02]X\x01\x00\x00\x000a.",
        b"\x06\0\0\0\0\0\0\0",
        &[1; 24],
    ]
    .concat()
}

pub fn pickle() -> Vec<Vec<u8>> {
    let good = small_pickle(b"ctorch._utils\n_rebuild_tensor_v2\n");
    let evil = small_pickle(b"cos\nsystem\n");
    let keys = [&b"\x80\x02]X\x01\x00\x00\x000a.\x06\0\0\0\0\0\0\0"[..], &[1; 24]].concat();
    let mut all =
        with_kinds(3, &[good.clone(), evil, [good, keys].concat(), b"\x80\x04\x8c\x02os\x8c\x06system\x93.".to_vec()]);
    all.push([&[2], &shared_name()[..]].concat());
    all.extend([golden!("timm.pth"), golden!("timm-legacy.pth")].map(|file| [&[0], file].concat()));
    all
}

pub fn npz() -> Vec<Vec<u8>> {
    let array = |descr: &str, shape: &str, data: &[u8]| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
        [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
    };
    let arrays = [
        array("<f4", "3, 16", &[0x3F; 192]),
        array("|V2", "1, 1, 16", &[0x3F; 32]),
        array("|O", "3,", b"cos\nsystem\n."),
        array("<f8", "4294967296, 4294967296", &[0; 8]),
    ];
    let mut all = with_kinds(2, &arrays);
    all.push([&[0], golden!("augreg.npz")].concat());
    all
}
