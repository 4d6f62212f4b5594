//! What tells data sets apart: checksums of known files (SHA-256 of what is in them, once decompressed), and the names of
//! data sets that are not built in.
//!
//! The files of MNIST and of Fashion-MNIST have the same names. `fetch` checks what it brings by these sums too.

/// Bytes of a file of train labels.
pub const TRAIN_LABELS_BYTES: usize = 60_008;

/// MNIST's train labels.
pub const MNIST_TRAIN_LABELS: &str = "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5";

/// Fashion-MNIST's train labels.
pub const FASHION_MNIST_TRAIN_LABELS: &str = "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9";

/// The data sets that are told apart by their train labels.
pub const TRAIN_LABELS: [(&str, &str); 2] =
    [("mnist", MNIST_TRAIN_LABELS), ("fashion-mnist", FASHION_MNIST_TRAIN_LABELS)];

/// Well-known data sets that are not built in, without `-`, `_` and spaces.
const OTHER_DATA_SETS: [&str; 16] = [
    "cifar100",
    "cinic10",
    "emnist",
    "kmnist",
    "qmnist",
    "notmnist",
    "medmnist",
    "usps",
    "svhn",
    "stl10",
    "gtsrb",
    "eurosat",
    "imagenet",
    "imagenette",
    "tinyimagenet",
    "caltech101",
];

/// Whether a name is that of a well-known data set that is not built in: no misspelling of one that is.
pub(super) fn is_other_data_set(name: &str) -> bool {
    let name: String = name.to_lowercase().chars().filter(|c| !"-_ ".contains(*c)).collect();
    OTHER_DATA_SETS.contains(&name.as_str())
}

/// Whether a name may be a misspelling of a known data set's: neither another data set's, nor one with another number.
pub(super) fn is_misspelled(name: &str, known: &str) -> bool {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    !is_other_data_set(name) && (digits(name).is_empty() || digits(name) == digits(known))
}

#[cfg(test)]
mod tests {
    use super::super::inspect;
    use super::super::samples::spec;

    #[test]
    fn another_data_set_is_no_misspelling() {
        let folder = tempfile::tempdir().unwrap();
        let hint = |name: &str| inspect(&spec(name, folder.path())).unwrap_err().hint().unwrap();
        for other in ["cifar100", "CIFAR-100", "emnist", "kmnist"] {
            assert!(hint(other).starts_with("this data set is not built in: use digits, "), "{other}");
        }
        assert!(!hint("cifar20").starts_with("did you mean"));
        let meant = ["cifar-10", "cifar", "mnits"].map(hint);
        assert_eq!(meant, ["did you mean cifar10?", "did you mean cifar10?", "did you mean mnist?"]);
    }
}
