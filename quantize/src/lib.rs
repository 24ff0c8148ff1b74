//! Conversion and quantization of small language models to GGUF.
