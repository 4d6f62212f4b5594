//! Lock files: locked where the file system has locks, else held by a second file that is rewritten as long as its
//! process lives.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use super::files::{random, temporary_name};
use super::{Folder, RecordError, faults};

/// Ends the name of the second file.
pub(super) const HELD: &str = ".held";

/// Time between two attempts to get a lock that another process holds.
const LOOK: Duration = Duration::from_millis(5);

/// The same where the file has to be read, from a server perhaps.
const LOOK_AT_LEASE: Duration = Duration::from_millis(30);

/// Time between two writes of the second file, and that without one after which its process is taken for dead.
const BEAT: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(10);

/// Age from which a file that cannot be locked counts as abandoned.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Maximum bytes to read of the file that names the holder of a lock.
const HOLDER_MAX: u64 = 4096;

/// Who holds a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The process's number, where it can be known.
    pub pid: Option<u32>,
    /// The machine's name, where it is not this one.
    pub host: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}")?,
            None => f.write_str("another process")?,
        }
        self.host.iter().try_for_each(|host| write!(f, " on {host}"))
    }
}

impl Holder {
    /// Reads what [`own_name`] writes.
    fn of(text: &str) -> Holder {
        let mut words = text.split_whitespace();
        let pid = words.next().and_then(|word| word.parse().ok());
        let host = words.next().filter(|host| *host != host_name()).map(str::to_string);
        Holder { pid, host }
    }
}

/// Why a lock was not taken.
pub(super) enum Refused {
    /// Another process has it.
    Busy(Holder),
    /// Its file cannot be written.
    Failed(RecordError),
}

/// A lock that this process has; it ends with the value, or with the process.
#[derive(Debug)]
pub(super) struct Lock {
    folder: Folder,
    name: &'static str,
    file: File,
    lease: Option<Lease>,
    is_passing: bool,
}

impl Lock {
    /// Takes a lock for a long time; its file stays afterwards.
    pub fn take(folder: &Folder, name: &'static str, patience: Duration) -> Result<Lock, Refused> {
        Lock::take_within(folder, name, patience, [BEAT, SILENCE])
    }

    /// Takes a lock for a short time; its file is removed afterwards.
    pub fn take_passing(folder: &Folder, name: &'static str, patience: Duration) -> Result<Lock, Refused> {
        let mut lock = Lock::take(folder, name, patience)?;
        lock.is_passing = true;
        Ok(lock)
    }

    fn take_within(
        folder: &Folder,
        name: &'static str,
        patience: Duration,
        [beat, silence]: [Duration; 2],
    ) -> Result<Lock, Refused> {
        let failed = |error: io::Error| Refused::Failed(folder.error(name, &error));
        let start = Instant::now();
        loop {
            let mut file = folder.open_or_create(name).map_err(failed)?;
            match try_lock(&file, folder.path()) {
                Ok(()) => {
                    // Who had it before may have removed the file.
                    if !folder.leads_to(name, &file).map_err(failed)? {
                        continue;
                    }
                    // For others to read; on a full disk it cannot be noted.
                    let _ = file.set_len(0).and_then(|()| file.write_all(own_name().as_bytes()));
                    return Ok(Lock { folder: folder.clone(), name, file, lease: None, is_passing: false });
                }
                Err(TryLockError::WouldBlock) if start.elapsed() >= patience => {
                    return Err(Refused::Busy(Holder::of(&read_text(&file))));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(LOOK),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(_)) => {
                    let lease = Lease::take(folder, &format!("{name}{HELD}"), [patience, beat, silence])?;
                    return Ok(Lock { folder: folder.clone(), name, file, lease: Some(lease), is_passing: false });
                }
            }
        }
    }

    /// Whether the lock is still this process's: its file may have been removed, or taken over.
    pub fn is_held(&self) -> io::Result<bool> {
        Ok(self.folder.leads_to(self.name, &self.file)? && self.lease.as_ref().is_none_or(Lease::is_held))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked: who waits for it looks whether it is still there.
        if self.is_passing {
            let _ = self.folder.remove(self.name);
        }
    }
}

/// A file that is rewritten again and again, where files cannot be locked.
#[derive(Debug)]
struct Lease {
    folder: Folder,
    name: String,
    owner: String,
    /// Ends the thread when it is dropped.
    end: Option<Sender<()>>,
    beating: Option<JoinHandle<()>>,
}

impl Lease {
    fn take(folder: &Folder, name: &str, [patience, beat, silence]: [Duration; 3]) -> Result<Lease, Refused> {
        let failed = |error: io::Error| Refused::Failed(folder.error(name, &error));
        let start = Instant::now();
        // The content of another process's file, and since when it is unchanged.
        let mut seen: Option<(Vec<u8>, Instant)> = None;
        let mut is_alive = false;
        loop {
            match folder.create_new(name) {
                Ok(file) => return Lease::start(folder, name, file, beat).map_err(failed),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                Err(_) => {}
            }
            let found = match folder.read(name, HOLDER_MAX) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                found => found.map_err(failed)?,
            };
            match &seen {
                Some((text, since)) if *text == found => {
                    if since.elapsed() >= silence {
                        take_away(folder, name, text).map_err(failed)?;
                        seen = None;
                    }
                }
                _ => {
                    is_alive |= seen.is_some();
                    seen = Some((found, Instant::now()));
                }
            }
            if is_alive && start.elapsed() >= patience {
                let text = seen.map_or_else(Vec::new, |(text, _)| text);
                return Err(Refused::Busy(Holder::of(&String::from_utf8_lossy(&text))));
            }
            thread::sleep(LOOK_AT_LEASE);
        }
    }

    fn start(folder: &Folder, name: &str, mut file: File, beat: Duration) -> io::Result<Lease> {
        let owner = format!("{} {:016x}", own_name().trim_end(), random());
        let text = owner.clone();
        // All of one length, so that each takes the place of the one before.
        let mut write = move |number: u64| {
            file.rewind()?;
            file.write_all(format!("{text} {number:020}\n").as_bytes())?;
            // Where a server keeps the file, others see only what was brought there.
            file.sync_data()
        };
        write(0)?;
        let (end, ended) = channel::<()>();
        let beats = move || {
            let mut number = 0;
            while ended.recv_timeout(beat) == Err(RecvTimeoutError::Timeout) {
                number += 1;
                // One that cannot be written is late, as on a full disk; another process takes over only after several.
                let _ = write(number);
            }
        };
        let beating = thread::Builder::new().name("claim".to_string()).spawn(beats)?;
        Ok(Lease { folder: folder.clone(), name: name.to_string(), owner, end: Some(end), beating: Some(beating) })
    }

    fn is_held(&self) -> bool {
        self.folder.read(&self.name, HOLDER_MAX).is_ok_and(|text| text.starts_with(self.owner.as_bytes()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.beating.take().map(JoinHandle::join);
        if self.is_held() {
            let _ = self.folder.remove(&self.name);
        }
    }
}

/// Removes the second file of a process that has not written it for long, unless it is now that of another one.
fn take_away(folder: &Folder, name: &str, text: &[u8]) -> io::Result<()> {
    let aside = temporary_name(name);
    match folder.rename(name, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    if folder.read(&aside, HOLDER_MAX)? != text {
        // A process that created a new one at this moment keeps it, or notices that it is gone.
        let _ = folder.link(&aside, name);
    }
    folder.remove(&aside)
}

/// Whether a process holds a lock now; where files cannot be locked, whether its second file is rewritten.
pub(super) fn is_taken(folder: &Folder, name: &str) -> bool {
    is_taken_by(folder, name, [BEAT, SILENCE])
}

fn is_taken_by(folder: &Folder, name: &str, [beat, silence]: [Duration; 2]) -> bool {
    // Some network drives lock only files that may be written to.
    let Ok(file) = folder.open_to_lock(name).or_else(|_| folder.open_file(name)) else { return false };
    match try_lock(&file, folder.path()) {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(_)) => {
            let held = format!("{name}{HELD}");
            let written = folder.open_file(&held).and_then(|file| file.metadata()).and_then(|file| file.modified());
            let Ok(written) = written else { return false };
            // The time is that of another machine's clock, which may be ahead or behind. So it only shortens the wait: of what
            // is neither new nor very old, another look shows whether it is rewritten.
            let now = SystemTime::now();
            let apart = now.duration_since(written).unwrap_or_else(|ahead| ahead.duration());
            let text = || folder.read(&held, HOLDER_MAX).ok();
            let is_rewritten = || {
                let before = text();
                thread::sleep(2 * beat);
                before.is_some() && before != text()
            };
            apart < silence || (apart < ABANDONED && is_rewritten())
        }
    }
}

/// Tries to lock a file below a folder.
pub(super) fn try_lock(file: &File, folder: &Path) -> Result<(), TryLockError> {
    faults::check_lock(folder).map_err(TryLockError::Error)?;
    file.try_lock()
}

/// Whether no process writes a file any more. Writers lock their files; where files cannot be locked, the age decides.
/// Locks the file if possible.
pub(super) fn is_abandoned(file: &File, folder: &Path) -> bool {
    match try_lock(file, folder) {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => {
            let modified = file.metadata().and_then(|file| file.modified());
            modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age >= ABANDONED))
        }
    }
}

fn read_text(file: &File) -> String {
    let mut text = String::new();
    // Who cannot be named is another process all the same.
    let _ = file.take(HOLDER_MAX).read_to_string(&mut text);
    text
}

/// What is written into a file by its holder: the process's number and the machine's name.
fn own_name() -> String {
    format!("{} {}\n", std::process::id(), host_name())
}

#[cfg(unix)]
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.split_whitespace().collect()
}

#[cfg(not(unix))]
fn host_name() -> String {
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Faults;

    const NAME: &str = ".lock";
    const TIMES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(400)];

    fn take(folder: &Folder) -> Result<Lock, Refused> {
        Lock::take_within(folder, NAME, Duration::ZERO, TIMES)
    }

    fn is_busy(refused: Result<Lock, Refused>) -> bool {
        let Err(Refused::Busy(holder)) = refused else { return false };
        holder == Holder { pid: Some(std::process::id()), host: None }
    }

    #[test]
    fn a_lock_is_one_process_s_with_and_without_locks_of_the_system() {
        for has_locks in [true, false] {
            let root = tempfile::tempdir().unwrap();
            let folder = Folder::open(root.path()).unwrap();
            let _faults = (!has_locks).then(|| Faults::without_locks(root.path()));
            let lock = take(&folder).ok().unwrap();
            assert!(is_busy(take(&folder)), "{has_locks}");
            assert!(lock.is_held().unwrap());
            assert_eq!(root.path().join(".lock.held").exists(), !has_locks);
            drop(lock);
            let lock = take(&folder).ok().unwrap();
            std::fs::remove_file(root.path().join(NAME)).unwrap();
            assert!(!lock.is_held().unwrap(), "its file was removed");
        }
    }

    #[test]
    fn without_locks_the_place_of_a_dead_process_is_taken_and_one_that_was_only_asleep_sees_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let _faults = Faults::without_locks(root.path());
        let mut asleep = take(&folder).ok().unwrap();
        drop(asleep.lease.as_mut().unwrap().end.take());
        let clock = Instant::now();
        let awake = take(&folder).ok().unwrap();
        assert!(clock.elapsed() >= TIMES[1]);
        assert_eq!((asleep.is_held().unwrap(), awake.is_held().unwrap()), (false, true));
        drop(asleep);
        assert!(awake.is_held().unwrap(), "the file is no more the one that it made");
    }

    #[test]
    fn without_locks_a_process_is_seen_whatever_the_clock_of_its_machine_says() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let _faults = Faults::without_locks(root.path());
        let held = root.path().join(".lock.held");
        let is_taken_at = |time: SystemTime| {
            File::options().write(true).open(&held).unwrap().set_modified(time).unwrap();
            is_taken_by(&folder, NAME, TIMES)
        };
        let hour = Duration::from_secs(3600);
        let times = [SystemTime::now() - hour, SystemTime::now() + hour];
        let mut lock = take(&folder).ok().unwrap();
        assert_eq!(times.map(is_taken_at), [true; 2], "it is rewritten");
        // As after a kill.
        drop(lock.lease.as_mut().unwrap().end.take());
        lock.lease.as_mut().unwrap().beating.take().unwrap().join().unwrap();
        assert_eq!(times.map(is_taken_at), [false; 2]);
        assert!(is_taken_at(SystemTime::now()), "it may have been killed a moment ago");
    }

    #[test]
    fn a_lock_for_a_moment_leaves_nothing_and_excludes_all_the_same() {
        for has_locks in [true, false] {
            let root = tempfile::tempdir().unwrap();
            let _faults = (!has_locks).then(|| Faults::without_locks(root.path()));
            let folder = Folder::open(root.path()).unwrap();
            let path = root.path().join("count");
            std::fs::write(&path, "0").unwrap();
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        for _ in 0..7 {
                            let _lock = Lock::take_passing(&folder, NAME, Duration::from_secs(60))
                                .ok()
                                .expect("it is free soon");
                            let count: u32 = std::fs::read_to_string(&path).unwrap().parse().unwrap();
                            thread::sleep(Duration::from_millis(1));
                            std::fs::write(&path, (count + 1).to_string()).unwrap();
                        }
                    });
                }
            });
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "21", "{has_locks}");
            assert_eq!(folder.names("").unwrap(), ["count"], "{has_locks}");
        }
    }

    #[test]
    fn a_file_that_is_being_written_is_not_abandoned() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.tmp");
        let file = File::create(&path).unwrap();
        file.lock().unwrap();
        let other = || File::options().write(true).open(&path).unwrap();
        assert!(!is_abandoned(&other(), root.path()));
        drop(file);
        assert!(is_abandoned(&other(), root.path()));
        let _faults = Faults::without_locks(root.path());
        assert!(!is_abandoned(&other(), root.path()), "it is new");
        other().set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
        assert!(is_abandoned(&other(), root.path()));
    }
}
