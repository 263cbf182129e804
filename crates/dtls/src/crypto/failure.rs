//! Failures on our own side.

/// Our own cryptography failed: randomness or an operation on our own key. Never the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OperationFailed;
