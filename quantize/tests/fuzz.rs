//! What the fuzz target `convert` does, in the normal tests: with its seeds and a fixed number of changes of them.

#[allow(unreachable_pub, reason = "the library of the fuzz targets has it public")]
#[path = "../../fuzz/src/convert.rs"]
mod body;
#[path = "../../fuzz/src/input.rs"]
mod input;
#[path = "../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../fuzz/src/scratch.rs"]
mod scratch;

use std::path::Path;

pub(crate) use input::parts;
use replay::Replay;

#[test]
fn convert() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let replay = Replay { target: "convert", seeds: &seeds, changes: 1000, mend: |_, _| () };
    replay.run(&mut |data| Ok(body::convert(data)));
}
