//! `muster cert revoke`: shows what would be revoked, asks, and revokes.

use std::path::PathBuf;

use pki::issue::RevocationReason;
use serde_json::json;
use server::admin::protocol::{
    AdminAnswer, AdminRequest, REVOKED_ROWS_MAX, RevocationAnswer, RevocationOutcome, RowName, revocation_reason,
};

use super::row_name;
use crate::interrupt::Interrupt;
use crate::operator::{Operator, OperatorArguments, table_head, table_line};
use crate::outcome::{CommandFault, CommandResult, out, print_json, say};
use crate::question::{expect_terminal, expect_yes};

/// Revoke certificates, for good
#[derive(clap::Args)]
#[command(after_help = "\
Shows the certificates, asks on a terminal, and revokes them through the server that runs; if none runs, in the ledger. If one of them is not in the \
ledger, none is revoked. From then on the client of a revoked certificate is refused (4.03), also in a session that is open. The user who runs this \
is recorded with the time and the reason. A certificate that was revoked before keeps its first revocation.

Reasons (RFC 5280): unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn, aACompromise. \
certificateHold and removeFromCRL are refused: a revocation is final.

A device whose certificate is revoked can still enrol with the certificate of its manufacturer.

Examples:
  muster cert revoke device/device.pem --reason keyCompromise
  muster cert revoke 010000a1b2c3d4e5f60718293a4b5c6d7e8f90 --reason cessationOfOperation --yes
  muster cert revoke device/device.pem --reason superseded --dry-run
  muster cert list --device 000001 --state good --json | jq -r 'select(.serial) | .serial' \\
      | xargs muster cert revoke --reason privilegeWithdrawn --yes")]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// Serial numbers, 38 hexadecimal digits each, or files of certificates
    #[arg(value_name = "SERIAL|FILE", required = true)]
    rows: Vec<PathBuf>,

    /// Why
    #[arg(long, value_name = "REASON", value_parser = revocation_reason)]
    reason: RevocationReason,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Show what would be revoked, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let rows = arguments.rows.iter().map(|row| row_name(row)).collect::<CommandResult<Vec<_>>>()?;
    let operator = Operator::of(&arguments.operator)?;
    let mut planned = Vec::new();
    for batch in rows.chunks(REVOKED_ROWS_MAX) {
        planned.extend(ask(&operator, batch, arguments.reason, Effect::DryRun, None)?);
    }
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
    // After the question: until then Ctrl-C ends the process at once, and nothing has been changed.
    let interrupt = Interrupt::install()?;
    let mut done = Vec::new();
    for batch in rows.chunks(REVOKED_ROWS_MAX) {
        let answers = match interrupt.check() {
            Ok(()) => ask(&operator, batch, arguments.reason, Effect::Revoke, Some(&interrupt)),
            Err(fault) => Err(fault),
        };
        match answers {
            Ok(answers) => done.extend(answers),
            Err(fault) => {
                report_partly(&done);
                return Err(stopped(fault, done.len(), rows.len()));
            }
        }
        if rows.len() > REVOKED_ROWS_MAX {
            say!("{} of {}", done.len(), rows.len());
        }
    }
    report(arguments, &done);
    Ok(())
}

/// Whether a request changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    DryRun,
    Revoke,
}

fn ask(
    operator: &Operator,
    rows: &[RowName],
    reason: RevocationReason,
    effect: Effect,
    interrupt: Option<&Interrupt>,
) -> CommandResult<Vec<RevocationAnswer>> {
    let request = AdminRequest::CertificateRevoke {
        rows: rows.to_vec(),
        reason: reason.name().to_owned(),
        dry_run: effect == Effect::DryRun,
    };
    let lines = operator.ask(request, interrupt)?.lines;
    Ok(lines
        .into_iter()
        .filter_map(|line| if let AdminAnswer::Revocation(answer) = line { Some(*answer) } else { None })
        .collect())
}

/// Shows the rows and asks on the terminal.
fn confirm(planned: &[RevocationAnswer], new: usize, reason: RevocationReason) -> CommandResult {
    let count = if new == 1 { "this certificate".to_owned() } else { format!("these {new} certificates") };
    expect_terminal(
        &format!("whether to revoke {count}"),
        "add --yes to revoke without a question, or --dry-run to see what would be revoked",
    )?;
    say!("{}", table_head());
    for answer in planned {
        say!("{}", table_line(&answer.row));
    }
    expect_yes(&format!("Revoke {count} for {reason}? This is final."), "nothing was revoked")
}

fn report(arguments: &Arguments, answers: &[RevocationAnswer]) {
    if arguments.json {
        let list: Vec<_> = answers.iter().map(|answer| json!(answer)).collect();
        print_json(json!({ "revocations": list, "reason": arguments.reason.name(), "dry_run": arguments.dry_run }));
        return;
    }
    for answer in answers {
        out!("{}", sentence(answer));
    }
}

/// What was revoked before a fault: on stderr, since standard output has one object or nothing.
fn report_partly(answers: &[RevocationAnswer]) {
    for answer in answers {
        say!("{}", sentence(answer));
    }
}

fn stopped(fault: CommandFault, done: usize, all: usize) -> CommandFault {
    if done == 0 {
        return fault;
    }
    let message = format!("{done} of {all} are revoked, then: {fault}");
    CommandFault::new(fault.status(), message)
        .remedy("run the same command again: what is revoked stays as it is")
        .field("revoked", done)
}

fn sentence(answer: &RevocationAnswer) -> String {
    let row = &answer.row;
    let device = pki::Shown(&row.device);
    match (answer.outcome, &row.revocation) {
        (RevocationOutcome::WouldBeRevoked, _) => format!("{} of device {device} would be revoked", row.serial),
        (RevocationOutcome::RevokedBefore, Some(revocation)) => format!(
            "{} of device {device} was revoked before: {} at {} by {}",
            row.serial,
            revocation.reason,
            revocation.at,
            pki::Shown(&revocation.actor)
        ),
        _ => format!("{} of device {device} is revoked", row.serial),
    }
}
