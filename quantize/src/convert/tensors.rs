//! From the rows of a family to the tensors of the output: what each is made from, checked against the files.

use std::collections::HashSet;

use smolt::blocks::BlockType;

use super::ConvertError;
use super::config::Config;
use super::family::{Axis, Bias, Form, Rule};
use super::floats::Floats;
use super::gptq::{GptqLinear, GptqSettings};
use super::shards::{Entry, Shards};

/// One tensor of the output.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    /// Extents, columns first.
    pub(super) shape: Vec<u64>,
    pub(super) block_type: BlockType,
    pub(super) source: Source,
}

/// What a tensor is made from.
#[derive(Debug)]
pub(super) enum Source {
    /// A tensor of floating-point numbers.
    Floats(Floats),
    /// A matrix quantized by GPTQ.
    Gptq(Box<GptqLinear>),
    /// Numbers that the configuration gives.
    Made(Vec<f32>),
}

/// Everything a plan is made from.
pub(super) struct Planner<'a> {
    pub(super) folder: String,
    pub(super) config: &'a Config,
    pub(super) shards: &'a Shards,
    pub(super) gptq: Option<GptqSettings>,
    /// Type of matrices of floating-point numbers.
    pub(super) float: BlockType,
    used: HashSet<String>,
    /// Names of rules that config.json switches off.
    unused: HashSet<String>,
    planned: Vec<Planned>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        folder: String,
        config: &'a Config,
        shards: &'a Shards,
        gptq: Option<GptqSettings>,
        float: BlockType,
    ) -> Self {
        let (used, unused) = (HashSet::new(), HashSet::new());
        Self { folder, config, shards, gptq, float, used, unused, planned: Vec::new() }
    }

    /// The tensors in the order of the output, and what was left out.
    pub(super) fn plan(mut self) -> Result<(Vec<Planned>, Vec<String>), ConvertError> {
        let family = self.config.family;
        for rule in family.first {
            self.add(rule, "", "")?;
        }
        for layer in 0..self.config.sizes.get(Axis::Layers) {
            let (hf, gguf) = family.layer_prefix;
            let prefixes = (format!("{hf}{layer}."), format!("{gguf}{layer}."));
            for rule in family.layer {
                self.add(rule, &prefixes.0, &prefixes.1)?;
            }
        }
        for rule in family.last {
            self.add(rule, "", "")?;
        }
        if let Some(factors) = &self.config.rope.factors {
            self.planned.push(Planned {
                name: "rope_freqs.weight".to_owned(),
                shape: vec![factors.len() as u64],
                block_type: BlockType::F32,
                source: Source::Made(factors.clone()),
            });
        }
        let notes = self.check_rest()?;
        Ok((self.planned, notes))
    }

    fn add(&mut self, rule: &Rule, hf_prefix: &str, gguf_prefix: &str) -> Result<(), ConvertError> {
        let (hf, gguf) = (format!("{hf_prefix}{}", rule.hf), format!("{gguf_prefix}{}", rule.gguf));
        if let Some(key) = rule.unless
            && self.config.is_set(key)?
        {
            self.unused.insert(format!("{hf}.weight"));
            return Ok(());
        }
        let extents = |rows, cols| vec![self.config.sizes.extent(rows), self.config.sizes.extent(cols)];
        let (shape, block_type) = match rule.form {
            Form::Matrix { rows, cols } => (extents(rows, cols), self.float),
            Form::Vector { len } => (vec![self.config.sizes.extent(len)], BlockType::F32),
        };
        let heads = rule.rotary.map(|axis| self.config.sizes.get(axis));
        let quantized = self.shards.get(&format!("{hf}.qweight")).is_some();
        let planned = if quantized && shape.len() == 2 {
            self.quantized(&hf, &gguf, &shape, heads)?
        } else {
            let planned = self.floats((&hf, "weight"), &gguf, &shape, heads)?;
            Planned { block_type, ..planned }
        };
        self.planned.push(planned);
        let bias = match rule.bias {
            Bias::No => false,
            // GPTQ checkpoints may have biases, of zeros, where the model has none.
            Bias::If(key) => {
                self.config.is_set(key)? || quantized && self.shards.get(&format!("{hf}.bias")).is_some()
            }
        };
        if bias {
            let planned = self.floats((&hf, "bias"), &gguf, &shape[..1], heads)?;
            self.planned.push(planned);
        }
        Ok(())
    }

    /// `{hf}.{part}`, a tensor of numbers of this shape (outermost first), as F32.
    fn floats(
        &mut self,
        (hf, part): (&str, &str),
        gguf: &str,
        shape: &[u64],
        heads: Option<u64>,
    ) -> Result<Planned, ConvertError> {
        let entry = self.take(&format!("{hf}.{part}"), shape)?;
        Ok(Planned {
            name: format!("{gguf}.{part}"),
            shape: shape.iter().rev().copied().collect(),
            block_type: BlockType::F32,
            source: Source::Floats(Floats::new(self.shards, entry, heads)?),
        })
    }

    fn quantized(
        &mut self,
        hf: &str,
        gguf: &str,
        shape: &[u64],
        heads: Option<u64>,
    ) -> Result<Planned, ConvertError> {
        let Some(settings) = self.gptq else {
            let root = self.config.root();
            return Err(root.bad("quantization_config", format!("how {hf}.qweight is quantized")));
        };
        let layout = settings.layout(self.shards, hf, shape, heads)?;
        let mut part = |part: &str, shape: &[u64]| self.take(&format!("{hf}.{part}"), shape);
        let (rows, cols) = (layout.rows, layout.cols);
        let parts = super::gptq::Parts {
            codes: part("qweight", &[cols / 8, rows])?,
            zeros: part("qzeros", &[layout.groups, rows / 8])?,
            scales: part("scales", &[layout.groups, rows])?,
            groups: match self.shards.get(&format!("{hf}.g_idx")) {
                Some(_) => Some(self.take(&format!("{hf}.g_idx"), &[cols])?),
                None => None,
            },
        };
        let linear = GptqLinear::new(self.shards, layout, parts)?;
        Ok(Planned {
            name: format!("{gguf}.weight"),
            shape: vec![cols, rows],
            block_type: linear.block_type(),
            source: Source::Gptq(Box::new(linear)),
        })
    }

    /// The tensor of this name, which must have this shape (outermost first).
    fn take(&mut self, name: &str, shape: &[u64]) -> Result<Entry, ConvertError> {
        let Some(entry) = self.shards.get(name) else {
            let tensor = name.to_owned();
            return Err(ConvertError::MissingTensor { folder: self.folder.clone(), tensor });
        };
        if entry.shape != shape {
            return Err(ConvertError::TensorShape {
                file: self.shards.file_of(entry),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                found: entry.shape.clone(),
            });
        }
        self.used.insert(name.to_owned());
        Ok(entry.clone())
    }

    /// Refuses tensors that no rule names, and tells of those that are not used.
    fn check_rest(&self) -> Result<Vec<String>, ConvertError> {
        let mut notes = Vec::new();
        for entry in self.shards.entries().filter(|entry| !self.used.contains(&entry.name)) {
            let family = self.config.family;
            if family.ignored.iter().any(|ending| entry.name.ends_with(ending)) {
                continue;
            }
            if !self.unused.contains(&entry.name) {
                return Err(ConvertError::UnexpectedTensor {
                    file: self.shards.file_of(entry),
                    tensor: entry.name.clone(),
                    class: family.class,
                });
            }
            notes
                .push(format!("{} is left out: config.json says that the model does not use it", entry.name));
        }
        Ok(notes)
    }
}
