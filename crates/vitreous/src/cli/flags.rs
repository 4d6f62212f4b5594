//! Flags that set a key of the config: those of `train`, and those of jobs. Type, possible values and help come from the description of the key.
//!
//! A flag has the name of its key; timm's names and short flags, and names of older versions, work too.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use toml::Value;

use crate::config::schema::{Key, Kind};
use crate::config::{self, model::ModelKind};
use crate::spelling;

/// A flag of a config key.
struct Flag {
    key: &'static str,
    short: Option<char>,
    /// Another name, which the help does not list.
    alias: Option<&'static str>,
}

const fn flag(key: &'static str) -> Flag {
    Flag { key, short: None, alias: None }
}

static FLAGS: [Flag; 33] = [
    flag("train.epochs"),
    flag("train.max_steps"),
    Flag { short: Some('b'), ..flag("train.batch_size") },
    flag("train.grad_accum_steps"),
    flag("train.drop_last"),
    flag("train.lr"),
    flag("train.opt"),
    flag("train.weight_decay"),
    flag("train.momentum"),
    flag("train.sched"),
    flag("train.warmup_epochs"),
    flag("train.min_lr"),
    flag("train.decay_epochs"),
    flag("train.decay_rate"),
    flag("train.clip_grad"),
    flag("train.model_ema_decay"),
    flag("train.smoothing"),
    flag("train.keep"),
    flag("train.on_nonfinite"),
    flag("train.init_from"),
    flag("train.partial"),
    flag("train.seed"),
    Flag { short: Some('j'), ..flag("train.threads") },
    flag("train.log_interval"),
    flag("train.tensorboard"),
    flag("data.val_fraction"),
    flag("data.limit_train"),
    Flag { alias: Some("img-size"), ..flag("data.image_size") },
    flag("data.skip_bad_images"),
    flag("model.patch_size"),
    Flag { alias: Some("drop"), ..flag("model.dropout") },
    flag("model.drop_path"),
    Flag { alias: Some("hflip"), ..flag("augment.horizontal_flip") },
];

/// Flags of the resources of a job.
static RESOURCES: [Flag; 16] = [
    Flag { short: Some('p'), ..flag("slurm.partition") },
    flag("slurm.account"),
    flag("slurm.qos"),
    Flag { short: Some('t'), ..flag("slurm.time") },
    flag("slurm.cpus"),
    Flag { alias: Some("mem"), ..flag("slurm.memory") },
    flag("slurm.gres"),
    flag("slurm.constraint"),
    flag("slurm.mail"),
    flag("slurm.requeues"),
    flag("slurm.signal_seconds"),
    flag("slurm.parallel"),
    flag("slurm.scratch"),
    flag("slurm.container"),
    flag("slurm.modules"),
    flag("slurm.extra"),
];

impl Flag {
    fn name(&self) -> String {
        self.key.split('.').next_back().unwrap_or_default().replace('_', "-")
    }

    fn described(&self) -> &'static Key {
        config::key(self.key).expect("a test looks every key up")
    }
}

/// A key, its value, and what its flag is called.
type Given = (&'static str, Value, String);

/// The flags that were given.
#[derive(Clone, Debug, Default)]
pub struct Flags(Vec<Given>);

/// The flags of resources that were given.
#[derive(Clone, Debug, Default)]
pub struct Resources(Vec<Given>);

impl Resources {
    /// As [`Flags::values`].
    pub fn values(&self) -> impl Iterator<Item = (&str, Value, &str)> {
        self.0.iter().map(|(key, value, flag)| (*key, value.clone(), flag.as_str()))
    }
}

impl Flags {
    /// Keys, their values, and what the flags are called.
    pub fn values(&self) -> impl Iterator<Item = (&str, Value, &str)> {
        self.0.iter().map(|(key, value, flag)| (*key, value.clone(), flag.as_str()))
    }
}

/// Adds flags to a command.
fn augment(command: Command, flags: &'static [Flag], heading: &'static str) -> Command {
    command.args(flags.iter().map(|flag| {
        let key = flag.described();
        let arg = Arg::new(flag.key).long(flag.name()).help(key.summary().replace('`', "")).help_heading(heading);
        let arg = arg.short(flag.short).aliases(flag.alias);
        match key.kind {
            Kind::Boolean => arg.action(ArgAction::SetTrue),
            Kind::Choice(choices) => {
                arg.value_name("NAME").value_parser(PossibleValuesParser::new(choices.iter().map(|choice| choice.name)))
            }
            Kind::Whole => arg.value_name("N").allow_hyphen_values(true),
            Kind::Text => arg.value_name("TEXT").allow_hyphen_values(true),
            Kind::Path => arg.value_name("PATH").allow_hyphen_values(true),
            Kind::List(_) => arg.value_name("TEXT").action(ArgAction::Append).allow_hyphen_values(true),
            _ => arg.value_name("X").allow_hyphen_values(true),
        }
    }))
}

/// The flags of a list that were given.
fn given(matches: &ArgMatches, flags: &'static [Flag]) -> Vec<Given> {
    let text = |flag: &Flag| matches.get_one::<String>(flag.key);
    let value = |flag: &Flag| match flag.described().kind {
        Kind::Boolean => matches.get_flag(flag.key).then_some(Value::Boolean(true)),
        Kind::Choice(_) | Kind::Text | Kind::Path => text(flag).map(|word| Value::String(word.clone())),
        Kind::List(_) => {
            let values = matches.get_many::<String>(flag.key)?;
            Some(Value::Array(values.map(|word| Value::String(word.clone())).collect()))
        }
        _ => text(flag).map(|text| number(text)),
    };
    flags.iter().filter_map(|flag| Some((flag.key, value(flag)?, format!("--{}", flag.name())))).collect()
}

/// Makes a list of flags the arguments of a command.
macro_rules! arguments {
    ($name:ident, $flags:expr, $heading:literal) => {
        impl clap::Args for $name {
            fn augment_args(command: Command) -> Command {
                augment(command, &$flags, $heading)
            }

            fn augment_args_for_update(command: Command) -> Command {
                $name::augment_args(command)
            }
        }

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok($name(given(matches, &$flags)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = $name::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}

arguments!(Flags, FLAGS, "Recipe");
arguments!(Resources, RESOURCES, "Job");

/// The long flag of a config key, where a command may have one.
pub fn of_key(key: &str) -> Option<String> {
    match key {
        "data.name" => Some("data".to_string()),
        "data.dir" => Some("data-dir".to_string()),
        "data.classes" => Some("classes".to_string()),
        _ => FLAGS.iter().chain(&RESOURCES).find(|flag| flag.key == key).map(Flag::name),
    }
}

/// Suggests something for a flag that a command does not have: the key of that name, else a flag or key spelled alike.
/// `value` is what follows the flag.
pub fn for_unknown(flag: &str, value: Option<&str>, command: &Command) -> String {
    let verb = command.get_bin_name().unwrap_or(command.get_name());
    if !flag.starts_with('-') {
        return format!("`vitreous {verb} --help` lists the arguments");
    }
    let word = flag.trim_start_matches('-');
    if ["gpu", "cuda", "device"].iter().any(|name| word.starts_with(name)) {
        return format!("leave out {flag}: everything is computed on the CPU");
    }
    let known = |name: &str| command.get_arguments().any(|arg| arg.get_long() == Some(name));
    let assignment = |key: &Key| {
        let value = value.map_or_else(|| key.example().to_string(), str::to_string);
        format!("use --set {}={value}", key.path())
    };
    let keys = || {
        let tables = config::TABLES.into_iter().flat_map(|table| ModelKind::ALL.iter().map(move |kind| (table, *kind)));
        // Those of jobs change nothing in any other command.
        let tables = tables.filter(|(table, _)| *table != "slurm");
        tables.filter_map(|(table, kind)| config::keys_of(table, kind)).flatten()
    };
    let wanted = word.replace('-', "_");
    if let Some(key) = keys().find(|key| key.name == wanted).filter(|_| known("set")) {
        return assignment(key);
    }
    if let Some(near) = spelling::nearest(word, command.get_arguments().filter_map(Arg::get_long)) {
        return format!("did you mean --{near}?");
    }
    let near = spelling::nearest(&wanted, keys().map(|key| key.name)).filter(|_| known("set"));
    match near.and_then(|near| keys().find(|key| key.name == near)) {
        Some(key) => assignment(key),
        None => format!("`vitreous {verb} --help` lists the flags"),
    }
}

/// A number as TOML has it; anything else stays a text, which the config rejects.
fn number(text: &str) -> Value {
    // A whole number that TOML cannot hold must not become another one that it can.
    if text.parse::<i64>().is_err() && text.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) {
        return Value::String(text.to_string());
    }
    let whole = text.parse().map(Value::Integer);
    whole.or_else(|_| text.parse().map(Value::Float)).unwrap_or_else(|_| Value::String(text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        <Flags as clap::Args>::augment_args(Command::new("train")).arg(Arg::new("set").long("set"))
    }

    #[test]
    fn every_flag_has_a_key_of_its_own_that_exists() {
        let mut keys: Vec<&str> = FLAGS.iter().chain(&RESOURCES).map(|flag| flag.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), FLAGS.len() + RESOURCES.len());
        assert!(keys.into_iter().all(|key| config::key(key).is_some_and(|described| described.path() == key)));
        <Resources as clap::Args>::augment_args(command()).debug_assert();
    }

    #[test]
    fn help_and_possible_values_come_from_the_key() {
        let help = command().render_help().to_string();
        let line = |flag: &str| help.lines().find(|line| line.contains(flag)).unwrap_or_default().trim().to_string();
        assert!(line("--momentum").ends_with("Momentum of sgd and muon"), "{help}");
        assert!(line("--opt").contains("Optimizer [possible values: adam, adamw"), "{help}");
        assert!(line("--batch-size").starts_with("-b, --batch-size <N>"), "{help}");
        assert!(!help.contains("hflip") && !help.contains("img-size"), "{help}");
    }

    #[test]
    fn older_names_and_timms_still_work() {
        let given = ["train", "--drop", "0.1", "--hflip", "0.5", "--img-size", "32", "-j", "2"];
        let flags = Flags::from_arg_matches(&command().try_get_matches_from(given).unwrap()).unwrap();
        let found: Vec<(&str, &str)> = flags.0.iter().map(|(key, _, name)| (*key, name.as_str())).collect();
        let expected = [
            ("train.threads", "--threads"),
            ("data.image_size", "--image-size"),
            ("model.dropout", "--dropout"),
            ("augment.horizontal_flip", "--horizontal-flip"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_unknown_flag_finds_its_key() {
        let hint = |flag, value| for_unknown(flag, value, &command());
        assert_eq!(hint("--depth", Some("4")), "use --set model.depth=4");
        assert_eq!(hint("--decoder-depth", None), "use --set model.decoder_depth=2");
        assert_eq!(hint("--epocs", Some("4")), "did you mean --epochs?");
        assert_eq!(hint("--embed-dm", Some("64")), "use --set model.embed_dim=64");
        assert_eq!(hint("--zebra-crossing", None), "`vitreous train --help` lists the flags");
        assert_eq!(hint("mnist", None), "`vitreous train --help` lists the arguments");
        assert_eq!(for_unknown("--depth", None, &Command::new("predict")), "`vitreous predict --help` lists the flags");
    }

    #[test]
    fn what_is_given_becomes_a_value_of_its_kind() {
        let matches = command().try_get_matches_from([
            "train",
            "--epochs",
            "3",
            "--lr",
            "-1e-3",
            "--opt",
            "sgd",
            "--drop-last",
            "--seed",
            "9223372036854775808",
        ]);
        let flags = Flags::from_arg_matches(&matches.unwrap()).unwrap();
        let given: Vec<(&str, Value, &str)> = flags.values().collect();
        let expected = [
            ("train.epochs", Value::Integer(3), "--epochs"),
            ("train.drop_last", Value::Boolean(true), "--drop-last"),
            ("train.lr", Value::Float(-1e-3), "--lr"),
            ("train.opt", Value::String("sgd".to_string()), "--opt"),
            ("train.seed", Value::String("9223372036854775808".to_string()), "--seed"),
        ];
        assert_eq!(given, expected);
    }
}
