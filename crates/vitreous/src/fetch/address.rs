//! Addresses of mirrors: how they are printed, and the targets of redirects.
//! Source of the rules for redirects: RFC 9110, section 15.4, and RFC 3986, section 5.2.

use ureq::http::Uri;

/// Printed in place of a secret.
const HIDDEN: &str = "***";

/// An address as it is printed: without user, password and query, any of which may be secret.
pub fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(_, rest)| (&url[..url.len() - rest.len()], rest));
    // In an invalid address, the end of a password cannot be found.
    let end = rest.find(['/', '?', '#']).filter(|_| is_whole(url)).unwrap_or(rest.len());
    let secret = rest[..end].rfind('@');
    let (hidden, rest) = secret.map_or(("", rest), |at| (HIDDEN, &rest[at..]));
    let (rest, query) =
        rest.split_once(['?', '#']).map_or((rest, String::new()), |(rest, _)| (rest, format!("?{HIDDEN}")));
    format!("{scheme}{hidden}{rest}{query}")
}

/// Whether an address has a host, and a number where a port is.
fn is_whole(url: &str) -> bool {
    let address = url.parse::<Uri>().ok();
    address.as_ref().and_then(Uri::authority).is_some_and(|authority| {
        let server = authority.as_str().rsplit('@').next().unwrap_or_default();
        !authority.host().is_empty() && (server == authority.host() || authority.port_u16().is_some())
    })
}

/// The target of a redirect; `None` if it is not a web address.
pub fn redirected(from: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default().trim();
    let (scheme, authority) = (from.scheme_str()?, from.authority()?.as_str());
    // User and password are sent to the mirror only, not to where it redirects.
    let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
    let target = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if has_scheme(location) {
        location.to_string()
    } else if location.starts_with('/') {
        format!("{scheme}://{server}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{server}{}{location}", from.path())
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        let (path, query) =
            location.split_once('?').map_or((location, String::new()), |(path, query)| (path, format!("?{query}")));
        format!("{scheme}://{server}{}{query}", without_dots(&format!("{folder}/{path}")))
    };
    let target: Uri = target.parse().ok()?;
    (matches!(target.scheme_str(), Some("http" | "https")) && target.host().is_some()).then_some(target)
}

fn has_scheme(location: &str) -> bool {
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    location.split_once(':').is_some_and(|(scheme, _)| !scheme.is_empty() && scheme.chars().all(is_of_scheme))
}

/// A path with the parts `.` and `..` resolved.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_an_address_are_not_shown() {
        let cases = [
            ("https://a.example/mnist/", "https://a.example/mnist/"),
            ("https://user:secret@a.example:81/mnist/x.gz", "https://***@a.example:81/mnist/x.gz"),
            ("http://secret@a.example/", "http://***@a.example/"),
            ("http://a.example/x@y/", "http://a.example/x@y/"),
            ("http://a.example/x?token=secret", "http://a.example/x?***"),
            ("http://u:secret@a.example?secret#secret", "http://***@a.example?***"),
            // Invalid addresses may hold a secret too.
            ("ftp://u:secret@a.example/", "ftp://***@a.example/"),
            ("https://u:se/cret@", "https://***@"),
            ("http://u:se/c?ret@a.example:x/?key=secret", "http://***@a.example:x/?***"),
            ("u:secret@a.example", "***@a.example"),
            ("http://u:sec ret@a example/", "http://***@a example/"),
            ("", ""),
        ];
        for (url, expected) in cases {
            assert_eq!(shown(url), expected);
            assert!(!shown(url).contains("ret"), "{url}");
        }
    }

    #[test]
    fn a_redirect_leads_where_its_address_says() {
        let from: Uri = "http://u:secret@a.example:81/data/set/x.gz?q=1".parse().unwrap();
        let cases = [
            ("https://b.example/y", Some("https://b.example/y")),
            ("//b.example/y", Some("http://b.example/y")),
            ("/y?z=2#part", Some("http://a.example:81/y?z=2")),
            ("y.gz", Some("http://a.example:81/data/set/y.gz")),
            ("../y.gz?z=a/../b", Some("http://a.example:81/data/y.gz?z=a/../b")),
            ("./../../../../y", Some("http://a.example:81/y")),
            ("?z=2", Some("http://a.example:81/data/set/x.gz?z=2")),
            ("ftp://b.example/y", None),
            ("file:///etc/passwd", None),
            ("data:,text", None),
            ("http://", None),
            ("http://b example/", None),
        ];
        for (location, expected) in cases {
            let found = redirected(&from, location).map(|found| found.to_string());
            assert_eq!(found.as_deref(), expected, "{location}");
        }
    }
}
