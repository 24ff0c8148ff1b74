//! The types of least damage within a number of bytes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// One way to store a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Offer {
    pub(super) bytes: u64,
    pub(super) damage: f64,
}

/// A step of one tensor to a larger offer.
struct Step {
    /// Damage avoided per byte.
    gain: f64,
    tensor: usize,
    /// Index in the tensor's hull of the offer that is reached.
    to: usize,
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> Ordering {
        // Of equal gains the first tensor, so that the choice is always the same.
        self.gain.total_cmp(&other.gain).then(other.tensor.cmp(&self.tensor))
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Step {}

/// Chooses one offer for each tensor, `[tensor]`, so that all bytes are at most `budget` and the damage is small; `None`
/// if not even the smallest offers fit.
///
/// Steps along the lower convex hulls of (bytes, damage) are taken in order of what they gain per byte: the optimum
/// for every budget that is reached exactly (Everett 1963, generalized Lagrange multipliers). What is left of the
/// budget goes to single offers that still fit.
pub(super) fn choose(tensors: &[Vec<Offer>], budget: u64) -> Option<Vec<usize>> {
    let hulls: Vec<Vec<usize>> = tensors.iter().map(|offers| hull(offers)).collect();
    let mut chosen: Vec<usize> = hulls.iter().map(|hull| hull.first().copied()).collect::<Option<_>>()?;
    let bytes = |chosen: &[usize]| -> u64 {
        tensors.iter().zip(chosen).map(|(offers, at)| offers[*at].bytes).fold(0, u64::saturating_add)
    };
    let mut left = budget.checked_sub(bytes(&chosen))?;
    let step = |tensor: usize, to: usize| {
        let (from, next) = (hulls[tensor][to - 1], *hulls[tensor].get(to)?);
        Some(Step { gain: slope(tensors[tensor][from], tensors[tensor][next]), tensor, to })
    };
    let mut steps: BinaryHeap<Step> = (0..tensors.len()).filter_map(|tensor| step(tensor, 1)).collect();
    while let Some(Step { tensor, to, .. }) = steps.pop() {
        let (from, next) = (hulls[tensor][to - 1], hulls[tensor][to]);
        let more = tensors[tensor][next].bytes - tensors[tensor][from].bytes;
        if more <= left {
            left -= more;
            chosen[tensor] = next;
            steps.extend(step(tensor, to + 1));
        }
    }
    fill(tensors, &mut chosen, left);
    Some(chosen)
}

/// Spends what is left, largest gain first.
fn fill(tensors: &[Vec<Offer>], chosen: &mut [usize], mut left: u64) {
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        for (tensor, offers) in tensors.iter().enumerate() {
            let now = offers[chosen[tensor]];
            for (at, offer) in offers.iter().enumerate() {
                let gain = now.damage - offer.damage;
                let fits = offer.bytes <= now.bytes.saturating_add(left);
                if fits && gain > best.map_or(0.0, |(gain, ..)| gain) {
                    best = Some((gain, tensor, at));
                }
            }
        }
        let Some((_, tensor, at)) = best else { return };
        let all = tensors[tensor][chosen[tensor]].bytes + left;
        left = all - tensors[tensor][at].bytes;
        chosen[tensor] = at;
    }
}

fn slope(from: Offer, to: Offer) -> f64 {
    (from.damage - to.damage) / (to.bytes - from.bytes) as f64
}

/// The offers on the lower convex hull, by bytes.
fn hull(offers: &[Offer]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..offers.len()).collect();
    order.sort_by(|&a, &b| {
        let by_bytes = offers[a].bytes.cmp(&offers[b].bytes);
        by_bytes.then(offers[a].damage.total_cmp(&offers[b].damage))
    });
    let mut hull: Vec<usize> = Vec::new();
    for next in order {
        if hull.last().is_some_and(|&last| offers[next].damage >= offers[last].damage) {
            continue;
        }
        while let [.., before, last] = hull[..] {
            if slope(offers[before], offers[last]) > slope(offers[last], offers[next]) {
                break;
            }
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(pairs: &[(u64, f64)]) -> Vec<Offer> {
        pairs.iter().map(|(bytes, damage)| Offer { bytes: *bytes, damage: *damage }).collect()
    }

    fn total(tensors: &[Vec<Offer>], chosen: &[usize]) -> (u64, f64) {
        let chosen = tensors.iter().zip(chosen).map(|(offers, at)| offers[*at]);
        chosen.fold((0, 0.0), |(bytes, damage), one| (bytes + one.bytes, damage + one.damage))
    }

    #[test]
    fn only_offers_that_can_be_best_are_on_the_hull() {
        // The second is no smaller than the third and worse; the fourth lies above the line from third to fifth.
        let offers = offers(&[(10, 8.0), (12, 7.0), (12, 4.0), (16, 3.9), (20, 1.0), (30, 2.0)]);
        assert_eq!(hull(&offers), [0, 2, 4]);
    }

    /// Every budget, against the best of all combinations.
    #[test]
    fn choices_fit_and_are_nearly_best() {
        let tensors = [
            offers(&[(45, 9.0), (50, 6.0), (55, 2.5), (85, 0.2)]),
            offers(&[(90, 4.0), (100, 3.0), (110, 1.0), (170, 0.1)]),
            offers(&[(18, 30.0), (20, 22.0), (22, 9.0), (34, 0.5)]),
            offers(&[(45, 0.2), (50, 0.1), (55, 0.05), (85, 0.001)]),
        ];
        assert_eq!(choose(&tensors, 45 + 90 + 18 + 45 - 1), None);
        let mut reached = 0;
        for budget in 198..=380 {
            let mut best = f64::INFINITY;
            for index in 0..256 {
                let all = [index & 3, index >> 2 & 3, index >> 4 & 3, index >> 6];
                let (bytes, damage) = total(&tensors, &all);
                if bytes <= budget {
                    best = best.min(damage);
                }
            }
            let (bytes, damage) = total(&tensors, &choose(&tensors, budget).unwrap());
            assert!(bytes <= budget, "{bytes} > {budget}");
            // At worst one step of one tensor is missing.
            assert!(damage <= best + 3.5, "{budget}: {damage} {best}");
            reached += usize::from(damage <= best + 1e-9);
        }
        assert!(reached > 120, "{reached} of 183");
    }

    #[test]
    fn larger_budgets_are_spent() {
        let tensors = vec![offers(&[(4, 1.0), (5, 0.8), (8, 0.0)]); 3];
        let damage = |budget| total(&tensors, &choose(&tensors, budget).unwrap()).1;
        assert_eq!(damage(12), 3.0);
        assert!((damage(13) - 2.8).abs() < 1e-12);
        assert_eq!(damage(24), 0.0);
        assert_eq!(damage(u64::MAX), 0.0);
        assert_eq!(choose(&[], 0), Some(vec![]));
        assert_eq!(choose(&[vec![]], 10), None);
    }
}
