//! The sampler and its arithmetic against naive implementations.

use crate::generate::candidates::{Candidates, Cuts};
use crate::generate::logits::{Peak, weight_sum};
use crate::generate::logprobs::Logprobs;
use crate::generate::{FilterError, GenerateError, LogitFilter, MAX_LOGPROBS, Sampler, SamplerOptions};
use crate::gguf::{GgufFile, GgufWriter};
use crate::kernels::softmax::exp;

use super::{Scanned, mix};

/// Options that change nothing: draws from the model's own distribution.
const PLAIN: SamplerOptions = SamplerOptions {
    temperature: 1.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    repeat_penalty: 1.0,
    repeat_last_n: 64,
    seed: 0,
};

/// `count` logits in steps of 1/8, so that equal ones are common, some of them masked.
fn random_logits(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = mix(state);
        state >> 33
    };
    let mut logits: Vec<f32> = (0..count)
        .map(|_| if next() % 10 == 0 { f32::NEG_INFINITY } else { (next() % 97) as f32 / 8.0 - 6.0 })
        .collect();
    logits[next() as usize % count] = 5.0;
    logits
}

fn draws(logits: &[f32], options: &SamplerOptions, count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(logits.len());
    sampler.start(options, false).unwrap();
    (0..count).map(|_| sampler.sample(Scanned::new(logits).get(), &[], None).unwrap()).collect()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().fold(f64::NEG_INFINITY, |max, logit| max.max(*logit));
    let weights: Vec<f64> = logits.iter().map(|logit| (logit - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// The ids that the filters leave, the most likely first, by sorting the whole vocabulary.
fn reference(logits: &[f32], options: &SamplerOptions) -> Vec<u32> {
    let mut ids: Vec<usize> = (0..logits.len()).filter(|id| logits[*id].is_finite()).collect();
    ids.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    if options.top_k > 0 {
        ids.truncate(options.top_k);
    }
    let kept: Vec<f64> = ids.iter().map(|id| f64::from(logits[*id])).collect();
    let probabilities = softmax(&kept);
    let mut before = 0.0;
    let mut left = Vec::new();
    for (id, probability) in ids.iter().zip(&probabilities) {
        let in_nucleus = options.top_p == 1.0 || before < f64::from(options.top_p);
        let is_likely = *probability >= f64::from(options.min_p) * probabilities[0];
        if left.is_empty() || (in_nucleus && is_likely) {
            left.push(*id as u32);
        }
        before += probability;
    }
    left
}

fn kept(logits: &[f32], options: &SamplerOptions) -> Vec<u32> {
    let logits = Scanned::new(logits);
    let logits = logits.get();
    let peak = Peak::of(logits).unwrap();
    let cuts = Cuts { top_p: options.top_p, min_p: options.min_p };
    let mut candidates = Candidates::default();
    if options.top_k > 0 {
        candidates.take_top(logits, options.top_k);
        candidates.cut(logits, cuts, peak);
    } else {
        candidates.take_cut(logits, cuts, peak);
    }
    candidates.ids().to_vec()
}

#[test]
fn filters_keep_what_a_full_sort_keeps() {
    let mut cases = 0;
    for seed in 0..20 {
        for count in [1, 7, 64, 1000] {
            let logits = random_logits(count, seed);
            for top_k in [0, 1, 2, 5, 40, 600] {
                // Values that no sum of these probabilities meets exactly.
                for top_p in [0.0, 0.213, 0.871, 0.9997, 1.0] {
                    for min_p in [0.0, 0.0513, 0.71, 1.0] {
                        let options = SamplerOptions { top_k, top_p, min_p, ..PLAIN };
                        let expected = reference(&logits, &options);
                        assert_eq!(
                            kept(&logits, &options),
                            expected,
                            "{count} logits, seed {seed}, {options:?}"
                        );
                        cases += 1;
                    }
                }
            }
        }
    }
    assert_eq!(cases, 20 * 4 * 6 * 5 * 4);
}

#[test]
fn flat_and_peaked_logits_are_cut_right() {
    let flat = vec![1.5; 300];
    let options = SamplerOptions { top_p: 0.5, ..PLAIN };
    assert_eq!(kept(&flat, &options), (0..150).collect::<Vec<u32>>());
    let mut peaked = vec![-80.0; 300];
    peaked[17] = 20.0;
    assert_eq!(kept(&peaked, &options), [17]);
    assert_eq!(kept(&peaked, &SamplerOptions { min_p: 1e-30, ..PLAIN }), [17]);
}

#[test]
fn draws_come_only_from_what_is_kept() {
    let logits = random_logits(500, 3);
    for options in [
        SamplerOptions { top_k: 5, ..PLAIN },
        SamplerOptions { top_p: 0.3, ..PLAIN },
        SamplerOptions { min_p: 0.2, ..PLAIN },
        SamplerOptions { top_k: 50, top_p: 0.9, min_p: 0.01, ..PLAIN },
    ] {
        let allowed = reference(&logits, &options);
        let drawn = draws(&logits, &SamplerOptions { temperature: 3.0, ..options.clone() }, 2000);
        assert!(drawn.iter().all(|id| allowed.contains(id)), "{options:?}");
        assert!(allowed.len() > 1 && drawn.iter().any(|id| *id != drawn[0]));
    }
}

/// Pearson's statistic of `drawn` against the expected probabilities; ids with probability 0 must not occur.
fn chi_square(drawn: &[u32], probabilities: &[f64]) -> (f64, usize) {
    let mut counts = vec![0u32; probabilities.len()];
    for id in drawn {
        counts[*id as usize] += 1;
    }
    let (mut statistic, mut cells) = (0.0, 0);
    for (count, probability) in counts.iter().zip(probabilities) {
        if *probability == 0.0 {
            assert_eq!(*count, 0);
            continue;
        }
        let expected = probability * drawn.len() as f64;
        statistic += (f64::from(*count) - expected).powi(2) / expected;
        cells += 1;
    }
    (statistic, cells)
}

#[test]
fn draws_follow_the_distribution() {
    // 31 tokens at full range, and more than a block of the walk over all logits.
    let few: Vec<f32> = (0..31u8).map(|i| f32::from(i % 8) / 3.0).collect();
    let mut many: Vec<f32> =
        (0..560u32).map(|i| if i % 20 == 0 { (i % 7) as f32 / 4.0 } else { f32::NEG_INFINITY }).collect();
    many[559] = 0.5;
    for logits in [few, many] {
        for (temperature, top_k) in [(1.0, 0), (0.5, 0), (2.0, 0), (1.0, 20), (0.7, 12)] {
            let options = SamplerOptions { temperature, top_k, seed: 11, ..PLAIN };
            let kept = reference(&logits, &options);
            let tempered: Vec<f64> = (0u32..)
                .zip(&logits)
                .map(|(id, logit)| {
                    if kept.contains(&id) {
                        f64::from(*logit) / f64::from(temperature)
                    } else {
                        f64::NEG_INFINITY
                    }
                })
                .collect();
            let drawn = draws(&logits, &options, 10_000);
            let (statistic, cells) = chi_square(&drawn, &softmax(&tempered));
            // Mean n, variance 2n: five deviations above the mean for n degrees of freedom.
            let n = (cells - 1) as f64;
            let bound = n + 5.0 * (2.0 * n).sqrt();
            assert!(statistic < bound, "{options:?}: {statistic} >= {bound}");
            // The test has power: at another temperature the same draws are far off.
            let hotter: Vec<f64> = tempered.iter().map(|logit| logit * 0.5).collect();
            let (off, _) = chi_square(&drawn, &softmax(&hotter));
            assert!(off > bound, "{options:?}: {off} <= {bound}");
        }
    }
}

#[test]
fn seeds_reproduce_and_differ() {
    let logits = random_logits(400, 9);
    let usual = SamplerOptions { temperature: 0.8, ..SamplerOptions::default() };
    for options in [PLAIN, usual, SamplerOptions { top_p: 0.9, ..PLAIN }] {
        let of = |seed| draws(&logits, &SamplerOptions { seed, ..options.clone() }, 50);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_ne!(of(1), of(1 << 40 | 1));
    }
}

/// ChaCha12 with key (7, 0, ...) is part of the contract. The tokens were computed by another implementation,
/// of the cipher (RFC 8439 with 12 rounds, 64-bit counter) and of the steps, in Python.
#[test]
fn a_seed_gives_the_same_tokens_for_ever() {
    let logits: Vec<f32> = (0..1000u32).map(|i| (i * 37 % 101) as f32 / 25.0).collect();
    let plain = draws(&logits, &SamplerOptions { seed: 7, ..PLAIN }, 8);
    let usual = SamplerOptions { seed: 7, temperature: 0.8, ..SamplerOptions::default() };
    let usual = draws(&logits, &usual, 8);
    assert_eq!(plain, [830, 924, 57, 535, 685, 697, 545, 767]);
    assert_eq!(usual, [19, 423, 131, 969, 595, 595, 969, 898]);
}

#[test]
fn greedy_takes_the_first_of_the_most_likely() {
    for count in [1, 7, 8, 9, 1000] {
        let mut logits = vec![-1.0; count];
        assert_eq!(draws(&logits, &SamplerOptions::greedy(), 1), [0]);
        logits[count - 1] = 2.0;
        assert_eq!(draws(&logits, &SamplerOptions::greedy(), 1), [count as u32 - 1]);
        logits[count / 2] = 2.0;
        assert_eq!(draws(&logits, &SamplerOptions::greedy(), 1), [count as u32 / 2]);
    }
    assert_eq!(draws(&[-0.0, 0.0], &SamplerOptions::greedy(), 1), [0]);
    for (near_greedy, name) in [
        (SamplerOptions { top_k: 1, ..PLAIN }, "top_k 1"),
        (SamplerOptions { top_p: 0.0, ..PLAIN }, "top_p 0"),
        (SamplerOptions { temperature: f32::MIN_POSITIVE, ..PLAIN }, "a tiny temperature"),
    ] {
        assert_eq!(draws(&[1.0, 4.0, 3.0], &near_greedy, 20), [1; 20], "{name}");
    }
}

#[test]
fn invalid_options_are_named() {
    let bad = |options: SamplerOptions| Sampler::new(8).start(&options, false).unwrap_err().to_string();
    let o = SamplerOptions::default;
    assert_eq!(bad(SamplerOptions { temperature: -0.5, ..o() }), "temperature is -0.5, allowed is 0 to 10");
    assert_eq!(
        bad(SamplerOptions { temperature: f32::NAN, ..o() }),
        "temperature is NaN, allowed is 0 to 10"
    );
    assert_eq!(bad(SamplerOptions { top_p: 1.5, ..o() }), "top_p is 1.5, allowed is 0 to 1");
    assert_eq!(bad(SamplerOptions { min_p: -0.1, ..o() }), "min_p is -0.1, allowed is 0 to 1");
    assert_eq!(
        bad(SamplerOptions { repeat_penalty: 0.0, ..o() }),
        "repeat_penalty is 0, allowed is 0.01 to 100"
    );
    assert_eq!(
        bad(SamplerOptions { repeat_penalty: f32::INFINITY, ..o() }),
        "repeat_penalty is inf, allowed is 0.01 to 100"
    );
}

#[test]
fn damaged_logits_are_an_error() {
    for options in [SamplerOptions::greedy(), SamplerOptions::default(), PLAIN] {
        for bad in [f32::NAN, f32::INFINITY] {
            for at in [0, 5, 63, 64, 66] {
                let mut logits = vec![0.5; 67];
                logits[at] = bad;
                let mut sampler = Sampler::new(logits.len());
                sampler.start(&options, false).unwrap();
                match sampler.sample(Scanned::new(&logits).get(), &[], None) {
                    Err(GenerateError::NotFinite { token }) => assert_eq!(token as usize, at),
                    other => panic!("{other:?}"),
                }
            }
        }
        let mut sampler = Sampler::new(9);
        sampler.start(&options, false).unwrap();
        let none = sampler.sample(Scanned::new(&[f32::NEG_INFINITY; 9]).get(), &[], None);
        assert!(matches!(none, Err(GenerateError::NoTokenAllowed)), "{none:?}");
    }
}

#[test]
fn recent_tokens_are_penalized_once() {
    // Positive logits are divided, negative ones multiplied.
    let options = SamplerOptions { repeat_penalty: 2.0, repeat_last_n: 3, ..SamplerOptions::greedy() };
    let choose = |logits: &[f32], history: &[u32]| {
        let mut sampler = Sampler::new(logits.len());
        sampler.start(&options, false).unwrap();
        sampler.sample(Scanned::new(logits).get(), history, None).unwrap()
    };
    assert_eq!(choose(&[3.0, 2.0, 1.0], &[]), 0);
    assert_eq!(choose(&[3.0, 2.0, 1.0], &[0]), 1);
    assert_eq!(choose(&[3.0, 1.4, 1.0], &[0]), 0);
    assert_eq!(choose(&[3.0, 1.4, 1.0], &[0, 0, 0]), 0, "three times counts once");
    assert_eq!(choose(&[3.0, 2.0, 1.0], &[0, 2, 2, 2]), 0, "too long ago");
    assert_eq!(choose(&[3.0, 2.0, 1.0], &[2, 0, 2, 2]), 1);
    assert_eq!(choose(&[-3.0, -2.0, -3.5], &[1]), 0);
    assert_eq!(choose(&[-5.0, -2.0, -4.5], &[1]), 1);
    assert_eq!(choose(&[3.0, 2.0], &[7]), 0, "ids outside the vocabulary are ignored");
}

/// Allows only the ids in `allowed` and learns what was accepted.
struct Allow {
    allowed: Vec<u32>,
    fails: bool,
}

impl LogitFilter for Allow {
    fn apply(&mut self, logits: &mut [f32]) -> Result<(), FilterError> {
        if self.fails {
            return Err("grammar is broken".into());
        }
        for (id, logit) in (0u32..).zip(logits) {
            if !self.allowed.contains(&id) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    fn accept(&mut self, _: u32) -> Result<(), FilterError> {
        Ok(())
    }
}

#[test]
fn a_filter_is_obeyed_by_every_way_of_choosing() {
    let logits = random_logits(300, 4);
    let allowed: Vec<u32> =
        (0u32..300).filter(|id| logits[*id as usize] < -2.0 && logits[*id as usize].is_finite()).collect();
    assert!(allowed.len() > 20);
    for options in [
        SamplerOptions::greedy(),
        SamplerOptions::default(),
        PLAIN,
        SamplerOptions { top_p: 0.5, repeat_penalty: 1.3, ..PLAIN },
    ] {
        let mut sampler = Sampler::new(300);
        sampler.start(&options, true).unwrap();
        let mut filter = Allow { allowed: allowed.clone(), fails: false };
        for _ in 0..100 {
            let id = sampler.sample(Scanned::new(&logits).get(), &allowed[..4], Some(&mut filter)).unwrap();
            assert!(allowed.contains(&id), "{options:?}");
        }
        filter.allowed.clear();
        let none = sampler.sample(Scanned::new(&logits).get(), &[], Some(&mut filter));
        assert!(matches!(none, Err(GenerateError::NoTokenAllowed)), "{none:?}");
        filter.fails = true;
        let failed = sampler.sample(Scanned::new(&logits).get(), &[], Some(&mut filter)).unwrap_err();
        assert_eq!(failed.to_string(), "the constraint on the output failed: grammar is broken");
    }
}

#[test]
fn exponentials_are_close_and_masked_ones_zero() {
    let mut worst = 0.0f64;
    for step in 0..=870_000 {
        let x = -(step as f32) * 1e-4;
        let exact = f64::from(x).exp();
        let ulp = f64::from((exact as f32).next_up() - exact as f32);
        worst = worst.max((f64::from(exp(x)) - exact).abs() / ulp);
    }
    assert!(worst <= 3.0, "{worst} ulp");
    assert_eq!(exp(0.0), 1.0);
    for x in [-87.1, -1e9, f32::MIN, f32::NEG_INFINITY] {
        assert_eq!(exp(x), 0.0);
    }
}

#[test]
fn log_probabilities_match_a_softmax_in_f64() {
    for (count, seed) in [(1, 1), (30, 2), (999, 3)] {
        let logits = random_logits(count, seed);
        let exact = softmax(&logits.iter().map(|logit| f64::from(*logit)).collect::<Vec<f64>>());
        let mut logprobs = Logprobs::default();
        let mut total = 0.0;
        logprobs.start(Some(10), count).unwrap();
        for (id, probability) in (0u32..).zip(&exact) {
            logprobs.measure(Scanned::new(&logits).get(), id).unwrap();
            let chosen = f64::from(logprobs.get().unwrap().chosen);
            total += chosen.exp();
            if *probability > 0.0 {
                assert!((chosen - probability.ln()).abs() < 1e-5, "{chosen} {}", probability.ln());
            } else {
                assert_eq!(chosen, f64::NEG_INFINITY);
            }
        }
        assert!((total - 1.0).abs() < 1e-5, "{total}");
        let top = logprobs.get().unwrap().top;
        let expected = reference(&logits, &SamplerOptions { top_k: 10, ..PLAIN });
        assert_eq!(top.iter().map(|token| token.id).collect::<Vec<u32>>(), expected);
        for token in top {
            assert!((f64::from(token.logprob) - exact[token.id as usize].ln()).abs() < 1e-5);
        }
    }
}

#[test]
fn log_probabilities_are_optional_and_limited() {
    let mut logprobs = Logprobs::default();
    logprobs.start(None, 8).unwrap();
    logprobs.measure(Scanned::new(&[0.0; 8]).get(), 0).unwrap();
    assert_eq!(logprobs.get(), None);
    logprobs.start(Some(0), 8).unwrap();
    logprobs.measure(Scanned::new(&[0.0; 8]).get(), 0).unwrap();
    let found = logprobs.get().unwrap();
    assert!((found.chosen + 8f32.ln()).abs() < 1e-6 && found.top.is_empty());
    let error = logprobs.start(Some(MAX_LOGPROBS + 1), 8).unwrap_err();
    assert_eq!(error.to_string(), "logprobs is 101, allowed is 0 to 100");
}

#[test]
fn sums_do_not_depend_on_masked_padding() {
    let mut logits = random_logits(37, 5);
    let sum = weight_sum(&logits, 5.0, 1.0);
    logits.extend([f32::NEG_INFINITY; 11]);
    let exact: f64 = logits.iter().map(|logit| (f64::from(*logit) - 5.0).exp()).sum();
    assert!((weight_sum(&logits, 5.0, 1.0) - sum).abs() < 1e-12 * sum);
    assert!((sum - exact).abs() < 1e-6 * exact);
}

#[test]
fn a_model_may_say_how_it_is_to_be_sampled() {
    let file = |set: &dyn Fn(&mut GgufWriter)| {
        let mut writer = GgufWriter::new();
        writer.set("general.architecture", "llama");
        set(&mut writer);
        GgufFile::from_vec("tiny", writer.to_vec("tiny", |_, _| Ok(())).unwrap()).unwrap()
    };
    let usual = SamplerOptions::default();
    assert_eq!(SamplerOptions::for_model(&file(&|_| {})).unwrap(), usual);
    let own = SamplerOptions::for_model(&file(&|writer| {
        writer.set("general.sampling.temp", 0.6f32).set("general.sampling.top_k", 20u32);
        writer.set("general.sampling.top_p", 0.8f32).set("general.sampling.min_p", 0.01f32);
        writer.set("general.sampling.penalty_repeat", 1.05f32);
    }));
    let expected = SamplerOptions {
        temperature: 0.6,
        top_k: 20,
        top_p: 0.8,
        min_p: 0.01,
        repeat_penalty: 1.05,
        ..usual
    };
    assert_eq!(own.unwrap(), expected);
    for (key, value) in [("temp", -1.0f32), ("top_p", 1.5), ("min_p", f32::NAN), ("penalty_repeat", 0.0)] {
        let key = format!("general.sampling.{key}");
        let error = SamplerOptions::for_model(&file(&|writer| {
            writer.set(key.as_str(), value);
        }));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(&key) && error.contains("tiny"), "{error}");
    }
}
