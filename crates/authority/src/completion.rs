//! How a ledger or a signer returns its result.

/// Takes the result of an asynchronous call, once.
pub type Completion<T> = Box<dyn FnOnce(T) + Send>;
