//! From the rows of a family to the tensors of the output: what each is made from, checked against the files.

use std::collections::HashSet;

use smolt::blocks::BlockType;

use super::ConvertError;
use super::config::Config;
use super::family::{Axis, Bias, Change, Condition, Factor, Form, Kind, Order, Rule};
use super::floats::{Floats, Making, RowOrder, Values};
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
        let (family, uses) = (self.config.family, self.config.uses);
        for rule in family.first {
            self.add(rule, None, ["", ""])?;
        }
        for layer in 0..self.config.sizes.get(Axis::Layers) * uses {
            let stored = layer / uses;
            let prefixes = [format!("{}{stored}.", family.layer_prefix), format!("blk.{layer}.")];
            let kind = self.config.kinds.get(stored as usize).copied();
            for rule in family.layer {
                self.add(rule, kind, [&prefixes[0], &prefixes[1]])?;
            }
        }
        for rule in family.last {
            self.add(rule, None, ["", ""])?;
        }
        if let Some(factors) = self.config.rope.as_ref().and_then(|rope| rope.factors.as_ref()) {
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

    /// Adds the tensors of a rule, if a layer of this kind has them.
    fn add(
        &mut self,
        rule: &Rule,
        kind: Option<Kind>,
        [hf_prefix, gguf_prefix]: [&str; 2],
    ) -> Result<(), ConvertError> {
        let (hf, gguf) = (format!("{hf_prefix}{}", rule.hf), format!("{gguf_prefix}{}", rule.gguf));
        let sizes = &self.config.sizes;
        let wanted = match rule.when {
            Condition::Always => true,
            Condition::If(flag) => self.config.is(flag)?,
            Condition::Unless(flag) => !self.config.is(flag)?,
            Condition::Differ(a, b) => sizes.get(a) != sizes.get(b),
            Condition::Of(wanted) => kind == Some(wanted),
        };
        if !wanted {
            if matches!(rule.when, Condition::Unless(_)) {
                self.unused.extend([format!("{hf}.weight"), format!("{hf}.bias")]);
            }
            return Ok(());
        }
        let part = if rule.bare { "" } else { ".weight" };
        let quantized = self.find(&format!("{hf}.qweight")).is_some();
        let matrix = matches!(rule.form, Form::Matrix { .. } | Form::Transposed { .. });
        let planned = if quantized && matrix {
            self.quantized(&hf, &gguf, rule)?
        } else {
            self.floats(&format!("{hf}{part}"), format!("{gguf}{part}"), rule, rule.form)?
        };
        self.planned.push(planned);
        let bias = match rule.bias {
            Bias::No => false,
            Bias::Yes => true,
            // GPTQ checkpoints may have biases, of zeros, where the model has none.
            Bias::If(flag) => {
                self.config.is(flag)? || quantized && self.find(&format!("{hf}.bias")).is_some()
            }
        };
        if bias {
            let form = Form::Vector { len: rule.form.rows() };
            let planned = self.floats(&format!("{hf}.bias"), format!("{gguf}.bias"), rule, form)?;
            self.planned.push(planned);
        }
        Ok(())
    }

    /// A tensor of numbers of this form.
    fn floats(&mut self, hf: &str, name: String, rule: &Rule, form: Form) -> Result<Planned, ConvertError> {
        let size = |extent| self.config.sizes.extent(extent);
        let (rows, cols) = (size(form.rows()), form.cols().map_or(1, size));
        let (mut skipped, mut transposed) = (0, false);
        let (source, shape, block_type) = match form {
            Form::Matrix { .. } => (vec![rows, cols], vec![cols, rows], self.float),
            Form::Transposed { .. } => {
                transposed = true;
                (vec![cols, rows], vec![cols, rows], self.float)
            }
            Form::Part { part, of, .. } => {
                skipped = part * rows;
                (vec![rows * of, cols], vec![cols, rows], self.float)
            }
            Form::Table { skipped: first, .. } => {
                skipped = first;
                (vec![rows, cols], vec![cols, rows - first], BlockType::F32)
            }
            Form::Kernel { .. } => (vec![rows, 1, cols], vec![cols, rows], BlockType::F32),
            Form::Vector { .. } => (vec![rows], vec![rows], BlockType::F32),
            Form::Column { .. } => (vec![rows], vec![1, rows], BlockType::F32),
        };
        let used = match form {
            Form::Table { skipped, .. } => rows - skipped,
            _ => rows,
        };
        let entry = self.take(hf, &source)?;
        let values = self.values(rule, rows)?;
        let making = Making { rows: used, cols, order: self.order(rule, rows), values, skipped, transposed };
        Ok(Planned {
            name,
            shape,
            block_type,
            source: Source::Floats(Floats::new(self.shards, entry, making)?),
        })
    }

    fn order(&self, rule: &Rule, rows: u64) -> RowOrder {
        match rule.order {
            Order::Same => RowOrder::Same,
            Order::Rotary(heads) => RowOrder::Rotary { head_dim: rows / self.config.sizes.get(heads) },
            Order::ByPart(heads) => {
                let heads = self.config.sizes.get(heads);
                RowOrder::ByPart { heads, head_dim: rows / (3 * heads) }
            }
        }
    }

    /// What is done to the numbers of a tensor of so many rows.
    fn values(&self, rule: &Rule, rows: u64) -> Result<Values, ConvertError> {
        let factors = match rule.change {
            Change::Nothing => return Ok(Values::Same),
            Change::AddOne => return Ok(Values::PlusOne),
            Change::NegativeExp => return Ok(Values::NegativeExp),
            Change::Scale(factors) => factors,
        };
        let root = self.config.root();
        let mut parts = vec![(rows, 1.0)];
        let mut common = 1.0;
        for factor in factors {
            match *factor {
                Factor::Key(key) => common *= root.number(key)?.unwrap_or(1.0) as f32,
                Factor::Entry(key, i) => {
                    let entry = root.list(key)?.map(|list| list.get(i).and_then(|entry| entry.as_f64()));
                    let expected = || root.bad(key, format!("a list of numbers, at least {}", i + 1));
                    common *= entry.unwrap_or(Some(1.0)).ok_or_else(expected)? as f32;
                }
                Factor::Rows(key, axes) => {
                    let Some(found) = root.numbers(key, axes.len())? else { continue };
                    let mut end = 0;
                    let ends = axes.iter().map(|axis| {
                        end += self.config.sizes.get(*axis);
                        end
                    });
                    parts = ends.zip(found.into_iter().map(|factor| factor as f32)).collect();
                }
            }
        }
        Ok(Values::Scaled(parts.into_iter().map(|(end, factor)| (end, factor * common)).collect()))
    }

    fn quantized(&mut self, hf: &str, gguf: &str, rule: &Rule) -> Result<Planned, ConvertError> {
        let root = self.config.root();
        let Some(settings) = self.gptq else {
            return Err(root.bad("quantization_config", format!("how {hf}.qweight is quantized")));
        };
        if !matches!(rule.change, Change::Nothing) {
            let expected = format!("no quantized {hf}: the model's multipliers go into its weights");
            return Err(root.bad("quantization_config", expected));
        }
        let size = |extent| self.config.sizes.extent(extent);
        let (rows, cols) = (size(rule.form.rows()), rule.form.cols().map_or(1, size));
        let layout = settings.layout(self.shards, hf, &[rows, cols], self.order(rule, rows))?;
        let mut part = |part: &str, shape: &[u64]| self.take(&format!("{hf}.{part}"), shape);
        let parts = super::gptq::Parts {
            codes: part("qweight", &[cols / 8, rows])?,
            zeros: part("qzeros", &[layout.groups, rows / 8])?,
            scales: part("scales", &[layout.groups, rows])?,
            groups: match self.find(&format!("{hf}.g_idx")) {
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
        let Some(entry) = self.find(name) else {
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
        self.used.insert(entry.name.clone());
        Ok(entry.clone())
    }

    /// The tensor of this name, or of its name in a checkpoint of the model without its head.
    fn find(&self, name: &str) -> Option<&'a Entry> {
        let short = || name.strip_prefix(self.config.family.base).filter(|short| short.len() < name.len());
        self.shards.get(name).or_else(|| self.shards.get(short()?))
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
