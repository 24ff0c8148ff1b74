//! The calibration text on its way through the layers.

use std::ops::Range;

use smolt::model::{Norm, Runner, Spec, TILE, Tile};

use super::text::Sequences;

/// Tokens of the stream that make a tile, and the position of the first in its sequence.
pub(crate) type TileAt = (Range<usize>, usize);

/// The activations of all calibration tokens between two stages.
#[derive(Clone)]
pub(crate) struct Stream {
    dim: usize,
    length: usize,
    /// `[token][dim]`
    residual: Vec<f32>,
    /// `[token][query width]`, between attention and its output matrix.
    mixed: Vec<f32>,
    /// `[token][width]`, between a state space and its output matrix.
    stated: Vec<f32>,
}

/// Where the matrices of a layer get their inputs, in the order of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Queries, keys and values: the normed residual stream.
    Attention,
    /// The output of a state space beside attention.
    State,
    /// The output of attention.
    Output,
    /// Gate and up: the normed residual stream.
    FeedForward,
    /// What the activation gives.
    Down,
}

impl Stage {
    pub(crate) const ALL: [Stage; 5] =
        [Stage::Attention, Stage::State, Stage::Output, Stage::FeedForward, Stage::Down];

    /// The stages of a layer, each before those that it changes the input of. Parallel parts read the same residual
    /// stream, so the feed-forward part is finished before anything is added to that.
    pub(crate) fn order(spec: &Spec) -> impl Iterator<Item = Stage> + use<> {
        let order = match spec.parallel {
            true => [Stage::Attention, Stage::FeedForward, Stage::Down, Stage::State, Stage::Output],
            false => Self::ALL,
        };
        let has_state = spec.state.is_some();
        order.into_iter().filter(move |stage| has_state || *stage != Stage::State)
    }

    /// The matrices that may read this input; a layer has some of them.
    pub(crate) fn matrices(self) -> &'static [&'static str] {
        match self {
            Self::Attention => &[
                "attn_q.weight",
                "attn_k.weight",
                "attn_v.weight",
                "attn_qkv.weight",
                "shortconv.in_proj.weight",
                "ssm_in.weight",
            ],
            Self::State => &["ssm_out.weight"],
            Self::Output => &["attn_output.weight", "shortconv.out_proj.weight"],
            Self::FeedForward => &["ffn_gate.weight", "ffn_up.weight"],
            Self::Down => &["ffn_down.weight"],
        }
    }
}

impl Stream {
    /// Starts with the tokens as the first layer reads them; `ends` must have the embedding.
    pub(crate) fn new(sequences: &Sequences, ends: &mut Runner) -> Self {
        let dim = ends.model().spec().dim;
        let residual = vec![0.0; sequences.tokens.len() * dim];
        let mut stream =
            Self { dim, length: sequences.length, residual, mixed: Vec::new(), stated: Vec::new() };
        for (tokens, position) in stream.tiles().collect::<Vec<_>>() {
            let mut tile = ends.tile(position, tokens.len()).expect("a tile of a sequence");
            tile.embed(&sequences.tokens[tokens.clone()]);
            stream.residual[tokens.start * dim..tokens.end * dim].copy_from_slice(tile.residual());
        }
        stream
    }

    #[cfg(test)]
    pub(crate) fn residual(&self) -> &[f32] {
        &self.residual
    }

    #[cfg(test)]
    pub(crate) fn of(residual: Vec<f32>, dim: usize, length: usize) -> Self {
        Self { dim, length, residual, mixed: Vec::new(), stated: Vec::new() }
    }

    /// Tokens of a sequence.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Tokens in all.
    pub(crate) fn tokens(&self) -> usize {
        self.residual.len() / self.dim
    }

    /// The tiles of all sequences, in order.
    pub(crate) fn tiles(&self) -> impl Iterator<Item = TileAt> + use<> {
        let length = self.length;
        (0..self.tokens()).step_by(length).flat_map(move |sequence| {
            (0..length).step_by(TILE).map(move |at| (sequence + at..sequence + length.min(at + TILE), at))
        })
    }

    /// Takes a tile up to where `stage` reads its input.
    fn tile<'r>(&self, runner: &'r mut Runner, (tokens, position): TileAt) -> Tile<'r> {
        let mut tile = runner.tile(position, tokens.len()).expect("a tile of a sequence");
        self.enter(&mut tile, &tokens);
        tile
    }

    /// Puts the residual stream of these tokens into a tile.
    pub(crate) fn enter(&self, tile: &mut Tile<'_>, tokens: &Range<usize>) {
        tile.residual().copy_from_slice(&self.residual[tokens.start * self.dim..tokens.end * self.dim]);
    }

    /// The input of `stage` for a tile, `[token][width]`.
    pub(crate) fn input(&self, runner: &mut Runner, stage: Stage, at: TileAt, out: &mut Vec<f32>) {
        let tokens = at.0.clone();
        out.clear();
        match stage {
            Stage::Attention | Stage::FeedForward => {
                let norm = if stage == Stage::Attention { Norm::Attention(0) } else { Norm::FeedForward(0) };
                out.resize(tokens.len() * self.dim, 0.0);
                self.tile(runner, at).normed(norm, out);
            }
            Stage::State => out.extend_from_slice(self.of_tokens(&self.stated, &tokens)),
            Stage::Output => out.extend_from_slice(self.of_tokens(&self.mixed, &tokens)),
            Stage::Down => {
                let mut tile = self.tile(runner, at);
                tile.expand(0);
                out.extend_from_slice(tile.hidden());
            }
        }
    }

    /// The input of the output head for a tile.
    pub(crate) fn head_input(&self, runner: &mut Runner, at: TileAt, out: &mut Vec<f32>) {
        out.clear();
        out.resize(at.0.len() * runner.model().spec().word_dim, 0.0);
        self.tile(runner, at).head_input(out);
    }

    /// The logits after the tokens `rows` of a tile; `runner` must have the output head.
    pub(crate) fn logits<'r>(&self, runner: &'r mut Runner, at: TileAt, rows: Range<usize>) -> &'r [f32] {
        self.tile(runner, at).logits(rows).values
    }

    /// Carries the stream past the layer.
    pub(crate) fn pass_layer(&mut self, runner: &mut Runner) {
        Stage::order(runner.model().spec()).for_each(|stage| self.pass(runner, stage));
    }

    /// What `values`, `[token][width]` of all tokens, hold of some.
    fn of_tokens<'v>(&self, values: &'v [f32], tokens: &Range<usize>) -> &'v [f32] {
        let width = values.len() / self.tokens();
        &values[tokens.start * width..tokens.end * width]
    }

    /// Carries the stream past the matrices of `stage`.
    pub(crate) fn pass(&mut self, runner: &mut Runner, stage: Stage) {
        // With these nothing changes until the result is added to the stream; state spaces are added with attention.
        if matches!(stage, Stage::FeedForward | Stage::State) {
            return;
        }
        let all = self.tokens();
        for (tokens, position) in self.tiles().collect::<Vec<_>>() {
            let mut tile = self.tile(runner, (tokens.clone(), position));
            match stage {
                Stage::Attention => {
                    tile.mix(0);
                    keep(&mut self.mixed, tile.mixed(), &tokens, all);
                    keep(&mut self.stated, tile.stated(), &tokens, all);
                    continue;
                }
                Stage::Output => {
                    tile.mixed().copy_from_slice(self.of_tokens(&self.mixed, &tokens));
                    tile.stated().copy_from_slice(self.of_tokens(&self.stated, &tokens));
                    tile.project(0);
                }
                _ => {
                    tile.expand(0);
                    tile.contract(0);
                }
            }
            self.residual[tokens.start * self.dim..tokens.end * self.dim].copy_from_slice(tile.residual());
        }
    }
}

/// Keeps what is new of some of `all` tokens; both are `[token][width]`.
fn keep(kept: &mut Vec<f32>, new: &[f32], tokens: &Range<usize>, all: usize) {
    let width = new.len() / tokens.len();
    kept.resize(all * width, 0.0);
    kept[tokens.start * width..tokens.end * width].copy_from_slice(new);
}
