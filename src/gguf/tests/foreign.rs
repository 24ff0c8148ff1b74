//! Files made by other programs, where they are at hand.

use std::path::{Path, PathBuf};

use super::super::{GgufFile, GgufWriter};

fn shared() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");
    std::env::var_os("SMOLT_SHARED").map_or_else(|| default.into(), PathBuf::from)
}

/// Opens every GGUF file of a directory; `None`, said aloud, if there is no such directory.
fn open_all(directory: &Path) -> Option<Vec<GgufFile>> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        eprintln!("SKIPPED: no {}; set SMOLT_SHARED to check files of other programs", directory.display());
        return None;
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "gguf"));
    paths.sort();
    Some(paths.iter().map(|path| GgufFile::open(path).unwrap()).collect())
}

#[test]
fn llama_cpp_models_open() {
    let Some(files) = open_all(&shared().join("models/s288/gguf")) else { return };
    assert!(!files.is_empty());
    for file in files {
        assert_eq!(file.require_str("general.architecture").unwrap(), "llama", "{}", file.name());
        let width = file.require_u32("llama.embedding_length").unwrap() as usize;
        let tokens = file.require_str_array("tokenizer.ggml.tokens").unwrap();
        let embedding = file.tensor("token_embd.weight").unwrap();
        assert_eq!((embedding.cols(), embedding.rows()), (width, tokens.len()), "{}", file.name());
        assert_eq!(
            file.f32_array("tokenizer.ggml.scores").unwrap().map_or(tokens.len(), |a| a.len()),
            tokens.len()
        );
        for tensor in file.tensors() {
            assert_eq!(file.data(tensor).unwrap().len() as u64, tensor.bytes, "{}", tensor.name);
        }
    }
}

#[test]
fn vocabularies_open() {
    let Some(files) = open_all(&shared().join("data/vocab")) else { return };
    assert!(!files.is_empty());
    for file in files {
        let tokens = file.require_str_array("tokenizer.ggml.tokens").unwrap();
        assert_eq!(tokens.iter_str().count(), tokens.len(), "{}", file.name());
        assert!(tokens.len() > 1000, "{}", file.name());
        let kinds = file.integer_array("tokenizer.ggml.token_type").unwrap().unwrap();
        assert_eq!(kinds.iter_i64().count(), tokens.len(), "{}", file.name());
    }
}

#[test]
fn a_copy_of_a_llama_cpp_model_has_the_same_bytes() {
    let Some(files) = open_all(&shared().join("models/s288/gguf")) else { return };
    for file in files {
        let mut writer = GgufWriter::new();
        writer.copy_metadata(&file, |_| true);
        for info in file.tensors() {
            writer.add_tensor(&info.name, &info.shape, info.block_type);
        }
        let copy = writer.to_vec("copy", |info, out| out.write_all(file.data(info).unwrap())).unwrap();
        assert!(copy == file.as_bytes().unwrap(), "{}", file.name());
    }
}
