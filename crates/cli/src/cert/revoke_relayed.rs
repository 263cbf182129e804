//! `muster cert revoke-relayed`: a Registrar accepts a certificate that it relayed no more.

use std::path::{Path, PathBuf};

use server::admin::protocol::{AdminAnswer, AdminRequest, RelayedRevocationAnswer, RevocationOutcome, RowRevocation};

use super::revoking::{self, RevocableRow, RevokingArguments, RevokingWords};
use crate::operator::Operator;
use crate::outcome::{CommandFault, CommandResult};
use crate::pem;

/// Refuse certificates that were relayed, for good
#[derive(clap::Args)]
#[command(after_help = "\
For a Registrar: for a certificate that its upstream CA has revoked, or that it is not to accept any more. Shows the certificates, asks on a terminal, and marks \
them through the server that runs; if none runs, in the ledger. If one of them was not relayed, none is marked. From then on its client is refused (4.03), \
also in a session that is open, and a repeat of its request is a new request. The user who runs this is recorded in the audit with the time and the reason. \
The first mark of a certificate stays.

With keyCompromise the key itself is refused from then on, for every device and profile (est.csr.key_compromised), also when the certificate had been marked \
for another reason before.

The upstream CA does not hear of it: revoke the certificate there, so that others are told.

Examples:
  muster cert revoke-relayed 17 --reason keyCompromise
  muster cert revoke-relayed device/device.pem --reason superseded --dry-run
  muster cert relayed --json | jq -r 'select(.device == \"000001\") | .certificates[].certificate_sha256' \\
      | xargs muster cert revoke-relayed --reason privilegeWithdrawn --yes")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) revoking: RevokingArguments,

    /// Numbers of requests (all of their certificates), SHA-256 of certificates, or files of certificates
    #[arg(value_name = "REQUEST|SHA256|FILE", required = true)]
    certificates: Vec<PathBuf>,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let operator = Operator::of(&arguments.revoking.operator)?;
    let mut digests = Vec::new();
    for certificate in &arguments.certificates {
        digests.extend(named(&operator, certificate)?);
    }
    digests.sort_unstable();
    digests.dedup();
    revoking::run::<RelayedRevocationAnswer>(&arguments.revoking, operator, &digests)
}

/// The SHA-256 of the certificates that an argument means.
fn named(operator: &Operator, argument: &Path) -> CommandResult<Vec<String>> {
    let text = argument.to_str().unwrap_or_default();
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(vec![text.to_ascii_lowercase()]);
    }
    match text.parse::<u64>() {
        Ok(request) if !argument.exists() => of_request(operator, request),
        _ => Ok(vec![pem::read_certificate(argument)?.digest().to_string()]),
    }
}

fn of_request(operator: &Operator, request: u64) -> CommandResult<Vec<String>> {
    let after = request.checked_sub(1).map(|before| before.to_string());
    let page = AdminRequest::CertificateRelayed { state: None, after, rows_max: Some(1) };
    let row = operator.ask(page, None)?.lines.into_iter().find_map(|line| match line {
        AdminAnswer::Relayed(row) if row.request == request => Some(row),
        _ => None,
    });
    let certificates = row.map(|row| row.certificates).unwrap_or_default();
    if certificates.is_empty() {
        return Err(CommandFault::failed(format!("no certificate came back for a request with the number {request}"))
            .remedy("`muster cert relayed` shows the requests and their certificates"));
    }
    Ok(certificates.into_iter().map(|it| it.certificate_sha256).collect())
}

impl RevocableRow for RelayedRevocationAnswer {
    /// The SHA-256 of the certificate.
    type Name = String;

    const WORDS: RevokingWords = RevokingWords { verb: "refuse", done: "refused", noted: "marked" };

    fn request(certificates: Vec<String>, reason: String, dry_run: bool) -> AdminRequest {
        AdminRequest::CertificateRevokeRelayed { certificates, reason, dry_run }
    }

    fn read(line: AdminAnswer) -> Option<Self> {
        if let AdminAnswer::RelayedRevocation(answer) = line { Some(*answer) } else { None }
    }

    fn outcome(&self) -> RevocationOutcome {
        self.outcome
    }

    fn revocation(&self) -> Option<&RowRevocation> {
        self.revocation.as_ref()
    }

    fn called(&self) -> (&str, &str) {
        (&self.certificate_sha256, &self.device)
    }

    fn table_line(&self) -> String {
        format!("{:64}  {:20}  {}", self.certificate_sha256, self.not_after, pki::Shown(&self.device))
    }

    fn table_head() -> String {
        format!("{:64}  {:20}  {}", "SHA-256", "NOT AFTER", "DEVICE")
    }
}
