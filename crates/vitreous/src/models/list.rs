//! The models that have a name of their own, with their size, for `vitreous models`.

use serde::Serialize;
use vitreous_engine::GraphError;

use super::build;
use crate::config::model::ModelSpec;

/// A model with a name of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListedModel {
    /// Its name, as `--model` takes it.
    pub name: &'static str,
    /// Its kind: the value of `kind`.
    pub kind: &'static str,
    /// What it is made of, as `ViT 12 blocks, 3 heads, width 192`.
    pub description: String,
    /// Number of trained values, for the images below.
    pub params: u64,
    /// Height and width of the images for which the source describes it, in pixels.
    pub image_size: usize,
    /// Channels of these images.
    pub channels: usize,
    /// Number of their classes.
    pub num_classes: usize,
    /// The paper that describes it.
    pub source: &'static str,
}

/// Lists all models that have a name.
///
/// # Errors
/// None: every named model can be built.
pub fn list() -> Result<Vec<ListedModel>, GraphError> {
    let listed = ModelSpec::named_models().into_iter().map(|named| {
        let config = named.spec.with_facts(named.facts).expect("a named model fits the images of its source");
        Ok(ListedModel {
            name: named.name,
            kind: named.spec.kind().name(),
            description: config.describe(),
            params: build(&config, 0.0)?.graph.parameter_count() as u64,
            image_size: named.facts.image_size,
            channels: named.facts.channels,
            num_classes: named.facts.num_classes,
            source: named.source,
        })
    });
    listed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_model_is_listed_with_its_size() {
        let models = list().unwrap();
        assert_eq!(models.iter().map(|model| model.name).collect::<Vec<_>>(), ModelSpec::names().collect::<Vec<_>>());
        let tiny = &models[0];
        assert_eq!((tiny.name, tiny.kind, tiny.params), ("vit-tiny", "vit", 5_717_416));
        assert_eq!(tiny.description, "ViT 12 blocks, 3 heads, width 192");
        let last = models.last().unwrap();
        assert_eq!((last.name, last.kind, last.params), ("convnext-tiny", "convnet", 28_589_128));
        assert_eq!(last.description, "3 + 3 + 9 + 3 ConvNeXt blocks, width 96 to 768");
        assert_eq!((last.image_size, last.num_classes, last.source), (224, 1000, "Liu et al. 2022"));
    }
}
