//! `muster cert relayed`: what a Registrar relayed, page by page.

use clap::ValueEnum;
use server::admin::protocol::{AdminAnswer, AdminRequest, RelayedRow, RelayedState};

use super::pages::Pages;
use crate::operator::OperatorArguments;
use crate::outcome::CommandResult;

/// List what was relayed to an upstream CA
#[derive(clap::Args)]
#[command(after_help = "\
For a Registrar. Asks the server that runs, over its admin socket; if none runs, reads the ledger. The rows come in the order in which the requests were \
begun. They are not rows of `muster cert list`: the upstream has chosen the serial numbers, and revokes its certificates itself.

`unresolved` was sent, and nobody knows what became of it: the upstream may have issued a certificate that no device has. A repeat of the request goes to the \
same upstream again, at the earliest at the time that it named; `muster cert close-relayed` ends that. Ask the operator of the upstream for certificates of this device. A request with several certificates has a line for each; the first one \
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
    let pages = Pages {
        row: |answer| if let AdminAnswer::Relayed(row) = answer { Some(*row) } else { None },
        head,
        lines,
        noun: ("request", "requests"),
    };
    pages.print(&arguments.operator, arguments.json, |after| AdminRequest::CertificateRelayed {
        state: arguments.state.map(RelayedWord::state),
        after,
        rows_max: None,
    })
}

pub(super) fn head() -> String {
    format!(
        "{:>8}  {:10}  {:16}  {:40}  {:20}  {}",
        "REQUEST", "STATE", "UPSTREAM", "UPSTREAM'S SERIAL", "REQUESTED", "DEVICE"
    )
}

/// One line for each certificate, or one that has none.
pub(super) fn lines(row: &RelayedRow) -> Vec<String> {
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
