//! Another trust file.

use super::books::Unreadable;
use super::disk::Disk;
use super::error::{UpdateError, fail};
use super::judge::{HeadError, Judge};
use super::record::{Hex, TrustAt};
use super::store::{MAX_TRUST, Store, TRUST};

/// What makes the next trust file of the present one.
type Next<'a> = dyn Fn(&[u8]) -> Result<Vec<u8>, super::error::Refused> + 'a;

impl<D: Disk, J: Judge> Store<D, J> {
    /// The text of the trust file in force.
    ///
    /// # Errors
    /// If there is none that is whole.
    pub fn trust_text(&self) -> Result<Vec<u8>, UpdateError> {
        let books = self.books(Unreadable::Fails)?;
        Ok(self.trust(&books.record)?.text)
    }

    /// Puts another trust file in force, which `next` makes of the present one: it says whether its signatures hold.
    /// The model that is used must be trusted by it too, so that no store is left without a model. Returns its version.
    ///
    /// # Errors
    /// If it is refused, or the disk refuses; then the present one stays.
    pub fn update_trust(&self, next: &Next<'_>) -> Result<u64, UpdateError> {
        let _lock = self.lock()?;
        let mut books = self.books(Unreadable::Fails)?;
        let now = self.trust(&books.record)?;
        let text = next(&now.text).map_err(UpdateError::Trust)?;
        if text.len() > MAX_TRUST {
            return Err(UpdateError::TooLong { what: "the trust file", most: MAX_TRUST });
        }
        let trust = self.judge.trust(&text).map_err(UpdateError::Trust)?;
        if let Some(active) = books.record.active
            && let Some(package) = books.record.good(active)
        {
            match self.open_expected(&trust, active, package) {
                Ok(_) => {}
                Err(HeadError::Io(source)) => return Err(fail(active.file(), "read")(source)),
                Err(HeadError::Refused(reason)) => {
                    return Err(UpdateError::TrustLosesModel { version: package.version, reason });
                }
            }
        }
        let at =
            TrustAt { version: self.judge.version(&trust), digest: Hex(*blake3::hash(&text).as_bytes()) };
        if at == now.at {
            return Ok(at.version);
        }
        // The copy that the record means stays until the record means another.
        for other in TRUST.into_iter().filter(|name| *name != now.name) {
            self.replace(other, &text)?;
        }
        books.record.trust = Some(at);
        books.write(&self.disk)?;
        self.replace(now.name, &text)?;
        Ok(at.version)
    }
}
