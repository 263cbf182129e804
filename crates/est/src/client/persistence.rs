//! How a client goes on when nobody answers, when it is told "later", or when it loses its association.
//!
//! ```text
//!                    ┌── a rest, at most REST_MAX ◄── no answer, refused, association lost ──┐
//!                    ▼                                                                       │
//!   start ──► handshake ──► exchange ──► an answer: Done; a refusal of the request: Failed   │
//!                              │ ▲                                                           │
//!                              │ └── Max-Age and a random part ◄── 5.03, 4.29                │
//!                              └─────────────────────────────────────────────────────────────┘
//!   a limit or the deadline reached: Failed, with what failed last
//! ```
//!
//! What it is: the policy, [`Persistence`], and the count of what one request has cost so far, [`Effort`]. What it is not: it
//! sends nothing; [`super::Client`] asks it what a failure is followed by. What is repeated is the identical request (RFC
//! 9148 §4.7), which the server answers with the identical certificate.

use std::time::{Duration, Instant};

use coap::Code;
use dtls::{HandshakeRefusal, Random};

use super::failure::Failure;

/// How long a client goes on by itself, and how. Whoever wants to decide after each failure configures none, as the command line does; the load
/// generator and the simulator persist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    /// The time for one request, whatever it takes: exchanges, handshakes, waits. For a handshake that no request waits for
    /// it counts from the beginning of the first try.
    pub deadline: Duration,
    /// How often a block that nobody acknowledged, all retransmissions included, is sent as a new exchange before the
    /// association is taken for lost.
    pub exchange_repeats: u8,
    /// Handshakes that one request may cost, because nobody answered or the association was lost.
    pub handshakes_max: u32,
    /// How many of these may follow on an alert, on a server that is not trusted, on a handshake that went wrong: a damaged
    /// datagram looks like it, and so does a server that will never take this device.
    pub refusals_max: u32,
    /// Answers "later" to one request that are obeyed.
    pub delays_max: u32,
}

/// An hour: a whole power cut's crowd has been served by then.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(3_600);

/// Nobody waits longer, and an `Instant` so far ahead can be represented.
const DEADLINE_MAX: Duration = Duration::from_secs(366 * 86_400);

/// At a loss of one in four each way, five transmissions fail once in 60 exchanges, ten once in 4,000: by then the server
/// is more probably gone than unlucky.
const EXCHANGE_REPEATS_DEFAULT: u8 = 1;

/// One a minute until the deadline.
const HANDSHAKES_MAX_DEFAULT: u32 = 60;

/// A link that damages datagrams damages three handshakes in a row, all of them, rarely; a server that says no does not
/// change its mind within seconds.
const REFUSALS_MAX_DEFAULT: u32 = 3;

/// One a minute until the deadline, at the usual Max-Age.
const DELAYS_MAX_DEFAULT: u32 = 60;

/// The first rest before a handshake is begun anew; it doubles each time.
const REST_MIN: Duration = Duration::from_secs(1);

/// The longest.
const REST_MAX: Duration = Duration::from_secs(60);

/// Doublings after which a rest is the longest.
const REST_DOUBLINGS_MAX: u32 = 6;

/// Max-Age is exceeded by a random part of up to half of it, so that devices that were sent away together do not
/// come back together ...
const DELAY_SPREAD_DIVISOR: u32 = 2;

/// ... but by as much as this at least, because a Max-Age is a whole number of seconds and often one,
const DELAY_SPREAD_MIN: Duration = Duration::from_secs(1);

/// and not by more than this.
const DELAY_SPREAD_MAX: Duration = Duration::from_secs(60);

/// An association in which nothing has been heard for so long is not used again: it may have ended without a word (servers
/// let go of idle sessions, our own after five minutes; address translators of UDP after two, RFC 4787 §4.3).
pub(super) const IDLE_MAX: Duration = Duration::from_secs(120);

const _: () = {
    assert!(REST_MIN.as_secs() << REST_DOUBLINGS_MAX >= REST_MAX.as_secs());
    assert!(DELAY_SPREAD_MIN.as_secs() < DELAY_SPREAD_MAX.as_secs());
    assert!(REFUSALS_MAX_DEFAULT < HANDSHAKES_MAX_DEFAULT);
};

impl Persistence {
    /// What serves a device that has nothing else to do than to get its certificate.
    pub const DEFAULT: Persistence = Persistence {
        deadline: DEADLINE_DEFAULT,
        exchange_repeats: EXCHANGE_REPEATS_DEFAULT,
        handshakes_max: HANDSHAKES_MAX_DEFAULT,
        refusals_max: REFUSALS_MAX_DEFAULT,
        delays_max: DELAYS_MAX_DEFAULT,
    };
}

impl Default for Persistence {
    fn default() -> Persistence {
        Persistence::DEFAULT
    }
}

/// What one request has cost so far.
pub(super) struct Effort {
    policy: Persistence,
    pub(super) deadline: Instant,
    handshakes: u32,
    refusals: u32,
    delays: u32,
    /// What failed last: it says more than that the time was over.
    last: Option<Failure>,
}

/// What a failure is followed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// A new association, and the request over it.
    Handshake,
    /// The request again, over the association that there is.
    Request,
}

/// When to do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) at: Instant,
    pub(super) remedy: Remedy,
}

/// What a failure says about the next try.
enum Verdict {
    /// The peer has been silent for a minute or more.
    Silence,
    /// The association ended, and the server did not refuse a new one.
    Lost,
    /// The server, or a peer that pretends to be it, refuses an association with us.
    Refused,
    /// The server wants the request later.
    Later(Duration),
    /// Another try would end the same way.
    Final,
}

impl Effort {
    pub(super) fn new(policy: Persistence, now: Instant) -> Effort {
        let deadline = now + policy.deadline.min(DEADLINE_MAX);
        Effort { policy, deadline, handshakes: 0, refusals: 0, delays: 0, last: None }
    }

    /// What `failure` is followed by; `None` if it is final, if a limit is reached, or if the deadline would pass before.
    pub(super) fn after(&mut self, failure: &Failure, now: Instant, random: &dyn Random) -> Option<Next> {
        let policy = self.policy;
        let (at, remedy) = match Verdict::of(failure) {
            Verdict::Final => return None,
            Verdict::Silence if matches!(failure, Failure::Request(_)) => {
                // The exchange has waited long enough, and each for a time of its own (ACK_RANDOM_FACTOR).
                self.handshakes += 1;
                (now, Remedy::Handshake)
            }
            Verdict::Silence | Verdict::Lost => {
                self.handshakes += 1;
                (now + self.rest(random), Remedy::Handshake)
            }
            Verdict::Refused => {
                self.handshakes += 1;
                self.refusals += 1;
                (now + self.rest(random), Remedy::Handshake)
            }
            Verdict::Later(max_age) => {
                self.delays += 1;
                let wait = max_age.saturating_add(delay_spread(max_age, random));
                let at = now + wait.min(policy.deadline.min(DEADLINE_MAX));
                (at, if wait > IDLE_MAX { Remedy::Handshake } else { Remedy::Request })
            }
        };
        self.last = Some(failure.clone());
        let within = self.handshakes <= policy.handshakes_max
            && self.refusals <= policy.refusals_max
            && self.delays <= policy.delays_max
            && at < self.deadline;
        within.then_some(Next { at, remedy })
    }

    /// Why there is no answer, at the deadline.
    pub(super) fn into_failure(self) -> Failure {
        self.last.unwrap_or(Failure::Deadline)
    }

    /// Doubled with each handshake, and spread over half to one and a half of that.
    fn rest(&self, random: &dyn Random) -> Duration {
        let doublings = self.handshakes.saturating_sub(1).min(REST_DOUBLINGS_MAX);
        let rest = (REST_MIN * (1 << doublings)).min(REST_MAX);
        rest / 2 + part_of(rest, random)
    }
}

impl Verdict {
    fn of(failure: &Failure) -> Verdict {
        use coap::client::ExchangeFailure as Request;
        match failure {
            Failure::Handshake(HandshakeRefusal::TimedOut { .. }) | Failure::Request(Request::Timeout) => {
                Verdict::Silence
            }
            Failure::Closed(dtls::Closed::Alert(_)) => Verdict::Refused,
            // Our own doing, or our own fault.
            Failure::Handshake(HandshakeRefusal::Cancelled | HandshakeRefusal::Internal)
            | Failure::Closed(dtls::Closed::ByUs) => Verdict::Final,
            Failure::Closed(_) => Verdict::Lost,
            // "The server doesn't know what you speak of": it has lost more than a block.
            Failure::Handshake(_)
            | Failure::Untrusted { .. }
            | Failure::Request(Request::Reset | Request::Changing) => Verdict::Refused,
            // Nor does it keep the pieces of the request, however often they are sent (RFC 7959 §2.9.2).
            Failure::Refused(refused) if refused.code == Code::REQUEST_ENTITY_INCOMPLETE => Verdict::Refused,
            Failure::Later { max_age, .. } => Verdict::Later(Duration::from_secs((*max_age).into())),
            Failure::Request(Request::BadOption(_) | Request::BadBlock | Request::TooLarge)
            | Failure::TooLong { .. }
            | Failure::Refused(_)
            | Failure::Answer(_)
            | Failure::Deadline => Verdict::Final,
        }
    }
}

fn delay_spread(max_age: Duration, random: &dyn Random) -> Duration {
    part_of((max_age / DELAY_SPREAD_DIVISOR).clamp(DELAY_SPREAD_MIN, DELAY_SPREAD_MAX), random)
}

/// A random part of it, from nothing to all.
fn part_of(whole: Duration, random: &dyn Random) -> Duration {
    let mut bytes = [0; 4];
    random.fill(&mut bytes);
    let micros = u64::try_from(whole.as_micros()).unwrap_or(u64::from(u32::MAX)).min(u32::MAX.into());
    Duration::from_micros((micros * u64::from(u32::from_be_bytes(bytes))) >> u32::BITS)
}

#[cfg(test)]
mod tests {
    use dtls::HandshakeType;

    use super::*;
    use crate::client::ErrorResponse;

    /// Always the same part.
    struct Fixed(u8);

    impl Random for Fixed {
        fn fill(&self, out: &mut [u8]) {
            out.fill(self.0);
        }
        fn with_secure(&self, _: &mut dyn FnMut(&dyn ring::rand::SecureRandom)) {}
    }

    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time; nothing is measured with it")]
    fn start() -> Instant {
        Instant::now()
    }

    fn later(max_age: u32) -> Failure {
        Failure::Later { refused: ErrorResponse { code: Code::SERVICE_UNAVAILABLE, diagnostic: None }, max_age }
    }

    fn silence() -> Failure {
        Failure::Handshake(HandshakeRefusal::TimedOut { expected: HandshakeType::SERVER_HELLO })
    }

    #[test]
    fn later_is_obeyed_with_a_random_part_above_and_never_below_max_age() {
        let (policy, now) = (Persistence::default(), start());
        let wait = |max_age, part| {
            let next = Effort::new(policy, now).after(&later(max_age), now, &Fixed(part)).unwrap();
            (next.at - now, next.remedy)
        };
        assert_eq!(wait(1, 0), (Duration::from_secs(1), Remedy::Request));
        let (longest, _) = wait(1, 255);
        assert!(longest > Duration::from_millis(1_990) && longest <= Duration::from_secs(2), "{longest:?}");
        let (longest, remedy) = wait(60, 255);
        assert!(longest > Duration::from_secs(89) && longest <= Duration::from_secs(90), "{longest:?}");
        assert_eq!(remedy, Remedy::Request, "the association is still good");
        let (longest, remedy) = wait(1_000, 255);
        assert!(longest > Duration::from_secs(1_059) && longest <= Duration::from_secs(1_060), "{longest:?}");
        assert_eq!(remedy, Remedy::Handshake, "the association may be gone by then");
    }

    #[test]
    fn who_is_told_to_come_after_the_deadline_says_so_at_once() {
        let (policy, now) = (Persistence::default(), start());
        let mut effort = Effort::new(policy, now);
        assert_eq!(effort.after(&later(3_600), now, &Fixed(0)), None);
        assert_eq!(effort.after(&later(u32::MAX), now, &Fixed(255)), None);
        assert_eq!(effort.into_failure(), later(u32::MAX));
    }

    #[test]
    fn rests_double_up_to_a_minute_and_are_spread() {
        let (policy, now) = (Persistence::default(), start());
        let rests = |part| {
            let mut effort = Effort::new(policy, now);
            let next = |_| effort.after(&silence(), now, &Fixed(part)).unwrap().at - now;
            (0..8).map(next).collect::<Vec<_>>()
        };
        let (least, most) = (rests(0), rests(255));
        let halves = [1, 2, 4, 8, 16, 32, 60, 60].map(|seconds| Duration::from_secs(seconds) / 2);
        assert_eq!(least, halves);
        for (half, most) in halves.iter().zip(most) {
            assert!(most > *half * 3 - Duration::from_secs(1) && most <= *half * 3, "{most:?}");
        }
    }

    #[test]
    fn every_limit_ends_it() {
        let policy = Persistence { handshakes_max: 5, refusals_max: 2, delays_max: 3, ..Persistence::default() };
        let now = start();
        let tries = |failure: &Failure| {
            let mut effort = Effort::new(policy, now);
            (0..100).take_while(|_| effort.after(failure, now, &Fixed(0)).is_some()).count()
        };
        assert_eq!(tries(&silence()), 5);
        assert_eq!(tries(&Failure::Request(coap::client::ExchangeFailure::Timeout)), 5);
        assert_eq!(tries(&Failure::Closed(dtls::Closed::ByPeer)), 5);
        let alert = dtls::AlertDescription::UNKNOWN_CA;
        assert_eq!(tries(&Failure::Handshake(HandshakeRefusal::AlertReceived(alert))), 2);
        assert_eq!(tries(&Failure::Closed(dtls::Closed::Alert(alert))), 2);
        assert_eq!(tries(&later(1)), 3);
        let refused = ErrorResponse { code: Code::FORBIDDEN, diagnostic: None };
        assert_eq!(tries(&Failure::Refused(refused)), 0, "no is no");
        let lost = ErrorResponse { code: Code::REQUEST_ENTITY_INCOMPLETE, diagnostic: None };
        assert_eq!(tries(&Failure::Refused(lost)), 2, "a transfer that was lost is no judgement of the request");
        assert_eq!(tries(&Failure::TooLong { plaintext_bytes_max: 1 }), 0);
    }

    #[test]
    fn an_exchange_that_waited_long_enough_begins_a_handshake_at_once() {
        let (policy, now) = (Persistence::default(), start());
        let exhausted = Failure::Request(coap::client::ExchangeFailure::Timeout);
        let next = Effort::new(policy, now).after(&exhausted, now, &Fixed(9));
        assert_eq!(next, Some(Next { at: now, remedy: Remedy::Handshake }));
    }

    #[test]
    fn nothing_begins_at_or_after_the_deadline() {
        let policy = Persistence { deadline: Duration::from_secs(10), ..Persistence::default() };
        let now = start();
        let mut effort = Effort::new(policy, now);
        assert!(effort.after(&later(9), now, &Fixed(0)).is_some());
        assert!(effort.after(&later(9), now + Duration::from_secs(1), &Fixed(0)).is_none());
        assert_eq!(Effort::new(policy, now).into_failure(), Failure::Deadline);
    }
}
