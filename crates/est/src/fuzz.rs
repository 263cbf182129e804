//! Bodies of fuzz targets, as library functions that tests replay. Each takes any bytes and holds an invariant.

/// `discovery_filter`: any query against a small directory.
pub use crate::discovery::fuzz_filter as discovery_filter;

use dtls::{Direction, Now, TraceEvent};

use crate::trace::{Formatter, Style};

/// `trace_line`: any plaintext through the formatter in every style. Holds that a trace is printable, whatever a peer put
/// into it, and that a message is one line.
///
/// # Panics
/// When it is not.
pub fn trace_line(at: Now, input: &[u8]) {
    for style in [Style::Text, Style::Hex, Style::Json] {
        let mut text = String::new();
        let event = TraceEvent::ApplicationData { direction: Direction::Received, plaintext: input };
        Formatter::new(style).event(at, None, &event, &mut text).expect("a String takes everything");
        assert!(text.chars().all(|character| character == '\n' || (' '..='~').contains(&character)), "{text:?}");
        if style != Style::Hex {
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        }
    }
}
