//! Archives for `vitreous data fetch`: only the wanted members are written, whatever else an archive contains.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::Folder;
use crate::mirror::get::*;
use crate::mirror::{Mirror, file};
use vitreous::config::data::DataSpec;
use vitreous::data::{self, Wanted};
use vitreous::data_sets::{self, Content, Download, Member, RemoteFile};
use vitreous::fetch::{FetchError, archive};

/// An entry of a tar archive: name, type and content.
fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    if kind == b'2' || kind == b'1' {
        header[157..168].copy_from_slice(b"/etc/passwd");
    }
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
    [&header[..], content, &padding].concat()
}

const MEMBERS: [Member; 2] = [Member { path: "set/one.bin", bytes: 1009 }, Member { path: "set/two.bin", bytes: 7 }];

/// Fetches an archive of these entries from which the two members are taken.
fn get_archive(folder: &Folder, entries: &[Vec<u8>], force: bool) -> Got {
    get_tar(folder, &gzip(&[&entries.concat()[..], &[0; 1024]].concat()), force)
}

fn get_tar(folder: &Folder, gz: &[u8], force: bool) -> Got {
    let sum = hex(&<md5::Md5 as sha2::Digest>::digest(gz));
    let content = Content::Archive { bytes: gz.len() as u64, md5: &sum, members: &MEMBERS };
    let files = [RemoteFile { name: "set.tar.gz", content }];
    let set = Download { folder: "set", mirrors: &[], files: &files };
    let bytes = gz.to_vec();
    let mirror = Mirror::new(move |request, to| file(request, to, &bytes));
    get(&set, folder, &[&mirror], force)
}

fn members() -> [Vec<u8>; 2] {
    [entry("set/one.bin", b'0', &noise(1009)), entry("./set/two.bin", b'0', b"7 bytes")]
}

#[test]
fn only_wanted_archive_members_are_written() {
    let folder = Folder::new();
    let [one, two] = members();
    let hostile = [
        entry("set/", b'5', b""),
        entry("../evil", b'0', b"evil"),
        entry("set/../../evil", b'0', b"evil"),
        entry("/evil", b'0', b"evil"),
        entry("link", b'2', b""),
        entry("set/../one.bin", b'0', b"evil"),
        entry("one.bin", b'0', b"evil"),
        one,
        entry("set/hard", b'1', b""),
        entry("././@LongLink", b'L', &[b'a'; 5000]),
        two,
        entry("set/readme.html", b'0', b"<html>"),
    ];
    let got = get_archive(&folder, &hostile, false);
    assert_eq!(got.result.unwrap().fetched, ["set.tar.gz"]);
    assert_eq!(names(folder.root()), ["sets", "sets/set", "sets/set/one.bin", "sets/set/two.bin"]);
    assert_eq!(folder.read("sets/set/two.bin"), b"7 bytes");
    assert!(folder.read("sets/set/one.bin") == noise(1009));
    // What is there is not fetched again; a file of another size only by force.
    assert_eq!(get_archive(&folder, &hostile, false).asked(), 0);
    fs::write(folder.path("sets/set/two.bin"), b"6 byte").unwrap();
    let error = get_archive(&folder, &hostile, false).result.unwrap_err().to_string();
    assert!(error.starts_with("this is not the file of set: it has 6 bytes, not 7 ("), "{error}");
    get_archive(&folder, &hostile, true).result.unwrap();
    assert_eq!(folder.read("sets/set/two.bin"), b"7 bytes");
}

#[test]
fn an_archive_in_the_layout_of_cifar_100_is_fetched_and_read() {
    let records = |count: u8| (0..count).flat_map(|i| [&[i % 20, i][..], &[i; 3072]].concat()).collect::<Vec<u8>>();
    let entries = [
        entry("cifar-100-binary/", b'5', b""),
        entry("cifar-100-binary/coarse_label_names.txt", b'0', b"fish\n"),
        entry("cifar-100-binary/test.bin", b'0', &records(11)),
        entry("cifar-100-binary/train.bin", b'0', &records(55)),
    ];
    let gz = gzip(&[&entries.concat()[..], &[0; 1024]].concat());
    let sum = hex(&<md5::Md5 as sha2::Digest>::digest(&gz));
    let members = [
        Member { path: "cifar-100-binary/train.bin", bytes: 55 * 3074 },
        Member { path: "cifar-100-binary/test.bin", bytes: 11 * 3074 },
    ];
    let content = Content::Archive { bytes: gz.len() as u64, md5: &sum, members: &members };
    let files = [RemoteFile { name: "cifar-100-binary.tar.gz", content }];
    let known = data_sets::data_set("cifar100").and_then(|set| set.download).unwrap();
    let set = Download { mirrors: &[], files: &files, ..known };
    let folder = Folder::new();
    let mirror = Mirror::new(move |request, to| file(request, to, &gz));
    get(&set, &folder, &[&mirror], false).result.unwrap();
    assert_eq!(names(&folder.path("sets/cifar-100-binary")), ["test.bin", "train.bin"]);
    for (name, classes) in [("cifar100", 100), ("cifar100-coarse", 20)] {
        let spec = DataSpec { name: name.to_string(), dir: Some(folder.path("sets")), ..DataSpec::default() };
        let facts = data::inspect(&spec).unwrap();
        let test = data::load(&spec, &facts, Wanted::Test, 1, &|_, _| ()).unwrap().test.unwrap();
        assert_eq!((facts.class_names.len(), test.len(), test.label(7)), (classes, 11, 7));
    }
}

#[test]
fn an_invalid_archive_leaves_nothing() {
    let folder = Folder::new();
    let [one, two] = members();
    let refused = |gz: Vec<u8>| {
        let got = get_tar(&folder, &gz, false);
        assert!(matches!(got.result, Err(FetchError::NoMirror { is_archive: true, .. })), "{:?}", got.result);
        assert_eq!(names(folder.root()), ["sets"]);
        got.reasons().join("; ")
    };
    let archive = |entries: &[&[u8]]| gzip(&[&entries.concat()[..], &[0; 1024]].concat());
    let link = entry("set/two.bin", b'2', b"");
    assert_eq!(refused(archive(&[&one, &link])), "set/two.bin in the archive is not a regular file");
    let hard = entry("set/two.bin", b'1', b"");
    assert_eq!(refused(archive(&[&one, &hard])), "set/two.bin in the archive is not a regular file");
    let longer = entry("set/two.bin", b'0', b"8 bytes!");
    assert_eq!(refused(archive(&[&one, &longer])), "set/two.bin in the archive has 8 bytes, not 7");
    assert_eq!(refused(archive(&[&one])), "set/two.bin is not in the archive");
    assert_eq!(refused(archive(&[&one, &two, &two])), "set/two.bin in the archive is there twice");
    assert_eq!(refused(gzip(&one)), "the archive is cut off");
    let cut = archive(&[&one, &two]);
    assert_eq!(refused(cut[..900].to_vec()), "the gzip data is cut off");
    assert_eq!(refused(gzip(&[7; 512])), "the archive is damaged: invalid header");
    // A few kB that become 200 MB.
    let bomb = entry("set/bomb", b'0', &vec![0; 200_000_000]);
    assert_eq!(refused(archive(&[&one, &bomb, &two])), "the archive holds more than it may");
}

#[test]
fn a_gzip_bomb_is_refused_at_the_first_excess_byte() {
    let bomb = gzip(&vec![0; 200_000_000]);
    let started = Instant::now();
    let sum = sha256(&[]);
    let unfit = archive::check_gzip(&bomb[..], 5000, &sum).unwrap_err();
    assert_eq!(unfit.0, "it holds more bytes, not 5,000");
    assert!(started.elapsed() < Duration::from_millis(100));
}
