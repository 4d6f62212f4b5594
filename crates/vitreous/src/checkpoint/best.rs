//! The best weights that belong to a checkpoint: it refers, by SHA-256, to the file that was the best when it was
//! taken.
//!
//! Weights are written before the checkpoint that refers to them, and the checkpoint may not fit on the disk. So
//! replaced best weights stay in `state/` under their SHA-256 as long as a checkpoint on the disk refers to them, and a
//! resumed run restores the weights that its checkpoint refers to. Everything later is computed again.

use std::collections::BTreeSet;
use std::io;

use serde::{Deserialize, Serialize};

use super::state::{STATE, named_best, numbers_in};
use super::{SavedState, StateError, length};
use crate::record::{Folder, RecordError, Run, Weights, sha256_of_file};

/// Extension of replaced best weights in `state/`.
const ASIDE: &str = "best";

/// The best weights that a checkpoint refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BestWeights {
    /// No best weights existed.
    None,
    /// SHA-256 of their file.
    Sha256(String),
}

impl BestWeights {
    /// Reads a run's best weights on disk.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn of(run: &Folder) -> Result<BestWeights, RecordError> {
        BestWeights::look(run).map_err(|error| cannot_read(run, &error))
    }

    fn look(run: &Folder) -> io::Result<BestWeights> {
        match sha256_of_weights(run, &Run::weights_file(Weights::Best)) {
            Ok(sha256) => Ok(BestWeights::Sha256(sha256)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BestWeights::None),
            Err(error) => Err(error),
        }
    }

    /// Copies these weights, which are about to be replaced, to `state/` if a checkpoint refers to them.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn set_aside(&self, run: &Folder) -> Result<(), RecordError> {
        let BestWeights::Sha256(sha256) = self else { return Ok(()) };
        if named(run).is_some_and(|named| !named.contains(sha256)) {
            return Ok(());
        }
        let (from, to) = (Run::weights_file(Weights::Best), aside(sha256));
        match run.link(&from, &to) {
            Ok(()) => run.sync(STATE).map_err(|error| run.error(&to, &error)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // The file system may not support hard links.
            Err(_) => match run.open_file(&from) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(run.error(&from, &error)),
                Ok(mut file) => run.replace(&to, |out| io::copy(&mut file, out).map(drop)).map(drop),
            },
        }
    }

    /// Restores the best weights that a run's checkpoint refers to; without a checkpoint, removes them.
    ///
    /// # Errors
    /// When the file is missing or cannot be restored.
    pub fn go_back(run: &Folder, state: Option<&SavedState>) -> Result<(), StateError> {
        // Checkpoints of earlier versions do not refer to any.
        let Some(wanted) = state.map_or(Some(&BestWeights::None), SavedState::best) else { return Ok(()) };
        let name = Run::weights_file(Weights::Best);
        match BestWeights::look(run) {
            Ok(found) if found == *wanted => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(cannot_read(run, &error).into()),
            // Other weights, or damaged ones.
            _ => {}
        }
        let done = match wanted {
            BestWeights::None => run.remove(&name),
            BestWeights::Sha256(sha256) => {
                let from = aside(sha256);
                if !sha256_of_weights(run, &from).is_ok_and(|found| found == *sha256) {
                    return Err(StateError::LostBest { path: run.path().join(name) });
                }
                run.rename(&from, &name).and_then(|()| run.sync("weights"))
            }
        };
        Ok(done.map_err(|error| run.error(&name, &error))?)
    }
}

/// Removes replaced best weights to which no checkpoint refers any more.
pub(super) fn forget_unnamed(run: &Folder) {
    let (Some(named), Ok(names)) = (named(run), run.names(STATE)) else { return };
    let sums = names.iter().filter_map(|name| name.strip_suffix(ASIDE)?.strip_suffix('.'));
    for sha256 in sums.filter(|sha256| !named.contains(*sha256)) {
        let _ = run.remove(&aside(sha256));
    }
}

/// The best weights to which the checkpoints on disk refer; `None` if a checkpoint cannot be read.
fn named(run: &Folder) -> Option<BTreeSet<String>> {
    let numbers = match numbers_in(run) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(BTreeSet::new()),
        numbers => numbers.ok()?,
    };
    let mut named = BTreeSet::new();
    for (number, _) in numbers.into_iter().filter(|(_, is_whole)| *is_whole) {
        if let Some(BestWeights::Sha256(sha256)) = named_best(run, number).ok()? {
            named.insert(sha256);
        }
    }
    Some(named)
}

/// Returns the SHA-256 of a weights file that is as long as its header says.
fn sha256_of_weights(run: &Folder, name: &str) -> io::Result<String> {
    let mut file = run.open_file(name)?;
    length::check(&mut file)?;
    sha256_of_file(file)
}

fn cannot_read(run: &Folder, error: &io::Error) -> RecordError {
    RecordError::read(&run.path().join(Run::weights_file(Weights::Best)), error)
}

fn aside(sha256: &str) -> String {
    format!("{STATE}/{sha256}.{ASIDE}")
}

#[cfg(test)]
mod tests {
    use vitreous_engine::Graph;

    use super::super::{State, find_state, forget_all_but};
    use super::*;
    use crate::record::{Faults, JournalLengths, sha256_of_bytes};

    const BEST: &str = "weights/best.safetensors";

    fn save_state(run: &Folder) -> SavedState {
        let best = BestWeights::of(run).unwrap();
        let state = State::new(&Graph::new(), 7, JournalLengths::default(), serde_json::json!({}), best, &[]);
        state.save(run).unwrap();
        find_state(run).state.unwrap()
    }

    /// A file without tensors whose metadata holds a text.
    fn file(text: &str) -> Vec<u8> {
        let header = format!(r#"{{"__metadata__":{{"text":"{text}"}}}}"#);
        [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
    }

    fn replace_best(run: &Folder, text: &str) {
        BestWeights::of(run).unwrap().set_aside(run).unwrap();
        run.write(BEST, &file(text)).unwrap();
    }

    fn asides(run: &Folder) -> usize {
        run.names(STATE).unwrap().iter().filter(|name| name.ends_with(".best")).count()
    }

    #[test]
    fn a_state_gets_back_its_best_weights_with_and_without_second_names() {
        for has_links in [true, false] {
            let root = tempfile::tempdir().unwrap();
            let run = Folder::open(root.path()).unwrap();
            run.make_folder("weights").unwrap();
            let none = save_state(&run);
            replace_best(&run, "first");
            assert_eq!(asides(&run), 0);
            let first = save_state(&run);
            let kept = root.path().join(aside(&sha256_of_bytes(&file("first"))));
            let _fails_once = (!has_links).then(|| Faults::new(&kept, 0..1));
            ["second", "third", "fourth"].iter().for_each(|text| replace_best(&run, text));
            assert_eq!(asides(&run), 1, "no state names the second and the third");
            BestWeights::go_back(&run, Some(&first)).unwrap();
            assert_eq!(run.read(BEST, 99).unwrap(), file("first"));
            BestWeights::go_back(&run, Some(&none)).unwrap();
            assert_eq!(BestWeights::of(&run).unwrap(), BestWeights::None);
        }
    }

    #[test]
    fn what_no_state_names_any_more_goes_and_what_one_names_is_missed() {
        let root = tempfile::tempdir().unwrap();
        let run = Folder::open(root.path()).unwrap();
        run.make_folder("weights").unwrap();
        run.write(BEST, &file("first")).unwrap();
        save_state(&run);
        replace_best(&run, "second");
        let second = save_state(&run);
        assert_eq!(asides(&run), 1);
        forget_all_but(&run, 1);
        assert_eq!(asides(&run), 0);
        // A sparse file that would take hours to hash.
        let path = root.path().join(BEST);
        std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 43).unwrap();
        let error = BestWeights::of(&run).unwrap_err().to_string();
        assert!(error.starts_with("cannot read: the header promises another size than "), "{error}");
        run.write(BEST, &file("second")).unwrap();
        BestWeights::go_back(&run, Some(&second)).unwrap();
        run.write(BEST, &file("by hand")).unwrap();
        let error = BestWeights::go_back(&run, Some(&second)).unwrap_err().to_string();
        let expected = "the best weights are not those of the checkpoint, which are missing (";
        assert!(error.starts_with(expected) && error.ends_with("weights/best.safetensors)"), "{error}");
        BestWeights::go_back(&run, None).unwrap();
        assert_eq!(BestWeights::of(&run).unwrap(), BestWeights::None, "a run that starts again has no best weights");
    }
}
