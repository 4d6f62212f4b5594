//! Stored figures: what is drawn equals what was looked at.

use std::path::Path;

use super::Figure;

/// Compares a figure with the stored one of this name, which was looked at. `UPDATE_FIGURES=1` stores it anew: look at
/// it again.
pub fn compare(name: &str, figure: &Figure) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/plot/figures/{name}.svg"));
    if std::env::var_os("UPDATE_FIGURES").is_some() {
        std::fs::write(&path, figure.svg()).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == figure.svg(), "{} differs from what is drawn:\n{}", path.display(), figure.svg());
}
