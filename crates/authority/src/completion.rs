//! How a ledger or a signer hands back what it was asked for.

/// Takes the result of an asynchronous call, once.
pub type Completion<T> = Box<dyn FnOnce(T) + Send>;
