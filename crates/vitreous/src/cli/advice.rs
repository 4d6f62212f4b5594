//! Suggestions on the command line: keys become flags, commands become shell text. What a command has is read from its
//! parser, so that no error suggests a flag that the command lacks.

use std::ffi::OsString;
use std::path::Path;

use clap::{ArgMatches, Command as Parser, CommandFactory};
use serde_json::{Map, Value as Json, json};

use super::settings::shell_word;
use super::{Cli, flags};
use crate::advice::{self, Argument, Command, Note, Part, Place, Source, Suggestion, Value, Verb};
use crate::data::Problem;

/// The command that is running: which flags it has, and whether it prints JSON.
pub struct Context {
    parser: Parser,
    pub json: bool,
}

impl Context {
    /// The command of a command line.
    pub fn new(matches: &ArgMatches) -> Self {
        let (mut words, mut matches) = (Vec::new(), matches);
        while let Some((word, inner)) = matches.subcommand() {
            words.push(word);
            matches = inner;
        }
        Context { json: asks_for_json(std::env::args_os()), ..Context::named(&words) }
    }

    /// A verb's command.
    pub fn of(verb: Verb, json: bool) -> Self {
        Context { json, ..Context::named(&verb.name().split(' ').collect::<Vec<_>>()) }
    }

    /// The command of these words.
    pub fn named(words: &[&str]) -> Self {
        let parser = words.iter().fold(Cli::command(), |parser, word| {
            parser.get_subcommands().find(|inner| inner.get_name() == *word).cloned().unwrap_or_default()
        });
        Context { parser, json: false }
    }

    /// Writes a suggestion; `place` is where the error is.
    pub fn render(&self, suggestion: &Suggestion, place: Option<&Place>) -> String {
        suggestion.render(|part| self.word(part, place))
    }

    /// Writes a note, without a suggestion that needs flags which the command lacks.
    pub fn note(&self, note: &Note) -> String {
        let suggestion =
            note.suggestion.as_ref().and_then(|suggestion| suggestion.render_some(|part| self.word(part, None)));
        match suggestion {
            Some(suggestion) => format!("{}; {suggestion}", note.what),
            None => note.what.clone(),
        }
    }

    /// Writes a problem.
    pub fn problem(&self, problem: &Problem) -> String {
        format!("{}; {}", problem.what, self.render(&problem.fix, None))
    }

    /// Writes an argument.
    pub fn argument(&self, argument: Argument) -> String {
        self.flag(argument.name()).unwrap_or_else(|| argument.name().to_string())
    }

    /// A flag, where the command has it.
    pub fn flag(&self, name: &str) -> Option<String> {
        self.parser.get_arguments().any(|arg| arg.get_long() == Some(name)).then(|| format!("--{name}"))
    }

    fn flag_of_key(&self, key: &str) -> Option<String> {
        self.flag(&flags::of_key(key)?)
    }

    fn word(&self, part: &Part, place: Option<&Place>) -> Option<String> {
        let source = place.and_then(|place| match place {
            Place::Config(source, table) => Some((source, table.as_deref())),
            _ => None,
        });
        // In the file, the user sees keys under their table.
        let in_file = |key: &str| match source {
            Some((Source::File(_), Some(table))) => {
                Some(key.strip_prefix(table).and_then(|key| key.strip_prefix('.')).unwrap_or(key).to_string())
            }
            Some((Source::File(_), None)) => Some(key.to_string()),
            _ => None,
        };
        let has_set = || self.flag(Argument::Set.name());
        Some(match part {
            Part::Key(key) => match in_file(key).or_else(|| self.flag_of_key(key)) {
                Some(name) => name,
                None => has_set().map(|_| key.clone())?,
            },
            Part::Set(key, value) => match (in_file(key), self.flag_of_key(key)) {
                (Some(key), _) => format!("{key} = {value}"),
                (None, Some(flag)) if *value == true.into() => flag,
                (None, Some(flag)) => format!("{flag} {}", word(value)),
                (None, None) => format!("{} {}", has_set()?, assignment(key, value)),
            },
            Part::Unset(key) => match (in_file(key), source, self.flag_of_key(key)) {
                (Some(key), ..) => format!("remove {key}"),
                // The flag may be given or not: only the one that wrote the value surely is.
                (None, Some((Source::Argument(given), _)), Some(flag)) if *given == flag => format!("leave out {flag}"),
                _ => format!("use {} {key}= for its default", has_set()?),
            },
            Part::Argument(argument, None) => self.flag(argument.name())?,
            Part::Argument(argument, Some(value)) => format!("{} {}", self.flag(argument.name())?, word(value)),
            Part::Run(command) => shell(command),
            Part::Use | Part::Text(_) | Part::Add(_) | Part::Remove(_) | Part::Path(_) => advice::plain(part)?,
        })
    }

    /// A suggestion as JSON: its text, and the parts of each way for programs.
    pub fn json_of(&self, suggestion: &Suggestion, place: Option<&Place>) -> Json {
        // Of some ways there is nothing but text.
        let is_for_programs = |part: &Part| {
            !matches!(part, Part::Use | Part::Text(_) | Part::Key(_) | Part::Argument(_, None) | Part::Path(_))
        };
        let ways = suggestion.ways().filter(|way| way.iter().any(is_for_programs));
        let ways: Vec<Json> = ways.map(|way| self.json_of_way(way)).collect();
        json!({ "text": self.render(suggestion, place), "ways": ways })
    }

    fn json_of_way(&self, way: &[Part]) -> Json {
        let mut set = Map::new();
        let mut arguments = Map::new();
        let [mut unset, mut commands, mut add, mut remove] = [(); 4].map(|()| Vec::new());
        for part in way {
            match part {
                Part::Set(key, value) => drop(set.insert(key.clone(), value_json(value))),
                Part::Unset(key) => unset.push(json!(key)),
                Part::Argument(argument, Some(value)) => {
                    arguments.insert(self.argument(*argument), value_json(value));
                }
                Part::Run(command) => commands.push(json!(shell(command))),
                Part::Add(path) => add.push(json!(path.to_string_lossy())),
                Part::Remove(path) => remove.push(json!(path.to_string_lossy())),
                Part::Use | Part::Text(_) | Part::Key(_) | Part::Argument(_, None) | Part::Path(_) => {}
            }
        }
        json!({
            "set": set, "unset": unset, "arguments": arguments, "commands": commands, "add": add, "remove": remove,
        })
    }

    /// A place as JSON.
    pub fn json_of_place(&self, place: &Place) -> Json {
        match place {
            Place::Path(path) => json!({ "path": path.to_string_lossy() }),
            Place::Line(path, line) => json!({ "path": path, "line": line }),
            Place::Argument(argument) => json!({ "argument": self.argument(*argument) }),
            Place::Config(source, table) => {
                let mut place = match source {
                    Source::Default => json!({ "default": true }),
                    Source::Preset(name) => json!({ "preset": name }),
                    Source::File(path) => json!({ "path": path }),
                    Source::Argument(name) => json!({ "argument": name }),
                };
                place["table"] = json!(table);
                place
            }
        }
    }
}

/// Whether a command line asks for JSON. Its words are looked at as they are, because it may be one that clap refuses.
pub fn asks_for_json(words: impl Iterator<Item = OsString>) -> bool {
    let words: Vec<OsString> = words.take_while(|word| word != "--").collect();
    let is_format = |pair: &[OsString]| pair[0] == "--format" && pair[1] == "json";
    words.iter().any(|word| word == "--json" || word == "--format=json") || words.windows(2).any(is_format)
}

/// Writes a command as a shell takes it.
pub fn shell(Command { verb, operands, options }: &Command) -> String {
    let context = Context::of(*verb, false);
    let words = operands.iter().map(word).chain(options.iter().filter_map(|part| context.word(part, None)));
    format!("vitreous {}", [verb.name().to_string()].into_iter().chain(words).collect::<Vec<_>>().join(" "))
}

/// A value as a shell takes it.
fn word(value: &Value) -> String {
    match value {
        Value::Path(path) => shell_word(path),
        Value::Toml(toml::Value::String(text)) => shell_word(Path::new(text)),
        value => shell_word(Path::new(&value.to_string())),
    }
}

/// `table.key=value` as a shell takes it.
fn assignment(key: &str, value: &Value) -> String {
    match value {
        Value::Toml(toml::Value::String(text)) => shell_word(Path::new(&format!("{key}={text}"))),
        value => shell_word(Path::new(&format!("{key}={value}"))),
    }
}

fn value_json(value: &Value) -> Json {
    match value {
        Value::Toml(value) => json!(value),
        Value::Path(path) => json!(path.to_string_lossy()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_as_the_command_and_the_file_have_it() {
        let epochs = Suggestion::new().set("train.warmup_epochs", 0).text("for no warm-up");
        let [train, fetch] = [Verb::Train, Verb::Fetch].map(|verb| Context::of(verb, false));
        assert_eq!(train.render(&epochs, None), "use --warmup-epochs 0 for no warm-up");
        let summary = Context::named(&["summary"]);
        assert_eq!(summary.render(&epochs, None), "use --set train.warmup_epochs=0 for no warm-up");
        let file = Place::Config(Source::File("my.toml".to_string()), Some("train".to_string()));
        assert_eq!(train.render(&epochs, Some(&file)), "use warmup_epochs = 0 for no warm-up");
        assert_eq!(fetch.render(&epochs, None), "use train.warmup_epochs = 0 for no warm-up");
        let mean = Suggestion::new().set("data.mean", vec![0.5, 0.25]).or().unset("data.mean").text("to measure it");
        assert_eq!(
            train.render(&mean, None),
            "use --set 'data.mean=[0.5, 0.25]', or use --set data.mean= for its default to measure it"
        );
        let kind = Suggestion::new().set("model.kind", "vit").or().set("train.drop_last", true);
        assert_eq!(train.render(&kind, None), "use --set model.kind=vit, or --drop-last");
    }

    #[test]
    fn only_the_flag_that_wrote_a_value_is_left_out() {
        let train = Context::of(Verb::Train, false);
        let unset = Suggestion::new().unset("data.image_size");
        let hint = |flag: &str| {
            let source = Source::Argument(flag.to_string());
            train.render(&unset, Some(&Place::Config(source, Some("data".to_string()))))
        };
        assert_eq!(hint("--image-size"), "leave out --image-size");
        assert_eq!(hint("--set"), "use --set data.image_size= for its default");
        assert_eq!(hint("--data"), "use --set data.image_size= for its default");
    }

    #[test]
    fn json_is_asked_for_before_the_end_of_flags() {
        let asks = |line: &str| asks_for_json(line.split(' ').map(OsString::from));
        for line in ["train --epocs 3 --json", "compare a --format json", "compare --format=json a"] {
            assert!(asks(line), "{line}");
        }
        for line in ["train", "compare a --format csv", "predict -- --json", "compare json --format"] {
            assert!(!asks(line), "{line}");
        }
    }

    #[test]
    fn only_flags_of_the_command_are_suggested() {
        let memory = Suggestion::new().using("a smaller").key("train.batch_size");
        let memory = memory.or().using("fewer").key("train.threads").or().text("end other programs");
        let text = |words: &[&str]| Context::named(words).render(&memory, None);
        assert_eq!(text(&["train"]), "use a smaller --batch-size, fewer --threads, or end other programs");
        assert_eq!(text(&["evaluate"]), "use fewer --threads, or end other programs");
        assert_eq!(text(&["predict"]), "end other programs");
    }

    #[test]
    fn a_note_has_no_flags_of_other_commands() {
        let note = Note::new("2 more settings differ").suggest(Suggestion::new().with(Argument::Format, "csv"));
        let [compare, sweep] = [Verb::Compare, Verb::Sweep].map(|verb| Context::of(verb, false).note(&note));
        assert_eq!([compare, sweep], ["2 more settings differ; use --format csv", "2 more settings differ"]);
    }

    #[test]
    fn paths_of_commands_are_quoted_for_the_shell() {
        let resume = Suggestion::new().text("resume it with").run(Command::resume(Path::new("my runs/a")));
        let train = Context::of(Verb::Train, false);
        assert_eq!(train.render(&resume, None), "resume it with vitreous train --resume 'my runs/a'");
        let fetch = Command::new(Verb::Fetch).operand("mnist").set("data.dir", Path::new("a'b"));
        let json = train.json_of(&Suggestion::new().run(fetch).or().set("train.lr", 0.25), None);
        assert_eq!(json["ways"][0]["commands"][0], "vitreous data fetch mnist --data-dir 'a'\\''b'");
        assert_eq!(json["ways"][1]["set"], json!({ "train.lr": 0.25 }));
        let splits = Suggestion::new().with(Argument::Split, "val").or().with(Argument::Split, "train");
        let ways = &Context::of(Verb::Evaluate, true).json_of(&splits, None)["ways"];
        assert_eq!([&ways[0]["arguments"]["--split"], &ways[1]["arguments"]["--split"]], ["val", "train"]);
    }
}
