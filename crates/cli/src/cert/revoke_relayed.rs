//! `muster cert revoke-relayed`: a Registrar accepts a certificate that it relayed no more.

use std::path::{Path, PathBuf};

use pki::issue::RevocationReason;
use serde_json::json;
use server::admin::protocol::{
    AdminAnswer, AdminRequest, REVOKED_ROWS_MAX, RelayedRevocationAnswer, RevocationOutcome, revocation_reason,
};

use crate::operator::{Operator, OperatorArguments};
use crate::outcome::{CommandFault, CommandResult, out, print_json, say};
use crate::pem;
use crate::question::{expect_terminal, expect_yes};

/// Refuse certificates that were relayed, for good
#[derive(clap::Args)]
#[command(after_help = "\
For a Registrar: for a certificate that its upstream CA has revoked, or that it is not to accept any more. Shows the certificates, asks on a terminal, and marks \
them through the server that runs; if none runs, in the ledger. If one of them was not relayed, none is marked. From then on its client is refused (4.03), \
also in a session that is open, and a repeat of its request is a new request. The user who runs this is recorded in the audit with the time and the reason. \
The first mark of a certificate stays.

The upstream CA does not hear of it: revoke the certificate there, so that others are told.

Examples:
  muster cert revoke-relayed 17 --reason keyCompromise
  muster cert revoke-relayed device/device.pem --reason superseded --dry-run
  muster cert relayed --json | jq -r 'select(.device == \"000001\") | .certificates[].certificate_sha256' \\
      | xargs muster cert revoke-relayed --reason privilegeWithdrawn --yes")]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// Numbers of requests (all of their certificates), SHA-256 of certificates, or files of certificates
    #[arg(value_name = "REQUEST|SHA256|FILE", required = true)]
    certificates: Vec<PathBuf>,

    /// Why
    #[arg(long, value_name = "REASON", value_parser = revocation_reason)]
    reason: RevocationReason,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Show what would be marked, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let operator = Operator::of(&arguments.operator)?;
    let mut digests = Vec::new();
    for certificate in &arguments.certificates {
        digests.extend(named(&operator, certificate)?);
    }
    digests.sort_unstable();
    digests.dedup();
    let planned = ask(&operator, &digests, arguments.reason, true)?;
    if arguments.dry_run {
        report(arguments, &planned);
        return Ok(());
    }
    let new = planned.iter().filter(|answer| answer.outcome == RevocationOutcome::WouldBeRevoked).count();
    let operator = if new > 0 && !arguments.yes {
        // Nobody else can open a ledger that this process has open: a server must be able to start while a person thinks.
        drop(operator);
        confirm(&planned, new, arguments.reason)?;
        Operator::of(&arguments.operator)?
    } else {
        operator
    };
    report(arguments, &ask(&operator, &digests, arguments.reason, false)?);
    Ok(())
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

fn ask(
    operator: &Operator,
    digests: &[String],
    reason: RevocationReason,
    dry_run: bool,
) -> CommandResult<Vec<RelayedRevocationAnswer>> {
    let mut answers = Vec::new();
    for batch in digests.chunks(REVOKED_ROWS_MAX) {
        let (certificates, reason) = (batch.to_vec(), reason.name().to_owned());
        let request = AdminRequest::CertificateRevokeRelayed { certificates, reason, dry_run };
        let lines = operator.ask(request, None)?.lines;
        answers.extend(lines.into_iter().filter_map(|line| match line {
            AdminAnswer::RelayedRevocation(answer) => Some(*answer),
            _ => None,
        }));
    }
    Ok(answers)
}

fn confirm(planned: &[RelayedRevocationAnswer], new: usize, reason: RevocationReason) -> CommandResult {
    let count = if new == 1 { "this certificate".to_owned() } else { format!("these {new} certificates") };
    expect_terminal(
        &format!("whether to refuse {count}"),
        "add --yes to mark without a question, or --dry-run to see what would be marked",
    )?;
    for answer in planned {
        say!("{}  {}  {}", answer.certificate_sha256, answer.not_after, pki::Shown(&answer.device));
    }
    expect_yes(&format!("Refuse {count} for {reason}? This is final."), "nothing was marked")
}

fn report(arguments: &Arguments, answers: &[RelayedRevocationAnswer]) {
    if arguments.json {
        let list: Vec<_> = answers.iter().map(|answer| json!(answer)).collect();
        print_json(json!({ "revocations": list, "reason": arguments.reason.name(), "dry_run": arguments.dry_run }));
        return;
    }
    for answer in answers {
        let (digest, device) = (&answer.certificate_sha256, pki::Shown(&answer.device));
        match (answer.outcome, &answer.revocation) {
            (RevocationOutcome::WouldBeRevoked, _) => out!("{digest} of device {device} would be refused"),
            (RevocationOutcome::RevokedBefore, Some(revocation)) => out!(
                "{digest} of device {device} was marked before: {} at {} by {}",
                revocation.reason,
                revocation.at,
                pki::Shown(&revocation.actor)
            ),
            _ => out!("{digest} of device {device} is refused"),
        }
    }
}
