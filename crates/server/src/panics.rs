//! A panic ends the piece of work it happened in, is logged with its reason, and the thread goes on.
//!
//! Unwind safety: what the work owned is dropped, and what it shares is behind locks that say so when a thread panicked inside.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// The result of `work`; `None` after a panic, which is logged as one of `what`.
pub(crate) fn guarded<T>(what: &str, work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| log(what, &*panic)).ok()
}

/// The same for a future, each poll of it.
pub(crate) async fn guarded_async<T>(what: &str, task: impl Future<Output = T>) -> Option<T> {
    let mut task = pin!(task);
    poll_fn(|context| match guarded(what, || task.as_mut().poll(context)) {
        Some(Poll::Pending) => Poll::Pending,
        Some(Poll::Ready(result)) => Poll::Ready(Some(result)),
        None => Poll::Ready(None),
    })
    .await
}

fn log(what: &str, panic: &(dyn Any + Send)) {
    tracing::error!("{what} panicked: {}", reason(panic));
}

fn reason(panic: &(dyn Any + Send)) -> &str {
    let fixed = panic.downcast_ref::<&'static str>().copied();
    fixed.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e56_the_reason_of_a_panic_is_its_message() {
        let caught = |work: fn()| catch_unwind(work).unwrap_err();
        assert_eq!(reason(&*caught(|| panic!("fixed"))), "fixed");
        assert_eq!(reason(&*caught(|| panic!("number {}", 7))), "number 7");
        assert_eq!(reason(&*caught(|| std::panic::panic_any(7))), "no message");
        assert_eq!(guarded("a job", || 7), Some(7));
    }
}
