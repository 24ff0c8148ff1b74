//! Signatures of models on the command line: `smolt verify` and `smolt sign`.

pub(super) mod sign;
pub(super) mod verify;
