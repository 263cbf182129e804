//! Ctrl-C and SIGTERM as a flag that loops look at, so that temporary files go away and nothing is left half-written.
//!
//! The second signal ends the process at once. `serve` does not use this: the server drains on its own terms.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::outcome::{CommandFault, CommandResult, Status};

/// Set once the user asked to stop.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Installs the handlers; call once, early.
    pub(crate) fn install() -> CommandResult<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal only sets the flag, the second finds it set.
            signal_hook::flag::register_conditional_shutdown(
                signal,
                i32::from(Status::Interrupted.code()),
                Arc::clone(&flag),
            )
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|source| CommandFault::failed(format!("cannot handle signal {signal}: {source}")))?;
        }
        Ok(Self(flag))
    }

    /// The flag itself, for loops that live in libraries.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Whether the user asked to stop.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error once the user asked to stop.
    pub(crate) fn check(&self) -> CommandResult {
        if self.is_set() { Err(CommandFault::interrupted()) } else { Ok(()) }
    }
}
