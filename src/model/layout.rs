//! Where each tensor of the file goes.
//!
//! [`Layout`] is computed from the header alone: every matrix gets a place in one buffer in its packed form,
//! every norm and bias a place in a second one as f32. The memory plan reads the sizes off it; `weights`
//! fills it. A tensor that no part of the model asks for is an error: running without it would be wrong.

use super::error::ModelError;
use super::families::{NormKind, NormPlaces, QkNorm};
use super::spec::{Mixer, Spec, StateSpec};
use crate::blocks::BlockType;
use crate::gguf::{EMBEDDING_TENSOR, GgufFile, TensorInfo};
use crate::kernels::{Forms, PackedShape, Packing};
use crate::runtime::page_rounded;
use std::collections::HashSet;
use std::ops::Range;

/// A matrix's place in the packed buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Matrix {
    pub(super) shape: PackedShape,
    pub(super) offset: usize,
}

/// A norm's or bias's place in the buffer of vectors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Vector {
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Vector {
    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// What comes from the rows (of a vector: the values) of a tensor from `first` on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub(super) tensor: String,
    pub(super) first: usize,
    pub(super) place: Place,
}

/// A place in either buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    Matrix(Matrix),
    Vector(Vector),
}

/// A linear layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Linear {
    pub(super) weights: Matrix,
    pub(super) bias: Option<Vector>,
}

/// A norm; without weights they are 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Norm {
    pub(super) kind: NormKind,
    pub(super) weight: Option<Vector>,
    pub(super) bias: Option<Vector>,
}

/// The norms around a part of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Norms {
    /// Of what the part reads.
    pub(super) input: Option<Norm>,
    /// Of what it adds to the residual stream.
    pub(super) added: Option<Norm>,
    /// Of the residual stream, once it is added.
    pub(super) sum: Option<Norm>,
}

/// Attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AttentionWeights {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) output: Linear,
    /// Of queries and of keys; each row of the weights is for one head, or for all heads together.
    pub(super) head_norms: [Option<Norm>; 2],
    /// A state space that reads the same, and whose output is added too.
    pub(super) state: Option<StateWeights>,
}

/// A state space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StateWeights {
    /// To the gate, the channels of the convolution and the steps.
    pub(super) input: Linear,
    /// `[channel][tap]`, the last tap for the token itself.
    pub(super) kernel: Vector,
    /// `[channel]`
    pub(super) kernel_bias: Option<Vector>,
    /// Added to the steps, `[head]`.
    pub(super) step_bias: Vector,
    /// SSM decay A, negative, `[head]`.
    pub(super) decay: Vector,
    /// How much of what a head reads it gives directly, `[head]`.
    pub(super) direct: Vector,
    pub(super) output: Linear,
}

/// A convolution of `taps` tokens, channel by channel, between two gates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ConvolutionWeights {
    /// To the gate before, the gate behind and the values, `dim` rows each.
    pub(super) input: Linear,
    /// `[channel][tap]`, the last tap for the token itself.
    pub(super) kernel: Vector,
    pub(super) output: Linear,
}

/// How the tokens of a layer learn of each other.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum MixerWeights {
    Attention(Box<AttentionWeights>),
    Convolution(ConvolutionWeights),
}

impl MixerWeights {
    /// What adds the result to the residual stream.
    pub(super) fn output(&self) -> &Linear {
        match self {
            Self::Attention(weights) => &weights.output,
            Self::Convolution(weights) => &weights.output,
        }
    }
}

/// A transformer layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer {
    pub(super) attention_norms: Norms,
    pub(super) mixer: MixerWeights,
    pub(super) feed_forward_norms: Norms,
    /// Without, the activation is applied to `up`.
    pub(super) gate: Option<Linear>,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

/// Places of all tensors.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) embedding: Matrix,
    /// From the width of the embeddings to that of the residual stream.
    pub(super) enter: Option<Linear>,
    pub(super) positions: Option<Matrix>,
    pub(super) embedding_norm: Option<Norm>,
    pub(super) layers: Vec<Layer>,
    pub(super) output_norm: Option<Norm>,
    /// From the width of the residual stream to that of the embeddings.
    pub(super) leave: Option<Linear>,
    /// The output head, perhaps the embedding.
    pub(super) head: Linear,
    /// Divisors of the rotary frequencies, `[pairs]`.
    pub(super) rope_factors: Option<Vector>,
    /// All of it.
    pub(super) placed: Vec<Placed>,
    pub(super) packed_bytes: usize,
    pub(super) vector_len: usize,
    forms: Forms,
}

/// Assigns places in the order of the calls.
struct Placer<'a> {
    file: &'a GgufFile,
    spec: &'a Spec,
    packing: Packing,
    packed_bytes: usize,
    vector_len: usize,
    placed: Vec<Placed>,
    forms: Forms,
    seen: HashSet<&'a str>,
}

impl<'a> Placer<'a> {
    fn find(&mut self, name: &str, shape: &[usize]) -> Result<Option<&'a TensorInfo>, ModelError> {
        let Some(tensor) = self.file.tensor(name) else { return Ok(None) };
        let expected: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
        // Trailing dimensions of 1 carry no information.
        let length =
            tensor.shape.iter().rposition(|&n| n != 1).map_or(1, |last| last + 1).max(expected.len());
        if tensor.shape[..length.min(tensor.shape.len())] != expected {
            return Err(ModelError::TensorShape {
                file: self.file.name().to_owned(),
                tensor: name.to_owned(),
                expected,
                found: tensor.shape.clone(),
            });
        }
        self.seen.insert(&tensor.name);
        Ok(Some(tensor))
    }

    fn missing(&self, tensor: &str) -> ModelError {
        ModelError::MissingTensor { file: self.file.name().to_owned(), tensor: tensor.to_owned() }
    }

    /// Rows `part` of a matrix of `[cols, rows]`.
    fn part(
        &mut self,
        name: &str,
        [cols, rows]: [usize; 2],
        part: Range<usize>,
    ) -> Result<Option<Matrix>, ModelError> {
        let Some(tensor) = self.find(name, &[cols, rows])? else { return Ok(None) };
        let shape =
            PackedShape { block_type: tensor.block_type, rows: part.len(), cols, packing: self.packing };
        let matrix = Matrix { shape, offset: self.packed_bytes };
        self.packed_bytes += shape.bytes();
        let place = Place::Matrix(matrix);
        self.placed.push(Placed { tensor: name.to_owned(), first: part.start, place });
        Ok(Some(matrix))
    }

    fn matrix(&mut self, name: &str, cols: usize, rows: usize) -> Result<Matrix, ModelError> {
        self.part(name, [cols, rows], 0..rows)?.ok_or_else(|| self.missing(name))
    }

    /// Values `part` of a tensor of this shape.
    fn values(
        &mut self,
        name: &str,
        shape: &[usize],
        part: Range<usize>,
    ) -> Result<Option<Vector>, ModelError> {
        let Some(tensor) = self.find(name, shape)? else { return Ok(None) };
        if !matches!(tensor.block_type, BlockType::F32 | BlockType::F16 | BlockType::BF16) {
            return Err(ModelError::TensorType {
                file: self.file.name().to_owned(),
                tensor: name.to_owned(),
                found: tensor.block_type.name().to_owned(),
            });
        }
        let vector = Vector { start: self.vector_len, len: part.len() };
        self.vector_len += part.len();
        let place = Place::Vector(vector);
        self.placed.push(Placed { tensor: name.to_owned(), first: part.start, place });
        Ok(Some(vector))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Option<Vector>, ModelError> {
        self.values(name, &[len], 0..len)
    }

    /// All values of a tensor of this shape.
    fn required(&mut self, name: &str, shape: &[usize]) -> Result<Vector, ModelError> {
        let all = 0..shape.iter().product();
        self.values(name, shape, all)?.ok_or_else(|| self.missing(name))
    }

    /// Rows `part` of `{name}.weight`, and of `{name}.bias` where the file has it.
    fn linear_part(
        &mut self,
        name: &str,
        shape: [usize; 2],
        part: Range<usize>,
    ) -> Result<Option<Linear>, ModelError> {
        let Some(weights) = self.part(&format!("{name}.weight"), shape, part.clone())? else {
            return Ok(None);
        };
        self.forms = self.forms.with(&weights.shape);
        let bias = self.values(&format!("{name}.bias"), &[shape[1]], part)?;
        Ok(Some(Linear { weights, bias }))
    }

    fn optional_linear(
        &mut self,
        name: &str,
        cols: usize,
        rows: usize,
    ) -> Result<Option<Linear>, ModelError> {
        self.linear_part(name, [cols, rows], 0..rows)
    }

    fn linear(&mut self, name: &str, cols: usize, rows: usize) -> Result<Linear, ModelError> {
        self.optional_linear(name, cols, rows)?.ok_or_else(|| self.missing(&format!("{name}.weight")))
    }

    /// `{name}.weight` of this shape, and for a layer norm `{name}.bias` where the file has it. llama.cpp writes
    /// Falcon-H1's `ffn_norm` without an ending.
    fn optional_norm(&mut self, name: &str, shape: &[usize]) -> Result<Option<Norm>, ModelError> {
        let all = 0..shape.iter().product();
        let weight = match self.values(&format!("{name}.weight"), shape, all.clone())? {
            Some(weight) => weight,
            None => match self.values(name, shape, all.clone())? {
                Some(weight) => weight,
                None => return Ok(None),
            },
        };
        let kind = self.spec.family.norm;
        let bias = match kind {
            NormKind::Rms => None,
            NormKind::Layer => self.values(&format!("{name}.bias"), shape, all)?,
        };
        Ok(Some(Norm { kind, weight: Some(weight), bias }))
    }

    fn norm(&mut self, name: &str, shape: &[usize]) -> Result<Norm, ModelError> {
        self.optional_norm(name, shape)?.ok_or_else(|| self.missing(&format!("{name}.weight")))
    }

    /// The norms of a part of a layer: `before` and `after` are their names.
    fn norms(&mut self, before: &str, after: &str) -> Result<Norms, ModelError> {
        let dim = [self.spec.dim];
        let mut norms = Norms { input: None, added: None, sum: None };
        match self.spec.family.norm_places {
            NormPlaces::Pre if self.spec.post_norm => norms.sum = Some(self.norm(before, &dim)?),
            NormPlaces::Pre => norms.input = Some(self.norm(before, &dim)?),
            NormPlaces::Sandwich => {
                norms.input = Some(self.norm(before, &dim)?);
                norms.added = Some(self.norm(after, &dim)?);
            }
            NormPlaces::Post => norms.added = Some(self.norm(after, &dim)?),
            NormPlaces::Unweighted => norms.input = Some(self.plain_norm()),
        }
        Ok(norms)
    }

    fn plain_norm(&self) -> Norm {
        Norm { kind: self.spec.family.norm, weight: None, bias: None }
    }

    fn qk_norm(&mut self, name: &str, heads: usize) -> Result<Option<Norm>, ModelError> {
        let dim = self.spec.head_dim;
        match self.spec.family.qk_norm {
            QkNorm::None => Ok(None),
            QkNorm::PerHead => self.norm(name, &[dim]).map(Some),
            QkNorm::OwnPerHead => self.optional_norm(name, &[dim, heads]),
            QkNorm::Whole => self.norm(name, &[dim * heads]).map(Some),
        }
    }

    fn attention(&mut self, index: usize) -> Result<AttentionWeights, ModelError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (dim, query, kv) = (self.spec.dim, self.spec.query_width(), self.spec.kv_width());
        let fused = name("attn_qkv");
        let shape = [dim, query + 2 * kv];
        let parts = [0..query, query..query + kv, query + kv..query + 2 * kv];
        let mut ends = [("attn_q", query), ("attn_k", kv), ("attn_v", kv)].into_iter().zip(parts);
        let mut next = || -> Result<Linear, ModelError> {
            let Some(((part, rows), range)) = ends.next() else { return Err(self.missing(&fused)) };
            match self.linear_part(&fused, shape, range)? {
                Some(linear) => Ok(linear),
                None => self.linear(&name(part), dim, rows),
            }
        };
        let (query_weights, key, value) = (next()?, next()?, next()?);
        Ok(AttentionWeights {
            query: query_weights,
            key,
            value,
            output: self.linear(&name("attn_output"), query, dim)?,
            head_norms: [
                self.qk_norm(&name("attn_q_norm"), self.spec.heads)?,
                self.qk_norm(&name("attn_k_norm"), self.spec.kv_heads)?,
            ],
            state: match self.spec.state {
                Some(state) => Some(self.state(index, &state)?),
                None => None,
            },
        })
    }

    fn state(&mut self, index: usize, state: &StateSpec) -> Result<StateWeights, ModelError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (channels, heads, taps) = (state.channels(), state.heads, state.taps);
        Ok(StateWeights {
            input: self.linear(&name("ssm_in"), self.spec.dim, state.input())?,
            kernel: self.required(&name("ssm_conv1d.weight"), &[taps, channels])?,
            kernel_bias: self.vector(&name("ssm_conv1d.bias"), channels)?,
            step_bias: self.required(&name("ssm_dt.bias"), &[heads])?,
            decay: self.required(&name("ssm_a"), &[1, heads])?,
            direct: self.required(&name("ssm_d"), &[1, heads])?,
            output: self.linear(&name("ssm_out"), state.inner(), self.spec.dim)?,
        })
    }

    fn convolution(&mut self, index: usize) -> Result<ConvolutionWeights, ModelError> {
        let name = |part: &str| format!("blk.{index}.shortconv.{part}");
        let Spec { dim, taps, .. } = *self.spec;
        let input = self.linear(&name("in_proj"), dim, 3 * dim)?;
        Ok(ConvolutionWeights {
            input,
            kernel: self.required(&name("conv.weight"), &[taps, dim])?,
            output: self.linear(&name("out_proj"), dim, dim)?,
        })
    }

    fn layer(&mut self, index: usize) -> Result<Layer, ModelError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let Spec { dim, hidden, shared_norm, .. } = *self.spec;
        let attention_norms = self.norms(&name("attn_norm"), &name("post_attention_norm"))?;
        Ok(Layer {
            attention_norms,
            mixer: match self.spec.layer_specs[index].mixer {
                Mixer::Attention => MixerWeights::Attention(Box::new(self.attention(index)?)),
                Mixer::Convolution => MixerWeights::Convolution(self.convolution(index)?),
            },
            feed_forward_norms: match shared_norm {
                true => attention_norms,
                false => self.norms(&name("ffn_norm"), &name("post_ffw_norm"))?,
            },
            gate: match self.spec.family.gated {
                true => Some(self.linear(&name("ffn_gate"), dim, hidden)?),
                false => None,
            },
            up: self.linear(&name("ffn_up"), dim, hidden)?,
            down: self.linear(&name("ffn_down"), hidden, dim)?,
        })
    }

    /// The norm before the output head.
    fn output_norm(&mut self) -> Result<Option<Norm>, ModelError> {
        match self.spec.family.norm_places {
            NormPlaces::Unweighted => Ok(Some(self.plain_norm())),
            _ if self.spec.post_norm => Ok(None),
            _ => self.norm(self.spec.family.output_norm, &[self.spec.dim]).map(Some),
        }
    }
}

impl Layout {
    /// Finds and checks every tensor of the model.
    pub(super) fn new(file: &GgufFile, spec: &Spec, packing: Packing) -> Result<Self, ModelError> {
        let mut placer = Placer {
            file,
            spec,
            packing,
            packed_bytes: 0,
            vector_len: 0,
            placed: Vec::new(),
            forms: Forms::default(),
            seen: HashSet::new(),
        };
        let (dim, word, vocab) = (spec.dim, spec.word_dim, spec.vocab);
        let embedding = placer.matrix(EMBEDDING_TENSOR, word, vocab)?;
        let is_narrow = word != dim;
        let enter = if is_narrow { Some(placer.linear("token_embd_proj", word, dim)?) } else { None };
        let positions = spec.positions.map(|rows| placer.matrix("position_embd.weight", dim, rows));
        let embedding_norm = match spec.family.normed_embedding {
            true => Some(placer.norm("token_embd_norm", &[dim])?),
            false => None,
        };
        let layers = (0..spec.layers).map(|index| placer.layer(index)).collect::<Result<_, _>>()?;
        let output_norm = placer.output_norm()?;
        let leave = if is_narrow { Some(placer.linear("output_proj", dim, word)?) } else { None };
        let head = match placer.optional_linear("output", word, vocab)? {
            Some(head) => head,
            None => Linear { weights: embedding, bias: placer.vector("output.bias", vocab)? },
        };
        let rope_factors = match spec.rope.pairs {
            0 => None,
            pairs => placer.vector("rope_freqs.weight", pairs)?,
        };
        if let Some(extra) = file.tensors().iter().find(|t| !placer.seen.contains(t.name.as_str())) {
            return Err(ModelError::UnexpectedTensor {
                file: file.name().to_owned(),
                tensor: extra.name.clone(),
                architecture: spec.family.architecture,
            });
        }
        let Placer { packed_bytes, vector_len, placed, forms, .. } = placer;
        Ok(Self {
            embedding,
            enter,
            positions: positions.transpose()?,
            embedding_norm,
            layers,
            output_norm,
            leave,
            head,
            rope_factors,
            placed,
            packed_bytes,
            vector_len,
            forms: forms.with(&head.weights.shape),
        })
    }

    /// Bytes of the buffers.
    pub(super) fn planned_bytes(&self) -> usize {
        page_rounded(self.packed_bytes) + page_rounded(self.vector_len * size_of::<f32>())
    }

    /// The forms of activations the matrices need.
    pub(super) fn forms(&self) -> Forms {
        self.forms
    }
}
