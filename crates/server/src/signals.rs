//! The first SIGTERM or SIGINT drains, the second stops immediately. SIGHUP reloads the configuration and every file it names.

use std::io;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::{ConfigurationFaults, Sources};
use crate::daemon::{Handle, Reloaded, Reloader};

/// Handles signals until it is dropped.
#[derive(Debug)]
pub struct Obeying {
    signals: signal_hook::iterator::Handle,
    thread: Option<JoinHandle<()>>,
}

/// Connects the process's signals to a server. `sources` yields what SIGHUP reads: the file as it is at that time, with the command line of the
/// start.
///
/// # Errors
/// The system refuses a handler or a thread.
pub fn obey(
    server: &Handle,
    sources: impl Fn() -> Result<Sources, ConfigurationFaults> + Send + 'static,
) -> io::Result<Obeying> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let handle = signals.handle();
    let (stopper, reloader) = (server.stopper(), server.reloader());
    let thread = std::thread::Builder::new().name("muster-signals".into()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                reload(&reloader, &sources);
            } else if stopper.is_stopping() {
                stopper.stop();
                tracing::warn!(signal, "stopping immediately");
            } else {
                // Drain before logging: a blocked terminal must not delay it.
                stopper.drain();
                tracing::info!(signal, "draining: new devices are refused, enrolments in flight are finished");
            }
        }
    })?;
    Ok(Obeying { signals: handle, thread: Some(thread) })
}

/// A reload reads a few files; a SIGTERM that arrives meanwhile waits for some milliseconds.
fn reload(reloader: &Reloader, sources: &impl Fn() -> Result<Sources, ConfigurationFaults>) {
    if reloader.is_stopping() {
        tracing::warn!("SIGHUP ignored: the server is draining");
        return;
    }
    match sources().inspect_err(|_| reloader.unreadable()).and_then(|sources| reloader.reload(&sources)) {
        Ok(Reloaded { needs_restart, warnings }) => {
            for warning in warnings {
                warning.log();
            }
            for key in &needs_restart {
                tracing::warn!(key, "the new value takes effect only after a restart");
            }
            tracing::info!(needs_restart = needs_restart.len(), "configuration reloaded");
        }
        Err(ConfigurationFaults(faults)) => {
            for fault in &faults {
                fault.log();
            }
            tracing::error!(
                faults = faults.len(),
                "configuration not reloaded; the previous one stays in force. `muster check FILE` shows the same faults"
            );
        }
    }
}

impl Drop for Obeying {
    fn drop(&mut self) {
        self.signals.close();
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}
