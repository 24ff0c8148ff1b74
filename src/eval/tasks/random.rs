//! The random numbers of Python's `random.Random`, so that examples and resamples are those of lm-evaluation-harness.
//!
//! MT19937 of Matsumoto and Nishimura (1998), seeded and used as CPython's `_randommodule.c` and `random.py` do.

const N: usize = 624;
const M: usize = 397;

/// `random.Random(seed)` for a seed that is not negative.
pub(super) struct PythonRandom {
    state: [u32; N],
    next: usize,
}

impl PythonRandom {
    pub(super) fn new(seed: u64) -> PythonRandom {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key: &[u32] = if high == 0 { &[low] } else { &[low, high] };
        let mut state = Self::linear(19_650_218);
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let previous = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] =
                (state[i] ^ previous.wrapping_mul(1_664_525)).wrapping_add(key[j]).wrapping_add(j as u32);
            (i, j) = (i + 1, (j + 1) % key.len());
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        for _ in 1..N {
            let previous = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ previous.wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i += 1;
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 1 << 31;
        PythonRandom { state, next: N }
    }

    fn linear(seed: u32) -> [u32; N] {
        let mut state = [seed; N];
        for i in 1..N {
            let previous = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = previous.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        state
    }

    fn next_u32(&mut self) -> u32 {
        if self.next >= N {
            for i in 0..N {
                let bits = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let odd = if bits & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (bits >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// From 0 up to 1.
    fn unit(&mut self) -> f64 {
        let (a, b) = (f64::from(self.next_u32() >> 5), f64::from(self.next_u32() >> 6));
        (a * 67_108_864.0 + b) / 9_007_199_254_740_992.0
    }

    /// `_randbelow(n)` for `n` from 1 to 2^31.
    fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let drawn = (self.next_u32() >> (32 - bits)) as usize;
            if drawn < n {
                return drawn;
            }
        }
    }

    /// The index that one draw of `choices` from `n` items takes.
    pub(super) fn choice(&mut self, n: usize) -> usize {
        ((self.unit() * n as f64).floor() as usize).min(n.saturating_sub(1))
    }

    /// The indices that `sample` takes of `n` items; `k` is at most `n`.
    pub(super) fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut set_size = 21.0;
        if k > 5 {
            set_size += 4f64.powf(((k * 3) as f64).log(4.0).ceil());
        }
        if n as f64 <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            let take = |i: usize| {
                let j = self.below(n - i);
                let taken = pool[j];
                pool[j] = pool[n - i - 1];
                taken
            };
            return (0..k).map(take).collect();
        }
        let mut taken: Vec<usize> = Vec::with_capacity(k);
        let mut seen = std::collections::HashSet::with_capacity(k);
        while taken.len() < k {
            let j = self.below(n);
            if seen.insert(j) {
                taken.push(j);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected numbers are CPython 3.11's.
    #[test]
    fn numbers_are_those_of_python() {
        let mut random = PythonRandom::new(1234);
        assert_eq!(random.unit(), 0.966_453_535_692_138_8);
        assert_eq!(random.unit(), 0.440_732_599_175_352_7);
        let mut random = PythonRandom::new(1234);
        assert_eq!(random.sample(10, 3), SMALL);
        assert_eq!(random.sample(1000, 6), LARGE);
        let mut random = PythonRandom::new(1 << 40 | 7);
        assert_eq!((0..5).map(|_| random.choice(100)).collect::<Vec<_>>(), WIDE);
    }

    const SMALL: [usize; 3] = [7, 1, 0];
    const LARGE: [usize; 6] = [92, 932, 965, 961, 826, 596];
    const WIDE: [usize; 5] = [61, 81, 94, 57, 47];
}
