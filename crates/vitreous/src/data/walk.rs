//! Walks through image folders: finds image files and ignored files, and enters each real folder once.
//!
//! - Hidden entries are ignored. Links are followed.
//! - A linked folder is walked once per class, so cycles end. A folder that a link adds to a second class is an error,
//!   because its images would have two classes.
//! - In a name that is not valid Unicode, each invalid byte is written as `\xNN`.

use std::collections::HashMap;
use std::fs::{self, FileType};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DataError;
use crate::numbers;
use crate::text::first_of;

/// Extensions of supported image files, case-insensitive.
pub const EXTENSIONS: [&str; 7] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp"];
/// Extensions of image files in unsupported formats.
const OTHER_FORMATS: [&str; 31] = [
    "tif", "tiff", "gif", "avif", "heic", "heif", "jxl", "jp2", "j2k", "jpx", "ico", "svg", "psd", "tga", "dds", "exr",
    "hdr", "pbm", "pgm", "ppm", "pnm", "qoi", "pcx", "dng", "raw", "cr2", "cr3", "nef", "arw", "orf", "rw2",
];
/// Maximum number of names that are kept of each kind of ignored file.
const NAMES_KEPT: usize = 3;

/// The kind of an entry of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Folder,
    Picture,
    /// An image file in an unsupported format.
    OtherFormat,
    /// A file with another extension.
    Other,
    /// A broken link.
    DeadLink,
    /// A pipe, a socket or a device.
    Special,
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name as text.
    pub name: String,
    /// Its path.
    pub path: PathBuf,
    pub kind: Kind,
    pub is_link: bool,
}

impl Entry {
    /// Whether its name is valid Unicode.
    fn is_unicode(&self) -> bool {
        self.path.file_name().is_some_and(|name| name == self.name.as_str())
    }
}

/// A number of files, with the names of the first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Number of files.
    pub count: usize,
    /// Names of the first, relative to the data set's folder.
    pub names: Vec<String>,
}

impl Files {
    /// The number and the first names, if there are any files.
    pub fn listed(&self) -> Option<String> {
        let names = first_of(&self.names, self.count);
        (self.count > 0).then(|| format!("{} ({names})", numbers::count(self.count as u64)))
    }

    fn add(&mut self, name: String) {
        self.count += 1;
        if self.names.len() < NAMES_KEPT {
            self.names.push(name);
        }
    }
}

/// Ignored files in class folders, and image files whose names are not valid Unicode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ignored {
    /// Image files in unsupported formats.
    pub other_formats: Files,
    /// Broken links.
    pub dead_links: Files,
    /// Pipes, sockets and devices.
    pub special: Files,
    /// Files with other extensions.
    pub other_files: Files,
    /// Image files (not ignored) with names that are not valid Unicode.
    pub not_unicode: Files,
}

/// An image file that was found.
pub struct Found {
    /// Relative to the data set's folder, with `/` between the parts.
    pub name: String,
    /// Its path, if it differs from the name.
    pub path: Option<PathBuf>,
}

/// The walk through the class folders of one split.
#[derive(Default)]
pub struct Walk {
    /// Folders above the class folders: a link to one of them is not followed, because it would be a cycle.
    above: Vec<FolderId>,
    /// The folders that were walked, with their classes.
    walked: HashMap<FolderId, Walked>,
}

struct Walked {
    class: String,
    path: PathBuf,
    is_linked: bool,
}

/// A folder still to be walked.
struct Pending {
    path: PathBuf,
    prefix: String,
    /// Whether it was reached through a link.
    is_linked: bool,
    is_unicode: bool,
}

impl Walk {
    /// Starts in a data set's folder or in a split's folder.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn new(root: &Path, split: &Path) -> Result<Walk, DataError> {
        Ok(Walk { above: vec![FolderId::of(root)?, FolderId::of(split)?], walked: HashMap::new() })
    }

    /// Finds the image files of a class, sorted by name; their names start with `prefix`.
    ///
    /// # Errors
    /// When a folder cannot be read or also belongs to another class.
    pub fn class(&mut self, class: &Entry, prefix: String, ignored: &mut Ignored) -> Result<Vec<Found>, DataError> {
        let (mut pictures, mut others) = (Vec::new(), Vec::new());
        let first =
            Pending { path: class.path.clone(), prefix, is_linked: class.is_link, is_unicode: class.is_unicode() };
        // Links come last, so that an image has the name of its real path if possible.
        let (mut folders, mut links) = (vec![first], Vec::new());
        while let Some(folder) = folders.pop().or_else(|| links.pop()) {
            if !self.enters(&class.name, &folder)? {
                continue;
            }
            for entry in entries(&folder.path)? {
                let name = format!("{}/{}", folder.prefix, entry.name);
                let is_unicode = folder.is_unicode && entry.is_unicode();
                match entry.kind {
                    Kind::Folder => {
                        let is_linked = folder.is_linked || entry.is_link;
                        let pending = Pending { path: entry.path, prefix: name, is_linked, is_unicode };
                        if is_linked { links.push(pending) } else { folders.push(pending) }
                    }
                    Kind::Picture => pictures.push(Found { name, path: (!is_unicode).then_some(entry.path) }),
                    kind => others.push((kind, name)),
                }
            }
        }
        pictures.sort_by(|a, b| a.name.cmp(&b.name));
        others.sort_by(|a, b| a.1.cmp(&b.1));
        for (kind, name) in others {
            ignored.of(kind).add(name);
        }
        for picture in pictures.iter().filter(|picture| picture.path.is_some()) {
            ignored.not_unicode.add(picture.name.clone());
        }
        Ok(pictures)
    }

    /// Whether a folder has to be walked for a class.
    fn enters(&mut self, class: &str, folder: &Pending) -> Result<bool, DataError> {
        let id = FolderId::of(&folder.path)?;
        // Without links, folders are a tree; some file systems give two folders the same number.
        if folder.is_linked && self.above.contains(&id) {
            return Ok(false);
        }
        if let Some(earlier) = self.walked.get(&id).filter(|earlier| folder.is_linked || earlier.is_linked) {
            if earlier.class == class {
                return Ok(false);
            }
            let (first, second) = (earlier.class.clone(), class.to_string());
            let paths = [earlier.path.clone(), folder.path.clone()];
            let [path, other] = if folder.is_linked { [paths[1].clone(), paths[0].clone()] } else { paths };
            return Err(DataError::SharedFolder { first, second, path, other });
        }
        let walked = Walked { class: class.to_string(), path: folder.path.clone(), is_linked: folder.is_linked };
        self.walked.insert(id, walked);
        Ok(true)
    }
}

impl Ignored {
    /// Number of ignored files.
    pub fn count(&self) -> usize {
        [&self.other_formats, &self.dead_links, &self.special, &self.other_files].map(|files| files.count).iter().sum()
    }

    fn of(&mut self, kind: Kind) -> &mut Files {
        match kind {
            Kind::OtherFormat => &mut self.other_formats,
            Kind::DeadLink => &mut self.dead_links,
            Kind::Special => &mut self.special,
            Kind::Folder | Kind::Picture | Kind::Other => &mut self.other_files,
        }
    }
}

/// The entries of a folder without hidden ones, sorted by name.
pub fn entries(folder: &Path) -> Result<Vec<Entry>, DataError> {
    let read_error = |error| DataError::read(folder, &error);
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        let (file_name, path) = (entry.file_name(), entry.path());
        if file_name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let own = entry.file_type().map_err(read_error)?;
        let is_link = own.is_symlink();
        let kind = if is_link { fs::metadata(&path).ok().map(|target| target.file_type()) } else { Some(own) };
        let kind = kind.map_or(Kind::DeadLink, |kind| kind_of(&path, kind));
        entries.push(Entry { name: text(file_name.as_encoded_bytes()), path, kind, is_link });
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// The subfolders of a folder without hidden ones, sorted by name.
pub fn subfolders(folder: &Path) -> Result<Vec<Entry>, DataError> {
    let mut folders = entries(folder)?;
    folders.retain(|entry| entry.kind == Kind::Folder);
    folders.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(folders)
}

/// Whether a file has the extension of an image file.
pub fn has_image_extension(path: &Path) -> bool {
    EXTENSIONS.contains(&extension(path).as_str())
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn kind_of(path: &Path, kind: FileType) -> Kind {
    if kind.is_dir() {
        return Kind::Folder;
    }
    if !kind.is_file() {
        return Kind::Special;
    }
    match extension(path).as_str() {
        ending if EXTENSIONS.contains(&ending) => Kind::Picture,
        ending if OTHER_FORMATS.contains(&ending) => Kind::OtherFormat,
        _ => Kind::Other,
    }
}

/// A name as text.
fn text(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02X}")));
    }
    text
}

/// The identity of a folder, independent of links: device and inode, or the path without links.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FolderId(#[cfg(unix)] (u64, u64), #[cfg(not(unix))] PathBuf);

impl FolderId {
    #[cfg(unix)]
    fn of(folder: &Path) -> Result<FolderId, DataError> {
        use std::os::unix::fs::MetadataExt;
        let found = fs::metadata(folder).map_err(|error| DataError::read(folder, &error))?;
        Ok(FolderId((found.dev(), found.ino())))
    }

    #[cfg(not(unix))]
    fn of(folder: &Path) -> Result<FolderId, DataError> {
        fs::canonicalize(folder).map(FolderId).map_err(|error| DataError::read(folder, &error))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::super::folder::Listing;
    use super::super::samples::{class_folders as folder, listing_refused as refused, picture, write, write_class};
    use super::*;

    fn names(root: &Path) -> Vec<String> {
        Listing::of(root, None).unwrap().train.into_iter().map(|picture| picture.name).collect()
    }

    #[test]
    fn ignored_files_are_counted_and_named_by_kind() {
        let root = folder(&["cat", "dog"]);
        for name in ["cat/a.tif", "cat/b.TIFF", "cat/c.gif", "dog/d.avif", "dog/e.heic", "dog/notes.txt", "dog/none"] {
            write(&root.path().join(name), b"");
        }
        for name in ["cat/x.jfif", "cat/y.JPE"] {
            write(&root.path().join(name), &picture(image::ImageFormat::Jpeg, 13, 11, [1, 2, 3]));
        }
        symlink("/gone/1.jpg", root.path().join("dog/link.jpg")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.path().join("cat/pipe.jpg"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        let listing = Listing::of(root.path(), None).unwrap();
        let used: Vec<&str> = listing.train.iter().map(|picture| picture.name.as_str()).collect();
        assert_eq!(used, ["cat/0.png", "cat/1.png", "cat/x.jfif", "cat/y.JPE", "dog/0.png", "dog/1.png"]);
        let all = listing.ignored;
        assert_eq!(all.other_formats.listed().unwrap(), "5 (cat/a.tif, cat/b.TIFF, cat/c.gif and 2 more)");
        assert_eq!(all.dead_links.listed().unwrap(), "1 (dog/link.jpg)");
        assert_eq!(all.special.listed().unwrap(), "1 (cat/pipe.jpg)");
        assert_eq!(all.other_files.listed().unwrap(), "2 (dog/none, dog/notes.txt)");
        assert_eq!((all.count(), all.not_unicode.listed()), (9, None));
    }

    #[test]
    fn a_name_that_is_not_unicode_is_escaped() {
        let root = folder(&["cat", "dog"]);
        let odd = |bytes: &[u8]| root.path().join(OsStr::from_bytes(bytes));
        write(&odd(b"cat/caf\xE9.png"), &picture(image::ImageFormat::Png, 13, 11, [7, 7, 7]));
        write(&odd(b"caf\xE9/1.png"), &picture(image::ImageFormat::Png, 13, 11, [7, 7, 7]));
        let listing = Listing::of(root.path(), None).unwrap();
        assert_eq!(listing.class_names, ["caf\\xE9", "cat", "dog"]);
        let first: Vec<_> =
            listing.train.iter().map(|picture| (picture.name.as_str(), picture.path(root.path()))).collect();
        assert_eq!(first[0], ("caf\\xE9/1.png", odd(b"caf\xE9/1.png")));
        assert_eq!(first[3], ("cat/caf\\xE9.png", odd(b"cat/caf\xE9.png")));
        assert_eq!(listing.ignored.not_unicode.listed().unwrap(), "2 (caf\\xE9/1.png, cat/caf\\xE9.png)");
    }

    #[test]
    fn a_class_is_the_same_in_both_unicode_forms() {
        let root = folder(&["train/caf\u{e9}", "train/dog", "val/cafe\u{301}", "val/dog"]);
        let listing = Listing::of(root.path(), None).unwrap();
        assert_eq!(listing.class_names, ["caf\u{e9}", "dog"]);
        assert_eq!(listing.validation.unwrap()[0].label, 0);
        let (error, _) = refused(&folder(&["caf\u{e9}", "cafe\u{301}", "dog"]));
        assert!(error.starts_with("two class folders are named `caf\u{e9}`"), "{error}");
    }

    #[test]
    fn a_linked_folder_is_walked_once_under_its_real_name() {
        let root = folder(&["cat/images", "cat/more", "dog"]);
        for (target, link) in [("images", "cat/again"), ("../..", "cat/more/all"), ("../cat", "cat/images/up")] {
            symlink(target, root.path().join(link)).unwrap();
        }
        let elsewhere = tempfile::tempdir().unwrap();
        write_class(elsewhere.path(), 2, 0);
        symlink(elsewhere.path(), root.path().join("dog/outside")).unwrap();
        symlink(elsewhere.path(), root.path().join("dog/twice")).unwrap();
        let found = names(root.path());
        assert_eq!(found[..4], ["cat/images/0.png", "cat/images/1.png", "cat/more/0.png", "cat/more/1.png"]);
        assert_eq!(found.len(), 8, "{found:?}");
        assert!(found[6].starts_with("dog/outside/") || found[6].starts_with("dog/twice/"), "{found:?}");
    }

    #[test]
    fn a_link_that_adds_a_folder_to_a_second_class_is_refused() {
        let root = folder(&["ant", "bee", "cow"]);
        symlink("../bee", root.path().join("ant/x")).unwrap();
        symlink("../ant", root.path().join("bee/y")).unwrap();
        let (error, hint) = refused(&root);
        assert_eq!(error, "class `ant` and class `bee` share a folder: photos/ant/x links to photos/bee");
        assert_eq!(hint, "remove the link photos/ant/x: each image belongs to one class");
        let root = folder(&["ant", "bee"]);
        symlink("ant", root.path().join("cow")).unwrap();
        assert_eq!(refused(&root).0, "class `ant` and class `cow` share a folder: photos/cow links to photos/ant");
        // Copies in two splits, linked or not, are found by the check for duplicates.
        let root = folder(&["train/ant", "train/bee"]);
        symlink("train", root.path().join("val")).unwrap();
        assert_eq!(Listing::of(root.path(), None).unwrap().validation.unwrap().len(), 4);
    }

    #[test]
    fn many_links_among_folders_and_deep_folders_end() {
        let root = folder(&["cat/0", "dog"]);
        for level in 1..40 {
            let folder = root.path().join(format!("cat/{level}"));
            fs::create_dir(&folder).unwrap();
            // Two paths from each to the next: 2^39 paths to the last.
            for way in ["a", "b"] {
                symlink(format!("../{}", level - 1), folder.join(way)).unwrap();
            }
        }
        let deep: String = "dog".to_string() + &"/d".repeat(1000);
        fs::create_dir_all(root.path().join(&deep)).unwrap();
        write_class(&root.path().join(&deep), 1, 0);
        let start = std::time::Instant::now();
        let found = names(root.path());
        assert_eq!(found.len(), 5);
        assert_eq!(found[2], "dog/0.png");
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }
}
