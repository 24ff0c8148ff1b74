//! What a row says of a tensor.

use super::{Axis, Extent, Flag, Kind, WIDTH};

/// Whether a tensor has a bias.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) enum Bias {
    No,
    Yes,
    /// Where this is true.
    If(Flag),
}

/// Extents of a tensor, outermost first, and how it is stored.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) enum Form {
    Matrix {
        rows: Extent,
        cols: Extent,
    },
    /// A matrix whose rows are columns in the files.
    Transposed {
        rows: Extent,
        cols: Extent,
    },
    /// One of so many equal parts of the rows of a matrix.
    Part {
        rows: Extent,
        cols: Extent,
        part: u64,
        of: u64,
    },
    /// Vectors by position, as F32. The first `skipped` of the files are not used.
    Table {
        rows: Extent,
        cols: Extent,
        skipped: u64,
    },
    /// `[channels][1][taps]` in the files, `[channels][taps]` in the output, as F32.
    Kernel {
        channels: Extent,
        taps: Extent,
    },
    Vector {
        len: Extent,
    },
    /// A vector whose entries are rows in the output.
    Column {
        len: Extent,
    },
}

impl Form {
    /// Rows of the files; entries of a vector.
    pub(in crate::convert) fn rows(self) -> Extent {
        match self {
            Self::Matrix { rows, .. }
            | Self::Transposed { rows, .. }
            | Self::Part { rows, .. }
            | Self::Table { rows, .. } => rows,
            Self::Kernel { channels, .. } => channels,
            Self::Vector { len } | Self::Column { len } => len,
        }
    }

    /// Columns; a vector has none.
    pub(in crate::convert) fn cols(self) -> Option<Extent> {
        match self {
            Self::Matrix { cols, .. }
            | Self::Transposed { cols, .. }
            | Self::Part { cols, .. }
            | Self::Table { cols, .. } => Some(cols),
            Self::Kernel { taps, .. } => Some(taps),
            Self::Vector { .. } | Self::Column { .. } => None,
        }
    }
}

/// Order of the rows in the output.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) enum Order {
    /// That of the files.
    Same,
    /// The rows are so many heads in which value `i` rotates with `i + n/2`; GGUF pairs `2i` with `2i + 1`.
    Rotary(Axis),
    /// Each of so many heads has its query, key and value rows; GGUF has all queries, all keys, all values.
    ByPart(Axis),
}

/// What is done to each number.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) enum Change {
    Nothing,
    /// The model adds 1.
    AddOne,
    /// The model uses `-exp(x)`.
    NegativeExp,
    /// The model multiplies by these.
    Scale(&'static [Factor]),
}

/// A number of config.json that a tensor is multiplied by; 1 where it is absent.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) enum Factor {
    /// Of this key.
    Key(&'static str),
    /// An entry of the list of this key.
    Entry(&'static str, usize),
    /// The list of this key, for so many rows each.
    Rows(&'static str, &'static [Axis]),
}

/// Which models, and which of their layers, have a tensor.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) enum Condition {
    Always,
    /// Where this is true.
    If(Flag),
    /// Where this is not true. A tensor that is there nevertheless is not used.
    Unless(Flag),
    /// Where two sizes differ.
    Differ(Axis, Axis),
    /// Layers of this kind.
    Of(Kind),
}

/// One tensor of the model, or of every layer: `{hf}.weight` becomes `{gguf}.weight`, and so does its bias.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Rule {
    pub(in crate::convert) hf: &'static str,
    pub(in crate::convert) gguf: &'static str,
    /// The names are whole.
    pub(in crate::convert) bare: bool,
    pub(in crate::convert) form: Form,
    pub(in crate::convert) bias: Bias,
    pub(in crate::convert) order: Order,
    pub(in crate::convert) change: Change,
    pub(in crate::convert) when: Condition,
}

impl Rule {
    const fn new(hf: &'static str, gguf: &'static str, form: Form) -> Self {
        let (bias, order, change) = (Bias::No, Order::Same, Change::Nothing);
        Self { hf, gguf, bare: false, form, bias, order, change, when: Condition::Always }
    }

    pub(super) const fn matrix(hf: &'static str, gguf: &'static str, rows: Extent, cols: Extent) -> Self {
        Self::new(hf, gguf, Form::Matrix { rows, cols })
    }

    pub(super) const fn transposed(hf: &'static str, gguf: &'static str, rows: Extent, cols: Extent) -> Self {
        Self::new(hf, gguf, Form::Transposed { rows, cols })
    }

    /// Part `part` of `of` of a matrix with so many times these rows.
    pub(super) const fn part(self, part: u64, of: u64) -> Self {
        match self.form {
            Form::Matrix { rows, cols } => Self { form: Form::Part { rows, cols, part, of }, ..self },
            _ => self,
        }
    }

    /// `[rows][width]`.
    pub(super) const fn table(hf: &'static str, gguf: &'static str, rows: Extent, skipped: u64) -> Self {
        Self::new(hf, gguf, Form::Table { rows, cols: WIDTH, skipped })
    }

    pub(super) const fn kernel(hf: &'static str, gguf: &'static str, channels: Extent) -> Self {
        Self::new(hf, gguf, Form::Kernel { channels, taps: Extent::Of(Axis::Taps) })
    }

    pub(super) const fn vector(hf: &'static str, gguf: &'static str, len: Extent) -> Self {
        Self::new(hf, gguf, Form::Vector { len })
    }

    /// `[width]`.
    pub(super) const fn norm(hf: &'static str, gguf: &'static str) -> Self {
        Self::vector(hf, gguf, WIDTH)
    }

    pub(super) const fn column(hf: &'static str, gguf: &'static str, len: Extent) -> Self {
        Self::new(hf, gguf, Form::Column { len }).bare()
    }

    pub(super) const fn bare(self) -> Self {
        Self { bare: true, ..self }
    }

    pub(super) const fn bias(self) -> Self {
        Self { bias: Bias::Yes, ..self }
    }

    pub(super) const fn bias_if(self, flag: Flag) -> Self {
        Self { bias: Bias::If(flag), ..self }
    }

    pub(super) const fn rotary(self, heads: Axis) -> Self {
        Self { order: Order::Rotary(heads), ..self }
    }

    pub(super) const fn by_part(self, heads: Axis) -> Self {
        Self { order: Order::ByPart(heads), ..self }
    }

    pub(super) const fn change(self, change: Change) -> Self {
        Self { change, ..self }
    }

    pub(super) const fn when(self, when: Condition) -> Self {
        Self { when, ..self }
    }

    pub(super) const fn unless(self, flag: Flag) -> Self {
        self.when(Condition::Unless(flag))
    }
}
