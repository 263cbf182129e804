//! `muster ledger status`: whether the ledger works, and what it holds.

use serde_json::json;
use server::admin::protocol::{AdminAnswer, AdminRequest};

use crate::operator::{Operator, OperatorArguments};
use crate::outcome::{CommandFault, CommandResult, Status, out, print_json};

/// Show whether the ledger works, and what it holds
#[derive(clap::Args)]
#[command(after_help = "\
Asks the server that runs, over its admin socket; if none runs, opens the ledger. Exit 4 if the ledger cannot read or write now.

Examples:
  muster ledger status
  muster ledger status --config /etc/muster/muster.toml --json | jq .issued")]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let operator = Operator::of(&arguments.operator)?;
    let lines = operator.ask(AdminRequest::Status {}, None)?.lines;
    let Some(AdminAnswer::Status(status)) = lines.into_iter().next() else {
        return Err(CommandFault::failed("the answer has no status: a defect in the server"));
    };
    let mut object = json!(status);
    object["ledger"] = operator.ledger().into();
    object["server"] = operator.socket().map(|socket| socket.display().to_string()).into();
    if let Some(fault) = status.fault {
        return Err(CommandFault::new(Status::Later, format!("{}: {fault}", operator.ledger()))
            .remedy("the log of the server says why; /crts is still served, and enrolments get 5.03 until it works")
            .fields(object));
    }
    if arguments.json {
        print_json(object);
        return Ok(());
    }
    let number = |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
    out!("ledger          {}", operator.ledger());
    match operator.socket() {
        Some(socket) => out!("server          runs, asked over {}", socket.display()),
        None => out!("server          does not run"),
    }
    out!("state           reads and writes");
    out!("certificates    {}", number(status.issued));
    out!("rows            {}", number(status.rows));
    out!(
        "room            {}",
        status.room.map_or_else(|| "as the disk has".to_owned(), |room| format!("{room} more rows"))
    );
    if let Some(since) = status.complete_since {
        out!("complete since  {since}");
    }
    Ok(())
}
