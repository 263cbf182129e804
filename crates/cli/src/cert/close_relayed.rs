//! `muster cert close-relayed`: a Registrar forgets requests whose end is unknown.

use serde_json::json;
use server::admin::protocol::{AdminAnswer, AdminRequest, RelayedRow};

use super::relayed::{head, lines};
use crate::interrupt::Interrupt;
use crate::operator::{Operator, OperatorArguments};
use crate::outcome::{CommandFault, CommandResult, out, print_json, say};
use crate::question::{expect_terminal, expect_yes};

/// Forget relayed requests whose end is unknown
#[derive(clap::Args)]
#[command(after_help = "\
For a Registrar: for a request that waits for a time that its upstream CA named by mistake, or for an upstream that will not answer any more. Shows the \
requests, asks on a terminal, and forgets them through the server that runs; if none runs, in the ledger. If one of them is not `unresolved`, none is \
forgotten. The next request of the device is then a new one, which may go to another upstream.

The upstream may have issued a certificate for the request, or issue one later: ask its operator first, and revoke there what no device has.

Examples:
  muster cert relayed --state unresolved
  muster cert close-relayed 17
  muster cert close-relayed 17 18 --dry-run")]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Show what would be done, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,

    /// Numbers of requests, as `muster cert relayed` shows them
    #[arg(value_name = "REQUEST", required = true)]
    requests: Vec<u64>,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let mut requests = arguments.requests.clone();
    requests.sort_unstable();
    requests.dedup();
    let operator = Operator::of(&arguments.operator)?;
    let planned = ask(&operator, &requests, None)?;
    if arguments.dry_run {
        report(arguments, &planned);
        return Ok(());
    }
    let operator = if arguments.yes {
        operator
    } else {
        // Nobody else can open a ledger that this process has open: a server must be able to start while a person thinks.
        drop(operator);
        confirm(&planned)?;
        Operator::of(&arguments.operator)?
    };
    let interrupt = Interrupt::install()?;
    let closed = ask(&operator, &requests, Some(&interrupt)).map_err(|fault| {
        // The server may have done it before its answer was lost.
        let shows = "`muster cert relayed --state unresolved` shows what is still open";
        if fault.status() == CommandFault::interrupted().status() { fault.remedy(shows) } else { fault }
    })?;
    report(arguments, &closed);
    Ok(())
}

/// Asks what would be forgotten, or forgets it if it can be interrupted.
fn ask(operator: &Operator, requests: &[u64], interrupt: Option<&Interrupt>) -> CommandResult<Vec<RelayedRow>> {
    let request = AdminRequest::CertificateCloseRelayed { requests: requests.to_vec(), dry_run: interrupt.is_none() };
    let rows = operator.ask(request, interrupt)?.lines.into_iter();
    Ok(rows.filter_map(|line| if let AdminAnswer::Relayed(row) = line { Some(*row) } else { None }).collect())
}

fn confirm(planned: &[RelayedRow]) -> CommandResult {
    let count =
        if planned.len() == 1 { "this request".to_owned() } else { format!("these {} requests", planned.len()) };
    expect_terminal(
        &format!("whether to forget {count}"),
        "add --yes to forget without a question, or --dry-run to see what would be forgotten",
    )?;
    say!("{}", head());
    planned.iter().flat_map(lines).for_each(|line| say!("{line}"));
    expect_yes(
        &format!("Forget {count}? An upstream CA may have issued a certificate for it."),
        "nothing was forgotten",
    )
}

fn report(arguments: &Arguments, rows: &[RelayedRow]) {
    if arguments.json {
        print_json(json!({ "closed": rows, "dry_run": arguments.dry_run }));
        return;
    }
    let word = if arguments.dry_run { "would be" } else { "is" };
    for RelayedRow { request, device, upstream, .. } in rows {
        let (device, upstream) = (pki::Shown(device), pki::Shown(upstream));
        out!("request {request} of device {device} at {upstream} {word} forgotten");
    }
}
