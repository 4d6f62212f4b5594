//! Errors as data: what is wrong, the key and the place it is about, and what to do, made of parts.
//!
//! A module names keys of the config, arguments and commands; only `cli` turns these into flags and shell text, because
//! only it knows which flags the command has. [`Suggestion`]'s `Display` is for programs that use the library: it writes
//! keys.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::{numbers, spelling};

/// An error that says what is wrong (its `Display`), where, and what to do about it.
pub trait Explain: fmt::Display {
    /// The config key that the error is about, as `table.key`.
    fn key(&self) -> Option<String> {
        None
    }

    /// Where the fault is.
    fn place(&self) -> Option<Place> {
        None
    }

    /// What to do about it.
    fn suggestion(&self) -> Option<Suggestion> {
        None
    }

    /// The suggestion as text, with the names of keys.
    fn hint(&self) -> Option<String> {
        self.suggestion().map(|suggestion| suggestion.to_string())
    }

    /// Whose fault it is, which decides the exit status.
    fn fault(&self) -> Fault {
        Fault::Input
    }
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The user's input: the same command fails again.
    Input,
    /// Something failed while working: the same command may succeed later.
    Work,
}

/// Where a fault is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file or folder.
    Path(PathBuf),
    /// A line of a file, counted from 1.
    Line(String, usize),
    /// A config: who wrote the value, and in which table.
    Config(Source, Option<String>),
    /// An argument of the program. It is not in the error's `Display`: `cli` adds it.
    Argument(Argument),
}

/// Who wrote a value of a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The default.
    Default,
    /// The preset of this name.
    Preset(String),
    /// The file of this path.
    File(String),
    /// An argument or environment variable; the name is the one that `cli` gave.
    Argument(String),
}

/// What to do about an error: one way, or several of which any will do.
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    ways: Vec<Vec<Part>>,
}

/// A remark with what to do about it; only `cli` writes the latter.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// The remark.
    pub what: String,
    /// What to do, where there is something.
    pub suggestion: Option<Suggestion>,
}

/// A part of a way.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// The verb "use", which is written once for several ways.
    Use,
    /// Plain text.
    Text(String),
    /// A config key, named without a value.
    Key(String),
    /// A config key with a value.
    Set(String, Value),
    /// Give a config key no value.
    Unset(String),
    /// An argument that is not a config key, with or without a value.
    Argument(Argument, Option<Value>),
    /// A command.
    Run(Command),
    /// Add a file or folder.
    Add(PathBuf),
    /// Remove a file or folder.
    Remove(PathBuf),
    /// The name of a file or folder.
    Path(PathBuf),
}

/// A value in a suggestion.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// As configs have them.
    Toml(toml::Value),
    /// A path, which need not be Unicode.
    Path(PathBuf),
}

/// A command line of this program.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// What it does.
    pub verb: Verb,
    /// Its operands, such as a run folder.
    pub operands: Vec<Value>,
    /// Keys and arguments.
    pub options: Vec<Part>,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are the program's verbs")]
pub enum Verb {
    Train,
    Evaluate,
    Predict,
    Compare,
    Sweep,
    Runs,
    Summary,
    Profile,
    Fetch,
    Show,
}

/// An argument of the program that is not a config key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they have the names of the program's flags")]
pub enum Argument {
    Against,
    Budget,
    By,
    Config,
    Evaluate,
    Force,
    Format,
    Jobs,
    Keep,
    MaxParams,
    Mirror,
    Model,
    Name,
    Out,
    Partial,
    Preset,
    Resume,
    Rules,
    Run,
    Seeds,
    Set,
    SetEach,
    Sort,
    Split,
    TestWinner,
    Weights,
}

impl Note {
    /// A remark alone.
    pub fn new(what: impl Into<String>) -> Self {
        Note { what: what.into(), suggestion: None }
    }

    /// Adds what to do.
    pub fn suggest(self, suggestion: Suggestion) -> Self {
        Note { suggestion: Some(suggestion), ..self }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Serialize for Note {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Argument {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Argument::Against => "against",
            Argument::Budget => "budget",
            Argument::By => "by",
            Argument::Config => "config",
            Argument::Evaluate => "evaluate",
            Argument::Force => "force",
            Argument::Format => "format",
            Argument::Jobs => "jobs",
            Argument::Keep => "keep",
            Argument::MaxParams => "max-params",
            Argument::Mirror => "mirror",
            Argument::Model => "model",
            Argument::Name => "name",
            Argument::Out => "out",
            Argument::Partial => "partial",
            Argument::Preset => "preset",
            Argument::Resume => "resume",
            Argument::Rules => "rules",
            Argument::Run => "run",
            Argument::Seeds => "seeds",
            Argument::Set => "set",
            Argument::SetEach => "set-each",
            Argument::Sort => "sort",
            Argument::Split => "split",
            Argument::TestWinner => "test-winner",
            Argument::Weights => "weights",
        }
    }
}

impl Verb {
    /// Its words on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Train => "train",
            Verb::Evaluate => "evaluate",
            Verb::Predict => "predict",
            Verb::Compare => "compare",
            Verb::Sweep => "sweep",
            Verb::Runs => "runs",
            Verb::Summary => "summary",
            Verb::Profile => "profile",
            Verb::Fetch => "data fetch",
            Verb::Show => "data show",
        }
    }
}

/// Suggestions are built part by part: `Suggestion::new().set("train.warmup_epochs", 0).text("for no warm-up")`. Parts
/// are joined by blanks, except before a text that starts with punctuation.
impl Suggestion {
    /// Starts a suggestion.
    #[allow(clippy::new_without_default, reason = "an empty suggestion is only the start of one")]
    pub fn new() -> Self {
        Suggestion { ways: vec![Vec::new()] }
    }

    /// Starts another way.
    pub fn or(mut self) -> Self {
        self.ways.push(Vec::new());
        self
    }

    /// Adds plain text.
    pub fn text(self, text: impl Into<String>) -> Self {
        self.part(Part::Text(text.into()))
    }

    /// Starts a way with "use" and a text, such as "a smaller"; several such ways share the verb.
    pub fn using(self, text: impl Into<String>) -> Self {
        self.part(Part::Use).text(text)
    }

    /// Names a config key, as `table.key`.
    pub fn key(self, key: &str) -> Self {
        self.part(Part::Key(key.to_string()))
    }

    /// Gives a config key a value; a way that starts with this starts with "use".
    pub fn set(self, key: &str, value: impl Into<Value>) -> Self {
        self.starting_with_use().part(Part::Set(key.to_string(), value.into()))
    }

    /// Gives a config key no value.
    pub fn unset(self, key: &str) -> Self {
        self.part(Part::Unset(key.to_string()))
    }

    /// Names an argument.
    pub fn argument(self, argument: Argument) -> Self {
        self.part(Part::Argument(argument, None))
    }

    /// Gives an argument a value; a way that starts with this starts with "use".
    pub fn with(self, argument: Argument, value: impl Into<Value>) -> Self {
        self.starting_with_use().part(Part::Argument(argument, Some(value.into())))
    }

    /// Adds a command.
    pub fn run(self, command: Command) -> Self {
        self.part(Part::Run(command))
    }

    /// Adds "add FILE".
    pub fn add_file(self, path: impl Into<PathBuf>) -> Self {
        self.part(Part::Add(path.into()))
    }

    /// Adds "remove FILE".
    pub fn remove_file(self, path: impl Into<PathBuf>) -> Self {
        self.part(Part::Remove(path.into()))
    }

    /// Adds the name of a file or folder.
    pub fn path(self, path: impl Into<PathBuf>) -> Self {
        self.part(Part::Path(path.into()))
    }

    /// "did you mean `word`?" where a word is near, else what is there.
    pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, list: &str) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        match spelling::nearest(word, known.iter().copied()) {
            Some(near) => Suggestion::new().text(format!("did you mean `{near}`?")),
            None => Suggestion::new().text(format!("{list} {}", known.join(", "))),
        }
    }

    /// The ways, each as its parts.
    pub fn ways(&self) -> impl Iterator<Item = &[Part]> {
        self.ways.iter().map(Vec::as_slice)
    }

    /// Writes the suggestion; `word` writes keys, arguments and commands, and returns nothing where there is no way to
    /// write one. A way with such a part is left out, unless all are: then [`plain`] writes them.
    pub fn render(&self, word: impl Fn(&Part) -> Option<String>) -> String {
        self.render_some(word).or_else(|| self.render_some(plain)).unwrap_or_default()
    }

    /// As [`Suggestion::render`], but returns nothing where all ways are left out.
    pub fn render_some(&self, word: impl Fn(&Part) -> Option<String>) -> Option<String> {
        let ways: Vec<_> = self.ways.iter().filter_map(|way| written(way, &word)).collect();
        let mut out = String::new();
        for (at, (starts_with_use, text)) in ways.iter().enumerate() {
            match at {
                0 => {}
                _ if at + 1 == ways.len() => out.push_str(", or "),
                _ => out.push_str(", "),
            }
            if *starts_with_use && (at == 0 || !ways[at - 1].0) {
                out.push_str("use ");
            }
            out.push_str(text);
        }
        (!ways.is_empty()).then_some(out)
    }

    fn part(mut self, part: Part) -> Self {
        if let Some(way) = self.ways.last_mut() {
            way.push(part);
        }
        self
    }

    fn starting_with_use(self) -> Self {
        if self.ways.last().is_some_and(Vec::is_empty) { self.part(Part::Use) } else { self }
    }
}

/// Writes one way, and says whether it starts with "use".
fn written(way: &[Part], word: impl Fn(&Part) -> Option<String>) -> Option<(bool, String)> {
    let starts_with_use = way.first() == Some(&Part::Use);
    let mut out = String::new();
    for part in &way[usize::from(starts_with_use)..] {
        let text = match part {
            Part::Text(_) | Part::Add(_) | Part::Remove(_) | Part::Path(_) => plain(part)?,
            _ => word(part)?,
        };
        let is_attached = matches!(part, Part::Text(text) if text.starts_with([',', ';', ':', '.', ')', '?']));
        if !out.is_empty() && !is_attached {
            out.push(' ');
        }
        out.push_str(&text);
    }
    Some((starts_with_use, out))
}

/// Writes a part as programs that use the library know it: keys and names.
pub fn plain(part: &Part) -> Option<String> {
    Some(match part {
        Part::Use => "use".to_string(),
        Part::Text(text) => text.clone(),
        Part::Key(key) => key.clone(),
        Part::Set(key, value) => format!("{key} = {value}"),
        Part::Unset(key) => format!("remove {key}"),
        Part::Argument(argument, None) => argument.name().to_string(),
        Part::Argument(argument, Some(value)) => format!("{} = {value}", argument.name()),
        Part::Run(Command { verb, operands, options }) => {
            let operands = operands.iter().map(Value::to_string);
            let options = options.iter().filter_map(plain);
            [verb.name().to_string()].into_iter().chain(operands).chain(options).collect::<Vec<_>>().join(" ")
        }
        Part::Add(path) => format!("add {}", path.display()),
        Part::Remove(path) => format!("remove {}", path.display()),
        Part::Path(path) => path.display().to_string(),
    })
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(plain))
    }
}

impl Serialize for Suggestion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Command {
    /// A command without arguments.
    pub fn new(verb: Verb) -> Self {
        Command { verb, operands: Vec::new(), options: Vec::new() }
    }

    /// The command that resumes a run.
    pub fn resume(run: &Path) -> Self {
        Command::new(Verb::Train).with(Argument::Resume, run)
    }

    /// Adds an operand.
    pub fn operand(mut self, operand: impl Into<Value>) -> Self {
        self.operands.push(operand.into());
        self
    }

    /// Adds a config key.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.options.push(Part::Set(key.to_string(), value.into()));
        self
    }

    /// Adds an argument.
    pub fn with(mut self, argument: Argument, value: impl Into<Value>) -> Self {
        self.options.push(Part::Argument(argument, Some(value.into())));
        self
    }
}

impl fmt::Display for Value {
    /// As TOML has it, with numbers as short as they can be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Toml(toml::Value::Float(number)) => f.write_str(&numbers::number(*number)),
            Value::Toml(value) => value.fmt(f),
            Value::Path(path) => path.display().fmt(f),
        }
    }
}

macro_rules! toml_values {
    ($($value:ty),* $(,)?) => {
        $(impl From<$value> for Value {
            fn from(value: $value) -> Self {
                Value::Toml(value.into())
            }
        })*
    };
}

toml_values!(bool, i32, i64, u32, f64, &str, String, toml::Value, Vec<f64>, Vec<i64>, Vec<String>);

/// Sizes and counts; a hint never suggests one that TOML cannot represent.
impl From<usize> for Value {
    fn from(value: usize) -> Self {
        (value as u64).into()
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        i64::try_from(value).unwrap_or(i64::MAX).into()
    }
}

impl From<&Path> for Value {
    fn from(path: &Path) -> Self {
        Value::Path(path.to_path_buf())
    }
}

impl From<&PathBuf> for Value {
    fn from(path: &PathBuf) -> Self {
        Value::Path(path.clone())
    }
}

impl Explain for vitreous_engine::GraphError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_a_sentence_and_ways_share_the_verb() {
        let memory = Suggestion::new().using("a smaller").key("train.batch_size");
        let memory = memory.or().using("fewer").key("train.threads").or().text("end other programs");
        assert_eq!(memory.to_string(), "use a smaller train.batch_size, fewer train.threads, or end other programs");
        let one = Suggestion::new().set("train.warmup_epochs", 0).text("for no warm-up");
        assert_eq!(one.to_string(), "use train.warmup_epochs = 0 for no warm-up");
        let rate =
            Suggestion::new().set("train.lr", 1e-5).or().add_file("photos/train/lynx").text("; then start again");
        assert_eq!(rate.to_string(), "use train.lr = 1e-5, or add photos/train/lynx; then start again");
        let here = Suggestion::new().text("unpack it in").path(".").text("?");
        assert_eq!(here.to_string(), "unpack it in .?", "a path is a word of its own");
    }

    #[test]
    fn a_way_that_cannot_be_written_is_left_out_unless_all_are() {
        let ways = Suggestion::new().using("fewer").argument(Argument::Jobs).or().set("train.threads", 3);
        let keys = |part: &Part| matches!(part, Part::Set(..)).then(|| "--threads 3".to_string());
        assert_eq!(ways.render(keys), "use --threads 3");
        assert_eq!(ways.render(|_| None), ways.to_string());
    }
}
