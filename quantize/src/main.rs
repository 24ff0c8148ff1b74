//! `smolt-quantize`: converts and quantizes small language models.
fn main() {}
