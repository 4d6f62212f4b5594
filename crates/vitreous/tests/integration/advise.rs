//! `vitreous advise`: its list of changes, and arguments that cannot be used. The search itself is tested in the library,
//! with injected timings.

use crate::common::{Folder, json, refused, said};

const BASE: &str =
    "[model]\nkind = 'stack'\nlayers = ['conv 8 k7', 'relu', 'maxpool 2', 'flatten', 'linear classes']\n";

#[test]
fn single_changes_are_listed_with_their_reasons() {
    let folder = Folder::new();
    std::fs::write(folder.path("my.toml"), BASE).unwrap();
    let arguments = ["advise", "--config=my.toml", "--list", "--rules=kernel,head", "--keep=layers.4"];
    let listed = json(folder.root(), &arguments);
    let what: Vec<&str> =
        listed["changes"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    let expected =
        ["layers.0: conv 8 k7 -> conv 8 k5", "layers.0: conv 8 k7 -> conv 8 k9", "layers.3: flatten -> globalpool"];
    assert_eq!(what, expected);
    assert_eq!(listed["changes"][0]["distance"]["parameters"], 8 * (49 - 25));
    let shown = said(folder.root(), &arguments);
    assert!(shown.starts_with("name      change  "), "{shown}");
    assert!(shown.contains("a convolution's cost grows with the square of its kernel"), "{shown}");
    assert!(!folder.path("runs").exists(), "a list leaves nothing behind");
}

#[test]
fn arguments_that_cannot_be_used_say_what_can() {
    let folder = Folder::new();
    std::fs::write(folder.path("my.toml"), BASE).unwrap();
    let said = |arguments: &[&str]| refused(folder.root(), &[&["advise", "--config=my.toml"], arguments].concat());
    let cases: [(&[&str], &str); 6] = [
        (&["--rules=kernal"], "error: unknown rule `kernal` (--rules)\nhint: did you mean `kernel`?\n"),
        (&["--keep=layer.0"], "error: the model has no part `layer.0` (--keep)\nhint: did you mean `layers.0`?\n"),
        (&["--faster=0"], "error: invalid value `0` (--faster)\nhint: use --faster 15\n"),
        (
            &["--jobs=5", "--set=train.threads=3"],
            "error: jobs 5 is not between 1 and 3, the number of threads (--jobs)\nhint: use --jobs 3\n",
        ),
        (&["--name=a/b"], "error: invalid run name `a/b`"),
        (
            &["--max-params=9"],
            "error: no rule can change this model (stack)\nhint: use more --rules, keep fewer parts with --keep, or use a \
             larger --max-params\n",
        ),
    ];
    for (arguments, expected) in cases {
        let found = said(arguments);
        assert!(found.starts_with(expected), "{arguments:?}: {found}");
    }
}
