//! A folder that is held open: files written through it go into that folder, even if it is moved or replaced by
//! another.

use std::fs::{File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::Digest;

use super::files::{Output, is_temporary, is_temporary_of, temporary_name};
use super::lock::{is_abandoned, try_lock};
use super::{RecordError, faults};
use crate::numbers::hexadecimal;
use crate::regular;

/// A folder that is held open. Names are relative to it, and may lead into folders inside it.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    handle: system::Handle,
}

impl Folder {
    /// Opens a folder.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Ok(Folder { path: path.to_path_buf(), handle: system::Handle::open(here)? })
    }

    /// Opens a folder inside.
    pub(super) fn inside(&self, name: &str) -> io::Result<Folder> {
        Ok(Folder { path: self.path.join(name), handle: self.handle.inside(name)? })
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the path still leads to this folder.
    ///
    /// # Errors
    /// When it was moved or deleted, or that cannot be known.
    pub fn check(&self) -> Result<(), RecordError> {
        match self.handle.is_at(&self.path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(RecordError::Gone { path: self.path.clone() }),
            Err(error) => Err(self.error("", &error)),
        }
    }

    /// Whether a name leads to this open file.
    pub(super) fn leads_to(&self, name: &str, file: &File) -> io::Result<bool> {
        self.handle.leads_to(name, file)
    }

    /// Replaces a file by `bytes`; see [`super::write_atomically`].
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RecordError> {
        self.replace(name, |file| file.write_all(bytes)).map(|_| ())
    }

    /// Replaces a file by what `write` writes, and returns its SHA-256; see [`super::replace_file`].
    ///
    /// # Errors
    /// When the folder cannot be written, or `write` gives up.
    pub fn replace(
        &self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<Output>) -> io::Result<()>,
    ) -> Result<String, RecordError> {
        let (inside, last) = name.rsplit_once('/').unwrap_or(("", name));
        let next_to_it = |name: &str| if inside.is_empty() { name.to_string() } else { format!("{inside}/{name}") };
        let temporary = self.create_temporary(|| next_to_it(&temporary_name(last)));
        let (temporary, output) = temporary.map_err(|error| self.error(name, &error))?;
        let replaced = (|| {
            let mut output = BufWriter::with_capacity(1 << 20, output);
            write(&mut output)?;
            let output = output.into_inner()?;
            faults::check(&self.path.join(&temporary))?;
            // Who may read a file is decided by whom it belongs to; where that cannot be kept, the file is still right.
            if let Some(before) = std::fs::symlink_metadata(self.path.join(name)).ok().filter(|facts| facts.is_file()) {
                let _ = output.file.set_permissions(before.permissions());
            }
            output.file.sync_all()?;
            self.rename(&temporary, name)?;
            self.sync(inside)?;
            Ok(hexadecimal(&output.hash.finalize()))
        })();
        // What is left of this attempt, or of those of processes that were killed, is of no use; that it cannot be removed
        // changes nothing.
        if replaced.is_err() {
            let _ = self.handle.remove(&temporary);
        }
        self.remove_temporaries(inside, |name| is_temporary_of(last, name));
        replaced.map_err(|error| self.error(name, &error))
    }

    /// Makes a file that is new, and locks it: so others see that it is being written.
    fn create_temporary(&self, name: impl Fn() -> String) -> io::Result<(String, Output)> {
        loop {
            let name = name();
            faults::check(&self.path.join(&name))?;
            let file = match self.handle.create_new(&name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            // Another process may have removed it as a leftover before it was locked.
            let is_taken = matches!(try_lock(&file, &self.path), Err(TryLockError::WouldBlock));
            if !is_taken && self.leads_to(&name, &file)? {
                let path = self.path.join(&name);
                return Ok((name, Output::new(file, path)));
            }
        }
    }

    /// Removes what was being written in a folder inside when processes were killed.
    pub fn clean(&self, inside: &str) {
        self.remove_temporaries(inside, is_temporary);
    }

    fn remove_temporaries(&self, inside: &str, is_meant: impl Fn(&str) -> bool) {
        for name in self.names(inside).unwrap_or_default().into_iter().filter(|name| is_meant(name)) {
            let name = if inside.is_empty() { name } else { format!("{inside}/{name}") };
            // The lock that tells so is held until the file is gone.
            if let Ok(file) = self.handle.open_or_create(&name, false)
                && is_abandoned(&file, &self.path)
            {
                let _ = self.handle.remove(&name);
            }
        }
    }

    /// Opens a file for reading and writing; one that is not there is made.
    pub(super) fn open_or_create(&self, name: &str) -> io::Result<File> {
        regular::only_regular(self.handle.open_or_create(name, true)?)
    }

    /// Makes a file that is new.
    pub(super) fn create_new(&self, name: &str) -> io::Result<File> {
        self.handle.create_new(name)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// When it cannot be read or is not a regular file.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        regular::only_regular(self.handle.open_file(name)?)
    }

    /// Opens an existing file for a lock: for reading and writing, though nothing is written.
    pub(super) fn open_to_lock(&self, name: &str) -> io::Result<File> {
        regular::only_regular(self.handle.open_or_create(name, false)?)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is not a regular file, or has more than `max` bytes.
    pub fn read(&self, name: &str, max: u64) -> io::Result<Vec<u8>> {
        regular::read_all(self.open_file(name)?, max)
    }

    /// Reads a file of text.
    ///
    /// # Errors
    /// As [`Folder::read`], and when it is not UTF-8.
    pub fn read_text(&self, name: &str, max: u64) -> io::Result<String> {
        regular::text(self.read(name, max)?)
    }

    /// Makes a folder, unless it is there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_folder(&self, name: &str) -> io::Result<()> {
        match self.make_new_folder(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    pub(super) fn make_new_folder(&self, name: &str) -> io::Result<()> {
        self.handle.make_folder(name)
    }

    /// Gives a file another name, which replaces what has it.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        faults::check(&self.path.join(to))?;
        self.handle.rename(from, to)
    }

    /// Gives a file a second name, which is new.
    ///
    /// # Errors
    /// When the name is taken, or the file system has one name for each file.
    pub fn link(&self, from: &str, to: &str) -> io::Result<()> {
        faults::check(&self.path.join(to))?;
        self.handle.link(from, to)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.handle.remove(name)
    }

    /// Removes an empty folder.
    pub(super) fn remove_folder(&self, name: &str) -> io::Result<()> {
        self.handle.remove_folder(name)
    }

    /// Names of everything in a folder inside.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn names(&self, inside: &str) -> io::Result<Vec<String>> {
        self.handle.names(inside)
    }

    /// Makes new names in a folder inside last, after a power cut too.
    ///
    /// # Errors
    /// When they cannot be flushed to disk.
    pub fn sync(&self, inside: &str) -> io::Result<()> {
        faults::check(&self.path.join(inside))?;
        self.handle.sync(inside)
    }

    /// Returns an error about a file, or with an empty name about the folder.
    pub fn error(&self, name: &str, error: &io::Error) -> RecordError {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        RecordError::write(&path, error)
    }
}

#[cfg(unix)]
mod system {
    use std::fs::File;
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    use rustix::fs::{
        AtFlags, Dir, Mode, OFlags, Stat, fstat, linkat, mkdirat, openat, renameat, stat, statat, unlinkat,
    };
    use rustix::io::Errno;

    const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
    const FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);

    #[derive(Clone, Debug)]
    pub struct Handle(Arc<File>);

    fn is_same(one: &Stat, other: &Stat) -> bool {
        (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
    }

    /// What an empty name means for the system.
    fn name_of(inside: &str) -> &str {
        if inside.is_empty() { "." } else { inside }
    }

    impl Handle {
        pub fn open(path: &Path) -> io::Result<Handle> {
            let handle = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())?;
            Ok(Handle(Arc::new(handle.into())))
        }

        fn open_at(&self, name: &str, flags: OFlags) -> io::Result<File> {
            Ok(openat(&*self.0, name, flags | OFlags::CLOEXEC | OFlags::NONBLOCK, FILE_MODE)?.into())
        }

        pub fn inside(&self, name: &str) -> io::Result<Handle> {
            Ok(Handle(Arc::new(self.open_at(name_of(name), OFlags::DIRECTORY | OFlags::RDONLY)?)))
        }

        pub fn is_at(&self, path: &Path) -> io::Result<bool> {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            match (fstat(&*self.0), stat(path)) {
                (Ok(own), Ok(found)) => Ok(is_same(&own, &found)),
                // A server may have deleted it for another client.
                (Err(Errno::STALE), _) | (_, Err(Errno::NOENT | Errno::NOTDIR | Errno::STALE)) => Ok(false),
                (Err(error), _) | (_, Err(error)) => Err(error.into()),
            }
        }

        pub fn leads_to(&self, name: &str, file: &File) -> io::Result<bool> {
            match (fstat(file), statat(&*self.0, name, AtFlags::empty())) {
                (Ok(own), Ok(found)) => Ok(is_same(&own, &found)),
                (Err(Errno::STALE), _) | (_, Err(Errno::NOENT | Errno::STALE)) => Ok(false),
                (Err(error), _) | (_, Err(error)) => Err(error.into()),
            }
        }

        pub fn create_new(&self, name: &str) -> io::Result<File> {
            self.open_at(name, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR)
        }

        pub fn open_or_create(&self, name: &str, may_create: bool) -> io::Result<File> {
            let create = if may_create { OFlags::CREATE } else { OFlags::empty() };
            self.open_at(name, create | OFlags::RDWR)
        }

        pub fn open_file(&self, name: &str) -> io::Result<File> {
            self.open_at(name, OFlags::RDONLY)
        }

        pub fn make_folder(&self, name: &str) -> io::Result<()> {
            Ok(mkdirat(&*self.0, name, FOLDER_MODE)?)
        }

        pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            Ok(renameat(&*self.0, from, &*self.0, to)?)
        }

        pub fn link(&self, from: &str, to: &str) -> io::Result<()> {
            Ok(linkat(&*self.0, from, &*self.0, to, AtFlags::empty())?)
        }

        pub fn remove(&self, name: &str) -> io::Result<()> {
            Ok(unlinkat(&*self.0, name, AtFlags::empty())?)
        }

        pub fn remove_folder(&self, name: &str) -> io::Result<()> {
            Ok(unlinkat(&*self.0, name, AtFlags::REMOVEDIR)?)
        }

        pub fn names(&self, inside: &str) -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in Dir::new(self.open_at(name_of(inside), OFlags::DIRECTORY | OFlags::RDONLY)?)? {
                match entry?.file_name().to_str() {
                    Ok(name) if name != "." && name != ".." => names.push(name.to_string()),
                    _ => {}
                }
            }
            Ok(names)
        }

        pub fn sync(&self, inside: &str) -> io::Result<()> {
            self.open_at(name_of(inside), OFlags::DIRECTORY | OFlags::RDONLY)?.sync_all()
        }
    }
}

/// Elsewhere a folder cannot be moved while files in it are open, so that its path is enough.
#[cfg(not(unix))]
mod system {
    use std::fs::{self, File};
    use std::io;
    use std::path::{Path, PathBuf};

    #[derive(Clone, Debug)]
    pub struct Handle(PathBuf);

    impl Handle {
        pub fn open(path: &Path) -> io::Result<Handle> {
            match fs::metadata(path)?.is_dir() {
                true => Ok(Handle(path.to_path_buf())),
                false => Err(io::ErrorKind::NotADirectory.into()),
            }
        }

        pub fn inside(&self, name: &str) -> io::Result<Handle> {
            Handle::open(&self.0.join(name))
        }

        pub fn is_at(&self, path: &Path) -> io::Result<bool> {
            Ok(path.is_dir())
        }

        pub fn leads_to(&self, name: &str, _: &File) -> io::Result<bool> {
            Ok(self.0.join(name).exists())
        }

        pub fn create_new(&self, name: &str) -> io::Result<File> {
            File::options().read(true).write(true).create_new(true).open(self.0.join(name))
        }

        pub fn open_or_create(&self, name: &str, may_create: bool) -> io::Result<File> {
            let mut options = File::options();
            options.read(true).write(true).create(may_create).truncate(false).open(self.0.join(name))
        }

        pub fn open_file(&self, name: &str) -> io::Result<File> {
            File::open(self.0.join(name))
        }

        pub fn make_folder(&self, name: &str) -> io::Result<()> {
            fs::create_dir(self.0.join(name))
        }

        pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            fs::rename(self.0.join(from), self.0.join(to))
        }

        pub fn link(&self, from: &str, to: &str) -> io::Result<()> {
            fs::hard_link(self.0.join(from), self.0.join(to))
        }

        pub fn remove(&self, name: &str) -> io::Result<()> {
            fs::remove_file(self.0.join(name))
        }

        pub fn remove_folder(&self, name: &str) -> io::Result<()> {
            fs::remove_dir(self.0.join(name))
        }

        pub fn names(&self, inside: &str) -> io::Result<Vec<String>> {
            let entries = fs::read_dir(self.0.join(inside))?;
            let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name().into_string().ok())).collect();
            Ok(names?.into_iter().flatten().collect())
        }

        pub fn sync(&self, _: &str) -> io::Result<()> {
            Ok(())
        }
    }
}
