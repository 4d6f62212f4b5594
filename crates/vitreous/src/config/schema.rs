//! The description of every key of a config, and the macros that make it.
//!
//! `config_table!` declares a table once: from the same lines come the struct that serde reads, the default of each key,
//! the check of its type and range, what an error suggests, the help of the key's flag and `docs/config.md`.
//! `choices!` declares the closed set of values of a key. Rules over several keys are in the modules of the tables.

use std::path::PathBuf;

use serde::Serialize;
use toml::Value;

use super::error::RuleError;
use crate::advice::Suggestion;
use crate::{numbers, spelling};

/// One key of a table.
pub struct Key {
    /// The table, such as `train`.
    pub table: &'static str,
    /// The name in the table.
    pub name: &'static str,
    /// What it means. The first sentence is the help of the key's flag.
    pub doc: &'static str,
    /// Which values it takes.
    pub kind: Kind,
    /// Whether it may have no value, which is then its default.
    pub optional: bool,
    /// The numbers that it takes.
    pub range: Range,
    /// The default; absent where no value is the default.
    pub default: fn() -> Option<Value>,
    /// A value that works, where the default is not a good example.
    pub example: fn() -> Option<Value>,
}

/// Which values a key takes.
pub enum Kind {
    /// true or false.
    Boolean,
    /// A whole number.
    Whole,
    /// A number.
    Number,
    /// A text.
    Text,
    /// A path.
    Path,
    /// One of a closed set of words.
    Choice(&'static [Choice]),
    /// A list.
    List(&'static Kind),
    /// A list of two numbers.
    Pair,
    /// A table with keys of its own.
    Table(&'static [Key]),
    /// A type that reads itself.
    Other {
        /// What its values are, in words.
        expected: &'static str,
        /// Whether a value is one of them.
        accepts: fn(&Value) -> bool,
    },
}

/// A word of a closed set.
pub struct Choice {
    /// The word.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// The numbers that a key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// Any.
    All,
    /// Whole numbers from the first to the last.
    Whole(u64, u64),
    /// Numbers from the first to the last.
    Between(f64, f64),
    /// Numbers of at least 0 and below 1.
    BelowOne,
    /// Numbers above 0.
    Positive,
    /// Numbers of at least 0.
    NotNegative,
    /// Numbers above 0, up to this one.
    UpTo(f64),
}

/// A number, exactly as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number.
    Whole(u64),
    /// Any other.
    Real(f64),
}

/// The largest whole number that TOML can write.
pub const WHOLE_MAX: u64 = i64::MAX as u64;

/// The type of a key's value.
pub trait Field: Serialize {
    /// Which values it takes.
    const KIND: Kind;
    /// Whether it may be absent.
    const OPTIONAL: bool = false;

    /// The numbers in it, which the key's range holds for.
    fn numbers(&self) -> Vec<Number> {
        Vec::new()
    }

    /// Checks the value against the key's range.
    ///
    /// # Errors
    /// When a number in it is outside.
    fn check(&self, key: &Key) -> Result<(), RuleError> {
        let Some(outside) = self.numbers().into_iter().find(|number| !key.range.contains(*number)) else {
            return Ok(());
        };
        let expected = key.range.expected(outside);
        let problem = match key.kind {
            Kind::List(_) | Kind::Pair => format!("has {outside}, which is not {expected}"),
            _ => format!("{outside} is not {expected}"),
        };
        Err(RuleError::about(&key.path(), problem).suggest(key.suggestion()))
    }
}

/// Returns a value as TOML has it; absent where there is none, or where TOML cannot hold it.
pub fn written(value: &(impl Serialize + ?Sized)) -> Option<Value> {
    Value::try_from(value).ok()
}

impl Key {
    /// `table.key`
    pub fn path(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }

    /// A value that works: the example, else the default.
    pub fn example(&self) -> Value {
        (self.example)().or_else(self.default).unwrap_or_else(|| self.kind.example())
    }

    /// The first sentence of what it means, without its full stop.
    pub fn summary(&self) -> &'static str {
        let doc = self.doc.trim();
        doc.split_once(". ").map_or(doc, |(first, _)| first).trim_end_matches('.')
    }

    /// Suggests a value that works, and no value where that works too.
    pub fn suggestion(&self) -> Suggestion {
        let suggestion = Suggestion::new().set(&self.path(), self.example());
        if self.optional { suggestion.or().unset(&self.path()) } else { suggestion }
    }

    /// Checks the type of a value, as TOML has it.
    ///
    /// # Errors
    /// When it has another type, or is a table with an unknown key (its name and the known ones are in the error).
    pub fn accept(&self, value: &Value) -> Result<(), Mismatch> {
        if let (Kind::Table(keys), Value::Table(table)) = (&self.kind, value) {
            for (name, value) in table {
                let Some(key) = keys.iter().find(|key| key.name == name) else {
                    return Err(Mismatch::Unknown { key: name.clone(), table: self.path(), known: keys });
                };
                key.accept(value)?;
            }
            return Ok(());
        }
        if self.kind.accepts(value) {
            return Ok(());
        }
        let suggestion = match (&self.kind, value) {
            (Kind::Choice(choices), Value::String(word)) => {
                let near = spelling::nearest(word, choices.iter().map(|choice| choice.name));
                Suggestion::new().set(&self.path(), near.unwrap_or(choices[0].name))
            }
            (Kind::Whole, Value::Float(number)) if number.fract() == 0.0 && (0.0..1e15).contains(number) => {
                Suggestion::new().set(&self.path(), *number as i64)
            }
            _ => self.suggestion(),
        };
        let rule = match (value, value.as_str().filter(|text| is_too_large(text))) {
            (_, Some(number)) => RuleError::about(&self.path(), format!("{number} is not at most {WHOLE_MAX}")),
            // As it was written: 1.0, which is not 1.
            (Value::Float(number), _) if number.fract() == 0.0 => {
                RuleError::about(&self.path(), format!("{value} is not {}", self.kind.expected()))
            }
            _ => RuleError::new(&self.path(), value.clone(), format!("is not {}", self.kind.expected())),
        };
        Err(Mismatch::Value(Box::new(rule.suggest(suggestion))))
    }
}

/// A value of the wrong type.
pub enum Mismatch {
    /// The value itself.
    Value(Box<RuleError>),
    /// A key of the table that it is.
    Unknown {
        /// The key.
        key: String,
        /// The table.
        table: String,
        /// The keys of the table.
        known: &'static [Key],
    },
}

impl Kind {
    fn accepts(&self, value: &Value) -> bool {
        match (self, value) {
            (Kind::Boolean, value) => value.is_bool(),
            (Kind::Whole, value) => value.as_integer().is_some_and(|number| number >= 0),
            (Kind::Number, value) => value.is_integer() || value.is_float(),
            (Kind::Text | Kind::Path, value) => value.is_str(),
            (Kind::Choice(choices), Value::String(word)) => choices.iter().any(|choice| choice.name == word),
            (Kind::List(kind), Value::Array(values)) => values.iter().all(|value| kind.accepts(value)),
            (Kind::Pair, Value::Array(values)) => {
                values.len() == 2 && values.iter().all(|value| Kind::Number.accepts(value))
            }
            (Kind::Other { accepts, .. }, value) => accepts(value),
            (Kind::Choice(_) | Kind::List(_) | Kind::Pair | Kind::Table(_), _) => false,
        }
    }

    /// What its values are, in words.
    pub fn expected(&self) -> String {
        match self {
            Kind::Boolean => "true or false".to_string(),
            Kind::Whole => "a whole number".to_string(),
            Kind::Number => "a number".to_string(),
            Kind::Text => "text in quotes".to_string(),
            Kind::Path => "a path in quotes".to_string(),
            Kind::Choice(choices) => {
                let names: Vec<&str> = choices.iter().map(|choice| choice.name).collect();
                format!("one of {}", names.join(", "))
            }
            Kind::List(Kind::Number) => "a list of numbers".to_string(),
            Kind::List(kind) => format!("a list of {}", kind.expected()),
            Kind::Pair => "a list of 2 numbers".to_string(),
            Kind::Table(keys) => {
                let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
                format!("a table of {}", names.join(" and "))
            }
            Kind::Other { expected, .. } => expected.to_string(),
        }
    }

    fn example(&self) -> Value {
        match self {
            Kind::Boolean => true.into(),
            Kind::Whole => 1.into(),
            Kind::Number => 0.5.into(),
            Kind::Text | Kind::Other { .. } => "text".into(),
            Kind::Path => "folder".into(),
            Kind::Choice(choices) => choices[0].name.into(),
            Kind::List(kind) => Value::Array(vec![kind.example()]),
            Kind::Pair => Value::Array(vec![0.5.into(), 1.0.into()]),
            Kind::Table(keys) => Value::Table(keys.iter().map(|key| (key.name.to_string(), key.example())).collect()),
        }
    }
}

impl Range {
    /// Whether it holds a number. What rounds to a bound as a 32-bit float, which is what a run computes with, is the
    /// bound.
    pub fn contains(self, number: Number) -> bool {
        let rounded = number.real() as f32;
        match (self, number) {
            (Range::All, _) => true,
            (Range::Whole(least, largest), Number::Whole(number)) => (least..=largest).contains(&number),
            (Range::Whole(..), Number::Real(_)) => false,
            (Range::Between(least, largest), number) => (least..=largest).contains(&number.real()),
            (Range::BelowOne, number) => (0.0..1.0).contains(&number.real()) && rounded < 1.0,
            (Range::Positive, _) => rounded > 0.0 && rounded.is_finite(),
            (Range::NotNegative, number) => number.real() >= 0.0 && number.real().is_finite(),
            (Range::UpTo(largest), number) => rounded > 0.0 && number.real() <= largest,
        }
    }

    /// Says what a number outside should be.
    fn expected(self, outside: Number) -> String {
        let outside = outside.real();
        match self {
            Range::Positive if outside > 0.0 && outside as f32 == 0.0 => {
                "at least 1.4e-45, the smallest 32-bit float".to_string()
            }
            Range::Positive if outside.is_finite() && outside as f32 == f32::INFINITY => {
                "at most 3.4e38, the largest 32-bit float".to_string()
            }
            Range::Positive | Range::NotNegative if outside == f64::INFINITY => {
                format!("{} and finite", self.describe())
            }
            range => range.describe(),
        }
    }

    /// The range in words: `between 1 and 10`, `above 0`.
    pub fn describe(self) -> String {
        match self {
            Range::All => "any".to_string(),
            Range::Whole(least, WHOLE_MAX..) if least > 0 => format!("at least {least}"),
            Range::Whole(0, largest @ WHOLE_MAX..) => format!("at most {largest}"),
            Range::Whole(least, largest) => format!("between {least} and {largest}"),
            Range::Between(least, largest) => {
                format!("between {} and {}", numbers::number(least), numbers::number(largest))
            }
            Range::BelowOne => "at least 0 and below 1".to_string(),
            Range::Positive => "above 0".to_string(),
            Range::NotNegative => "at least 0".to_string(),
            Range::UpTo(largest) => format!("above 0 and at most {}", numbers::number(largest)),
        }
    }
}

impl Number {
    fn real(self) -> f64 {
        match self {
            Number::Whole(number) => number as f64,
            Number::Real(number) => number,
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Whole(number) => number.fmt(f),
            Number::Real(number) => f.write_str(&numbers::number(*number)),
        }
    }
}

/// Whether a text is a whole number that TOML cannot hold.
pub fn is_too_large(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_err()
}

macro_rules! fields {
    ($($type:ty, $kind:ident $(, $value:ident => $number:expr)?;)+) => {
        $(impl Field for $type {
            const KIND: Kind = Kind::$kind;

            $(fn numbers(&self) -> Vec<Number> {
                let $value = *self;
                vec![$number]
            })?
        })+
    };
}

fields! {
    bool, Boolean;
    usize, Whole, x => Number::Whole(x as u64);
    u64, Whole, x => Number::Whole(x);
    f64, Number, x => Number::Real(x);
    f32, Number, x => Number::Real(x.to_string().parse().unwrap_or(x.into()));
    String, Text;
    PathBuf, Path;
}

impl Field for [f64; 2] {
    const KIND: Kind = Kind::Pair;

    fn numbers(&self) -> Vec<Number> {
        self.map(Number::Real).to_vec()
    }
}

impl<T: Field> Field for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);

    fn numbers(&self) -> Vec<Number> {
        self.iter().flat_map(Field::numbers).collect()
    }
}

impl<T: Field> Field for Option<T> {
    const KIND: Kind = T::KIND;
    const OPTIONAL: bool = true;

    fn check(&self, key: &Key) -> Result<(), RuleError> {
        self.as_ref().map_or(Ok(()), |value| value.check(key))
    }
}

/// Declares a table of a config: a struct, and for each key its meaning, type, default, range and example.
macro_rules! config_table {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident in $table:literal {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $type:ty = $default:expr $(, range $range:expr)? $(, example $example:expr)?;
            )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)] // A misspelled key is an error, never a silent default.
        pub struct $name {
            $($(#[doc = $doc])+ pub $key: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($key: $default,)+ }
            }
        }

        impl $name {
            /// The keys of the table.
            pub const KEYS: &'static [$crate::config::schema::Key] = {
                use $crate::config::schema::{self, Field, Key, written};
                &[$(Key {
                    table: $table,
                    name: stringify!($key),
                    doc: concat!($($doc),+),
                    kind: <$type as Field>::KIND,
                    optional: <$type as Field>::OPTIONAL,
                    range: {
                        #[allow(unused_mut, unused_assignments)]
                        let mut range = schema::Range::All;
                        $(range = $range;)?
                        range
                    },
                    default: || {
                        let default: $type = $default;
                        written(&default)
                    },
                    example: || {
                        $(return written(&$example);)?
                        #[allow(unreachable_code)]
                        None
                    },
                }),+]
            };

            /// Checks the range of every value.
            ///
            /// # Errors
            /// The first value outside its range, in the order of the keys.
            pub fn check_ranges(&self) -> Result<(), $crate::config::error::RuleError> {
                let mut keys = Self::KEYS.iter();
                $(if let Some(key) = keys.next() {
                    $crate::config::schema::Field::check(&self.$key, key)?;
                })+
                Ok(())
            }
        }
    };
}
pub(crate) use config_table;

/// Declares the closed set of values of a key.
macro_rules! choices {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident {
            $($(#[doc = $doc:literal])+ $choice:ident = $word:literal,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $choice,)+
        }

        impl $crate::config::schema::Field for $name {
            const KIND: $crate::config::schema::Kind = $crate::config::schema::Kind::Choice(&[
                $($crate::config::schema::Choice { name: $word, doc: concat!($($doc),+) }),+
            ]);
        }
    };
}
pub(crate) use choices;
