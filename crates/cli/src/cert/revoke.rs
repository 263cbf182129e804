//! `muster cert revoke`: shows what would be revoked, asks, and revokes.

use std::path::PathBuf;

use server::admin::protocol::{AdminAnswer, AdminRequest, RevocationAnswer, RevocationOutcome, RowName, RowRevocation};

use super::revoking::{self, RevocableRow, RevokingArguments, RevokingWords};
use super::row_name;
use crate::operator::{Operator, table_head, table_line};
use crate::outcome::CommandResult;

/// Revoke certificates, for good
#[derive(clap::Args)]
#[command(after_help = "\
Shows the certificates, asks on a terminal, and revokes them through the server that runs; if none runs, in the ledger. If one of them is not in the \
ledger, none is revoked. From then on the client of a revoked certificate is refused (4.03), also in a session that is open. The user who runs this \
is recorded with the time and the reason. A certificate that was revoked before keeps its first revocation.

Reasons (RFC 5280): unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn, aACompromise. \
certificateHold and removeFromCRL are refused: a revocation is final.

A device whose certificate is revoked can still enrol with the certificate of its manufacturer. With keyCompromise the key itself is refused from then on, \
for every device and profile (est.csr.key_compromised), also when the certificate had been revoked for another reason before; other certificates of the \
same key stay good until they are revoked too.

Examples:
  muster cert revoke device/device.pem --reason keyCompromise
  muster cert revoke 010000a1b2c3d4e5f60718293a4b5c6d7e8f90 --reason cessationOfOperation --yes
  muster cert revoke device/device.pem --reason superseded --dry-run
  muster cert list --device 000001 --state good --json | jq -r 'select(.serial) | .serial' \\
      | xargs muster cert revoke --reason privilegeWithdrawn --yes")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) revoking: RevokingArguments,

    /// Serial numbers, 38 hexadecimal digits each, or files of certificates
    #[arg(value_name = "SERIAL|FILE", required = true)]
    rows: Vec<PathBuf>,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let rows = arguments.rows.iter().map(|row| row_name(row)).collect::<CommandResult<Vec<_>>>()?;
    let operator = Operator::of(&arguments.revoking.operator)?;
    revoking::run::<RevocationAnswer>(&arguments.revoking, operator, &rows)
}

impl RevocableRow for RevocationAnswer {
    type Name = RowName;

    const WORDS: RevokingWords = RevokingWords { verb: "revoke", done: "revoked", noted: "revoked" };

    fn request(rows: Vec<RowName>, reason: String, dry_run: bool) -> AdminRequest {
        AdminRequest::CertificateRevoke { rows, reason, dry_run }
    }

    fn read(line: AdminAnswer) -> Option<Self> {
        if let AdminAnswer::Revocation(answer) = line { Some(*answer) } else { None }
    }

    fn outcome(&self) -> RevocationOutcome {
        self.outcome
    }

    fn revocation(&self) -> Option<&RowRevocation> {
        self.row.revocation.as_ref()
    }

    fn called(&self) -> (&str, &str) {
        (&self.row.serial, &self.row.device)
    }

    fn table_line(&self) -> String {
        table_line(&self.row)
    }

    fn table_head() -> String {
        table_head()
    }
}
