//! Datagrams in flight.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::conditions::Conditions;
use crate::weather::{Fate, Passage, Tally, Weather};

/// The maximum that a link holds: 64 MiB is half a second of a gigabit, more than any real path of a device. Datagrams beyond it are lost, as in a
/// router whose queue is full.
pub const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;
/// The overhead counted for each datagram in flight: its queue entry, its headers on a real wire. It bounds the number of empty datagrams.
const OVERHEAD_BYTES: usize = 64;

/// A link with its datagrams in flight; `To` is the type of a destination.
#[derive(Debug)]
pub struct EmulatedLink<To> {
    weather: Weather,
    /// By time of arrival, then by order of sending.
    in_flight: BTreeMap<(Instant, u64), (To, Vec<u8>)>,
    in_flight_bytes: usize,
    /// The number of copies sent so far.
    count: u64,
}

impl<To: Copy> EmulatedLink<To> {
    /// A link without datagrams; `name` tells several links of one seed apart.
    #[must_use]
    pub fn new(conditions: Conditions, seed: u64, name: &str) -> Self {
        Self { weather: Weather::new(conditions, seed, name), in_flight: BTreeMap::new(), in_flight_bytes: 0, count: 0 }
    }

    /// Loses exactly these datagrams, counted from zero in sending order, in addition to random losses.
    pub fn lose(&mut self, numbers: &[u64]) {
        self.weather.lose(numbers);
    }

    /// Takes a datagram at `now`.
    pub fn send(&mut self, now: Instant, to: To, bytes: &[u8]) {
        match self.weather.judge(bytes.len()) {
            Fate::Lost => {}
            Fate::Once(passage) => self.carry(now, to, bytes, passage),
            Fate::Twice(first, second) => {
                self.carry(now, to, bytes, first);
                self.carry(now, to, bytes, second);
            }
        }
    }

    /// When the next datagram arrives.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.in_flight.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next datagram that has arrived at `now`.
    pub fn receive(&mut self, now: Instant) -> Option<(To, Vec<u8>)> {
        if self.next()? > now {
            return None;
        }
        let (_, (to, bytes)) = self.in_flight.pop_first()?;
        self.in_flight_bytes -= bytes.len() + OVERHEAD_BYTES;
        Some((to, bytes))
    }

    /// The number of datagrams in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The totals so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.weather.tally()
    }

    fn carry(&mut self, now: Instant, to: To, bytes: &[u8], passage: Passage) {
        let size = bytes.len() + OVERHEAD_BYTES;
        if self.in_flight_bytes + size > IN_FLIGHT_BYTES_MAX {
            self.weather.note_crowded_out();
            return;
        }
        self.in_flight_bytes += size;
        let mut bytes = bytes.to_vec();
        passage.damage(&mut bytes);
        self.count += 1;
        self.in_flight.insert((now + passage.delay, self.count), (to, bytes));
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test's starting point; all times are measured from it")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::conditions::Delay;

    const TENTH: Duration = Duration::from_millis(100);

    fn drain(link: &mut EmulatedLink<()>) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        while let Some(next) = link.next() {
            got.extend(link.receive(next).map(|((), bytes)| bytes));
        }
        got
    }

    fn numbered(link: &mut EmulatedLink<()>, now: Instant) -> Vec<Vec<u8>> {
        let sent: Vec<Vec<u8>> = (0..100).map(|number| vec![number; 10]).collect();
        sent.iter().zip(0..).for_each(|(bytes, n)| link.send(now + Duration::from_millis(n), (), bytes));
        sent
    }

    #[test]
    fn a_good_link_delivers_everything_in_order_and_takes_its_time() {
        let conditions = Conditions { delay: Delay::exactly(TENTH), ..Conditions::PERFECT };
        let (now, mut link) = (Instant::now(), EmulatedLink::new(conditions, 1, "link"));
        let sent = numbered(&mut link, now);
        assert_eq!(link.next(), Some(now + TENTH));
        assert_eq!(link.receive(now + TENTH - Duration::from_nanos(1)), None);
        assert_eq!(drain(&mut link), sent);
        assert_eq!((link.in_flight(), link.in_flight_bytes), (0, 0));
    }

    #[test]
    fn without_delay_what_is_sent_at_one_moment_keeps_its_order() {
        let (now, mut link) = (Instant::now(), EmulatedLink::new(Conditions::PERFECT, 1, "link"));
        for number in 0..10 {
            link.send(now, (), &[number]);
        }
        assert_eq!(drain(&mut link).concat(), (0..10).collect::<Vec<u8>>());
    }

    #[test]
    fn what_is_held_back_is_overtaken_and_arrives() {
        let (now, mut link) =
            (Instant::now(), EmulatedLink::new(Conditions { reordering: 200, ..Conditions::PERFECT }, 1, "l"));
        let sent = numbered(&mut link, now);
        let mut got = drain(&mut link);
        assert_ne!(got, sent, "some were overtaken");
        got.sort();
        assert_eq!(got, sent, "none is lost");
    }

    #[test]
    fn doubles_arrive_as_often_as_the_tally_says_and_damage_is_counted() {
        let conditions = Conditions { loss: 100, duplication: 100, corruption: 100, ..Conditions::PERFECT };
        let (now, mut link) = (Instant::now(), EmulatedLink::new(conditions, 1, "link"));
        for _ in 0..1_000 {
            link.send(now, (), &[7; 100]);
        }
        let (tally, got) = (link.tally(), drain(&mut link));
        assert_eq!(got.len() as u64, 1_000 - tally.lost + tally.duplicated);
        assert_eq!(got.iter().filter(|bytes| **bytes != [7; 100]).count() as u64, tally.corrupted);
    }

    #[test]
    fn a_full_link_loses_what_is_sent_and_takes_again_once_something_has_left() {
        let (now, mut link) = (Instant::now(), EmulatedLink::new(Conditions::PERFECT, 1, "link"));
        let large = vec![0; (1 << 20) - OVERHEAD_BYTES];
        for _ in 0..65 {
            link.send(now, (), &large);
        }
        assert_eq!((link.in_flight(), link.tally().lost, link.tally().crowded_out), (64, 1, 1));
        assert!(link.receive(now).is_some());
        link.send(now, (), &large);
        assert_eq!((link.in_flight(), link.tally().crowded_out), (64, 1));
    }
}
