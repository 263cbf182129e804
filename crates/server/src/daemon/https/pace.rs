//! How fast one network may begin connections of TLS: a handshake costs the server a signature before the client has proven anything.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Handshakes that a network may begin at once: the devices behind one NAT after a power cut, whose others come back within seconds.
pub(super) const BURST: u32 = 64;

/// Time in which one more becomes free: 32 a second are three per cent of a core.
const REFILL: Duration = Duration::from_micros(31_250);

/// Networks that are remembered. Beyond it those that are not remembered share one budget: whoever has that many networks slows down strangers, and not
/// those that were there before.
const NETWORKS_MAX: usize = 1_024;

/// Networks of clients that have authenticated, of which the one that did so longest ago is forgotten first: they have a budget of their own however
/// many strangers come.
const KNOWN_MAX: usize = 1_024;

/// The budgets of networks.
#[derive(Debug, Default)]
pub(super) struct HandshakePace {
    /// When somebody last authenticated from there.
    known: HashMap<IpAddr, Instant>,
    /// When each will have its whole budget again.
    full_at: HashMap<IpAddr, Instant>,
    others_full_at: Option<Instant>,
}

impl HandshakePace {
    /// A client has authenticated from this network.
    pub(super) fn knows(&mut self, now: Instant, network: IpAddr) {
        if !self.known.contains_key(&network)
            && self.known.len() >= KNOWN_MAX
            && let Some(oldest) = self.known.iter().min_by_key(|(_, at)| **at).map(|(network, _)| *network)
        {
            self.known.remove(&oldest);
        }
        self.known.insert(network, now);
    }

    /// Whether this network may begin a handshake now, which uses a part of its budget.
    pub(super) fn admits(&mut self, now: Instant, network: IpAddr) -> bool {
        if !self.full_at.contains_key(&network) && self.full_at.len() >= NETWORKS_MAX {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        let has_own = self.full_at.contains_key(&network) || self.known.contains_key(&network);
        let has_room = has_own || self.full_at.len() < NETWORKS_MAX;
        let full_at =
            if has_room { self.full_at.entry(network).or_insert(now) } else { self.others_full_at.get_or_insert(now) };
        let begins = (*full_at).max(now);
        let after = begins + REFILL;
        let is_admitted = after.saturating_duration_since(now) <= REFILL * BURST;
        if is_admitted {
            *full_at = after;
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_network_has_a_burst_and_then_a_rate_and_takes_nothing_from_another() {
        let (mut pace, now) = (HandshakePace::default(), Instant::now());
        let admitted = |pace: &mut HandshakePace, at, of| (0..1_000).filter(|_| pace.admits(at, network(of))).count();
        assert_eq!(admitted(&mut pace, now, 1), 64);
        assert_eq!(admitted(&mut pace, now + Duration::from_secs(1), 1), 32);
        assert_eq!(admitted(&mut pace, now + Duration::from_secs(1), 2), 64);
        assert_eq!(admitted(&mut pace, now + Duration::from_secs(100), 1), 64, "no more than a burst is saved up");
    }

    #[test]
    fn many_networks_take_no_memory_and_nothing_from_those_that_were_there() {
        let (mut pace, now) = (HandshakePace::default(), Instant::now());
        assert!(pace.admits(now, network(0)));
        let admitted = (1..10_000).filter(|of| pace.admits(now, network(*of))).count();
        assert_eq!(admitted, NETWORKS_MAX - 1 + 64, "one each, then a shared budget");
        assert_eq!(pace.full_at.len(), NETWORKS_MAX);
        assert!(pace.admits(now, network(0)));
        assert!(pace.admits(now + Duration::from_secs(1), network(20_000)), "the others are forgotten");
        assert!(pace.full_at.len() < 3);
    }

    #[test]
    fn the_network_of_a_client_that_has_authenticated_keeps_its_budget_among_strangers() {
        let (mut pace, now) = (HandshakePace::default(), Instant::now());
        let known = network(1 << 20);
        pace.knows(now, known);
        for of in 0..10_000 {
            pace.admits(now, network(of));
        }
        let admitted = (0..1_000).filter(|_| pace.admits(now, known)).count();
        assert_eq!(admitted, 64);
        for of in 0..10_000 {
            pace.knows(now + Duration::from_secs(1), network(of));
        }
        assert_eq!(pace.known.len(), KNOWN_MAX);
        assert!(!pace.known.contains_key(&known), "the one that was seen longest ago is forgotten");
    }
}
