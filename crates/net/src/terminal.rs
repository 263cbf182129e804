//! What may be drawn on the terminal behind stderr: whether it takes colours and lines that are drawn again.
//!
//! `NO_COLOR` switches colours off wherever it is set to anything (no-color.org); `TERM=dumb` says that the terminal understands no control
//! sequence at all. Whoever draws asks here, so that no verb forgets one of them.

use std::ffi::OsStr;
use std::io::IsTerminal as _;

/// What stderr can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Colours and weights.
    pub colours: bool,
    /// Lines that are drawn over: progress bars.
    pub redraws: bool,
}

impl Terminal {
    /// The one behind the stderr of this process.
    #[must_use]
    pub fn of_stderr() -> Terminal {
        let variable = |name| std::env::var_os(name);
        Terminal::decide(std::io::stderr().is_terminal(), variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
    }

    fn decide(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Terminal {
        let redraws = is_terminal && term.is_none_or(|term| term != "dumb");
        // "when present and not an empty string (regardless of its value)"
        let colours = redraws && no_color.is_none_or(OsStr::is_empty);
        Terminal { colours, redraws }
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
