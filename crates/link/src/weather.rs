//! The fate of each datagram.

use std::time::Duration;

use crate::conditions::Conditions;
use crate::stream::Stream;

/// The fate of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is lost.
    Lost,
    /// It arrives once.
    Once(Passage),
    /// It arrives twice.
    Twice(Passage, Passage),
}

/// How one copy of a datagram travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Its delay.
    pub delay: Duration,
    /// The bit that changes on the way.
    pub flip: Option<Flip>,
}

/// A bit that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Which byte of the datagram.
    pub at: usize,
    /// The byte is xored with this; one bit is set.
    pub mask: u8,
}

impl Passage {
    /// Applies the change to the bytes.
    pub fn damage(&self, bytes: &mut [u8]) {
        if let Some(Flip { at, mask }) = self.flip
            && let Some(byte) = bytes.get_mut(at)
        {
            *byte ^= mask;
        }
    }
}

/// The totals so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Datagrams handed to the link.
    pub sent: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Datagrams never delivered: by chance, by plan, because of their size, or because the link was full.
    pub lost: u64,
    /// Lost datagrams that were longer than the MTU.
    pub too_long: u64,
    /// Lost datagrams that found the link full ([`crate::IN_FLIGHT_BYTES_MAX`]).
    pub crowded_out: u64,
    /// Datagrams delivered a second time.
    pub duplicated: u64,
    /// Copies delivered with a changed bit.
    pub corrupted: u64,
    /// Copies held back, so that others overtook them.
    pub held_back: u64,
}

/// The random faults of one link, or of one direction of it.
#[derive(Clone, Debug)]
pub struct Weather {
    conditions: Conditions,
    streams: Streams,
    tally: Tally,
    /// Numbers of the datagrams that a test wants lost.
    doomed: Vec<u64>,
}

/// One stream for each fault, and one for each size of a fault.
#[derive(Clone, Copy, Debug)]
struct Streams {
    loss: Stream,
    duplication: Stream,
    corruption: Stream,
    which_bit: Stream,
    delay: Stream,
    reordering: Stream,
    held_back: Stream,
}

impl Weather {
    /// The weather of a seed; `name` tells several links of one seed apart.
    #[must_use]
    pub fn new(conditions: Conditions, seed: u64, name: &str) -> Self {
        let link = Stream::new(seed, name);
        let streams = Streams {
            loss: link.part(0),
            duplication: link.part(1),
            corruption: link.part(2),
            which_bit: link.part(3),
            delay: link.part(4),
            reordering: link.part(5),
            held_back: link.part(6),
        };
        Self { conditions, streams, tally: Tally::default(), doomed: Vec::new() }
    }

    /// Loses exactly these datagrams, counted from zero in sending order, in addition to random losses.
    pub fn lose(&mut self, numbers: &[u64]) {
        self.doomed = numbers.to_vec();
    }

    /// The fate of the next datagram, which is `length` bytes long.
    pub fn judge(&mut self, length: usize) -> Fate {
        let number = self.tally.sent;
        self.tally.sent += 1;
        self.tally.bytes += length as u64;
        let too_long = length > self.conditions.mtu;
        if too_long || self.doomed.contains(&number) || self.streams.loss.permille(number, self.conditions.loss) {
            self.tally.lost += 1;
            self.tally.too_long += u64::from(too_long);
            return Fate::Lost;
        }
        // Each of a datagram's two possible copies reads at its own place.
        let places = [number.wrapping_mul(2), number.wrapping_mul(2).wrapping_add(1)];
        let first = self.passage(places[0], length);
        if !self.streams.duplication.permille(number, self.conditions.duplication) {
            return Fate::Once(first);
        }
        self.tally.duplicated += 1;
        Fate::Twice(first, self.passage(places[1], length))
    }

    /// The totals so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    pub(crate) fn note_crowded_out(&mut self) {
        self.tally.lost += 1;
        self.tally.crowded_out += 1;
    }

    fn passage(&mut self, place: u64, length: usize) -> Passage {
        let Streams { corruption, which_bit, delay, reordering, held_back, .. } = self.streams;
        let conditions = &self.conditions;
        let mut takes = delay.between(place, conditions.delay.least, conditions.delay.most);
        if reordering.permille(place, conditions.reordering) {
            takes += held_back.between(place, Duration::ZERO, conditions.held_back_max());
            self.tally.held_back += 1;
        }
        let flip = (length > 0 && corruption.permille(place, conditions.corruption)).then(|| {
            let bit = which_bit.below(place, (length as u64).saturating_mul(8));
            Flip { at: usize::try_from(bit / 8).unwrap_or(0), mask: 1 << (bit % 8) }
        });
        self.tally.corrupted += u64::from(flip.is_some());
        Passage { delay: takes, flip }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Delay;

    const COUNT: usize = 10_000;
    const STORM: Conditions = Conditions {
        loss: 100,
        duplication: 100,
        corruption: 100,
        reordering: 100,
        delay: Delay { least: Duration::from_millis(1), most: Duration::from_millis(2) },
        mtu: 1_200,
    };

    fn fates(conditions: Conditions, seed: u64) -> Vec<Fate> {
        let mut weather = Weather::new(conditions, seed, "link");
        (0..COUNT).map(|_| weather.judge(100)).collect()
    }

    fn lost(fates: &[Fate]) -> Vec<usize> {
        fates.iter().enumerate().filter(|(_, fate)| **fate == Fate::Lost).map(|(number, _)| number).collect()
    }

    #[test]
    fn a_perfect_link_does_nothing() {
        let nothing = Fate::Once(Passage { delay: Duration::ZERO, flip: None });
        assert!(fates(Conditions::PERFECT, 1).iter().all(|fate| *fate == nothing));
    }

    #[test]
    fn one_seed_one_luck_and_names_differ() {
        assert_eq!(fates(STORM, 1), fates(STORM, 1));
        assert_ne!(fates(STORM, 1), fates(STORM, 2));
        let mut other = Weather::new(STORM, 1, "another link");
        assert_ne!(fates(STORM, 1), (0..COUNT).map(|_| other.judge(100)).collect::<Vec<_>>());
    }

    #[test]
    fn shares_are_about_what_they_say() {
        let mut weather = Weather::new(STORM, 1, "link");
        for _ in 0..COUNT {
            weather.judge(100);
        }
        let tally = weather.tally();
        assert_eq!((tally.sent, tally.bytes), (10_000, 1_000_000));
        // A tenth of 10,000, and of what is left of it with its copies: 990; three standard deviations are 90.
        for count in [tally.lost, tally.duplicated, tally.corrupted, tally.held_back] {
            assert!((810..1_100).contains(&count), "{tally:?}");
        }
        let all = Conditions { loss: 1_000, ..Conditions::PERFECT };
        assert_eq!(lost(&fates(all, 1)).len(), COUNT);
    }

    #[test]
    fn another_rate_of_one_fault_leaves_the_others_as_they_were() {
        let delays = |fates: &[Fate]| -> Vec<Option<Duration>> {
            let of = |fate: &Fate| match fate {
                Fate::Lost => None,
                Fate::Once(passage) | Fate::Twice(passage, _) => Some(passage.delay),
            };
            fates.iter().map(of).collect()
        };
        let before = fates(STORM, 1);
        let calm = fates(Conditions { duplication: 0, corruption: 0, ..STORM }, 1);
        assert_eq!(lost(&before), lost(&calm));
        assert_eq!(delays(&before), delays(&calm));
        // Less loss: a datagram that arrives in both runs arrives in the same way.
        let less = fates(Conditions { loss: 20, ..STORM }, 1);
        assert!(before.iter().zip(&less).all(|(before, less)| *before == Fate::Lost || before == less));
    }

    #[test]
    fn a_higher_loss_loses_what_a_lower_one_lost_and_more() {
        let (low, high) = (lost(&fates(STORM, 7)), lost(&fates(Conditions { loss: 300, ..STORM }, 7)));
        assert!(low.len() < high.len() && low.iter().all(|number| high.contains(number)));
    }

    #[test]
    fn what_is_too_long_vanishes_and_what_fits_does_not() {
        let mut weather = Weather::new(Conditions { mtu: 256, ..Conditions::PERFECT }, 1, "link");
        assert_ne!(weather.judge(256), Fate::Lost);
        assert_eq!(weather.judge(257), Fate::Lost);
        assert_eq!((weather.tally().lost, weather.tally().too_long), (1, 1));
    }

    #[test]
    fn exactly_what_a_story_wants_lost_is_lost() {
        let mut weather = Weather::new(Conditions::PERFECT, 1, "link");
        weather.lose(&[1, 3]);
        let fates: Vec<Fate> = (0..5).map(|_| weather.judge(1)).collect();
        assert_eq!(lost(&fates), [1, 3]);
    }

    #[test]
    fn damage_changes_one_bit_inside_the_datagram() {
        let mut weather = Weather::new(Conditions { corruption: 1_000, ..Conditions::PERFECT }, 1, "link");
        let mut places = [0; 3];
        for _ in 0..1_000 {
            let Fate::Once(passage) = weather.judge(3) else { panic!("neither lost nor doubled") };
            let mut bytes = [0; 3];
            passage.damage(&mut bytes);
            assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
            places[passage.flip.expect("each is damaged").at] += 1;
        }
        assert!(places.iter().all(|count| *count > 200), "{places:?}");
        assert_eq!(weather.judge(0), Fate::Once(Passage { delay: Duration::ZERO, flip: None }), "nothing to change");
    }
}
