//! Hashes of images without their names: they distinguish renamed files from different images.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Split, SplitName};
use crate::numbers::hexadecimal;

/// SHA-256, in hexadecimal, over labels and pixels of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentHashes {
    /// In the order of each split: equal hashes give equal weights.
    pub in_order: String,
    /// In any order and split.
    pub in_any_order: String,
}

impl ContentHashes {
    /// Hashes all images of some splits.
    pub(super) fn of(splits: &[(SplitName, Split)]) -> ContentHashes {
        let (mut in_order, mut images) = (Sha256::new(), Vec::<[u8; 32]>::new());
        for (name, split) in splits {
            in_order.update(format!("{name} {}\n", split.len()));
            for i in 0..split.len() {
                let mut hash = Sha256::new();
                hash.update(format!("{} {}\n", split.shape(), split.label(i)));
                hash.update(split.pixels(i));
                let image = hash.finalize();
                in_order.update(image);
                images.push(image.into());
            }
        }
        images.sort_unstable();
        let in_any_order = hexadecimal(&Sha256::digest(images.as_flattened()));
        ContentHashes { in_order: hexadecimal(&in_order.finalize()), in_any_order }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Wanted;
    use super::super::samples::{loaded, spec, write_class, write_mnist};

    #[test]
    fn names_do_not_count_and_order_labels_and_splits_do() {
        let folder = tempfile::tempdir().unwrap();
        for (class, green) in [("train/ant", 0), ("train/bee", 100), ("val/ant", 30)] {
            write_class(&folder.path().join("photos").join(class), 3, green);
        }
        let spec = spec("photos", folder.path());
        let of = || loaded(&spec, Wanted::TrainAndValidation).unwrap().1;
        let rename = |from: &str, to: &str| {
            let place = folder.path().join("photos");
            fs::rename(place.join(from), place.join(to)).unwrap();
        };
        let before = of();
        let content = before.content.unwrap();
        rename("train/ant/1.png", "train/ant/1b.png");
        let renamed = of();
        assert_ne!(renamed.fingerprint, before.fingerprint);
        assert_eq!(renamed.content, Some(content.clone()));
        rename("train/ant/1b.png", "train/ant/9.png");
        let moved = of().content.unwrap();
        assert_ne!(moved.in_order, content.in_order);
        assert_eq!(moved.in_any_order, content.in_any_order);
        rename("train/ant/9.png", "val/ant/9.png");
        let validates = of().content.unwrap();
        assert_ne!(validates.in_order, content.in_order);
        assert_eq!(validates.in_any_order, content.in_any_order);
        rename("val/ant/9.png", "train/bee/9.png");
        assert_ne!(of().content.unwrap().in_any_order, content.in_any_order);
        write_mnist(folder.path());
        let mnist = super::super::samples::spec("mnist", folder.path());
        assert_eq!(loaded(&mnist, Wanted::TrainAndValidation).unwrap().1.content, None);
    }
}
