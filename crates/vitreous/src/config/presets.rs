//! Experiments with a name. Each is a config file in `presets/`, kept inside the program, to be run, copied and edited.

/// Names and texts, the default first.
const PRESETS: [(&str, &str); 6] = [
    ("digits", include_str!("../../../../presets/digits.toml")),
    ("mnist-vit", include_str!("../../../../presets/mnist-vit.toml")),
    ("fashion-vit-128", include_str!("../../../../presets/fashion-vit-128.toml")),
    ("cifar-vit-64", include_str!("../../../../presets/cifar-vit-64.toml")),
    ("vit-lite-7-4", include_str!("../../../../presets/vit-lite-7-4.toml")),
    ("photos", include_str!("../../../../presets/photos.toml")),
];

/// The preset of `train` without arguments.
pub const DEFAULT: &str = "digits";

/// The preset of `train --data FOLDER`.
pub const FOLDER: &str = "photos";

/// Names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// Returns the file of a preset.
pub fn text(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::Layers;

    #[test]
    fn every_preset_is_a_good_config_and_says_its_command() {
        for name in names() {
            let checked = Layers::preset(name).and_then(Layers::finish);
            assert!(checked.is_ok(), "{name}: {checked:?}");
            let first = text(name).and_then(|text| text.lines().next()).unwrap_or_default();
            let (data, preset) = (first.starts_with("# vitreous train"), name == DEFAULT || name == FOLDER);
            assert!(data && (preset || first.contains(&format!("--preset {name}"))), "{name}: {first}");
        }
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_program() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../presets");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned())
            .collect();
        let mut known: Vec<&str> = names().collect();
        files.sort();
        known.sort_unstable();
        assert_eq!(files, known);
    }
}
