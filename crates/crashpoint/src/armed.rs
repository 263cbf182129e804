//! The functions of a debug build, which can be told to crash.
#![allow(clippy::disallowed_methods, reason = "it reads a variable and ends its process, in debug builds alone")]

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Step;

/// The variable that names a step and the number of its passages.
const VARIABLE: &str = "CRASH_AT";

/// Where this process ends.
struct End {
    step: &'static str,
    passages: u32,
}

static END: OnceLock<Option<End>> = OnceLock::new();
static PASSAGES: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static BEGUN: Cell<Option<Step>> = const { Cell::new(None) };
}

fn read() -> Option<End> {
    let text = std::env::var(VARIABLE).ok()?;
    let (name, passages) = text.split_once(':')?;
    let step = Step::ALL.iter().find(|step| step.name() == name)?.name();
    Some(End { step, passages: passages.parse().ok()? })
}

/// A step was done.
pub fn passed(step: Step) {
    let end = END.get_or_init(read);
    if let Some(end) = end
        && end.step == step.name()
        && PASSAGES.fetch_add(1, Ordering::Relaxed) + 1 >= end.passages
    {
        std::process::abort();
    }
}

/// A step is done when this thread next calls [`passed_if_begun`].
pub fn begun(step: Step) {
    BEGUN.set(Some(step));
}

/// A step was done, if this thread has begun it.
pub fn passed_if_begun(step: Step) {
    if BEGUN.get() == Some(step) {
        BEGUN.set(None);
        passed(step);
    }
}
