//! Whether the server is behind, and what it does about it.
//!
//! To begin and finish a handshake costs a hundred times what it costs to turn a hello away. A server that begins each handshake it is
//! asked for, while more of them come than it can finish, works on hellos only: the second flights and the requests of those that it let
//! in wait behind them, or are dropped by the socket when its buffer is full, and what was spent on them is lost. So a server that has
//! been behind for [`BEHIND_MAX`] begins few new ones until it has caught up ([`dtls::Admission::Behind`]). What is turned away costs
//! little, so that it catches up soon, and what has begun is served within about that time. The client of a hello that was turned away
//! repeats it a second later (RFC 6347 §4.2.4.1), with the same odds as everybody.
//!
//! Nothing is kept but one instant. A peer can make the server behind, by sending more than it can read; it cannot do so for others
//! alone, and sessions and handshakes in progress are served meanwhile. New ones are begun even if it never catches up, in proportion to
//! the datagrams that it takes. A pause of the whole machine counts for nothing: it is what waits afterwards that counts, and no longer
//! than it waits.

use std::time::{Duration, Instant};

use dtls::Admission;

/// So long may the server be behind before it begins few new handshakes. Above a turn of the shell with four batches of hellos, so that
/// a burst that one turn can serve holds nobody back; far below the first retransmission of a client, at 0.4 s (Mbed TLS in some
/// devices) or 1 s, so that what has begun is answered before it is repeated.
const BEHIND_MAX: Duration = Duration::from_millis(20);

/// What the shell sees before it hands in more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backlog {
    /// Everything that came up to now has been handed in.
    Empty,
    /// Datagrams wait, or steps of handshakes wait in a pool.
    Waiting,
}

/// Since when something has waited without a break.
#[derive(Default)]
pub(super) struct Pace {
    waiting_since: Option<Instant>,
}

impl Pace {
    /// Whether handshakes are begun now.
    pub(super) fn admission(&mut self, now: Instant, backlog: Backlog) -> Admission {
        match backlog {
            Backlog::Empty => {
                self.waiting_since = None;
                Admission::Open
            }
            Backlog::Waiting => {
                let since = *self.waiting_since.get_or_insert(now);
                let behind = now.saturating_duration_since(since) > BEHIND_MAX;
                if behind { Admission::Behind } else { Admission::Open }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c47_a_pause_of_the_machine_and_a_burst_hold_nobody_back() {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut pace = Pace::default();
        assert_eq!(pace.admission(at(0), Backlog::Empty), Admission::Open);
        // Nobody ran for an hour: what waits has been seen for no time at all.
        let hour = 3_600_000;
        assert_eq!(pace.admission(at(hour), Backlog::Waiting), Admission::Open);
        assert_eq!(pace.admission(at(hour + 20), Backlog::Waiting), Admission::Open);
        assert_eq!(pace.admission(at(hour + 21), Backlog::Waiting), Admission::Behind);
        // Nor for another one, in the middle of it: once nothing waits, it is over.
        assert_eq!(pace.admission(at(2 * hour), Backlog::Waiting), Admission::Behind);
        assert_eq!(pace.admission(at(2 * hour + 1), Backlog::Empty), Admission::Open);
        assert_eq!(pace.admission(at(2 * hour + 2), Backlog::Waiting), Admission::Open);
    }
}
