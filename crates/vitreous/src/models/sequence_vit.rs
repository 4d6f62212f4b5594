//! A transformer whose attention heads and MLP project the whole flattened sequence. Source: experiment E4.
//!
//! Each head's query, key and value are linear layers on its slice of all tokens together. The softmax is over the query
//! axis, and its product with the values is scaled, not the scores.

use vitreous_engine::ops::{Activation, AttentionOptions, LinearInit, Over};
use vitreous_engine::{Graph, GraphError, Init, NodeId};

use super::layers::embedding;
use super::{BuildModel, Model};
use crate::config::model::{AttentionForm, SequenceVitConfig};

impl BuildModel for SequenceVitConfig {
    fn build(&self, smoothing: f32) -> Result<Model, GraphError> {
        let mut graph = Graph::new();
        let (facts, spec) = (self.facts(), self.spec());
        let image = graph.input("image", [facts.channels, facts.image_size, facts.image_size])?;
        let label = graph.input("label", [])?;
        let init = LinearInit::pytorch(facts.channels * spec.patch_size.pow(2));
        let patches = embedding::strided_convolution(&mut graph, image, spec.patch_size, spec.embed_dim, init)?;
        let token = graph.new_parameter("cls_token", [1, 1, spec.embed_dim], Init::Between { low: 0.0, high: 1.0 })?;
        let mut tokens = graph.prepend_token("cls_token", patches, token)?;
        let table = graph.new_parameter("pos_embed", [1, self.tokens(), spec.embed_dim], Init::Normal { std: 1.0 })?;
        tokens = graph.add_table("pos_embed", tokens, table)?;
        for i in 0..spec.depth {
            tokens = block(&mut graph, &format!("blocks.{i}"), tokens, self)?;
        }
        let pooled = graph.mean_tokens("pool", tokens)?;
        let logits = graph.linear("head", pooled, facts.num_classes, LinearInit::pytorch(spec.embed_dim))?;
        Model::classifier(graph, image, label, logits, smoothing)
    }
}

/// Adds one block: attention, then an MLP on all tokens together.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`, and the same is returned
fn block(graph: &mut Graph, name: &str, tokens: NodeId, config: &SequenceVitConfig) -> Result<NodeId, GraphError> {
    let eps = config.spec().norm_eps as f32;
    let shape = graph.node(tokens).shape.clone();
    let norm = |graph: &mut Graph, number: usize, x: NodeId| {
        let name = format!("{name}.norm{number}");
        let params = graph.layer_norm_parameters(&name, shape.features())?;
        graph.layer_norm(&name, x, params, eps)
    };
    let seen = norm(graph, 1, tokens)?;
    let mixed = attention(graph, &format!("{name}.attn"), seen, config)?;
    let tokens = graph.add(&format!("{name}.add1"), tokens, mixed)?;
    let seen = norm(graph, 2, tokens)?;
    let flat = graph.reshape(&format!("{name}.mlp.flat"), seen, [shape.len()])?;
    let hidden_dim = config.hidden_dim();
    let hidden = graph.linear(&format!("{name}.mlp.fc1"), flat, hidden_dim, LinearInit::pytorch(shape.len()))?;
    let hidden = graph.activation(&format!("{name}.mlp.act"), hidden, Activation::Relu)?;
    let worked = graph.linear(&format!("{name}.mlp.fc2"), hidden, shape.len(), LinearInit::pytorch(hidden_dim))?;
    let worked = graph.reshape(&format!("{name}.mlp.tokens"), worked, shape.clone())?;
    graph.add(&format!("{name}.add2"), tokens, worked)
}

fn attention(graph: &mut Graph, name: &str, tokens: NodeId, config: &SequenceVitConfig) -> Result<NodeId, GraphError> {
    let heads = config.spec().num_heads;
    let options = |heads: usize| AttentionOptions {
        softmax: Over::Queries,
        out_scale: (config.head_dim() as f32).sqrt().recip(),
        ..AttentionOptions::new(heads, 1.0)
    };
    let head_name = |head: usize| format!("{name}.heads.{head}");
    match config.spec().attention_form {
        AttentionForm::Loop => {
            let mut contexts = Vec::with_capacity(heads);
            for head in 0..heads {
                let [q, k, v] = projections(graph, &head_name(head), tokens, head, config)?;
                contexts.push(graph.attend(&format!("{}.context", head_name(head)), q, k, v, options(1), None)?);
            }
            graph.concat_features(&format!("{name}.context"), &contexts)
        }
        AttentionForm::Einsum => {
            let all = (0..heads).map(|head| projections(graph, &head_name(head), tokens, head, config));
            let all = all.collect::<Result<Vec<[NodeId; 3]>, GraphError>>()?;
            let mut together = |part: usize, word: &str| {
                let parts: Vec<NodeId> = all.iter().map(|head| head[part]).collect();
                graph.concat_features(&format!("{name}.{word}"), &parts)
            };
            let (q, k, v) = (together(0, "q")?, together(1, "k")?, together(2, "v")?);
            graph.attend(&format!("{name}.context"), q, k, v, options(heads), None)
        }
    }
}

/// Returns query, key and value of one head, each `[tokens, head_dim]`.
fn projections(
    graph: &mut Graph,
    name: &str,
    tokens: NodeId,
    head: usize,
    config: &SequenceVitConfig,
) -> Result<[NodeId; 3], GraphError> {
    let (count, width) = (config.tokens(), config.head_dim());
    let part = graph.slice_features(&format!("{name}.part"), tokens, head * width, width)?;
    let flat = graph.reshape(&format!("{name}.flat"), part, [count * width])?;
    let mut project = |word: &str| {
        let init = LinearInit::pytorch(count * width);
        let made = graph.linear(&format!("{name}.{word}"), flat, count * width, init)?;
        graph.reshape(&format!("{name}.{word}.tokens"), made, [count, width])
    };
    Ok([project("q")?, project("k")?, project("v")?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{ImageFacts, KindSpec, SequenceVitSpec};
    use vitreous_engine::autodiff::differentiate;
    use vitreous_engine::random::Key;
    use vitreous_engine::reference::{Mode, Reference, Values};

    const FACTS: ImageFacts = ImageFacts { image_size: 10, channels: 3, num_classes: 7 };

    fn build(form: AttentionForm) -> Model {
        let sizes = SequenceVitSpec { patch_size: 5, embed_dim: 6, depth: 2, num_heads: 2, ..Default::default() };
        let spec = SequenceVitSpec { attention_form: form, ..sizes };
        spec.with_facts(FACTS).expect("a good spec").build(0.0).expect("a checked config")
    }

    /// Loss and gradients of three random images by the plain loops.
    fn run(model: &Model) -> (Vec<f64>, Values) {
        let training = differentiate(&model.graph, model.loss);
        let noise = |key: Key, len: usize| (0..len as u64).map(|i| key.normal(i)).collect::<Vec<f64>>();
        let params = model.graph.parameters().iter();
        let params = params.map(|param| noise(Key::new(3).with_name(&param.name), param.shape.len())).collect();
        let inputs = [noise(Key::new(5), 3 * 300), vec![2.0, 0.0, 6.0]];
        let values = Reference::new(&training.graph, params).run(&inputs, Mode::Train { image_keys: None, batch: 3 });
        (values.of(model.loss).to_vec(), values)
    }

    #[test]
    fn the_loop_and_the_einsum_agree() {
        let (one, other) = (build(AttentionForm::Loop), build(AttentionForm::Einsum));
        assert_eq!(one.graph.parameters(), other.graph.parameters());
        let ((losses, values), (other_losses, other_values)) = (run(&one), run(&other));
        assert!(losses.iter().zip(&other_losses).all(|(a, b)| (a - b).abs() < 1e-12), "{losses:?} {other_losses:?}");
        for (gradient, other) in values.gradients.iter().zip(&other_values.gradients) {
            assert!(gradient.iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-11), "{gradient:?} {other:?}");
        }
    }

    #[test]
    fn every_head_projects_its_own_slice_of_the_whole_sequence() {
        let lines = crate::models::tests::wiring(&build(AttentionForm::Loop));
        let expected = [
            "blocks.1.attn.heads.1.part slice_features(blocks.1.norm1) [5, 3]",
            "blocks.1.attn.heads.1.flat reshape(blocks.1.attn.heads.1.part) [15]",
            "blocks.1.attn.heads.1.q linear(blocks.1.attn.heads.1.flat; blocks.1.attn.heads.1.q.weight[15, 15] \
             blocks.1.attn.heads.1.q.bias[15]) [15]",
        ];
        let at = lines.iter().position(|line| line == expected[0]).expect("it is there");
        assert_eq!(lines[at..at + 3], expected);
        assert!(lines.contains(
            &"blocks.1.attn.context concat_features(blocks.1.attn.heads.0.context blocks.1.attn.heads.1.context) [5, 6]"
                .to_string()
        ));
        assert!(lines.iter().any(|line| {
            line.starts_with("blocks.0.mlp.fc1 linear(blocks.0.mlp.flat; blocks.0.mlp.fc1.weight[60, 30]")
        }));
    }
}
