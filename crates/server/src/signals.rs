//! SIGTERM and SIGINT: the first drains, the second stops at once. SIGHUP, which would end a process that does not expect it, is answered in the log:
//! what was issued lives in this process, and a hand that means to reload, or a terminal that closes, must not take it away.

use std::io;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::daemon::Handle;

/// Listens for signals until it is dropped.
#[derive(Debug)]
pub struct Termination {
    signals: signal_hook::iterator::Handle,
    thread: Option<JoinHandle<()>>,
}

/// Connects the process's termination signals to a server.
///
/// # Errors
/// The system refuses a handler or a thread.
pub fn drain_on_termination(server: &Handle) -> io::Result<Termination> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let handle = signals.handle();
    let stopper = server.stopper();
    let thread = std::thread::Builder::new().name("muster-signals".into()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                tracing::warn!(
                    "SIGHUP changes nothing: the configuration is read at start. `muster check FILE` tries a new one, SIGTERM ends this server well"
                );
            } else if stopper.is_stopping() {
                stopper.stop();
                tracing::warn!(signal, "stopping at once");
            } else {
                // Before the word about it: a terminal that is held up must not hold this up.
                stopper.drain();
                tracing::info!(signal, "draining: no new devices, enrolments in flight are finished");
            }
        }
    })?;
    Ok(Termination { signals: handle, thread: Some(thread) })
}

impl Drop for Termination {
    fn drop(&mut self) {
        self.signals.close();
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}
