//! `muster cert relayed`: what a Registrar relayed, page by page.

use clap::ValueEnum;
use serde_json::json;
use server::admin::protocol::{AdminAnswer, AdminRequest, RelayedRow, RelayedState};

use crate::interrupt::Interrupt;
use crate::operator::{Operator, OperatorArguments};
use crate::outcome::{CommandResult, out, print_json, say};

/// List what was relayed to an upstream CA
#[derive(clap::Args)]
#[command(after_help = "\
For a Registrar. Asks the server that runs, over its admin socket; if none runs, reads the ledger. The rows come in the order in which the requests were \
begun. They are not rows of `muster cert list`: the upstream has chosen the serial numbers, and revokes its certificates itself.

`unresolved` was sent, and nobody knows what became of it: the upstream may have issued a certificate that no device has. A repeat of the request goes to the \
same upstream again. Ask the operator of the upstream for certificates of this device. A request with several certificates has a line for each; the first one \
is what the device got.

--json prints one object per request and line, and at the end one object with the number of requests and the outcome.

Examples:
  muster cert relayed
  muster cert relayed --state unresolved
  muster cert relayed --json | jq -r '.certificates[]?.upstream_serial'")]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// Only requests in this state
    #[arg(long, value_enum)]
    state: Option<RelayedWord>,

    /// Print one JSON object per request
    #[arg(long)]
    pub(crate) json: bool,
}

/// A state of relayed requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RelayedWord {
    /// Sent a moment ago: the upstream may still answer
    InFlight,
    /// Sent, and nobody knows what became of it
    Unresolved,
    /// With a certificate that came back
    Recorded,
}

impl RelayedWord {
    fn state(self) -> RelayedState {
        match self {
            Self::InFlight => RelayedState::InFlight,
            Self::Unresolved => RelayedState::Unresolved,
            Self::Recorded => RelayedState::Recorded,
        }
    }
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let interrupt = Interrupt::install()?;
    let operator = Operator::of(&arguments.operator)?;
    let (mut after, mut count) = (None, 0_u64);
    loop {
        let state = arguments.state.map(RelayedWord::state);
        let answered =
            operator.ask(AdminRequest::CertificateRelayed { state, after, rows_max: None }, Some(&interrupt))?;
        for line in answered.lines {
            let AdminAnswer::Relayed(row) = line else { continue };
            if arguments.json {
                let line = serde_json::to_string(&row).unwrap_or_default();
                out!("{}", pki::json_line_shown(&line));
            } else {
                if count == 0 {
                    out!("{}", head());
                }
                lines(&row).iter().for_each(|line| out!("{line}"));
            }
            count += 1;
        }
        interrupt.check()?;
        match answered.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    if arguments.json {
        print_json(json!({ "requests": count }));
    } else {
        say!("{count} {}", if count == 1 { "request" } else { "requests" });
    }
    Ok(())
}

fn head() -> String {
    format!(
        "{:>8}  {:10}  {:16}  {:40}  {:20}  {}",
        "REQUEST", "STATE", "UPSTREAM", "UPSTREAM'S SERIAL", "REQUESTED", "DEVICE"
    )
}

/// One line for each certificate, or one that has none.
fn lines(row: &RelayedRow) -> Vec<String> {
    let line = |state: &str, serial: &str| {
        let (upstream, device) = (pki::Shown(&row.upstream).to_string(), pki::Shown(&row.device));
        let (request, at) = (row.request, &row.requested_at);
        format!("{request:>8}  {state:10}  {upstream:16}  {serial:40}  {at:20}  {device}")
    };
    let state = match row.state {
        RelayedState::InFlight => "in flight",
        RelayedState::Unresolved => "unresolved",
        RelayedState::Recorded => "recorded",
    };
    if row.certificates.is_empty() {
        return vec![line(state, "-")];
    }
    let held = row.certificates.iter();
    held.map(|it| line(if it.revocation.is_some() { "revoked" } else { state }, &it.upstream_serial)).collect()
}
