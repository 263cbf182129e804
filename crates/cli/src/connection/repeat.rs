//! `--wait`: a request that the server answers with "later" is repeated after the time that it asks for.
//!
//! ```text
//!   request ──► ask ──► answer                                     lost: closed, or silent
//!                ▲ │                                                        │
//!                │ └──► later ──► rest ──► ask, with half of the time ──────┴──► replace ──► the same request, with the rest of it
//!                └─────────────────────────────┘
//! ```
//!
//! It knows no sockets: an [`Association`] sends.

use std::time::{Duration, Instant};

use est::{Answer, Failure, Operation, StartFault};
use net::blocking_client::ConnectionFault;

use crate::outcome::CommandResult;

/// "later" counts up to this time: a Max-Age of 2^32 - 1 seconds would silence a device for 136 years.
pub(crate) const LATER_MAX: Duration = Duration::from_secs(7 * 86_400);

/// It counts at least up to this one, also shortly before the certificate expires.
const LATER_MIN: Duration = Duration::from_secs(60);

/// How long a device rests that is told to come back after so many seconds: "the client SHOULD wait" (RFC 9148 §4.7), but no longer than half of the time
/// for which its certificate is still valid. So it asks again before that expires, and the closer the end, the more often; each time halves what is left,
/// so that this adds a few requests in a whole life.
pub(super) fn later_wait(max_age: u32, valid_for: Option<Duration>) -> Duration {
    let most = valid_for.map_or(LATER_MAX, |valid_for| (valid_for / 2).clamp(LATER_MIN, LATER_MAX));
    Duration::from_secs(max_age.into()).min(most)
}

/// Where a request is sent.
pub(super) trait Association {
    /// The request for the current association.
    fn request(&mut self) -> CommandResult<Operation>;
    /// Sends it, and waits for its answer.
    fn ask(&mut self, operation: Operation, within: Duration) -> Result<Answer, ConnectionFault>;
    /// The server answered "later": it asks for a rest of so many seconds.
    fn note_later(&mut self, max_age: u32);
    /// Waits as long as the server asks for, in seconds.
    fn rest(&mut self, max_age: u32) -> CommandResult;
    /// Connects anew.
    fn replace(&mut self, within: Duration) -> CommandResult;
}

/// Asks, and with `wait` repeats the request as long as the server answers "later". One attempt ends within `timeout`.
pub(super) fn ask(
    association: &mut dyn Association,
    timeout: Duration,
    wait: bool,
) -> CommandResult<Result<Answer, ConnectionFault>> {
    let mut asked = {
        let operation = association.request()?;
        association.ask(operation, timeout)
    };
    while let Err(ConnectionFault::Failed(Failure::Later { max_age, .. })) = asked {
        association.note_later(max_age);
        if !wait {
            break;
        }
        association.rest(max_age)?;
        asked = ask_after_rest(association, timeout)?;
    }
    Ok(asked)
}

/// During a rest the server can have ended the association: its idle timeout is often shorter than what it asks for. Its close_notify is one
/// datagram, which nobody repeats, so that silence says the same.
fn ask_after_rest(
    association: &mut dyn Association,
    timeout: Duration,
) -> CommandResult<Result<Answer, ConnectionFault>> {
    let begun = Instant::now();
    let operation = association.request()?;
    match association.ask(operation, timeout / 2) {
        Err(fault) if is_lost(&fault) => {
            association.replace(timeout.saturating_sub(begun.elapsed()))?;
            let operation = association.request()?;
            Ok(association.ask(operation, timeout.saturating_sub(begun.elapsed())))
        }
        asked => Ok(asked),
    }
}

/// Whether the fault is that of an association which the server no longer has.
fn is_lost(fault: &ConnectionFault) -> bool {
    match fault {
        ConnectionFault::Closed(_)
        | ConnectionFault::TimedOut(_)
        | ConnectionFault::Start(StartFault::NotConnected) => true,
        ConnectionFault::Failed(failure) => matches!(failure, Failure::Closed(_)) || failure.is_no_answer(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use coap::Code;
    use coap::client::ExchangeFailure;
    use dtls::Closed;
    use est::ErrorResponse;

    use super::*;

    /// Answers from a list, and notes what happens.
    struct Script {
        answers: Vec<Result<Answer, ConnectionFault>>,
        sent: Vec<Operation>,
        happened: Vec<&'static str>,
        allowed: Vec<Duration>,
        noted: Vec<u32>,
    }

    impl Association for Script {
        fn request(&mut self) -> CommandResult<Operation> {
            Ok(Operation::Enroll { csr: vec![7; 3] })
        }

        fn ask(&mut self, operation: Operation, within: Duration) -> Result<Answer, ConnectionFault> {
            self.sent.push(operation);
            self.happened.push("ask");
            self.allowed.push(within);
            self.answers.remove(0)
        }

        fn note_later(&mut self, max_age: u32) {
            self.noted.push(max_age);
        }

        fn rest(&mut self, max_age: u32) -> CommandResult {
            assert_eq!(max_age, 300);
            self.happened.push("rest");
            Ok(())
        }

        fn replace(&mut self, within: Duration) -> CommandResult {
            self.happened.push("replace");
            self.allowed.push(within);
            Ok(())
        }
    }

    const TIMEOUT: Duration = Duration::from_secs(100);

    fn later() -> Result<Answer, ConnectionFault> {
        let refused = ErrorResponse { code: Code::SERVICE_UNAVAILABLE, diagnostic: None };
        Err(ConnectionFault::Failed(Failure::Later { refused, max_age: 300 }))
    }

    fn play(wait: bool, answers: Vec<Result<Answer, ConnectionFault>>) -> (Script, Result<Answer, ConnectionFault>) {
        let mut script =
            Script { answers, sent: Vec::new(), happened: Vec::new(), allowed: Vec::new(), noted: Vec::new() };
        let answer = ask(&mut script, TIMEOUT, wait).unwrap();
        (script, answer)
    }

    #[test]
    fn whatever_tells_that_the_association_is_lost_it_is_replaced_and_the_request_repeated() {
        let lost: [fn() -> ConnectionFault; 6] = [
            // The close_notify is read when the request is under way.
            || ConnectionFault::Failed(Failure::Closed(Closed::ByPeer)),
            || ConnectionFault::Closed(Closed::ByPeer),
            || ConnectionFault::Start(StartFault::NotConnected),
            // It was lost.
            || ConnectionFault::Failed(Failure::Request(ExchangeFailure::Timeout)),
            || ConnectionFault::Failed(Failure::Deadline),
            || ConnectionFault::TimedOut(TIMEOUT / 2),
        ];
        for lost in lost {
            let (script, answer) =
                play(true, vec![later(), Err(lost()), later(), Err(lost()), Ok(Answer::Links(String::new()))]);
            assert!(matches!(answer, Ok(Answer::Links(_))), "{}: {answer:?}", lost());
            assert_eq!(
                script.happened,
                ["ask", "rest", "ask", "replace", "ask", "rest", "ask", "replace", "ask"],
                "{}",
                lost()
            );
            assert!(script.sent.windows(2).all(|pair| pair[0] == pair[1]), "the same request");
            // The first try leaves time for the second one, and both end within --timeout.
            assert_eq!(script.allowed[..2], [TIMEOUT, TIMEOUT / 2]);
            assert!(script.allowed[2..4].iter().all(|within| (TIMEOUT / 2..=TIMEOUT).contains(within)));
        }
    }

    #[test]
    fn later_is_within_the_life_of_the_certificate_and_a_week() {
        let hours = |hours: u64| Duration::from_secs(3_600 * hours);
        assert_eq!(later_wait(300, None), Duration::from_secs(300));
        assert_eq!(later_wait(300, Some(hours(1_000))), Duration::from_secs(300), "what the server asks for");
        assert_eq!(later_wait(u32::MAX, None), LATER_MAX);
        assert_eq!(later_wait(u32::MAX, Some(hours(100_000))), LATER_MAX);
        assert_eq!(later_wait(u32::MAX, Some(hours(48))), hours(24));
        for left in [Duration::ZERO, Duration::from_secs(100)] {
            assert_eq!(later_wait(300, Some(left)), LATER_MIN, "not a busy loop");
        }
        assert_eq!(later_wait(5, Some(Duration::ZERO)), Duration::from_secs(5));
    }

    #[test]
    fn what_is_lost_without_a_rest_or_twice_is_reported() {
        let silent = || Err(ConnectionFault::TimedOut(TIMEOUT));
        let (script, answer) = play(true, vec![silent()]);
        assert!(answer.is_err() && script.happened == ["ask"], "{:?}", script.happened);
        let (script, answer) = play(true, vec![later(), silent(), silent()]);
        assert!(
            answer.is_err() && script.happened == ["ask", "rest", "ask", "replace", "ask"],
            "{:?}",
            script.happened
        );
        let (script, answer) = play(false, vec![later()]);
        assert_eq!(script.noted, [300], "without --wait too");
        assert!(answer.is_err() && script.happened == ["ask"], "{:?}", script.happened);
    }
}
