//! Named experiments. Each is a config file in `presets/`, built into the program, to be run, copied and edited.

/// Name and text of a file in `presets/`.
macro_rules! preset {
    ($name:literal) => {
        ($name, include_str!(concat!("../../presets/", $name, ".toml")))
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

/// The preset that a file was made from: it begins with the same line, the preset's command.
pub fn base_of(text: &str) -> Option<&'static str> {
    let first = text.lines().next().map(str::trim_end);
    PRESETS.iter().find(|(_, preset)| preset.lines().next() == first).map(|(name, _)| *name)
}

/// The facts in the header of a preset's file: comment lines such as `# purpose: ...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The command that trains it.
    pub command: &'static str,
    /// What it is for, in a few words.
    pub purpose: &'static str,
    /// Number of parameters, with commas; starts with `about` where it depends on the number of classes.
    pub parameters: &'static str,
    /// Measured accuracy and split, as `98.32 % test`; absent where it was not measured.
    pub reached: Option<&'static str>,
    /// Training time on two cores unless it says otherwise; absent where it was not measured.
    pub time: Option<&'static str>,
}

/// Returns the facts in the header of a preset.
pub fn facts(name: &str) -> Option<Facts> {
    let mut header = text(name)?.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let command = header.next()?;
    let facts: Vec<_> = header.skip(1).map_while(|line| line.split_once(": ")).collect();
    let fact = |key: &str| facts.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
    Some(Facts {
        command,
        purpose: fact("purpose")?,
        parameters: fact("parameters")?,
        reached: fact("reached"),
        time: fact("time"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::Layers;

    #[test]
    fn every_preset_is_a_good_config_and_states_its_facts() {
        for name in names() {
            let checked = Layers::preset(name).and_then(Layers::finish);
            assert!(checked.is_ok(), "{name}: {checked:?}");
            let edited = text(name).unwrap_or_default().replace("epochs = ", "epochs = 1");
            assert_eq!(base_of(&edited), Some(name));
            let facts = facts(name).unwrap_or_else(|| panic!("{name}: the header lacks its purpose or parameters"));
            let is_chosen_by_itself = name == DEFAULT || name == FOLDER;
            let command = facts.command.strip_prefix("vitreous train").unwrap_or_else(|| panic!("{name}: {facts:?}"));
            assert!(is_chosen_by_itself || command.contains(&format!("--preset {name}")), "{name}: {facts:?}");
            assert!(facts.purpose.chars().count() <= 50, "{name}: {} does not fit a table", facts.purpose);
        }
        let expected = Facts {
            command: "vitreous train",
            purpose: "first run: ViT on digits drawn by the program",
            parameters: "105,418",
            reached: Some("98.32 % test"),
            time: Some("49 s"),
        };
        assert_eq!(facts("digits"), Some(expected));
        assert_eq!((base_of(""), base_of("[model]\n")), (None, None));
        assert_eq!(facts("vit-lite-7-4").and_then(|facts| facts.reached), None);
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_program() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/presets");
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
