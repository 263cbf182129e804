//! The daemon's tokio runtime: it drives everything that waits for something other than a device's datagram.
//!
//! ```text
//!   muster-runtime ─┬─ service "metrics": a task, and one for each of its connections
//!                   ├─ service "admin": the same
//!                   └─ ...
//! ```
//!
//! One thread drives every task, so a task that computes for long or blocks delays all services (but no device: the shards have threads of their
//! own). Blocking work uses `spawn_blocking`, whose threads are bounded here.
//!
//! The HTTPS front has a second one, `muster-https`: its handshakes compute for long.
//!
//! The daemon starts the runtime before the first service and ends it after the last shard. Only the daemon starts services, and their number is
//! fixed. A service bounds the tasks that it spawns for its peers by a limit of its own, such as the 32 connections of the metrics listener.
//!
//! A service runs until the runtime ends. If it panics, the panic is logged, and the server drains and ends with an error, as it does when a shard or
//! the ledger fails: a server that stays up without one of its parts looks healthy to the supervisor that should restart it. A panic in a task that
//! serves one peer ends only that peer's connection.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, EnterGuard};
use tokio::sync::oneshot;

use super::control::{Breakdown, Control};
use crate::panics::guarded_async;

/// Threads for `spawn_blocking`, such as the lookup of a name. Further calls queue; each service bounds the tasks that make them.
const BLOCKING_THREADS_MAX: usize = 4;

/// A blocking call cannot be cancelled. The runtime waits no longer than this for one when the process ends.
const BLOCKING_CALLS_END: Duration = Duration::from_millis(250);

/// The running runtime; dropping it drops every task and ends its thread.
pub(super) struct Runtime {
    handle: tokio::runtime::Handle,
    control: Arc<Control>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    /// Its thread gets the name; `control` is told when a service fails.
    pub(super) fn start(name: &str, control: Arc<Control>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("muster-blocking")
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // The sender is never used, only dropped: the receiver's error is the signal to end.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(BLOCKING_CALLS_END);
        })?;
        Ok(Self { handle, control, stop: Some(stop), thread: Some(thread) })
    }

    /// Lets this thread create sockets and timers that belong to the runtime.
    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Runs a service until the runtime ends.
    pub(super) fn spawn(&self, service: &'static str, run: impl Future<Output = Infallible> + Send + 'static) {
        let control = Arc::clone(&self.control);
        self.handle.spawn(async move {
            match guarded_async(service, run).await {
                Some(never) => match never {},
                None => control.broke(Breakdown::Service(service)),
            }
        });
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of a task is caught inside.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::daemon::control::Phase;

    /// Reports on drop that its task has ended.
    struct Gone(mpsc::Sender<&'static str>);

    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.send("gone").unwrap();
        }
    }

    fn serving() -> Arc<Control> {
        let control = Arc::new(Control::new(Duration::from_secs(20)));
        control.admit();
        control
    }

    #[test]
    fn services_share_one_named_thread_and_are_gone_when_the_runtime_has_ended() {
        let control = serving();
        let runtime = Runtime::start("muster-runtime", Arc::clone(&control)).unwrap();
        let (sender, receiver) = mpsc::channel();
        for service in ["one", "two"] {
            let gone = Gone(sender.clone());
            runtime.spawn(service, async move {
                let thread = std::thread::current();
                gone.0.send(if thread.name() == Some("muster-runtime") { "runs" } else { "astray" }).unwrap();
                std::future::pending().await
            });
        }
        drop(sender);
        assert_eq!([receiver.recv().unwrap(), receiver.recv().unwrap()], ["runs", "runs"]);
        drop(runtime);
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["gone", "gone"]);
        assert_eq!((control.phase(), control.breakdown()), (Phase::Serving, None));
    }

    #[test]
    fn e56_a_service_that_panics_ends_the_server_and_the_other_services_go_on_until_then() {
        let control = serving();
        let runtime = Runtime::start("muster-runtime", Arc::clone(&control)).unwrap();
        let (ask, mut asked) = tokio::sync::mpsc::channel::<mpsc::Sender<()>>(1);
        runtime.spawn("healthy", async move {
            while let Some(answer) = asked.recv().await {
                answer.send(()).unwrap();
            }
            std::future::pending().await
        });
        let (sender, panicked) = mpsc::channel();
        let gone = Gone(sender);
        runtime.spawn("faulty", async move {
            let _gone = gone;
            tokio::task::yield_now().await;
            panic!("at fault")
        });
        assert_eq!(panicked.recv().unwrap(), "gone");
        let (answer, answered) = mpsc::channel();
        ask.blocking_send(answer).unwrap();
        answered.recv().unwrap();
        drop(runtime);
        assert_eq!((control.phase(), control.breakdown()), (Phase::Draining, Some(Breakdown::Service("faulty"))));
        assert!(!control.is_admitting());
    }

    #[test]
    fn a_blocking_call_that_does_not_return_does_not_hold_up_the_end() {
        let runtime = Runtime::start("muster-runtime", serving()).unwrap();
        let (release, released) = mpsc::channel::<()>();
        let (sender, begun) = mpsc::channel();
        runtime.spawn("blocking", async move {
            let _ = tokio::task::spawn_blocking(move || {
                sender.send(()).unwrap();
                let _ = released.recv();
            })
            .await;
            std::future::pending().await
        });
        begun.recv().unwrap();
        drop(runtime);
        // This line is reached although the call still blocks.
        drop(release);
    }
}
