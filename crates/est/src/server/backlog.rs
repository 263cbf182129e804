//! Whether the server is behind, and how it then limits new handshakes.
//!
//! A full handshake costs a hundred times as much as the refusal of a hello. If a server begins each handshake that it
//! is asked for while more arrive than it can finish, it works on hellos only: the second flights and the requests of
//! accepted clients wait behind them, or the socket drops them when its buffer is full, and the work spent on them is
//! lost. So a server that has been behind for [`BEHIND_MAX`] begins few new handshakes until it has caught up
//! ([`dtls::Admission::Behind`]). A refused hello costs little, so that the server catches up soon, and handshakes that
//! have begun are served within about that time. The client of a refused hello repeats it a second later (RFC 6347
//! §4.2.4.1), and goes before those that have not waited, or not as long.
//!
//! The only state is one instant. A peer can make the server fall behind by sending more than it can read; it cannot do
//! so for others alone, and sessions and handshakes in progress are served meanwhile. New handshakes begin even if the
//! server never catches up, in proportion to the datagrams that it reads. A pause of the whole machine does not count:
//! only work that waits afterwards counts, and only for as long as it waits.

use std::time::{Duration, Instant};

use dtls::Admission;

/// How long the server may be behind before it begins few new handshakes. This is longer than a turn of the shell with
/// four batches of hellos, so that a burst that one turn can serve does not hold anyone back; and far shorter than a
/// client's first retransmission, at 0.4 s (Mbed TLS in some devices) or 1 s, so that a handshake that has begun is
/// answered before the client retransmits.
const BEHIND_MAX: Duration = Duration::from_millis(20);

/// The work that waits, as the shell sees it before it hands in more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backlog {
    /// Everything that has arrived so far has been handed in.
    Empty,
    /// Datagrams wait, or steps of handshakes wait in a pool.
    Waiting,
}

/// Measures for how long work has been waiting without a break.
#[derive(Default)]
pub(super) struct Pace {
    waiting_since: Option<Instant>,
}

impl Pace {
    /// Whether new handshakes are begun now.
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
        // The machine paused for an hour: the waiting work has been seen for no time at all.
        let hour = 3_600_000;
        assert_eq!(pace.admission(at(hour), Backlog::Waiting), Admission::Open);
        assert_eq!(pace.admission(at(hour + 20), Backlog::Waiting), Admission::Open);
        assert_eq!(pace.admission(at(hour + 21), Backlog::Waiting), Admission::Behind);
        // Another pause while the server is behind does not change this; it is over once no work waits.
        assert_eq!(pace.admission(at(2 * hour), Backlog::Waiting), Admission::Behind);
        assert_eq!(pace.admission(at(2 * hour + 1), Backlog::Empty), Admission::Open);
        assert_eq!(pace.admission(at(2 * hour + 2), Backlog::Waiting), Admission::Open);
    }
}
