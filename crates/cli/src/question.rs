//! A question on the terminal, before something is done that cannot be taken back.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::outcome::{CommandFault, CommandResult};

/// Whether there is somebody to ask. `what` says what the question is about: "whether to ..."; `remedy` says how to do without it.
pub(crate) fn expect_terminal(what: &str, remedy: &str) -> CommandResult {
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        return Ok(());
    }
    Err(CommandFault::usage(format!("there is no terminal to ask {what}")).remedy(remedy))
}

/// Asks, and goes on with `y` or `yes` alone. `otherwise` says what did not happen.
pub(crate) fn expect_yes(question: &str, otherwise: &str) -> CommandResult {
    let mut stderr = std::io::stderr().lock();
    // If the terminal is gone, so is the answer.
    let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    drop(stderr);
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(CommandFault::failed(otherwise))
}
