//! Ctrl-C and SIGTERM as a flag that loops check, so that temporary files are removed and no file is left half-written.
//!
//! The second signal ends the process immediately. `serve` does not use this module: the server drains in its own way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::outcome::{CommandFault, CommandResult, Status};

/// Set when the user has asked to stop.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Installs the handlers; call it once, early.
    pub(crate) fn install() -> CommandResult<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the first signal only sets the flag, the second one finds it set.
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

    /// The flag itself, for loops in libraries.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Whether the user has asked to stop.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error if the user has asked to stop.
    pub(crate) fn check(&self) -> CommandResult {
        if self.is_set() { Err(CommandFault::interrupted()) } else { Ok(()) }
    }
}
