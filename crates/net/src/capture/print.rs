//! `--trace`: writes the engines' events as lines, formatted by `est::trace`, to the shell's output.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use dtls::{Now, Observer, Path, TraceEvent};
use est::trace::{Formatter, Style};

/// Writes a line per message, and the totals at the end.
pub struct TracePrinter {
    printing: Mutex<Printing>,
}

struct Printing {
    formatter: Formatter,
    /// Reused for each event.
    text: String,
    out: Box<dyn Write + Send>,
}

impl TracePrinter {
    /// Prints to `out`, which is flushed after each event.
    #[must_use]
    pub fn new(style: Style, out: Box<dyn Write + Send>) -> Self {
        Self { printing: Mutex::new(Printing { formatter: Formatter::new(style), text: String::new(), out }) }
    }

    /// Writes the totals: datagrams and bytes.
    pub fn finish(&self) {
        self.printing.lock().unwrap_or_else(PoisonError::into_inner).print(|formatter, text| formatter.finish(text));
    }
}

impl Observer for TracePrinter {
    fn observe(&self, at: Now, path: Option<Path>, event: &TraceEvent<'_>) {
        self.printing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .print(|formatter, text| formatter.event(at, path, event, text));
    }
}

impl Printing {
    fn print(&mut self, write: impl FnOnce(&mut Formatter, &mut String) -> std::fmt::Result) {
        self.text.clear();
        // Writing to a String cannot fail; a closed terminal or pipe must not stop the engine.
        let _ = write(&mut self.formatter, &mut self.text);
        if !self.text.is_empty() {
            let _ = self.out.write_all(self.text.as_bytes()).and_then(|()| self.out.flush());
        }
    }
}
