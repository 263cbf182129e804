//! How a client continues if no answer arrives, if the server says "later", or if it loses its association.
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
//! What it is: the policy, [`Persistence`], and the count of what one request has cost so far, [`Effort`]. What it is
//! not: it sends nothing; [`super::Client`] asks it what to do after a failure. A repeated request is identical (RFC
//! 9148 §4.7), and the server answers it with the identical certificate.

use std::time::{Duration, Instant};

use coap::Code;
use dtls::{HandshakeRefusal, Random};

use super::failure::Failure;

/// How long a client continues by itself, and how. A caller that wants to decide after each failure, such as the
/// command line, configures none; the load generator and the simulator persist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    /// The total time for one request: exchanges, handshakes and waits. For a handshake without a request it counts
    /// from the beginning of the first try.
    pub deadline: Duration,
    /// How often a block that was not acknowledged after all its retransmissions is sent as a new exchange before the
    /// association is considered lost.
    pub exchange_repeats: u8,
    /// The maximum number of handshakes for one request, after missing answers or a lost association.
    pub handshakes_max: u32,
    /// How many of these may follow an alert, an untrusted server or a failed handshake: a damaged datagram has this
    /// effect, and so has a server that will never accept this device.
    pub refusals_max: u32,
    /// How many "later" answers to one request are obeyed.
    pub delays_max: u32,
}

/// An hour: by then all devices that come back after a power cut have been served.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(3_600);

/// A longer deadline is not useful, and an `Instant` this far ahead can be represented.
const DEADLINE_MAX: Duration = Duration::from_secs(366 * 86_400);

/// At a loss of one in four each way, five transmissions fail once in 60 exchanges, ten once in 4,000: by then it is
/// more likely that the server is gone than that the datagrams were lost.
const EXCHANGE_REPEATS_DEFAULT: u8 = 1;

/// One a minute until the deadline.
const HANDSHAKES_MAX_DEFAULT: u32 = 60;

/// A link that damages datagrams rarely breaks three handshakes in a row; a server that refuses does not change its
/// decision within seconds.
const REFUSALS_MAX_DEFAULT: u32 = 3;

/// One a minute until the deadline, at the usual Max-Age.
const DELAYS_MAX_DEFAULT: u32 = 60;

/// The first pause before another handshake; it doubles each time.
const REST_MIN: Duration = Duration::from_secs(1);

/// The longest pause.
const REST_MAX: Duration = Duration::from_secs(60);

/// The number of doublings after which a pause has its longest value.
const REST_DOUBLINGS_MAX: u32 = 6;

/// The client waits for Max-Age and a random part of up to half of it, so that devices that were sent away together do
/// not come back together ...
const DELAY_SPREAD_DIVISOR: u32 = 2;

/// ... but the random part spans at least this much, because a Max-Age is a whole number of seconds and often one,
const DELAY_SPREAD_MIN: Duration = Duration::from_secs(1);

/// and at most this much.
const DELAY_SPREAD_MAX: Duration = Duration::from_secs(60);

/// An association that received nothing for this long is not used again: it may have ended without a message (servers
/// drop idle sessions, ours after five minutes; address translators drop UDP mappings after two, RFC 4787 §4.3).
pub(super) const IDLE_MAX: Duration = Duration::from_secs(120);

const _: () = {
    assert!(REST_MIN.as_secs() << REST_DOUBLINGS_MAX >= REST_MAX.as_secs());
    assert!(DELAY_SPREAD_MIN.as_secs() < DELAY_SPREAD_MAX.as_secs());
    assert!(REFUSALS_MAX_DEFAULT < HANDSHAKES_MAX_DEFAULT);
};

impl Persistence {
    /// Suits a device whose only task is to get its certificate.
    pub const DEFAULT: Self = Self {
        deadline: DEADLINE_DEFAULT,
        exchange_repeats: EXCHANGE_REPEATS_DEFAULT,
        handshakes_max: HANDSHAKES_MAX_DEFAULT,
        refusals_max: REFUSALS_MAX_DEFAULT,
        delays_max: DELAYS_MAX_DEFAULT,
    };
}

impl Default for Persistence {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What one request has cost so far.
pub(super) struct Effort {
    policy: Persistence,
    pub(super) deadline: Instant,
    handshakes: u32,
    refusals: u32,
    delays: u32,
    /// The last failure: it is more informative than that the time was over.
    last: Option<Failure>,
}

/// The next step after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// A new association, then the request over it.
    Handshake,
    /// The request again, over the current association.
    Request,
}

/// The next step and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) at: Instant,
    pub(super) remedy: Remedy,
}

/// What a failure means for the next try.
enum FailureClass {
    /// The peer has been silent for a minute or more.
    Silence,
    /// The association ended, and the server did not refuse a new one.
    Lost,
    /// The server, or a peer that pretends to be the server, refuses an association with us.
    Refused,
    /// The server wants the request later.
    Later(Duration),
    /// Another try would end the same way.
    Final,
}

impl Effort {
    pub(super) fn new(policy: Persistence, now: Instant) -> Self {
        let deadline = now + policy.deadline.min(DEADLINE_MAX);
        Self { policy, deadline, handshakes: 0, refusals: 0, delays: 0, last: None }
    }

    /// The next step after `failure`; `None` if the failure is final, if a limit is reached, or if the deadline would
    /// pass before.
    pub(super) fn after(&mut self, failure: &Failure, now: Instant, random: &dyn Random) -> Option<Next> {
        let policy = self.policy;
        let (at, remedy) = match FailureClass::of(failure) {
            FailureClass::Final => return None,
            FailureClass::Silence if matches!(failure, Failure::Request(_)) => {
                // The exchange has waited long enough, and each device for a different time (ACK_RANDOM_FACTOR).
                self.handshakes += 1;
                (now, Remedy::Handshake)
            }
            FailureClass::Silence | FailureClass::Lost => {
                self.handshakes += 1;
                (now + self.rest(random), Remedy::Handshake)
            }
            FailureClass::Refused => {
                self.handshakes += 1;
                self.refusals += 1;
                (now + self.rest(random), Remedy::Handshake)
            }
            FailureClass::Later(max_age) => {
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

    /// Why there is no answer when the deadline passes.
    pub(super) fn into_failure(self) -> Failure {
        self.last.unwrap_or(Failure::Deadline)
    }

    /// A pause that doubles with each handshake, multiplied by a random factor between 0.5 and 1.5.
    fn rest(&self, random: &dyn Random) -> Duration {
        let doublings = self.handshakes.saturating_sub(1).min(REST_DOUBLINGS_MAX);
        let rest = (REST_MIN * (1 << doublings)).min(REST_MAX);
        rest / 2 + part_of(rest, random)
    }
}

impl FailureClass {
    fn of(failure: &Failure) -> Self {
        use coap::client::ExchangeFailure as Request;
        match failure {
            Failure::Handshake(HandshakeRefusal::TimedOut { .. }) | Failure::Request(Request::Timeout) => Self::Silence,
            Failure::Closed(dtls::Closed::Alert(_)) => Self::Refused,
            // We cancelled it, or the fault is ours.
            Failure::Handshake(HandshakeRefusal::Cancelled | HandshakeRefusal::Internal)
            | Failure::Closed(dtls::Closed::ByUs) => Self::Final,
            Failure::Closed(_) => Self::Lost,
            // "The server doesn't know what you speak of": it has lost more than a block.
            Failure::Handshake(_)
            | Failure::Untrusted { .. }
            | Failure::Request(Request::Reset | Request::Changing) => Self::Refused,
            // The server does not keep the pieces of the request, however often they are sent (RFC 7959 §2.9.2).
            Failure::Refused(refused) if refused.code == Code::REQUEST_ENTITY_INCOMPLETE => Self::Refused,
            Failure::Later { max_age, .. } => Self::Later(Duration::from_secs((*max_age).into())),
            Failure::Request(Request::BadOption(_) | Request::BadBlock | Request::TooLarge)
            | Failure::TooLong { .. }
            | Failure::Disowned { .. }
            | Failure::Refused(_)
            | Failure::Answer(_)
            | Failure::Deadline => Self::Final,
        }
    }
}

fn delay_spread(max_age: Duration, random: &dyn Random) -> Duration {
    part_of((max_age / DELAY_SPREAD_DIVISOR).clamp(DELAY_SPREAD_MIN, DELAY_SPREAD_MAX), random)
}

/// A random part of `whole`, from zero to all of it.
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

    /// Always yields the same part.
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
