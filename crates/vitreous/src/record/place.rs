//! A place for a run: chosen early, made when everything is known to be good.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::claim::{Claim, lock_changes};
use super::files::temporary_name;
use super::leftovers::{remove, remove_begun, was_begun};
use super::{Folder, Manifest, RecordError, Run, Status};

/// Longest name of a run, in bytes: the limit of file systems.
const NAME_MAX: usize = 255;

/// Where a run is to be written; nothing is there yet, or what a run has left that was killed as it began.
#[derive(Clone, Debug)]
pub struct Place {
    out: PathBuf,
    name: RunName,
}

#[derive(Clone, Debug)]
enum RunName {
    /// This and no other.
    Given(String),
    /// This, or else with the next free number.
    Free(String),
}

impl Place {
    /// Chooses a place in the folder `out`: that of the name, else the next free one of `base`, `base-2`, ...
    /// Nothing is left there, but it is tried whether something could be.
    ///
    /// # Errors
    /// When the name is taken or not a valid folder name, or `out` is not a folder or cannot be written.
    pub fn choose(out: &Path, name: Option<&str>, base: &str) -> Result<Place, RecordError> {
        if out.exists() && !out.is_dir() {
            return Err(RecordError::write(out, &io::ErrorKind::NotADirectory.into()));
        }
        // Here and not when the folder is made: hours of reading images may lie between.
        try_to_write(out)?;
        let name = match name {
            None => RunName::Free(base_name(base)),
            Some(name) => {
                if !is_name(name) {
                    return Err(RecordError::Name { name: name.to_string() });
                }
                let path = out.join(name);
                if path.exists() && !was_begun(&path) {
                    return Err(exists(name, path));
                }
                RunName::Given(name.to_string())
            }
        };
        Ok(Place { out: out.to_path_buf(), name })
    }

    /// Makes the folder with its config and manifest, and claims it for this process. When that cannot be finished, nothing is left.
    ///
    /// # Errors
    /// When the folder cannot be written, or another run has taken the name in the meantime.
    pub fn create(self, config_toml: &str, manifest: Manifest) -> Result<Run, RecordError> {
        let failed = |error: io::Error| RecordError::write(&self.out, &error);
        fs::create_dir_all(&self.out).map_err(failed)?;
        let out = Folder::open(&self.out).map_err(failed)?;
        // So that no other process takes a folder that was made, but not claimed yet, for one that a kill has left.
        let _locked = lock_changes(&out)?;
        if let RunName::Given(name) = &self.name {
            remove_begun(&out, name)?;
        }
        let name = self.make_folder(&out)?;
        let folder = out.inside(&name).map_err(|error| out.error(&name, &error))?;
        let filled = Claim::on(&folder).and_then(|claim| {
            out.sync("").map_err(|error| out.error(&name, &error))?;
            Run::fill(&folder, claim, config_toml, manifest)
        });
        if filled.is_err() {
            // The first error is the one to tell.
            let _ = remove(&out, &name, &folder);
        }
        filled
    }

    /// Making a folder succeeds for one process only, so two runs never share one.
    fn make_folder(&self, out: &Folder) -> Result<String, RecordError> {
        let candidates: Box<dyn Iterator<Item = String>> = match &self.name {
            RunName::Given(name) => Box::new(std::iter::once(name.clone())),
            RunName::Free(base) => {
                Box::new(std::iter::once(base.clone()).chain((2..).map(move |number| format!("{base}-{number}"))))
            }
        };
        for name in candidates {
            match out.make_new_folder(&name) {
                Ok(()) => return Ok(name),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(out.error(&name, &error)),
                // The job that is to start this run made it.
                Err(_) if matches!(self.name, RunName::Given(_)) && was_begun(&self.out.join(&name)) => {
                    return Ok(name);
                }
                Err(_) if matches!(self.name, RunName::Given(_)) => return Err(exists(&name, self.out.join(&name))),
                Err(_) => {}
            }
        }
        unreachable!("some number is free")
    }
}

fn exists(name: &str, path: PathBuf) -> RecordError {
    let has_failed = Run::open(&path).is_ok_and(|run| run.manifest().status == Status::Failed);
    RecordError::Exists { name: name.to_string(), path, has_failed }
}

/// Tests whether files can be created in a folder, or in its nearest existing parent.
fn try_to_write(out: &Path) -> Result<(), RecordError> {
    let here = Path::new(".");
    let above = out.ancestors().map(|folder| if folder.as_os_str().is_empty() { here } else { folder });
    let nearest = above.into_iter().find(|folder| folder.exists()).unwrap_or(here);
    let probe = nearest.join(temporary_name("vitreous"));
    let tried = OpenOptions::new().write(true).create_new(true).open(&probe);
    match tried {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(RecordError::write(out, &error)),
        _ => {}
    }
    // What cannot be removed could at least be written.
    let _ = fs::remove_file(&probe);
    Ok(())
}

/// Whether a run or a sweep may have this name: one folder name that cannot be mistaken for a flag.
pub fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.+= ".contains(c);
    let is_sound = name.chars().all(is_plain) && name.trim() == name && !name.starts_with(['.', '-']);
    is_sound && !name.is_empty() && name.len() <= NAME_MAX
}

/// Makes the name of a run from that of a preset, a data set or a file: its last part, without odd characters.
pub fn base_name(of: &str) -> String {
    let last = Path::new(of).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let plain: String = last.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let plain = plain.trim_matches(['-', '.']);
    // A character takes four bytes at most: this leaves room for a number behind it.
    let plain: String = plain.chars().take(NAME_MAX / 4 - 5).collect();
    if plain.is_empty() { "run".to_string() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::super::run::tests::{create, manifest};
    use super::*;

    #[test]
    fn a_run_without_a_name_takes_the_next_free_one() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("runs");
        let names: Vec<String> = (0..3).map(|_| create(&out, None).unwrap().name()).collect();
        assert_eq!(names, ["digits", "digits-2", "digits-3"]);
    }

    #[test]
    fn a_name_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        // Both chose before either made it.
        let place = || Place::choose(folder.path(), Some("deeper"), "digits").unwrap();
        let (first, second) = (place(), place());
        first.create("", manifest()).unwrap();
        let expected = format!("a run named `deeper` exists ({})", folder.path().join("deeper").display());
        assert_eq!(second.create("", manifest()).unwrap_err().to_string(), expected);
        assert_eq!(Place::choose(folder.path(), Some("deeper"), "digits").unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_name_stays_inside_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["", "..", "../x", "a/b", "/tmp", ".hidden", "-x", "a\\b", " a", "a\n"] {
            let error = Place::choose(folder.path(), Some(name), "digits").unwrap_err();
            assert_eq!(error, RecordError::Name { name: name.to_string() });
        }
        let (longest, longer) = ("a".repeat(NAME_MAX), "a".repeat(NAME_MAX + 1));
        assert_eq!(
            Place::choose(folder.path(), Some(&longer), "digits").unwrap_err(),
            RecordError::Name { name: longer }
        );
        for name in ["a", "größer", "v1.5", "lr=0.1", &longest] {
            assert!(create(folder.path(), Some(name)).is_ok(), "{name}");
        }
    }

    #[test]
    fn names_come_from_the_last_part() {
        let cases =
            [("digits", "digits"), ("my photos/", "my-photos"), ("/", "run"), ("..", "run"), ("a/b.toml", "b.toml")];
        for (of, name) in cases {
            assert_eq!(base_name(of), name);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_nobody_may_write_is_refused_before_anything_is_made() {
        // Not even the superuser may; the reasons differ.
        let error = Place::choose(Path::new("/proc/self/runs"), None, "digits").unwrap_err();
        assert!(matches!(error, RecordError::Write { path, .. } if path == Path::new("/proc/self/runs")));
        let folder = tempfile::tempdir().unwrap();
        Place::choose(&folder.path().join("a/b"), None, &"ü".repeat(200)).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("runs");
        fs::write(&out, "").unwrap();
        let expected = format!("cannot write: a file is in the way ({})", out.display());
        assert_eq!(create(&out, None).unwrap_err().to_string(), expected);
    }
}
