//! Sequences in company: what is computed for one does not depend on the others.

use super::families::{WORDS, bits, samples};
use super::*;
use rand::rngs::ChaCha12Rng;
use rand::{RngExt, SeedableRng};

/// Tokens that all texts begin with.
const COMMON: usize = 30;
const LENGTH: usize = 90;
const SEQUENCES: usize = 4;
/// Random interleavings of each family with each cache.
const INTERLEAVINGS: u64 = 5;
const STEPS: usize = 14;

fn text(number: usize) -> Vec<u32> {
    let word = |i: usize| (i * i * 7 + i * 3 + if i < COMMON { 1 } else { number + 2 }) % WORDS as usize;
    (0..LENGTH).map(|i| word(i) as u32).collect()
}

/// A text and what was read of it.
struct Reader {
    text: usize,
    cache: Cache,
}

/// Logits after every token of every text, each read alone.
fn alone(model: &Arc<Model>, options: &RunOptions) -> Vec<Vec<Vec<u32>>> {
    let mut runner = Runner::new(Arc::clone(model), &RunOptions { slots: 1, ..*options }).unwrap();
    let texts = (0..SEQUENCES).map(|number| {
        runner.truncate(0);
        let mut all = vec![];
        runner.score(&text(number), 0, &mut |_, logits| all.push(bits(logits))).unwrap();
        all
    });
    texts.collect()
}

/// Arrivals of new texts, cancellations, and prefixes that are taken over from another sequence.
fn disturb(readers: &mut [Reader], random: &mut ChaCha12Rng) {
    let at = random.random_range(0..readers.len());
    match random.random_range(0..4) {
        0 => readers[at].cache.truncate(random.random_range(0..LENGTH)),
        1 => {
            readers[at].text = random.random_range(0..SEQUENCES);
            let position = readers[at].cache.position();
            // What two texts have in common is kept.
            readers[at].cache.truncate(position.min(COMMON));
        }
        2 => {
            let from = (at + 1) % readers.len();
            let [to, from] = readers.get_disjoint_mut([at, from]).unwrap();
            let tokens = if to.text == from.text { random.random_range(0..=LENGTH) } else { COMMON };
            let tokens = tokens.min(from.cache.position());
            assert!(to.cache.copy_prefix(&from.cache, tokens) <= tokens);
        }
        _ => {}
    }
}

/// One step with a random piece for some of the readers; the rows they want are those of the texts alone.
fn step(
    worker: &mut Worker,
    readers: &mut [Reader],
    random: &mut ChaCha12Rng,
    alone: &[Vec<Vec<u32>>],
) -> Result<(), String> {
    let texts: Vec<Vec<u32>> = readers.iter().map(|reader| text(reader.text)).collect();
    let (mut pieces, mut expected) = (vec![], vec![]);
    let mut tokens_left = worker.most_tokens();
    for (reader, tokens) in readers.iter_mut().zip(&texts) {
        let at = reader.cache.position();
        let most = [1, 1, 9, 40][random.random_range(0..4usize)].min(LENGTH - at).min(tokens_left);
        if most == 0 || random.random_range(0..4) == 0 {
            continue;
        }
        let len = random.random_range(1..=most);
        // Now and then more than are computed together.
        let most = [2, 2, 2, 30][random.random_range(0..4usize)];
        let rows = random.random_range(0..=len.min(most));
        tokens_left -= len;
        expected.extend((at + len - rows..at + len).map(|row| (reader.text, row)));
        pieces.push(Piece { cache: &mut reader.cache, tokens: &tokens[at..at + len], rows });
    }
    if pieces.is_empty() {
        return Ok(());
    }
    let mut found: Vec<Vec<u32>> = vec![];
    let (mut rows, mut last) = (worker.step(&mut pieces).unwrap(), 0);
    while let Some((piece, logits)) = rows.next_rows() {
        assert!(piece >= last && !logits.is_empty());
        last = piece;
        found.extend(logits.rows().map(|logits| bits(logits.values)));
    }
    assert_eq!(found.len(), expected.len());
    match found.iter().zip(&expected).find(|(found, (text, row))| **found != alone[*text][*row]) {
        Some((_, (text, row))) => Err(format!("text {text} after token {row}")),
        None => Ok(()),
    }
}

#[test]
fn every_family_computes_alike_in_company() {
    let mut interleavings = 0;
    for (case, sample) in samples().into_iter().enumerate() {
        let (name, file) = (sample.family.architecture, sample.file());
        let model = Arc::new(Model::load(&file, Kernels::detect().unwrap()).unwrap());
        for kv in [KvType::F16, KvType::Q8_0] {
            let mut options = RunOptions { context: LENGTH, threads: 1, slots: SEQUENCES, logit_rows: 2, kv };
            let alone = alone(&model, &options);
            for seed in 0..INTERLEAVINGS {
                options.threads = 1 + (case + seed as usize) % 4;
                let mut worker = Worker::new(Arc::clone(&model), &options).unwrap();
                let new = |text| Reader { text, cache: Cache::new(Arc::clone(&model), &options).unwrap() };
                let mut readers: Vec<Reader> = (0..SEQUENCES).map(new).collect();
                let mut random = ChaCha12Rng::seed_from_u64(100 * case as u64 + seed);
                for number in 0..STEPS {
                    let stepped = step(&mut worker, &mut readers, &mut random, &alone);
                    assert_eq!(stepped, Ok(()), "{name} {kv} {seed} step {number}");
                    disturb(&mut readers, &mut random);
                }
                interleavings += 1;
            }
        }
    }
    assert!(interleavings >= 200, "{interleavings}");
}

#[test]
fn impossible_steps_change_nothing() {
    let file = samples().remove(0).file();
    let model = Arc::new(Model::load(&file, Kernels::detect().unwrap()).unwrap());
    let options = RunOptions { context: LENGTH, threads: 1, slots: 2, logit_rows: 2, kv: KvType::F16 };
    let mut worker = Worker::new(Arc::clone(&model), &options).unwrap();
    let mut caches = [0, 1].map(|_| Cache::new(Arc::clone(&model), &options).unwrap());
    let long = text(0);
    let mut refused = |first: (&[u32], usize), second: (&[u32], usize)| {
        let [a, b] = &mut caches;
        let mut pieces =
            [(a, first), (b, second)].map(|(cache, (tokens, rows))| Piece { cache, tokens, rows });
        let error = worker.step(&mut pieces).err();
        assert_eq!([caches[0].position(), caches[1].position()], [0, 0]);
        error
    };
    use ModelError::{ContextFull, LogitRows, NoTokens, StepTokens, TokenOutOfRange};
    assert!(matches!(refused((&[1], 1), (&[], 0)), Some(NoTokens)));
    assert!(matches!(refused((&[1], 2), (&[1], 1)), Some(LogitRows { found: 2, most: 1 })));
    assert!(matches!(refused((&[1; 60], 1), (&[1; 5], 1)), Some(StepTokens { found: 65, most: TILE })));
    assert!(matches!(refused((&[1], 1), (&[u32::MAX], 1)), Some(TokenOutOfRange { .. })));
    assert!(matches!(
        refused((&[1], 1), ([&long[..], &[1]].concat().as_slice(), 1)),
        Some(ContextFull { .. })
    ));
    assert!(matches!(worker.step(&mut []), Err(NoTokens)));
    for slots in [0, MAX_SLOTS + 1] {
        let options = RunOptions { slots, ..options };
        assert!(matches!(Worker::new(Arc::clone(&model), &options), Err(ModelError::Slots { .. })));
        assert!(matches!(
            Plan::new(&file, Kernels::detect().unwrap(), &options),
            Err(ModelError::Slots { .. })
        ));
    }
}

/// Of several slots too, the plan is what is allocated.
#[test]
fn slots_are_planned() {
    use crate::runtime::allocated_bytes;
    for sample in samples() {
        let file = sample.file();
        for (slots, kv) in [(1, KvType::F16), (3, KvType::Q8_0), (MAX_SLOTS, KvType::F16)] {
            let options = RunOptions { context: 50, threads: 2, slots, logit_rows: 3, kv };
            let kernels = Kernels::detect().unwrap();
            let header = Header::new(&file, kernels).unwrap();
            let planned = header.plan(&options).unwrap().total();
            let before = allocated_bytes();
            let model = Arc::new(header.load(&file, None, 2).unwrap());
            let worker = Worker::new(Arc::clone(&model), &options).unwrap();
            let caches: Vec<Cache> =
                (0..slots).map(|_| Cache::new(Arc::clone(&model), &options).unwrap()).collect();
            assert_eq!(allocated_bytes() - before, planned, "{} {options:?}", sample.family.architecture);
            drop((worker, caches));
        }
    }
}
