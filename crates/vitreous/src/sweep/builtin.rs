//! Built-in sweeps: files in `sweeps/`, compiled into the program.

/// Names and texts.
const SWEEPS: [(&str, &str); 2] =
    [("e1", include_str!("../../sweeps/e1.toml")), ("fashion", include_str!("../../sweeps/fashion.toml"))];

/// Names of all sweeps.
pub fn names() -> impl Iterator<Item = &'static str> {
    SWEEPS.iter().map(|(name, _)| *name)
}

/// Returns the file of a sweep.
pub fn text(name: &str) -> Option<&'static str> {
    SWEEPS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::super::SweepFile;
    use super::*;
    use crate::advice::Source;
    use crate::config::layers::Layers;

    #[test]
    fn every_sweep_is_of_good_configs_and_says_its_command() {
        for name in names() {
            let text = text(name).unwrap();
            assert!(text.starts_with(&format!("# vitreous sweep {name} ")), "{name}");
            let file = SweepFile::parse(text, name).unwrap();
            for variation in file.expand().unwrap() {
                let preset = variation.preset.expect("a built-in sweep starts from presets");
                let mut layers = Layers::preset(&preset).unwrap();
                variation.set.iter().for_each(|assignment| layers.set(assignment, Source::Default).unwrap());
                assert!(layers.finish().is_ok(), "{name}: {}", variation.name);
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_program() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/sweeps");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        assert_eq!(files, names().collect::<Vec<_>>());
    }
}
