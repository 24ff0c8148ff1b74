//! Where the signatures of a file or folder lie.

use std::path::{Path, PathBuf};

use super::bundle::Bundle;
use super::error::TrustError;
use crate::files::is_there;

/// Most signatures of one thing.
pub const MAX_SIGNATURES: usize = 8;
/// The first signature of a folder.
pub(super) const OF_FOLDER: &str = "model.sig";

/// Names the signatures that may belong together with a first one: `NAME.sig`, `NAME.2.sig` to `NAME.8.sig`.
pub fn signatures_beside(first: &Path) -> Vec<PathBuf> {
    let name = first.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.strip_suffix(".sig");
    let more = (2..=MAX_SIGNATURES).filter_map(|n| Some(first.with_file_name(format!("{}.{n}.sig", stem?))));
    std::iter::once(first.to_owned()).chain(more).collect()
}

/// Where the first signature of a file is, if it has its own: `FILE.sig`.
pub(super) fn of_file(model: &Path) -> PathBuf {
    let mut name = model.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Reads a signature and those that belong together with it; there may be none but the first.
pub(super) fn read_all(first: &Path) -> Result<Vec<Bundle>, TrustError> {
    let mut bundles = vec![Bundle::read(first)?];
    for path in &signatures_beside(first)[1..] {
        let io = |source| TrustError::Io {
            file: path.display().to_string(),
            action: "look for a signature",
            source,
        };
        if !is_there(path).map_err(io)? {
            break;
        }
        bundles.push(Bundle::read(path)?);
    }
    Ok(bundles)
}
