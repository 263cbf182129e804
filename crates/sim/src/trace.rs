//! The readable trace of a run: the event streams of all engines as `est::trace` formats them, with the party's name before each line.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dtls::{Now, Observer, Path, TraceEvent};
use est::trace::{Formatter, Style};

/// Collects the lines of all parties in the order of their events, with the times of one clock.
#[derive(Clone)]
pub struct Tracer(Arc<Mutex<Inner>>);

struct Inner {
    formatter: Formatter,
    lines: String,
}

/// The observer of one party.
struct Party {
    name: String,
    tracer: Tracer,
}

impl Tracer {
    /// A trace without lines.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self(Arc::new(Mutex::new(Inner { formatter: Formatter::new(style), lines: String::new() })))
    }

    /// An observer whose lines start with `name`.
    #[must_use]
    pub fn party(&self, name: &str) -> Arc<dyn Observer> {
        Arc::new(Party { name: name.to_owned(), tracer: self.clone() })
    }

    /// Takes all lines collected so far.
    #[must_use]
    pub fn take(&self) -> String {
        std::mem::take(&mut self.lock().lines)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Party {
    fn observe(&self, at: Now, path: Option<Path>, event: &TraceEvent<'_>) {
        let mut inner = self.tracer.lock();
        let mut text = String::new();
        if inner.formatter.event(at, path, event, &mut text).is_err() {
            return;
        }
        for line in text.lines() {
            // Writing to a String does not fail.
            let _ = writeln!(inner.lines, "{:<9} {line}", self.name);
        }
    }
}
