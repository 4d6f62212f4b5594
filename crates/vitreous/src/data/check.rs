//! Problems of training and validation images: duplicates, rare classes, images that are too small.

use serde::{Deserialize, Serialize};

use super::walk::EXTENSIONS;
use super::{Duplicates, Ignored, SmallPicture, Split};
use crate::advice::Suggestion;
use crate::numbers::{self, counted};
use crate::text::some_of;

/// A class is rare if it has fewer images than this fraction of the mean.
const RARE: f64 = 0.1;

/// Maximum number of classes that a message lists.
const NAMED_MAX: usize = 5;

/// Problems of the training and validation images; the test split is not read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataCheck {
    /// Images that occur more than once.
    pub duplicates: Duplicates,
    /// Mean number of training images per class.
    pub class_mean: f64,
    /// Classes with less than a tenth of it.
    pub rare_classes: Vec<RareClass>,
    /// Classes without validation images, where there is a validation split.
    pub not_validated: Vec<String>,
    /// Where the validation images come from.
    #[serde(default)]
    pub validation_source: ValidationSource,
    /// Number of training and validation images.
    pub images: usize,
    /// Image files that were enlarged to the input size.
    pub small_pictures: Vec<SmallPicture>,
    /// Files in class folders that are not used.
    #[serde(default, rename = "passed_over")]
    pub ignored: Ignored,
}

/// Where validation images come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValidationSource {
    /// The fraction `val_fraction` of a packed or drawn train set.
    #[default]
    Fraction,
    /// A fraction of a folder's train set, with at least one image of every class that has two different images.
    Content,
    /// A separate folder.
    Folder,
}

/// A class with few images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RareClass {
    /// Its name.
    pub class: String,
    /// Number of training images.
    pub images: usize,
}

/// A problem, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// The problem.
    pub what: String,
    /// What to do about it.
    pub fix: Suggestion,
}

impl DataCheck {
    /// Checks the loaded images.
    pub fn new(
        train: &Split,
        validation: Option<&Split>,
        class_names: &[String],
        validation_source: ValidationSource,
        ignored: &Ignored,
    ) -> DataCheck {
        let counts = train.class_counts(class_names.len());
        let class_mean = train.len() as f64 / class_names.len().max(1) as f64;
        let named = || class_names.iter().cloned();
        let rare = named().zip(&counts).filter(|(_, images)| (**images as f64) < RARE * class_mean);
        let held_out = validation.map(|split| split.class_counts(class_names.len()));
        let not_validated = held_out.map_or_else(Vec::new, |counts| {
            named().zip(counts).filter(|(_, images)| *images == 0).map(|(class, _)| class).collect()
        });
        DataCheck {
            duplicates: Duplicates::find(train, validation, class_names),
            class_mean,
            rare_classes: rare.map(|(class, &images)| RareClass { class, images }).collect(),
            not_validated,
            validation_source,
            images: train.len() + validation.map_or(0, Split::len),
            small_pictures: train.small_pictures().to_vec(),
            ignored: ignored.clone(),
        }
    }

    /// Lists the problems, the worst first.
    pub fn problems(&self) -> Vec<Problem> {
        let images =
            [self.copies(), self.empty(), self.rare(), self.not_validated(), self.small()].into_iter().flatten();
        images.chain(self.ignored.problems()).collect()
    }

    fn copies(&self) -> Option<Problem> {
        let Duplicates { images, copies, of_several_classes, in_both_splits, .. } = self.duplicates;
        if images == 0 {
            return None;
        }
        let verb = if images == 1 { "occurs" } else { "occur" };
        let mut what = format!("{} {verb} more than once ({})", counted(images, "image"), counted(copies, "copy"));
        let mut fix = "keep one copy of each";
        if of_several_classes > 0 {
            what.push_str(&format!(", {} of them under different classes", numbers::count(of_several_classes as u64)));
            fix = "choose one class and keep one copy of each";
        }
        if in_both_splits > 0 {
            let both = numbers::count(in_both_splits as u64);
            let verb = if in_both_splits == 1 { "is" } else { "are" };
            what.push_str(&format!("; {both} {verb} in both train and validation"));
        }
        Some(Problem { what, fix: Suggestion::new().text(fix) })
    }

    /// Without a training image, a class cannot be learned.
    fn empty(&self) -> Option<Problem> {
        let classes = self.rare_classes.iter().filter(|rare| rare.images == 0);
        let classes = listed(&classes.map(|rare| format!("`{}`", rare.class)).collect::<Vec<_>>())?;
        let others = Suggestion::new().text("name the other classes with").key("data.classes");
        let fix = match self.validation_source {
            ValidationSource::Fraction => others,
            _ => others.or().text("add images of them"),
        };
        Some(Problem { what: format!("classes without training images: {classes}"), fix })
    }

    fn rare(&self) -> Option<Problem> {
        let classes: Vec<String> = self
            .rare_classes
            .iter()
            .filter(|rare| rare.images > 0)
            .map(|rare| format!("`{}` ({})", rare.class, numbers::count(rare.images as u64)))
            .collect();
        let mean = numbers::count(self.class_mean.round() as u64);
        let what =
            format!("classes with less than a tenth of the mean of {mean} training images: {}", listed(&classes)?);
        let fix = Suggestion::new().text("add images of them").or().text("name the classes to learn with");
        let fix = fix.key("data.classes");
        Some(Problem { what, fix })
    }

    fn not_validated(&self) -> Option<Problem> {
        let is_trained =
            |class: &&String| !self.rare_classes.iter().any(|rare| rare.images == 0 && rare.class == **class);
        let classes = self.not_validated.iter().filter(is_trained).map(|class| format!("`{class}`"));
        let classes = listed(&classes.collect::<Vec<_>>())?;
        let fix = match self.validation_source {
            ValidationSource::Fraction => Suggestion::new().using("a larger").key("data.val_fraction"),
            ValidationSource::Content => Suggestion::new().text(format!("add images of {classes}")),
            ValidationSource::Folder => {
                Suggestion::new().text(format!("add images of {classes} to the validation split"))
            }
        };
        Some(Problem { what: format!("classes without validation images: {classes}"), fix })
    }

    fn small(&self) -> Option<Problem> {
        let smallest = self.small_pictures.iter().min_by_key(|picture| picture.width.min(picture.height))?;
        let [count, all] = [self.small_pictures.len(), self.images].map(|n| numbers::count(n as u64));
        let SmallPicture { name, width, height } = smallest;
        let what =
            format!("images enlarged to the input size: {count} of {all}, the smallest {width}x{height} ({name})");
        let fix = Suggestion::new().using("larger images").or().using("a smaller").key("data.image_size");
        Some(Problem { what, fix })
    }
}

/// Lists names: all of a few, or the first of many.
fn listed(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| some_of(names, NAMED_MAX))
}

impl Ignored {
    /// The ignored files, by kind.
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        let Ignored { other_formats, dead_links, special, other_files, not_unicode } = self;
        let read = EXTENSIONS.join(", ");
        let kinds = [
            (other_formats, "images in unsupported formats", "convert them to JPEG or PNG".to_string()),
            (dead_links, "broken links", "add the files or remove the links".to_string()),
            (special, "pipes, sockets or devices, ignored", "replace them with files".to_string()),
            (not_unicode, "image names that are not valid Unicode", "rename them (the images are used)".to_string()),
            (
                other_files,
                "files with other extensions, ignored",
                format!("image files need one of the extensions {read}"),
            ),
        ];
        kinds.into_iter().filter_map(|(files, what, fix)| {
            Some(Problem { what: format!("{what}: {}", files.listed()?), fix: Suggestion::new().text(fix) })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use image::ImageFormat;

    use super::super::Wanted;
    use super::super::samples::{loaded, picture, spec, write};
    use super::*;
    use crate::config::data::DataSpec;

    fn checked(root: &Path, size: usize) -> DataCheck {
        let spec = DataSpec { image_size: Some(size), ..spec("photos", root) };
        let (facts, loaded) = loaded(&spec, Wanted::TrainAndValidation).unwrap();
        let (train, validation) = (loaded.train.unwrap(), loaded.validation);
        let source = facts.validation_source();
        DataCheck::new(&train, validation.as_ref(), &facts.class_names, source, &facts.ignored)
    }

    /// Pictures of a class, each of its own color and with a width of `size` and more.
    fn write_class(root: &Path, class: &str, count: u32, size: u32) {
        for i in 0..count {
            let color = [i as u8, (i >> 8) as u8, class.bytes().fold(0, u8::wrapping_add)];
            write(
                &root.join(format!("photos/{class}/{i:03}.png")),
                &picture(ImageFormat::Png, size + i % 5, size + 3, color),
            );
        }
    }

    #[test]
    fn good_images_have_no_problems() {
        let root = tempfile::tempdir().unwrap();
        for class in ["train/ant", "train/beetle", "val/ant", "val/beetle"] {
            write_class(root.path(), class, 11, 13);
        }
        let check = checked(root.path(), 13);
        assert_eq!((check.class_mean, check.images, check.problems()), (11.0, 44, Vec::new()));
        // Manifests of earlier runs have this key.
        assert!(serde_json::to_value(&check).unwrap()["passed_over"].is_object());
    }

    #[test]
    fn every_problem_is_listed_with_its_fix() {
        let root = tempfile::tempdir().unwrap();
        write_class(root.path(), "train/ant", 100, 13);
        write_class(root.path(), "train/beetle", 97, 13);
        write_class(root.path(), "train/c", 6, 13);
        write_class(root.path(), "val/ant", 2, 13);
        write_class(root.path(), "val/beetle", 2, 13);
        let copy = |from: &str, to: &str| {
            let [from, to] = [from, to].map(|name| root.path().join("photos").join(name));
            std::fs::copy(from, to).unwrap();
        };
        copy("train/ant/003.png", "train/beetle/copy.png");
        copy("train/ant/004.png", "train/ant/copy.png");
        copy("train/ant/003.png", "val/ant/copy.png");
        let problems = checked(root.path(), 16).problems();
        let listed: Vec<[String; 2]> =
            problems.iter().map(|problem| [problem.what.clone(), problem.fix.to_string()]).collect();
        let expected = [
            [
                "2 images occur more than once (5 copies), 1 of them under different classes; 1 is in both train and \
                 validation",
                "choose one class and keep one copy of each",
            ],
            [
                "classes with less than a tenth of the mean of 68 training images: `c` (6)",
                "add images of them, or name the classes to learn with data.classes",
            ],
            ["classes without validation images: `c`", "add images of `c` to the validation split"],
            [
                "images enlarged to the input size: 127 of 210, the smallest 13x16 (train/ant/000.png)",
                "use larger images, or a smaller data.image_size",
            ],
        ];
        assert_eq!(listed, expected);
        assert_eq!(checked(root.path(), 13).problems().len(), 3);
    }

    #[test]
    fn the_fix_for_a_class_without_validation_images_works() {
        let root = tempfile::tempdir().unwrap();
        write_class(root.path(), "ant", 30, 13);
        write_class(root.path(), "beetle", 30, 13);
        write_class(root.path(), "rare", 1, 13);
        let fix = |check: &DataCheck| check.not_validated().unwrap().fix.to_string();
        let check = checked(root.path(), 13);
        assert_eq!(fix(&check), "add images of `rare`");
        write_class(root.path(), "rare", 2, 13);
        assert_eq!(checked(root.path(), 13).not_validated, Vec::<String>::new());
        // Images cannot be added to a packed data set.
        let packed = DataCheck { validation_source: ValidationSource::Fraction, ..check };
        assert_eq!(fix(&packed), "use a larger data.val_fraction");
    }

    #[test]
    fn a_class_without_images_is_not_called_rare() {
        let rare = |class: &str, images| RareClass { class: class.to_string(), images };
        let check = DataCheck {
            class_mean: 70.0,
            rare_classes: vec![rare("ant", 0), rare("beetle", 3)],
            not_validated: vec!["ant".to_string(), "beetle".to_string()],
            ..DataCheck::default()
        };
        let told = |check: &DataCheck| {
            check.problems().iter().map(|problem| format!("{}; {}", problem.what, problem.fix)).collect::<Vec<_>>()
        };
        let rest = [
            "classes with less than a tenth of the mean of 70 training images: `beetle` (3); add images of them, or name \
             the classes to learn with data.classes",
            "classes without validation images: `beetle`; use a larger data.val_fraction",
        ];
        let empty = "classes without training images: `ant`; name the other classes with data.classes";
        assert_eq!(told(&check), [&[empty][..], &rest].concat());
        let folder = DataCheck { validation_source: ValidationSource::Folder, ..check };
        assert_eq!(told(&folder)[0], format!("{empty}, or add images of them"));
    }

    #[test]
    fn a_long_list_of_classes_is_shortened() {
        let names: Vec<String> = (0..7).map(|i| i.to_string()).collect();
        assert_eq!(listed(&names[..5]).unwrap(), "0, 1, 2, 3, 4");
        assert_eq!(listed(&names).unwrap(), "0, 1, 2, 3, 4 and 2 more");
        assert_eq!(listed(&[]), None);
    }
}
