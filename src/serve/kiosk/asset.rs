//! A file of the page, as it is sent.

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset<'a> {
    /// For the header `Content-Type`.
    pub content_type: &'static str,
    /// What it holds.
    pub bytes: &'a [u8],
}
