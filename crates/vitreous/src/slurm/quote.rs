//! Texts from outside in a batch script: as words of the shell, and as values of `#SBATCH` lines, which have rules of their
//! own.

use std::borrow::Cow;

/// A text as one word of a POSIX shell: nothing in it is split or expanded.
pub fn quoted(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,+=/:@%".contains(c);
    // `~` and `=` are expanded only where they start a word.
    match !text.is_empty() && text.chars().all(is_plain) && !text.starts_with('=') {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

/// A text as the value of an option in an `#SBATCH` line. `sbatch` splits such a line at blanks, knows both kinds of quotes,
/// ends it at `#`, and takes a backslash as an escape everywhere, also inside quotes.
///
/// Control characters cannot be written: a line break would end the option.
pub fn directive(text: &str) -> Option<String> {
    (!text.contains(char::is_control)).then(|| format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_every_name() {
        let names = [
            "a",
            "a b",
            "",
            "it's",
            "$(touch x)",
            "`x`",
            "a;b",
            "-rf",
            "*",
            "~",
            "=a",
            "a\nb",
            "\\",
            "\"",
            "#",
            "größe",
        ];
        let words: Vec<String> = names.iter().map(|name| quoted(name).into_owned()).collect();
        let script = format!("for word in {}; do printf '%s\\0' \"$word\"; done", words.join(" "));
        let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        let expected: String = names.iter().map(|name| format!("{name}\0")).collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        assert_eq!(quoted("runs/digits-2"), "runs/digits-2");
    }

    #[test]
    fn an_option_of_sbatch_is_in_double_quotes_and_has_no_control_characters() {
        assert_eq!(directive(r#"a "b" \c $(d) # e"#).unwrap(), r#""a \"b\" \\c $(d) # e""#);
        assert_eq!([directive("a\nb"), directive("\u{1b}[31m")], [None, None]);
    }
}
