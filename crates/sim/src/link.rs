//! The link between the devices and the server: one queue of datagrams in flight.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::chance::Chance;

/// What the link does to datagrams; shares are of a thousand. The default is a good link of ten milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Lost.
    pub loss: u16,
    /// Delivered twice.
    pub duplication: u16,
    /// One byte changed.
    pub corruption: u16,
    /// Held back by up to ten times the delay, so that later ones overtake it.
    pub reordering: u16,
    /// The least and the most that one takes.
    pub delay: (Duration, Duration),
    /// Longer ones vanish, as they do where a path MTU is smaller than it seems.
    pub mtu: usize,
}

impl Default for Conditions {
    fn default() -> Conditions {
        let delay = Duration::from_millis(10);
        Conditions { loss: 0, duplication: 0, corruption: 0, reordering: 0, delay: (delay, delay), mtu: usize::MAX }
    }
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// To the server, from this device.
    Server(SocketAddr),
    /// To the device with this address.
    Device(SocketAddr),
}

/// What came of one datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Handed to the link.
    pub sent: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Lost by chance or for their size.
    pub lost: u64,
    /// Delivered a second time.
    pub duplicated: u64,
    /// Delivered with a changed byte.
    pub corrupted: u64,
}

/// See the module.
pub struct Link {
    conditions: Conditions,
    chance: Chance,
    count: u64,
    in_flight: BTreeMap<(Instant, u64), (Towards, Vec<u8>)>,
    tally: Tally,
    /// Numbers of the datagrams that a story wants lost.
    doomed: Vec<u64>,
}

impl Link {
    /// A link without datagrams.
    #[must_use]
    pub fn new(conditions: Conditions, chance: Chance) -> Link {
        Link { conditions, chance, count: 0, in_flight: BTreeMap::new(), tally: Tally::default(), doomed: Vec::new() }
    }

    /// Loses exactly these, counted from zero in the order of their sending, besides what chance takes.
    pub fn lose(&mut self, numbers: &[u64]) {
        self.doomed = numbers.to_vec();
    }

    /// Takes a datagram at `now`.
    pub fn send(&mut self, now: Instant, towards: Towards, bytes: &[u8]) {
        let Conditions { loss, duplication, mtu, .. } = self.conditions;
        let doomed = self.doomed.contains(&self.tally.sent);
        self.tally.sent += 1;
        self.tally.bytes += bytes.len() as u64;
        if doomed || bytes.len() > mtu || self.chance.permille(loss) {
            self.tally.lost += 1;
            return;
        }
        if self.chance.permille(duplication) {
            self.tally.duplicated += 1;
            self.carry(now, towards, bytes);
        }
        self.carry(now, towards, bytes);
    }

    fn carry(&mut self, now: Instant, towards: Towards, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if !bytes.is_empty() && self.chance.permille(self.conditions.corruption) {
            let at = self.chance.index(bytes.len());
            bytes[at] ^= 1 << self.chance.below(8);
            self.tally.corrupted += 1;
        }
        let (least, most) = self.conditions.delay;
        let mut delay = self.chance.between(least, most);
        if self.chance.permille(self.conditions.reordering) {
            delay += self.chance.between(Duration::ZERO, most * 10);
        }
        self.count += 1;
        self.in_flight.insert((now + delay, self.count), (towards, bytes));
    }

    /// When the next one arrives.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.in_flight.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next one that has arrived at `now`.
    pub fn receive(&mut self, now: Instant) -> Option<(Towards, Vec<u8>)> {
        let (at, _) = *self.in_flight.first_key_value()?.0;
        if at > now { None } else { self.in_flight.pop_first().map(|(_, datagram)| datagram) }
    }

    /// What came of all so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn towards() -> Towards {
        Towards::Server(SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    fn drain(link: &mut Link) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        while let Some(next) = link.next() {
            got.extend(link.receive(next).map(|(_, bytes)| bytes));
        }
        got
    }

    #[test]
    fn a_good_link_delivers_everything_in_order() {
        let (clock, mut link) = (Clock::start(), Link::new(Conditions::default(), Chance::new(1, "link")));
        let sent: Vec<Vec<u8>> = (0..100).map(|number| vec![number; 10]).collect();
        sent.iter().for_each(|bytes| link.send(clock.now().mono, towards(), bytes));
        assert_eq!(link.receive(clock.now().mono), None, "it takes its time");
        assert_eq!(drain(&mut link), sent);
    }

    #[test]
    fn a_bad_link_does_what_it_says() {
        let conditions = Conditions {
            loss: 100,
            duplication: 100,
            corruption: 100,
            reordering: 100,
            delay: (Duration::from_millis(1), Duration::from_millis(2)),
            mtu: 100,
        };
        let (clock, mut link) = (Clock::start(), Link::new(conditions, Chance::new(1, "link")));
        link.send(clock.now().mono, towards(), &[0; 101]);
        assert_eq!(link.tally().lost, 1, "too long");
        for _ in 0..1_000 {
            link.send(clock.now().mono, towards(), &[7; 100]);
        }
        let tally = link.tally();
        let about = |count: u64| (60..150).contains(&count);
        assert!(about(tally.lost) && about(tally.duplicated) && about(tally.corrupted), "{tally:?}");
        let got = drain(&mut link);
        assert_eq!(got.len() as u64, 1_001 - tally.lost + tally.duplicated);
        assert_eq!(got.iter().filter(|bytes| **bytes != [7; 100]).count() as u64, tally.corrupted);
    }
}
