//! Where an issuance continues after a ledger or signer has completed.
//!
//! Either may complete on a separate thread: a database's writer, or the reader of a token's answers. The next step verifies and signs, and
//! must leave that thread at once.

/// Threads for heavy work.
pub trait Executor: Send + Sync {
    /// Whether the calling thread is one of them: the next step then runs on it.
    fn is_here(&self) -> bool;

    /// Runs `task` on one of them, once, without waiting for it; a panic in it ends only the task. If the threads have ended, the task is
    /// dropped, which answers each job that it holds.
    fn spawn(&self, task: Box<dyn FnOnce() + Send>);
}

/// Accepts every thread: for a ledger and a signer that complete where they are called, and for virtual time.
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
