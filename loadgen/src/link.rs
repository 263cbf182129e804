//! A bad link between some devices and the server: a share of the datagrams lost, answers repeated, all decided by a seed.
//!
//! It sits in the generator's socket layer, on real datagrams of real DTLS. It is no simulator: delay and reordering belong to `sim`,
//! which has virtual time. Driven by `fleet`, for each datagram of a device that the link was put before.

use crate::seed::{Purpose, Stream};
use std::ops::Range;

/// What the link does, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSpec {
    /// The devices behind it.
    pub devices: Range<usize>,
    /// Datagrams lost, of 1,000, in each direction.
    pub loss_per_mille: u16,
    /// Each answer that is not lost arrives twice.
    pub answers_twice: bool,
}

/// What becomes of one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It never arrives.
    Lost,
    /// It arrives.
    Arrives,
    /// It arrives, and once more.
    Twice,
}

/// The link of one run.
#[derive(Debug)]
pub(crate) struct Link {
    spec: LinkSpec,
    stream: Stream,
    lost: u64,
    repeated: u64,
}

impl Link {
    /// A link whose luck `seed` decides.
    pub(crate) fn new(spec: LinkSpec, seed: u64) -> Self {
        Self { spec, stream: Stream::new(seed, Purpose::Link), lost: 0, repeated: 0 }
    }

    /// A datagram from a device to the server.
    pub(crate) fn towards_server(&mut self, device: usize) -> Fate {
        if !self.spec.devices.contains(&device) {
            return Fate::Arrives;
        }
        if self.stream.chance(self.spec.loss_per_mille) {
            self.lost += 1;
            return Fate::Lost;
        }
        Fate::Arrives
    }

    /// A datagram from the server to a device.
    pub(crate) fn towards_device(&mut self, device: usize) -> Fate {
        match self.towards_server(device) {
            Fate::Arrives if self.spec.answers_twice && self.spec.devices.contains(&device) => {
                self.repeated += 1;
                Fate::Twice
            }
            fate => fate,
        }
    }

    /// Datagrams lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Answers that arrived twice so far.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link::new(LinkSpec { devices: 10..20, loss_per_mille: 100, answers_twice: true }, 42)
    }

    #[test]
    fn devices_elsewhere_have_a_perfect_link() {
        let mut link = link();
        assert!((0..1000).all(|_| link.towards_server(9) == Fate::Arrives && link.towards_device(20) == Fate::Arrives));
        assert_eq!((link.lost(), link.repeated()), (0, 0));
    }

    #[test]
    fn one_datagram_in_ten_is_lost_and_answers_come_twice() {
        let mut link = link();
        let lost = (0..10_000).filter(|_| link.towards_server(10) == Fate::Lost).count();
        assert!((900..1100).contains(&lost), "{lost}");
        let twice = (0..10_000).filter(|_| link.towards_device(19) == Fate::Twice).count();
        assert!((8900..9100).contains(&twice), "{twice}");
        assert_eq!(link.repeated(), u64::try_from(twice).unwrap());
    }

    #[test]
    fn one_seed_one_luck() {
        let fates = |seed| {
            let mut link = Link::new(LinkSpec { devices: 0..1, loss_per_mille: 300, answers_twice: false }, seed);
            (0..100).map(|_| link.towards_server(0)).collect::<Vec<_>>()
        };
        assert_eq!(fates(1), fates(1));
        assert_ne!(fates(1), fates(2));
    }
}
