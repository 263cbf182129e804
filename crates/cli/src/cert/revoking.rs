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
use crate::outcome::{CommandFault, CommandResult, Status, out, print_json, say};
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
        let answers = if interrupt.is_set() {
            Err(Stop::Interrupted)
        } else {
            ask(&operator, batch, reason, Some(&interrupt)).map_err(|fault| Stop::of(fault, batch.len()))
        };
        match answers {
            Ok(answers) => done.extend(answers),
            Err(stop) => {
                // On stderr, since standard output has one object or nothing.
                done.iter().for_each(|answer| say!("{}", sentence(answer)));
                return Err(stop.fault::<R>(done.len(), names.len()));
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

/// Why not all batches are done.
enum Stop {
    /// Ctrl-C between two batches.
    Interrupted,
    /// Ctrl-C while the server had this many rows: whether it has revoked them is not known.
    Unanswered(usize),
    /// The server, or the ledger, said no or nothing.
    Fault(CommandFault),
}

impl Stop {
    fn of(fault: CommandFault, rows: usize) -> Self {
        if fault.status() == Status::Interrupted { Self::Unanswered(rows) } else { Self::Fault(fault) }
    }

    /// What the operator is told: what was done before stays done.
    fn fault<R: RevocableRow>(self, done: usize, all: usize) -> CommandFault {
        let RevokingWords { done: word, noted, .. } = R::WORDS;
        let (status, why) = match self {
            Self::Interrupted if done == 0 => {
                return CommandFault::new(Status::Interrupted, format!("interrupted; nothing was {noted}"));
            }
            Self::Fault(fault) if done == 0 => return fault,
            Self::Interrupted => (Status::Interrupted, "interrupted".to_owned()),
            Self::Fault(fault) => (fault.status(), fault.to_string()),
            Self::Unanswered(rows) => {
                let why = format!("interrupted before the answer about {rows} more, which may be {word}");
                (Status::Interrupted, why)
            }
        };
        let message = format!("{done} of {all} are {word}, then: {why}");
        CommandFault::new(status, message)
            .remedy(format!("run the same command again: what is {word} stays as it is"))
            .field("revoked", done)
    }
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
        let fault = || Stop::of(CommandFault::new(Status::NoAnswer, "no answer"), 5);
        assert_eq!(fault().fault::<RevocationAnswer>(0, 9).to_string(), "no answer");
        let of_ca = fault().fault::<RevocationAnswer>(4, 9);
        let of_registrar = fault().fault::<RelayedRevocationAnswer>(4, 9);
        assert_eq!((of_ca.status(), of_registrar.status()), (Status::NoAnswer, Status::NoAnswer));
        assert!(of_ca.to_string().contains("4 of 9 are revoked, then: no answer"), "{of_ca}");
        assert!(of_registrar.to_string().contains("4 of 9 are refused, then: no answer"), "{of_registrar}");
        assert!(of_registrar.to_string().contains("what is refused stays as it is"), "{of_registrar}");
    }

    /// Other verbs keep nothing when they are interrupted; a revocation is not taken back.
    #[test]
    fn an_interrupt_never_says_that_nothing_was_done_when_something_may_be() {
        let nothing = Stop::Interrupted.fault::<RelayedRevocationAnswer>(0, 9).to_string();
        assert_eq!(nothing, "interrupted; nothing was marked");
        for (done, stop) in [(4, Stop::Interrupted), (0, Stop::of(CommandFault::interrupted(), 5))] {
            let fault = stop.fault::<RevocationAnswer>(done, 9);
            assert_eq!(fault.status(), Status::Interrupted);
            assert!(!fault.to_string().contains("nothing"), "{fault}");
            assert!(fault.to_string().contains(&format!("{done} of 9 are revoked, then: interrupted")), "{fault}");
        }
    }
}
