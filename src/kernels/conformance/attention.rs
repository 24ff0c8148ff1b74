//! Attention of every set against the specification, and the specification against its definition.

use std::collections::HashSet;

use super::*;
use crate::kernels::acts::ActScale;
use crate::kernels::generic::ChunkJob;
use crate::kernels::kv::{CHUNK, Partial, Stored};
use crate::kernels::ops::{Attention, Past, Rotation};

const HEADS: usize = 6;

fn kv(kind: KvType) -> KvShape {
    KvShape { kind, heads: 3, dim: 20, positions: 300 }
}

pub(super) fn executor(kernels: &'static Kernels, threads: usize, tokens: usize, kind: KvType) -> Executor {
    let forms = Forms { codes: true, floats: true };
    let limits = Limits { tokens, cols: 512, forms, kv: kv(kind), heads: HEADS };
    Executor::new(kernels, threads, &limits).unwrap()
}

/// Queries at [`CHUNK`] positions of a random cache: two tokens, of which the first sees `visible` positions.
struct Chunk {
    kv: KvShape,
    group: usize,
    visible: usize,
    window: usize,
    slopes: Vec<f32>,
    /// Of queries, keys and values, `[row][dim]`.
    rows: [Vec<f32>; 3],
}

impl Chunk {
    fn new(seed: u64, kind: KvType, (dim, group, visible): (usize, usize, usize)) -> Self {
        let (mut rng, kv) = (rng(seed), KvShape { kind, heads: 1, dim, positions: CHUNK });
        let rows = [2 * group, CHUNK, CHUNK].map(|rows| normal(&mut rng, rows * dim));
        // Some with a window, some with slopes.
        let window = if seed % 3 == 1 { 1 + visible / 2 } else { usize::MAX };
        let slopes = if seed % 4 > 1 { (0..group).map(|i| 0.1 / (1 + i) as f32).collect() } else { vec![] };
        Self { kv, group, visible, window, slopes, rows }
    }

    /// Rows of `dim` values as codes and scales of [`KvType::Q8_0`].
    fn rounded(&self, rows: &[f32]) -> (Vec<i8>, Vec<ActScale>) {
        let (row, scales) = (self.kv.row(), self.kv.scales());
        let mut found = (vec![], vec![]);
        for values in rows.chunks_exact(self.kv.dim).filter(|_| scales > 0) {
            let mut padded = values.to_vec();
            padded.resize(row, 0.0);
            let (mut codes, mut scales) = (vec![0; row], vec![bytemuck::Zeroable::zeroed(); scales]);
            scalar::quantize(&padded, &mut QuantSink::row(&mut codes, &mut scales));
            found.0.extend(codes);
            found.1.extend(scales);
        }
        found
    }

    /// Keys or values as `Stored` has them; `place(position, dim)` is where a code goes.
    fn stored(&self, rows: &[f32], offset: i8, place: &dyn Fn(usize, usize) -> usize) -> [Vec<u16>; 2] {
        let KvShape { kind, dim, .. } = self.kv;
        // Not a number in either precision.
        let mut codes = vec![0x7FC0u16; CHUNK * self.kv.code_halves()];
        let mut scales = vec![0x7E00u16; CHUNK * self.kv.scales()];
        if kind == KvType::F32 {
            let to: &mut [f32] = bytemuck::cast_slice_mut(&mut codes);
            rows.iter().enumerate().for_each(|(i, value)| to[place(i / dim, i % dim)] = *value);
        } else if kind == KvType::F16 {
            for (i, value) in rows.iter().enumerate() {
                codes[place(i / dim, i % dim)] = half::f16::from_f32(*value).to_bits();
            }
        } else {
            let (row, (from, steps)) = (self.kv.row(), self.rounded(rows));
            let to: &mut [i8] = bytemuck::cast_slice_mut(&mut codes);
            for (i, code) in from.iter().enumerate() {
                to[place(i / row, i % row)] = code.wrapping_add(offset);
            }
            for (i, step) in steps.iter().enumerate() {
                let (position, b) = (i / self.kv.scales(), i % self.kv.scales());
                scales[b * CHUNK + position] = half::f16::from_f32(step.d).to_bits();
            }
        }
        [codes, scales]
    }

    /// Attention to the first positions, then merged with attention to all that the queries see.
    fn run(&self, kernels: &Kernels) -> Vec<u32> {
        let (row, count) = (self.kv.row(), 2 * self.group);
        let wide = if self.kv.kind == KvType::Q8_0 { 4 } else { 1 };
        let offset = if kernels.packing.offset_bytes { i8::MIN } else { 0 };
        let [asked, keys, values] = &self.rows;
        let keys = self
            .stored(keys, offset, &|p, d| (p / 16 * row + d / wide * wide) * 16 + p % 16 * wide + d % wide);
        let values = self.stored(values, 0, &|p, d| p * row + d);
        let mut queries = vec![0.0; count * row];
        for (to, from) in queries.chunks_exact_mut(row).zip(asked.chunks_exact(self.kv.dim)) {
            to[..self.kv.dim].copy_from_slice(from);
        }
        let (codes, scales) = self.rounded(asked);
        let mut buffers = [1, 2].map(|_| vec![0.0; Partial::len(count, row)]);
        for (buffer, visible) in buffers.iter_mut().zip([1, self.visible]) {
            let halves = (visible + 1).next_multiple_of(16).min(CHUNK) * self.kv.code_halves();
            let mut job = ChunkJob {
                kv: self.kv,
                group: self.group,
                queries: &queries,
                codes: &codes,
                scales: &scales,
                keys: Stored { codes: &keys[0][..halves], scales: &keys[1] },
                values: Stored { codes: &values[0][..halves], scales: &values[1] },
                visible,
                window: self.window,
                slopes: &self.slopes,
                weights: &mut vec![f32::NAN; 2 * count * CHUNK],
                next: [keys[0].as_ptr(), values[0].as_ptr()],
            };
            // SAFETY: only available sets are tested, and the slices have these sizes.
            unsafe { (kernels.attend)(&mut job, &mut Partial::new(buffer, count, row)) };
        }
        let [first, second] = &mut buffers;
        let mut state = Partial::new(first, count, row);
        // SAFETY: as above.
        unsafe { (kernels.merge)(&mut state, &Partial::new(second, count, row), row) };
        let mut found = bits(&state.max[..count]);
        found.extend(bits(&state.sum[..count]));
        found.extend(bits(state.mixed));
        found
    }
}

#[test]
fn attention_to_a_chunk_equals_the_specification() {
    let visible = (1..=CHUNK).map(|visible| (36, 2, visible));
    let groups = (1..=14).map(|group| (20, group, 3 * group));
    let dims = [1, 16, 31, 32, 48, 64, 80, 96, 112, 128, 256].map(|dim| (dim, 3, 77));
    let shapes: Vec<_> = visible.chain(groups).chain(dims).chain([(64, 32, 128)]).collect();
    for kind in KvType::ALL {
        for (i, shape) in shapes.iter().enumerate() {
            let chunk = Chunk::new(i as u64, kind, *shape);
            let expected = chunk.run(&scalar::KERNELS);
            for kernels in sets() {
                assert!(chunk.run(kernels) == expected, "{} {kind} {shape:?}", kernels.name);
            }
        }
    }
}

/// Positions of the data of [`attend`].
const TOTAL: usize = 270;

/// What tokens see of the positions before.
#[derive(Clone, Copy, Debug)]
struct Sight {
    window: usize,
    slopes: &'static [f32],
}

const SLOPES: &[f32] = &[0.5, 0.25, 0.125, 0.0625, 0.03, 0.01];
/// Everything, windows shorter than a unit and longer than a chunk, and slopes.
const SIGHTS: [Sight; 5] = [
    Sight { window: usize::MAX, slopes: &[] },
    Sight { window: 3, slopes: &[] },
    Sight { window: 40, slopes: SLOPES },
    Sight { window: 150, slopes: &[] },
    Sight { window: usize::MAX, slopes: SLOPES },
];

/// Queries, keys and values at [`TOTAL`] positions, and the angles of rotation, `[position][width]`.
struct Text {
    rows: [Vec<f32>; 3],
    table: Vec<[f32; 2]>,
}

impl Text {
    fn new(seed: u64, shape: &KvShape) -> Self {
        let mut rng = rng(seed);
        let rows = [HEADS, shape.heads, shape.heads].map(|heads| normal(&mut rng, TOTAL * heads * shape.dim));
        let table = (0..TOTAL * 8).map(|i| [(i as f32).cos(), (i as f32).sin()]).collect();
        Self { rows, table }
    }
}

/// A text whose first `at` positions were read into its caches.
struct Reader {
    text: Text,
    keys: Vec<u16>,
    values: Vec<u16>,
    at: usize,
}

impl Reader {
    fn new(seed: u64, shape: &KvShape) -> Self {
        Self {
            text: Text::new(seed, shape),
            keys: vec![0; shape.len()],
            values: vec![0x7FC0; shape.len()],
            at: 0,
        }
    }
}

/// Lets each reader read as many tokens in one call; returns the output, reader by reader.
fn read(
    executor: &mut Executor,
    kind: KvType,
    sight: Sight,
    readers: &mut [Reader],
    tokens: &[usize],
) -> Vec<f32> {
    let shape = kv(kind);
    let (mut rows, mut table, mut row) = ([vec![], vec![], vec![]], vec![], 0);
    let mut sequences = vec![];
    for (reader, &tokens) in readers.iter_mut().zip(tokens).filter(|(_, tokens)| **tokens > 0) {
        let at = reader.at..reader.at + tokens;
        for (to, from) in rows.iter_mut().zip(&reader.text.rows) {
            let width = from.len() / TOTAL;
            to.extend_from_slice(&from[at.start * width..at.end * width]);
        }
        table.extend_from_slice(&reader.text.table[at.start * 8..at.end * 8]);
        sequences.push(Past::new(&mut reader.keys, &mut reader.values, at.start, row..row + tokens));
        (reader.at, row) = (at.end, row + tokens);
    }
    let mut out = vec![0.0; rows[0].len()];
    executor.attend(&mut Attention {
        queries: &rows[0],
        new_keys: &rows[1],
        new_values: &rows[2],
        rotation: Rotation { table: &table, pairs: 8, adjacent: true },
        sequences: &sequences,
        kv: shape,
        heads: HEADS,
        scale: 0.2,
        window: sight.window,
        slopes: sight.slopes,
        out: &mut out,
    });
    out
}

/// Attention over as many positions as the chunks have, fed one after the other; returns all outputs.
fn attend(executor: &mut Executor, kind: KvType, sight: Sight, chunks: &[usize]) -> Vec<f32> {
    let mut readers = [Reader::new(11, &kv(kind))];
    chunks.iter().flat_map(|tokens| read(executor, kind, sight, &mut readers, &[*tokens])).collect()
}

/// Sequences of different lengths in the same calls: alone, one of many, absent from some calls.
#[test]
fn attention_does_not_depend_on_company() {
    let steps: [[usize; 4]; 6] =
        [[1, 130, 0, 7], [1, 1, 30, 1], [1, 1, 1, 1], [40, 1, 2, 0], [1, 5, 100, 1], [9, 0, 1, 16]];
    let width = HEADS * kv(KvType::F16).dim;
    for (case, kind) in KvType::ALL.into_iter().enumerate() {
        let sight = SIGHTS[2 * case];
        let alone: Vec<Vec<f32>> = (0..4)
            .map(|seed| {
                let mut readers = [Reader::new(seed, &kv(kind))];
                read(&mut executor(&scalar::KERNELS, 1, TOTAL, kind), kind, sight, &mut readers, &[TOTAL])
            })
            .collect();
        for (kernels, threads) in sets().into_iter().flat_map(|kernels| (1..=4).map(move |t| (kernels, t))) {
            let mut executor = executor(kernels, threads, TOTAL, kind);
            let mut readers: Vec<Reader> = (0..4).map(|seed| Reader::new(seed, &kv(kind))).collect();
            for tokens in &steps {
                let before: Vec<usize> = readers.iter().map(|reader| reader.at).collect();
                let found = read(&mut executor, kind, sight, &mut readers, tokens);
                let mut rest = found.as_slice();
                for (i, tokens) in tokens.iter().enumerate() {
                    let (out, others) = rest.split_at(tokens * width);
                    let expected = &alone[i][before[i] * width..][..tokens * width];
                    assert!(bits(out) == bits(expected), "{} {kind} {threads} sequence {i}", kernels.name);
                    rest = others;
                }
            }
        }
    }
}

const SPLITS: [&[usize]; 5] = [&[270], &[1; 41], &[7, 1, 120, 142], &[255, 1, 1, 3, 8, 2], &[130, 1, 9, 130]];

/// All pairs of threads and split occur, not all with every cache and sight: emulated, that would take minutes.
#[test]
fn attention_does_not_depend_on_set_threads_or_split() {
    let cases = KvType::ALL.into_iter().flat_map(|kind| SIGHTS.map(|sight| (kind, sight)));
    let mut pairs = HashSet::new();
    for (case, (kind, sight)) in cases.enumerate() {
        let reference = attend(&mut executor(&scalar::KERNELS, 1, TOTAL, kind), kind, sight, &[TOTAL]);
        assert!(reference.iter().all(|v| v.is_finite()));
        let threads = (1..=5).filter(|threads| (threads + case) % 5 < 3);
        for (kernels, threads) in
            sets().into_iter().flat_map(|kernels| threads.clone().map(move |threads| (kernels, threads)))
        {
            let split = (threads + case + case / 5) % SPLITS.len();
            pairs.insert((threads, split));
            let chunks = SPLITS[split];
            let found = attend(&mut executor(kernels, threads, TOTAL, kind), kind, sight, chunks);
            let end = found.len().min(reference.len());
            assert!(
                bits(&found) == bits(&reference[..end]),
                "{} {kind} {sight:?} {threads} {chunks:?}",
                kernels.name
            );
        }
    }
    assert_eq!(pairs.len(), 5 * SPLITS.len());
}

/// Attention of the last token against a direct computation in double precision; the bounds are for keys and
/// values rounded to 2^-11 of each, or to 1/254 of the largest of 32 as are queries then.
#[test]
fn attention_is_softmax_of_scores() {
    let bounds = [(KvType::F16, 4e-3), (KvType::Q8_0, 0.08), (KvType::F32, 1e-5)];
    for ((kind, bound), sight) in bounds.into_iter().flat_map(|b| SIGHTS.map(|sight| (b, sight))) {
        let (mut rng, shape) = (rng(11), kv(kind));
        let (q, kv, dim) = (HEADS * shape.dim, shape.heads * shape.dim, shape.dim);
        let (queries, mut keys, values) =
            (normal(&mut rng, TOTAL * q), normal(&mut rng, TOTAL * kv), normal(&mut rng, TOTAL * kv));
        let rotate = |x: &mut [f32], token: usize| {
            for i in 0..8 {
                let (sin, cos) = ((token * 8 + i) as f32).sin_cos();
                let (a, b) = (x[2 * i], x[2 * i + 1]);
                (x[2 * i], x[2 * i + 1]) = (a * cos - b * sin, a * sin + b * cos);
            }
        };
        for (i, key) in keys.chunks_exact_mut(dim).enumerate() {
            rotate(key, i / shape.heads);
        }
        let found = attend(&mut executor(&scalar::KERNELS, 1, TOTAL, kind), kind, sight, &[TOTAL]);
        for (n, head) in
            [1, 41, CHUNK, CHUNK + 1, TOTAL].into_iter().flat_map(|n| (0..HEADS).map(move |h| (n, h)))
        {
            let mut query = queries[(n - 1) * q + head * dim..][..dim].to_vec();
            rotate(&mut query, n - 1);
            let at = |p: usize| p * kv + head / 2 * dim;
            let score = |p: usize| -> f64 {
                let dot = (0..dim).map(|d| f64::from(query[d] * keys[at(p) + d])).sum::<f64>();
                let slope = sight.slopes.get(head).copied().unwrap_or(0.0);
                dot * 0.2 - f64::from(slope) * (n - 1 - p) as f64
            };
            let seen = |p: usize| n - p <= sight.window;
            let weights: Vec<f64> = (0..n).map(|p| if seen(p) { score(p).exp() } else { 0.0 }).collect();
            let total: f64 = weights.iter().sum();
            for d in 0..dim {
                let expected = (0..n).map(|p| weights[p] * f64::from(values[at(p) + d])).sum::<f64>() / total;
                let found = f64::from(found[(n - 1) * q + head * dim + d]);
                let error = (found - expected).abs();
                assert!(
                    error < bound,
                    "{kind}, {sight:?}, {n} positions, head {head}, dim {d}: {found} {expected}"
                );
            }
        }
    }
}
