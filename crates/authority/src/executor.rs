//! Where an issuance goes on after a ledger or signer has completed.
//!
//! Either may complete on a thread of its own: a database's writer, the reader of a token's answers. What comes next verifies and signs,
//! and has to leave that thread at once.

/// Threads on which heavy work belongs.
pub trait Executor: Send + Sync {
    /// Whether the calling thread is one of them: what follows then runs where it is.
    fn is_here(&self) -> bool;

    /// Runs `task` on one of them, once, without waiting for it; a panic in it ends the task alone. Where the threads have ended, the task is
    /// dropped, and with it each job that it holds is answered.
    fn spawn(&self, task: Box<dyn FnOnce() + Send>);
}

/// Every thread is the right one: for a ledger and a signer that complete where they are called, and for virtual time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl Executor for Inline {
    fn is_here(&self) -> bool {
        true
    }

    fn spawn(&self, task: Box<dyn FnOnce() + Send>) {
        task();
    }
}
