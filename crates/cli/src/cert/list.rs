//! `muster cert list`: rows of the ledger, page by page.

use clap::ValueEnum;
use server::admin::protocol::{AdminAnswer, AdminRequest, ListFilter, RowStateName, time_of};

use super::pages::Pages;
use crate::operator::{OperatorArguments, table_head, table_line};
use crate::outcome::CommandResult;

/// List issued certificates
#[derive(clap::Args)]
#[command(after_help = "\
Asks the server that runs, over its admin socket; if none runs, reads the ledger. The rows come in the order in which they were reserved. Rows without \
a certificate are listed too: `reserved` while it is being issued, `abandoned` if it was given up, for example by a crash.

--json prints one object per row and line, and at the end one object with the number of rows and the outcome.

Examples:
  muster cert list
  muster cert list --device 000001
  muster cert list --state good --expires-before 2027-01-01
  muster cert list --state abandoned
  muster cert list --state good --json | jq -r 'select(.serial) | .serial'")]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// Only rows in this state
    #[arg(long, value_enum)]
    state: Option<StateWord>,

    /// Only rows of this device, as the log and this list name it
    #[arg(long, value_name = "ID")]
    device: Option<String>,

    /// The manufacturer of --device, if several have a device of that name: at least 8 digits of its identity
    #[arg(long, value_name = "HEX", requires = "device")]
    manufacturer: Option<String>,

    /// Only rows of this profile
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,

    /// Only certificates that expire at this time or later: RFC 3339, or a date (UTC)
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires_from: Option<String>,

    /// Only certificates that expire before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires_before: Option<String>,

    /// Print one JSON object per row
    #[arg(long)]
    pub(crate) json: bool,
}

/// A state of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StateWord {
    /// With a certificate that is not revoked
    Good,
    /// Revoked, with a certificate or without
    Revoked,
    /// Given up before the certificate was recorded
    Abandoned,
    /// The certificate is being issued
    Reserved,
    /// With a certificate, revoked or not
    Issued,
}

impl StateWord {
    fn name(self) -> RowStateName {
        match self {
            Self::Good => RowStateName::Good,
            Self::Revoked => RowStateName::Revoked,
            Self::Abandoned => RowStateName::Abandoned,
            Self::Reserved => RowStateName::Reserved,
            Self::Issued => RowStateName::Issued,
        }
    }
}

/// Checks a time; the desk reads it.
fn time(text: &str) -> Result<String, String> {
    time_of(text).map(|_| text.to_owned())
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let filter = ListFilter {
        device: arguments.device.clone(),
        manufacturer: arguments.manufacturer.clone(),
        profile: arguments.profile.clone(),
        state: arguments.state.map(StateWord::name),
        expires_from: arguments.expires_from.clone(),
        expires_before: arguments.expires_before.clone(),
    };
    let pages = Pages {
        row: |answer| if let AdminAnswer::Row(row) = answer { Some(row) } else { None },
        head: table_head,
        lines: |row| vec![table_line(row)],
        noun: ("row", "rows"),
    };
    pages.print(&arguments.operator, arguments.json, |after| AdminRequest::CertificateList {
        filter: filter.clone(),
        after,
        rows_max: None,
    })
}
