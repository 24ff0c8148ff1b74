//! What a GGUF file is for: not every one is a model.

use super::GgufFile;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A model, or something that does not say that it is none.
    Model,
    /// Changes to the weights of a model (LoRA).
    Adapter,
    /// What quantizers use to round weights.
    Imatrix,
    /// The part of a model that turns images or sound into embeddings.
    Projector,
    /// A tokenizer without weights.
    Vocabulary,
    /// Directions to steer a model by.
    ControlVector,
    /// Weights of a model as this program packs them.
    Pack,
}

impl Purpose {
    /// Says what it is, with an article.
    pub fn what(self) -> &'static str {
        match self {
            Self::Model => "a model",
            Self::Adapter => "a LoRA adapter: changes to the weights of a model",
            Self::Imatrix => "an importance matrix, which quantizers use",
            Self::Projector => "the image or sound part of a model (mmproj)",
            Self::Vocabulary => "a vocabulary without weights",
            Self::ControlVector => "a control vector",
            Self::Pack => "the packed weights of a model, made by smolt pack",
        }
    }

    /// Says what to do where a model was expected.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Adapter => "merge it into the model that it was trained on, and convert the result",
            Self::Imatrix | Self::Pack => "name the model that it was made for",
            Self::Projector => "name the file of the language model that it belongs to",
            Self::Model | Self::Vocabulary | Self::ControlVector => "name the file with the weights",
        }
    }
}

impl GgufFile {
    /// Tells what the file is for.
    pub fn purpose(&self) -> Purpose {
        let text = |key| self.str(key).ok().flatten().unwrap_or_default();
        let has_tensor = |ends: &[&str]| {
            self.tensors().iter().any(|tensor| ends.iter().any(|end| tensor.name.ends_with(end)))
        };
        match (text("general.type"), text("general.architecture")) {
            (_, "smolt-pack") => Purpose::Pack,
            (_, "controlvector") => Purpose::ControlVector,
            ("adapter", _) => Purpose::Adapter,
            ("imatrix", _) | (_, "imatrix") => Purpose::Imatrix,
            ("mmproj", _) | (_, "clip") => Purpose::Projector,
            _ if has_tensor(&[".lora_a", ".lora_b"]) => Purpose::Adapter,
            _ if has_tensor(&[".in_sum2"]) => Purpose::Imatrix,
            ("vocab", _) => Purpose::Vocabulary,
            _ if self.tensors().is_empty() && self.get("tokenizer.ggml.tokens").is_some() => {
                Purpose::Vocabulary
            }
            _ => Purpose::Model,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::BlockType;
    use crate::gguf::GgufWriter;

    fn purpose(keys: &[(&str, &str)], tensor: &str) -> Purpose {
        let mut writer = GgufWriter::new();
        for (key, value) in keys {
            writer.set(*key, *value);
        }
        if !tensor.is_empty() {
            writer.add_tensor(tensor, &[1], BlockType::F32);
        }
        let bytes = writer.to_vec("file", |tensor, out| out.write_all(&vec![0; tensor.bytes as usize]));
        GgufFile::from_vec("file", bytes.unwrap()).unwrap().purpose()
    }

    #[test]
    fn files_that_are_no_models_are_known() {
        let (kind, architecture, llama) =
            ("general.type", "general.architecture", ("general.architecture", "llama"));
        for (keys, tensor, expected) in [
            (&[llama, (kind, "model")][..], "output.weight", Purpose::Model),
            (&[], "output.weight", Purpose::Model),
            (&[llama], "", Purpose::Model),
            (&[llama, ("tokenizer.ggml.tokens", "in truth a list")], "output.weight", Purpose::Model),
            (&[llama, (kind, "adapter")], "blk.0.attn_q.weight.lora_a", Purpose::Adapter),
            (&[llama], "blk.0.attn_q.weight.lora_b", Purpose::Adapter),
            (&[(kind, "imatrix")], "", Purpose::Imatrix),
            (&[], "blk.0.attn_q.weight.in_sum2", Purpose::Imatrix),
            (&[(architecture, "clip")], "v.patch_embd.weight", Purpose::Projector),
            (&[llama, ("tokenizer.ggml.tokens", "in truth a list")], "", Purpose::Vocabulary),
            (&[(architecture, "controlvector")], "direction.1", Purpose::ControlVector),
            (&[(architecture, "smolt-pack")], "packed", Purpose::Pack),
        ] {
            assert_eq!(purpose(keys, tensor), expected, "{keys:?} {tensor}");
        }
    }
}
