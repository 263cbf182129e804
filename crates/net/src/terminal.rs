//! What the terminal behind stderr supports: colours, and lines that are redrawn.
//!
//! `NO_COLOR` disables colours if it is set to anything (no-color.org); `TERM=dumb` means that the terminal understands no control sequences at all.
//! All code that draws asks this module, so that no verb forgets one of them.

use std::ffi::OsStr;
use std::io::IsTerminal as _;

/// What stderr can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Whether it supports colours and font weights.
    pub colours: bool,
    /// Whether it supports lines that are redrawn: progress bars.
    pub redraws: bool,
}

impl Terminal {
    /// The capabilities of the terminal behind this process's stderr.
    #[must_use]
    pub fn of_stderr() -> Self {
        let variable = |name| std::env::var_os(name);
        Self::decide(std::io::stderr().is_terminal(), variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
    }

    fn decide(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Self {
        let redraws = is_terminal && term.is_none_or(|term| term != "dumb");
        // "when present and not an empty string (regardless of its value)"
        let colours = redraws && no_color.is_none_or(OsStr::is_empty);
        Self { colours, redraws }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e78_no_color_and_dumb_terminals_are_obeyed() {
        let decide = |is_terminal, no_color: Option<&str>, term: Option<&str>| {
            let Terminal { colours, redraws } =
                Terminal::decide(is_terminal, no_color.map(OsStr::new), term.map(OsStr::new));
            (colours, redraws)
        };
        assert_eq!(decide(true, None, Some("xterm")), (true, true));
        assert_eq!(decide(true, Some(""), None), (true, true));
        assert_eq!(decide(true, Some("1"), Some("xterm")), (false, true));
        assert_eq!(decide(true, Some("0"), Some("xterm")), (false, true));
        assert_eq!(decide(true, None, Some("dumb")), (false, false));
        assert_eq!(decide(false, None, Some("xterm")), (false, false));
    }
}
