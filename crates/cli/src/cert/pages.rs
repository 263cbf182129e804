//! A list that the ledger answers page by page, as a table or as one JSON object per row.

use serde::Serialize;
use serde_json::json;
use server::admin::protocol::{AdminAnswer, AdminRequest};

use crate::interrupt::Interrupt;
use crate::operator::{Operator, OperatorArguments};
use crate::outcome::{CommandResult, out, print_json, say};

/// How the rows of a list are found in the answers, and how they are shown.
pub(super) struct Pages<R> {
    /// The row in a line of an answer.
    pub(super) row: fn(AdminAnswer) -> Option<R>,
    /// What stands above the first row.
    pub(super) head: fn() -> String,
    /// The lines of a row.
    pub(super) lines: fn(&R) -> Vec<String>,
    /// What one row is called, and what several are: the name of their number in JSON.
    pub(super) noun: (&'static str, &'static str),
}

impl<R: Serialize> Pages<R> {
    /// Asks for page after page and prints each; `request` asks for the one behind a cursor.
    pub(super) fn print(
        &self,
        operator: &OperatorArguments,
        json: bool,
        request: impl Fn(Option<String>) -> AdminRequest,
    ) -> CommandResult {
        let interrupt = Interrupt::install()?;
        let operator = Operator::of(operator)?;
        let (mut after, mut count) = (None, 0_u64);
        loop {
            let answered = operator.ask(request(after), Some(&interrupt))?;
            for row in answered.lines.into_iter().filter_map(self.row) {
                if json {
                    let line = serde_json::to_string(&row).unwrap_or_default();
                    out!("{}", pki::json_line_shown(&line));
                } else {
                    if count == 0 {
                        out!("{}", (self.head)());
                    }
                    (self.lines)(&row).iter().for_each(|line| out!("{line}"));
                }
                count += 1;
            }
            interrupt.check()?;
            match answered.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let (one, many) = self.noun;
        if json {
            print_json(json!({ many: count }));
        } else {
            say!("{count} {}", if count == 1 { one } else { many });
        }
        Ok(())
    }
}
