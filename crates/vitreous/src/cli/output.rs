//! Files that a user names, such as a report or a figure: checked before any work, then written whole.

use std::fs;
use std::io::{self, BufWriter};
use std::path::Path;

use super::CliError;
use super::settings::shell_word;
use crate::record::{Output, RecordError, is_run, replace_file};

/// Checks that a file of one of some kinds can be put at a path, which `flag` gave.
///
/// Only kinds of files that no run has are allowed, so no file of a run is ever replaced.
pub fn check_output(path: &Path, flag: &str, endings: &[&str]) -> Result<(), CliError> {
    let refused = |what: String, hint: String| Err(CliError::user(format!("{what} ({flag})"), Some(hint)));
    let shown = path.display();
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if !endings.contains(&ending.as_str()) || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        let (last, others) = endings.split_last().expect("there are kinds");
        let listed: Vec<String> = others.iter().map(|ending| format!(".{ending}")).collect();
        let listed = if listed.is_empty() { String::new() } else { format!("{} or ", listed.join(", ")) };
        return refused(format!("invalid file name `{shown}`"), format!("use a name that ends in {listed}.{last}"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let shown = folder.display();
        return match folder.exists() {
            true => refused(format!("{shown} is not a folder"), "choose another name".to_string()),
            false => refused(format!("no folder {shown}"), format!("make it with `mkdir -p {}`", shell_word(folder))),
        };
    }
    // A device or a pipe would be replaced by a file.
    if fs::metadata(path).is_ok_and(|facts| !facts.is_file()) {
        return refused(format!("{shown} is not a file"), "choose another name".to_string());
    }
    Ok(())
}

/// As [`check_output`], for JSON: a run has such files, so none is put into its folder.
pub fn check_json(path: &Path, flag: &str) -> Result<(), CliError> {
    check_output(path, flag, &["json"])?;
    match path.parent().filter(|folder| is_run(folder)) {
        Some(folder) => {
            let what = format!("{} is a run folder, whose files are the program's own ({flag})", folder.display());
            Err(CliError::user(what, Some("choose another folder".to_string())))
        }
        None => Ok(()),
    }
}

/// Writes such a file whole or not at all. A link stays a link: the file that it leads to is replaced.
pub fn write_output(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<Output>) -> io::Result<()>,
) -> Result<(), RecordError> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|facts| facts.is_symlink());
    let led_to = is_link.then(|| fs::canonicalize(path).ok()).flatten();
    replace_file(led_to.as_deref().unwrap_or(path), write).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_a_file_of_the_right_kind_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("dir.html")).unwrap();
        let of = |name: &str, endings: &[&str]| {
            let error = check_output(&at(name), "--output", endings).err()?;
            let (what, hint) = error.text(&super::super::advice::Context::of(crate::advice::Verb::Train, false));
            Some(format!("{what}; {}", hint.unwrap()).replace(&format!("{}/", folder.path().display()), ""))
        };
        let figure = ["png", "svg", "pdf"];
        assert_eq!(of("a.html", &["html"]), None);
        assert_eq!(of("A.PNG", &figure), None);
        assert_eq!(
            of("a.pdf", &["html"]).unwrap(),
            "invalid file name `a.pdf` (--output); use a name that ends in .html"
        );
        let hint = "use a name that ends in .png, .svg or .pdf";
        assert_eq!(
            of("manifest.json", &figure).unwrap(),
            format!("invalid file name `manifest.json` (--output); {hint}")
        );
        assert!(of("a.html/", &["html"]).is_some());
        assert_eq!(of("dir.html", &["html"]).unwrap(), "dir.html is not a file (--output); choose another name");
        assert_eq!(
            of("no/a.html", &["html"]).unwrap(),
            format!("no folder no (--output); make it with `mkdir -p {}`", at("no").display())
                .replace(&format!("{}/", folder.path().display()), "")
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_replaced_file_keeps_its_permissions_and_a_link_stays_one() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a.html"), folder.path().join("b.html"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&file, &link).unwrap();
        write_output(&link, |to| to.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
