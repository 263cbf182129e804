//! What `muster cert revoke` and `muster cert revoke-relayed` share: they show what would be revoked, ask, revoke in batches, and after a fault or Ctrl-C
//! say what was done before it.

use pki::issue::RevocationReason;
use serde::Serialize;
use serde_json::json;
use server::admin::protocol::{
    AdminAnswer, AdminRequest, REVOKED_ROWS_MAX, RevocationOutcome, RowRevocation, revocation_reason,
};

use crate::interrupt::Interrupt;
use crate::operator::{Operator, OperatorArguments};
use crate::outcome::{CommandFault, CommandResult, out, print_json, say};
use crate::question::{expect_terminal, expect_yes};

/// The flags of both verbs.
#[derive(clap::Args)]
pub(super) struct RevokingArguments {
    #[command(flatten)]
    pub(super) operator: OperatorArguments,

    /// Why
    #[arg(long, value_name = "REASON", value_parser = revocation_reason)]
    reason: RevocationReason,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Show what would be done, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// One line of the answer: a row of the CA, or a certificate that a Registrar relayed.
pub(super) trait RevocableRow: Serialize + Sized {
    /// What a request names it by.
    type Name: Clone;

    /// How the verb speaks of it.
    const WORDS: RevokingWords;

    /// What the server is asked.
    fn request(names: Vec<Self::Name>, reason: String, dry_run: bool) -> AdminRequest;

    /// Reads one line.
    fn read(line: AdminAnswer) -> Option<Self>;

    /// What became of it.
    fn outcome(&self) -> RevocationOutcome;

    /// The revocation that holds.
    fn revocation(&self) -> Option<&RowRevocation>;

    /// What it is called, and the device that has it.
    fn called(&self) -> (&str, &str);

    /// Its line in the table before the question.
    fn table_line(&self) -> String;

    /// The head of that table.
    fn table_head() -> String;
}

/// A verb in the forms in which it is used.
pub(super) struct RevokingWords {
    /// "revoke"
    pub(super) verb: &'static str,
    /// "revoked"
    pub(super) done: &'static str,
    /// "revoked", of what an earlier command did.
    pub(super) noted: &'static str,
}

/// Does it.
pub(super) fn run<R: RevocableRow>(
    arguments: &RevokingArguments,
    operator: Operator,
    names: &[R::Name],
) -> CommandResult {
    let reason = arguments.reason;
    let mut planned = Vec::new();
    for batch in names.chunks(REVOKED_ROWS_MAX) {
        planned.extend(ask::<R>(&operator, batch, reason, None)?);
    }
    if arguments.dry_run {
        report(arguments, &planned);
        return Ok(());
    }
    let new = planned.iter().filter(|answer| answer.outcome() == RevocationOutcome::WouldBeRevoked).count();
    let operator = if new > 0 && !arguments.yes {
        // Nobody else can open a ledger that this process has open: a server must be able to start while a person thinks.
        drop(operator);
        confirm(&planned, new, reason)?;
        Operator::of(&arguments.operator)?
    } else {
        operator
    };
    // After the question: until then Ctrl-C ends the process at once, and nothing has been changed.
    let interrupt = Interrupt::install()?;
    let mut done: Vec<R> = Vec::new();
    for batch in names.chunks(REVOKED_ROWS_MAX) {
        let answers = match interrupt.check() {
            Ok(()) => ask(&operator, batch, reason, Some(&interrupt)),
            Err(fault) => Err(fault),
        };
        match answers {
            Ok(answers) => done.extend(answers),
            Err(fault) => {
                // On stderr, since standard output has one object or nothing.
                done.iter().for_each(|answer| say!("{}", sentence(answer)));
                return Err(stopped::<R>(fault, done.len(), names.len()));
            }
        }
        if names.len() > REVOKED_ROWS_MAX {
            say!("{} of {}", done.len(), names.len());
        }
    }
    report(arguments, &done);
    Ok(())
}

/// Asks what would be done, or does it if it can be interrupted.
fn ask<R: RevocableRow>(
    operator: &Operator,
    names: &[R::Name],
    reason: RevocationReason,
    interrupt: Option<&Interrupt>,
) -> CommandResult<Vec<R>> {
    let request = R::request(names.to_vec(), reason.name().to_owned(), interrupt.is_none());
    Ok(operator.ask(request, interrupt)?.lines.into_iter().filter_map(R::read).collect())
}

/// Shows the rows and asks on the terminal.
fn confirm<R: RevocableRow>(planned: &[R], new: usize, reason: RevocationReason) -> CommandResult {
    let RevokingWords { verb, noted, .. } = R::WORDS;
    let count = if new == 1 { "this certificate".to_owned() } else { format!("these {new} certificates") };
    expect_terminal(
        &format!("whether to {verb} {count}"),
        &format!("add --yes to {verb} without a question, or --dry-run to see what would be {noted}"),
    )?;
    say!("{}", R::table_head());
    planned.iter().for_each(|answer| say!("{}", answer.table_line()));
    let also = match reason {
        RevocationReason::KeyCompromise if new == 1 => " Its key is never certified again.",
        RevocationReason::KeyCompromise => " Their keys are never certified again.",
        _ => "",
    };
    let capital = verb[..1].to_ascii_uppercase() + &verb[1..];
    expect_yes(&format!("{capital} {count} for {reason}? This is final.{also}"), &format!("nothing was {noted}"))
}

fn report<R: RevocableRow>(arguments: &RevokingArguments, answers: &[R]) {
    let RevokingArguments { reason, dry_run, .. } = arguments;
    let compromises = *reason == RevocationReason::KeyCompromise;
    if arguments.json {
        print_json(json!({
            "revocations": answers, "reason": reason.name(), "dry_run": dry_run, "keys_refused": compromises && !dry_run
        }));
        return;
    }
    answers.iter().for_each(|answer| out!("{}", sentence(answer)));
    if compromises {
        let form = if *dry_run { "would be" } else { "is" };
        out!("no key of these certificates {form} certified again, for any device (est.csr.key_compromised)");
    }
}

fn stopped<R: RevocableRow>(fault: CommandFault, done: usize, all: usize) -> CommandFault {
    if done == 0 {
        return fault;
    }
    let word = R::WORDS.done;
    let message = format!("{done} of {all} are {word}, then: {fault}");
    CommandFault::new(fault.status(), message)
        .remedy(format!("run the same command again: what is {word} stays as it is"))
        .field("revoked", done)
}

fn sentence<R: RevocableRow>(answer: &R) -> String {
    let RevokingWords { done, noted, .. } = R::WORDS;
    let (name, device) = answer.called();
    let device = pki::Shown(device);
    match (answer.outcome(), answer.revocation()) {
        (RevocationOutcome::WouldBeRevoked, _) => format!("{name} of device {device} would be {done}"),
        (RevocationOutcome::RevokedBefore, Some(RowRevocation { reason, at, actor })) => {
            format!("{name} of device {device} was {noted} before: {reason} at {at} by {}", pki::Shown(actor))
        }
        _ => format!("{name} of device {device} is {done}"),
    }
}

#[cfg(test)]
mod tests {
    use server::admin::protocol::{RelayedRevocationAnswer, RevocationAnswer};

    use super::*;
    use crate::outcome::Status;

    fn relayed(outcome: RevocationOutcome) -> RelayedRevocationAnswer {
        let revocation =
            RowRevocation { reason: "superseded".into(), at: "2027-01-15T08:00:00Z".into(), actor: "ada".into() };
        RelayedRevocationAnswer {
            outcome,
            certificate_sha256: "33".repeat(32),
            device: "000003".into(),
            profile: "meters".into(),
            not_after: "2030-01-01T00:00:00Z".into(),
            revocation: Some(revocation),
        }
    }

    #[test]
    fn each_verb_speaks_of_its_rows_in_its_own_words() {
        let sha256 = "33".repeat(32);
        let said = [
            (RevocationOutcome::WouldBeRevoked, "would be refused"),
            (RevocationOutcome::Revoked, "is refused"),
            (RevocationOutcome::RevokedBefore, "was marked before: superseded at 2027-01-15T08:00:00Z by ada"),
        ];
        for (outcome, words) in said {
            assert_eq!(sentence(&relayed(outcome)), format!("{sha256} of device 000003 {words}"));
        }
    }

    /// What was done stays done, and the operator learns how much that is.
    #[test]
    fn a_fault_after_some_batches_says_what_was_done_before_it() {
        let fault = || CommandFault::new(Status::Interrupted, "interrupted");
        assert_eq!(stopped::<RevocationAnswer>(fault(), 0, 9).to_string(), fault().to_string());
        let of_ca = stopped::<RevocationAnswer>(fault(), 4, 9);
        let of_registrar = stopped::<RelayedRevocationAnswer>(fault(), 4, 9);
        assert_eq!((of_ca.status(), of_registrar.status()), (Status::Interrupted, Status::Interrupted));
        assert!(of_ca.to_string().contains("4 of 9 are revoked, then: "), "{of_ca}");
        assert!(of_registrar.to_string().contains("4 of 9 are refused, then: "), "{of_registrar}");
        assert!(of_registrar.to_string().contains("what is refused stays as it is"), "{of_registrar}");
    }
}
