//! Experiments with a name. Each is a config file in `presets/`, kept inside the program, to be run, copied and edited.

/// Name and text of a file in `presets/`.
macro_rules! preset {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../../presets/", $name, ".toml")))
    };
}

/// Names and texts, the default first.
const PRESETS: [(&str, &str); 24] = [
    preset!("digits"),
    preset!("mnist-vit"),
    preset!("mnist-vit-upright"),
    preset!("fashion-vit"),
    preset!("fashion-vit-128"),
    preset!("cifar-vit-cosine-6b8h8d"),
    preset!("cifar-vit-cosine-6b8h8d-tanh"),
    preset!("cifar-vit-cosine-6b8h8d-gelu"),
    preset!("cifar-vit-cosine-6b8h8d-decoder"),
    preset!("cifar-vit-learned-4b6h12d"),
    preset!("cifar-vit-learned-4b6h12d-tanh"),
    preset!("cifar-vit-learned-4b6h12d-gelu"),
    preset!("cifar-vit-learned-4b6h12d-decoder"),
    preset!("cifar-cnn4"),
    preset!("cifar-vgg16"),
    preset!("cifar-attention-cnn"),
    preset!("cifar-vit-64"),
    preset!("cifar-vit-64-flat"),
    preset!("cifar-vit-128"),
    preset!("vit-lite-7-4"),
    preset!("read-digits"),
    preset!("photos-vit-52m"),
    preset!("photos-cnn"),
    preset!("photos"),
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
