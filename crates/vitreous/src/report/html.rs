//! A report as one HTML file that needs no other file and no network.
//!
//! Scripts and styles are those below, allowed by their hashes alone: whatever else a browser might take for a script
//! is not run.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, HtmlEscape, Value, context, escape_formatter};
use sha2::{Digest, Sha256};

use super::Report;
use crate::plot::style::{DARK, DASHES, LIGHT, Style};
use crate::plot::svg::base64;
use crate::text::{isolated, visible_lines};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = concat!(include_str!("uplot/uPlot.min.css"), "\n", include_str!("page.css"));
const SCRIPT: &str = concat!(include_str!("uplot/uPlot.iife.min.js"), "\n", include_str!("page.js"));

/// Writes a report as HTML.
pub fn html(report: &Report) -> String {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_filter("script_data", |value: Value| script_data(&value));
    environment.add_filter("unbroken", |text: &str| unbroken(text));
    environment.set_formatter(|out, state, value| match value.as_str().filter(|_| !value.is_safe()) {
        Some(text) => escape_formatter(out, state, &Value::from(&*isolated(&visible_lines(text)))),
        None => escape_formatter(out, state, value),
    });
    environment.add_template("page", TEMPLATE).expect("the template is valid");
    let hash = |text: &str| format!("'sha256-{}'", base64(&Sha256::digest(text.as_bytes())));
    let policy = format!(
        "default-src 'none'; img-src data:; style-src {}; script-src {}; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    let colors = |style: &Style| {
        context! { series => style.series, soft => style.soft, grid => style.grid, ink => style.ink }
    };
    let looks = context! { light => colors(&LIGHT), dark => colors(&DARK), dashes => DASHES };
    let page = environment.get_template("page").expect("it was added");
    let values = context! { report => Value::from(Serde(report)), policy, style => STYLE, script => SCRIPT, looks };
    page.render(values).expect("a report has all that the template names")
}

/// A value as JSON inside a script element: no text in it can end the element.
fn script_data(value: &Value) -> Value {
    let json = serde_json::to_string(value).expect("reports are plain numbers, texts and lists");
    let escaped = json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    Value::from_safe_string(escaped)
}

/// A text in which no line begins with a percent sign.
fn unbroken(text: &str) -> Value {
    Value::from_safe_string(HtmlEscape(&isolated(&visible_lines(text))).to_string().replace(" %", "&nbsp;%"))
}

#[cfg(test)]
mod tests {
    use super::super::facts;
    use super::*;
    use crate::report::Section;

    #[test]
    fn texts_show_what_cannot_be_seen_and_keep_their_units() {
        let part = facts("t", vec![vec!["a\u{202e}b<i>".to_string(), "\u{1b}[31m".to_string()]]);
        let section = Section { title: "s".into(), command: None, parts: vec![part] };
        let report = Report { title: "r".into(), lead: String::new(), program: String::new(), sections: vec![section] };
        let page = html(&report);
        assert!(page.contains("<bdi>a\\u{202e}b&lt;i&gt;</bdi>") && page.contains("<bdi>\\u{1b}[31m</bdi>"), "{page}");
        assert_eq!(unbroken("<95 % interval").to_string(), "&lt;95&nbsp;% interval");
    }

    #[test]
    fn data_of_the_script_cannot_end_its_element() {
        let written = script_data(&Value::from("</script><!--\u{2028}"));
        assert_eq!(written.to_string(), "\"\\u003c/script>\\u003c!--\\u2028\"");
    }
}
