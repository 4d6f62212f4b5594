//! A report as one HTML file that needs no other file and no network.
//!
//! Scripts and styles are those below, allowed by their hashes alone: whatever else a browser might take for a script
//! is not run.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};
use sha2::{Digest, Sha256};

use super::Report;
use crate::plot::style::{DARK, DASHES, LIGHT, Style};
use crate::plot::svg::base64;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = concat!(include_str!("uplot/uPlot.min.css"), "\n", include_str!("page.css"));
const SCRIPT: &str = concat!(include_str!("uplot/uPlot.iife.min.js"), "\n", include_str!("page.js"));

/// Writes a report as HTML.
pub fn html(report: &Report) -> String {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_filter("script_data", |value: Value| script_data(&value));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_the_script_cannot_end_its_element() {
        let written = script_data(&Value::from("</script><!--\u{2028}"));
        assert_eq!(written.to_string(), "\"\\u003c/script>\\u003c!--\\u2028\"");
    }
}
