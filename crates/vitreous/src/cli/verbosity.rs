//! How much is printed: `-q`, `-v` and `--json`, set once when the command line is read.

use std::sync::OnceLock;

use clap::Args;

use super::screen;

/// How much is printed to stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// Progress and notes too.
    Normal,
    /// Details too.
    Verbose,
}

/// Flags that every verb has.
#[derive(Args)]
pub struct VerbosityArgs {
    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print details: what differs from the preset, threads, files, and the time of each part
    #[arg(short, long, global = true)]
    verbose: bool,
}

static CHOSEN: OnceLock<Verbosity> = OnceLock::new();

impl VerbosityArgs {
    /// Makes the choice that [`verbosity`] returns from now on. With `--json`, a program reads stderr too, unless it is a
    /// terminal: it gets an error as JSON, or nothing.
    pub fn apply(&self, is_json: bool) {
        let is_quiet = self.quiet || (is_json && screen::stderr_columns().is_none());
        let chosen = match (is_quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        };
        let _ = CHOSEN.set(chosen);
    }
}

/// What is printed of a text beyond the results, such as the next commands: nothing where only results are wanted.
pub fn beyond_results(text: String) -> String {
    if verbosity() == Verbosity::Quiet { String::new() } else { text }
}

/// Returns how much is printed.
pub fn verbosity() -> Verbosity {
    CHOSEN.get().copied().unwrap_or(Verbosity::Normal)
}
