//! From an image to its digits. The encoder runs once; the decoder runs once per word, on the digits so far. A beam search
//! keeps the most likely partial readings; with beam width 1 it is greedy decoding.

use std::cmp::Ordering;

use vitreous_engine::{Examples, NodeId, Parameters, Session};

use crate::config::model::ReaderConfig;
use crate::config::strips::words;
use crate::models::Model;
use crate::models::reader::{ReaderDecoder, reader_decoder};

/// The decoder of a trained reader, which runs once per word.
pub struct Reader {
    decoder: Session,
    /// Of the decoder.
    next: NodeId,
    /// Of the whole reader.
    memory: NodeId,
    logits: NodeId,
    memory_len: usize,
}

/// The digits that a model reads in one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The digits, from left to right.
    pub digits: Vec<u8>,
    /// The model's probability of exactly these digits, in 0..=1.
    pub probability: f64,
}

/// A partial reading.
#[derive(Clone, Debug, PartialEq)]
struct Partial {
    image: usize,
    digits: Vec<u8>,
    log_probability: f64,
    ended: bool,
}

impl Reader {
    /// Makes the decoder of a reader, with the weights that `session` holds.
    ///
    /// # Panics
    /// When the model is not a reader.
    pub fn new(config: &ReaderConfig, model: &Model, session: &Session) -> Self {
        let ReaderDecoder { graph, logits: next } = reader_decoder(config).expect("a checked config");
        let mut parameters = Parameters::zeros(&graph);
        for param in graph.parameters() {
            let own = graph.find_parameter(&param.name).expect("its own");
            let of_all = model.graph.find_parameter(&param.name).expect("the decoder is a part of the reader");
            parameters.get_mut(own).copy_from_slice(session.parameters().get(of_all));
        }
        let memory = model.memory.expect("a reader has a memory");
        let memory_len = model.graph.node(memory).shape.len();
        let decoder = Session::new(graph, parameters, session.threads()).expect("a model with its own parameters");
        Reader { decoder, next, memory, logits: model.logits, memory_len }
    }

    /// Reads images, given as the inputs of the whole model, and returns besides the readings its own logits: those
    /// of every word after the words that are given as input. Readings do not depend on these.
    pub fn read(
        &mut self,
        session: &mut Session,
        images: usize,
        examples: &dyn Examples,
        beam: usize,
    ) -> (Vec<Reading>, Vec<f32>) {
        let mut outputs = session.infer(&[self.memory, self.logits], images, examples);
        let logits = outputs.swap_remove(1);
        let memory = outputs.swap_remove(0);
        let start = |image| Partial { image, digits: vec![], log_probability: 0.0, ended: false };
        let mut beams: Vec<Vec<Partial>> = (0..images).map(|image| vec![start(image)]).collect();
        for position in 0..words::POSITIONS {
            let open: Vec<Partial> = beams.iter().flatten().filter(|partial| !partial.ended).cloned().collect();
            let next = self.next_words(&memory, &open, position);
            let mut grown: Vec<Vec<Partial>> = vec![Vec::new(); images];
            beams.into_iter().flatten().filter(|b| b.ended).for_each(|b| grown[b.image].push(b));
            for (partial, log_probabilities) in open.iter().zip(&next) {
                grown[partial.image].extend(continuations(partial, log_probabilities));
            }
            for partials in &mut grown {
                // Equal ones stay in the order of their words.
                partials.sort_by(|a, b| descending(a.log_probability, b.log_probability));
                partials.truncate(beam.max(1));
            }
            beams = grown;
        }
        let best = |beam: Vec<Partial>| {
            let best = beam.into_iter().next().expect("a beam is never empty");
            Reading { digits: best.digits, probability: best.log_probability.exp() }
        };
        (beams.into_iter().map(best).collect(), logits)
    }

    /// Log-probabilities of every next word, for each partial reading.
    fn next_words(&mut self, memory: &[f32], open: &[Partial], position: usize) -> Vec<Vec<f64>> {
        let len = self.memory_len;
        let fill = |input: usize, example: usize, values: &mut [f32]| {
            let Partial { image, digits, .. } = &open[example];
            match input {
                0 => values.copy_from_slice(&memory[image * len..][..len]),
                _ => values.iter_mut().zip(words::given(digits)).for_each(|(to, word)| *to = f32::from(word)),
            }
        };
        let logits = self.decoder.infer(&[self.next], open.len(), &fill).swap_remove(0);
        let rows = logits.chunks_exact(words::POSITIONS * words::COUNT);
        rows.map(|rows| log_softmax(&rows[position * words::COUNT..][..words::COUNT])).collect()
    }
}

/// All continuations of a partial reading: by a digit, while there is room, or by the end.
fn continuations(partial: &Partial, log_probabilities: &[f64]) -> Vec<Partial> {
    let room = partial.digits.len() + 1 < words::POSITIONS;
    let digits = (0..words::START).filter(|_| room);
    let grown = digits.chain([words::END]).map(|word| {
        let mut next = partial.clone();
        next.log_probability += log_probabilities[usize::from(word)];
        next.ended = word == words::END;
        if !next.ended {
            next.digits.push(word);
        }
        next
    });
    grown.collect()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - largest).exp()).sum();
    logits.iter().map(|&x| f64::from(x - largest) - sum.ln()).collect()
}

/// Descending order of log-probabilities, NaN last.
fn descending(a: f64, b: f64) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then(b.total_cmp(&a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{DIGITS, KindSpec, ReaderSpec};
    use crate::models::BuildModel;
    use crate::random::Key;

    const IMAGES: usize = 7;

    /// A reader with weights drawn anew, and what it sees.
    fn untrained() -> (ReaderConfig, Model, Session) {
        let spec = ReaderSpec { patch_size: 14, embed_dim: 12, depth: 1, num_heads: 2, ..ReaderSpec::default() };
        let config = spec.with_facts(DIGITS).unwrap();
        let model = config.build(0.0).unwrap();
        let parameters = Parameters::initialize(&model.graph, Key::new(3));
        let session = Session::new(model.graph.clone(), parameters, 2).expect("its own");
        (config, model, session)
    }

    /// Noise for images; the digits given are `given[example]`.
    fn seen(given: Vec<Vec<u8>>) -> impl Fn(usize, usize, &mut [f32]) + Sync {
        move |input: usize, example: usize, values: &mut [f32]| match input {
            0 => {
                let key = Key::new(5).with(example as u64);
                (0..).zip(values).for_each(|(i, value)| *value = key.normal(i) as f32);
            }
            1 => values.fill(0.0),
            _ => values.iter_mut().zip(words::given(&given[example])).for_each(|(to, word)| *to = f32::from(word)),
        }
    }

    /// The log-probability of every answer to one image, by the whole model alone.
    fn log_probability(session: &mut Session, model: &Model, image: usize, digits: &[u8]) -> f64 {
        let given = vec![digits.to_vec(); IMAGES];
        let logits = session.infer(&[model.logits], IMAGES, &seen(given)).swap_remove(0);
        let rows = logits.chunks_exact(words::COUNT).skip(image * words::POSITIONS);
        let said = words::targets(digits).into_iter().flatten();
        rows.zip(said).map(|(row, word)| log_softmax(row)[usize::from(word)]).sum()
    }

    #[test]
    fn the_decoder_alone_computes_what_the_whole_reader_does() {
        let (config, model, mut session) = untrained();
        let mut decoder = Reader::new(&config, &model, &session);
        for beam in [1, 3] {
            let (readings, _) = decoder.read(&mut session, IMAGES, &seen(vec![vec![]; IMAGES]), beam);
            for (image, Reading { digits, probability }) in readings.iter().enumerate() {
                let whole = log_probability(&mut session, &model, image, digits).exp();
                assert!((probability - whole).abs() < 1e-6 * whole, "{digits:?}: {probability} is not {whole}");
            }
        }
    }

    #[test]
    fn a_wide_beam_finds_the_most_likely_reading_and_greedy_decoding_the_most_likely_words() {
        let (config, model, mut session) = untrained();
        let mut decoder = Reader::new(&config, &model, &session);
        let examples = seen(vec![vec![]; IMAGES]);
        // As wide as there are answers of up to two digits and their continuations: nothing among them is lost.
        let (wide, _) = decoder.read(&mut session, IMAGES, &examples, 1200);
        let short: Vec<Vec<u8>> = (0..10).map(|a| vec![a]).chain((0..100).map(|ab| vec![ab / 10, ab % 10])).collect();
        for (image, reading) in wide.iter().enumerate() {
            for digits in &short {
                let other = log_probability(&mut session, &model, image, digits).exp();
                assert!(reading.probability >= other * (1.0 - 1e-6), "image {image}: {digits:?} is likelier");
            }
        }
        let (greedy, _) = decoder.read(&mut session, IMAGES, &examples, 1);
        for (image, Reading { digits, .. }) in greedy.iter().enumerate() {
            let logits = session.infer(&[model.logits], IMAGES, &seen(vec![digits.clone(); IMAGES])).swap_remove(0);
            let rows = logits.chunks_exact(words::COUNT).skip(image * words::POSITIONS);
            for (position, (row, word)) in rows.zip(words::targets(digits)).enumerate() {
                let Some(word) = word else { break };
                let allowed = |&w: &u8| w == words::END || (w < words::START && position < words::POSITIONS - 1);
                let best = (0..words::COUNT as u8).filter(allowed);
                let best = best.max_by(|&a, &b| row[usize::from(a)].total_cmp(&row[usize::from(b)]));
                assert_eq!(best, Some(word), "image {image}, position {position}");
            }
        }
    }
}
