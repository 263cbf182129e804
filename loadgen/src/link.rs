//! A bad link between some devices and the server: a share of the datagrams is lost, answers are repeated; a seed decides which.
//!
//! It is part of the generator's socket layer and works on real DTLS datagrams. The model is [`::link::Weather`], shared with the simulator and the
//! proxy; neither direction has delay or reordering, because the generator has no queue of datagrams in flight. `fleet` calls it for each datagram of a
//! device behind the link.

use std::ops::Range;

use link::{Conditions, Weather};

/// The faults of the link, and the devices that it affects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSpec {
    /// The devices behind it.
    pub devices: Range<usize>,
    /// Datagrams lost, of 1,000, in each direction.
    pub loss_per_mille: u16,
    /// Each answer that is not lost arrives twice.
    pub answers_twice: bool,
}

/// The delivery of one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It never arrives.
    Lost,
    /// It arrives.
    Arrives,
    /// It arrives twice.
    Twice,
}

impl From<link::Fate> for Delivery {
    fn from(fate: link::Fate) -> Self {
        match fate {
            link::Fate::Lost => Self::Lost,
            link::Fate::Once(_) => Self::Arrives,
            link::Fate::Twice(..) => Self::Twice,
        }
    }
}

/// The link of one run.
#[derive(Debug)]
pub(crate) struct FleetLink {
    devices: Range<usize>,
    towards_server: Weather,
    towards_device: Weather,
}

impl FleetLink {
    /// A link whose faults `seed` decides.
    pub(crate) fn new(spec: &LinkSpec, seed: u64) -> Self {
        let questions = Conditions { loss: spec.loss_per_mille, ..Conditions::PERFECT };
        let answers = Conditions { duplication: if spec.answers_twice { 1_000 } else { 0 }, ..questions };
        Self {
            devices: spec.devices.clone(),
            towards_server: Weather::new(questions, seed, "towards the server"),
            towards_device: Weather::new(answers, seed, "towards the device"),
        }
    }

    /// A datagram of `length` bytes from a device to the server.
    pub(crate) fn towards_server(&mut self, device: usize, length: usize) -> Delivery {
        if self.devices.contains(&device) { self.towards_server.judge(length).into() } else { Delivery::Arrives }
    }

    /// A datagram of `length` bytes from the server to a device.
    pub(crate) fn towards_device(&mut self, device: usize, length: usize) -> Delivery {
        if self.devices.contains(&device) { self.towards_device.judge(length).into() } else { Delivery::Arrives }
    }

    /// Datagrams lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.towards_server.tally().lost + self.towards_device.tally().lost
    }

    /// Answers that arrived twice so far.
    pub(crate) fn repeated(&self) -> u64 {
        self.towards_device.tally().duplicated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> FleetLink {
        FleetLink::new(&LinkSpec { devices: 10..20, loss_per_mille: 100, answers_twice: true }, 42)
    }

    #[test]
    fn devices_elsewhere_have_a_perfect_link() {
        let mut link = link();
        for _ in 0..1000 {
            assert_eq!(
                (link.towards_server(9, 100), link.towards_device(20, 100)),
                (Delivery::Arrives, Delivery::Arrives)
            );
        }
        assert_eq!((link.lost(), link.repeated()), (0, 0));
    }

    #[test]
    fn one_datagram_in_ten_is_lost_and_answers_come_twice() {
        let mut link = link();
        let lost = (0..10_000).filter(|_| link.towards_server(10, 100) == Delivery::Lost).count();
        assert!((900..1100).contains(&lost), "{lost}");
        let twice = (0..10_000).filter(|_| link.towards_device(19, 100) == Delivery::Twice).count();
        assert!((8900..9100).contains(&twice), "{twice}");
        assert_eq!(link.repeated(), u64::try_from(twice).unwrap());
        assert_eq!(link.lost(), u64::try_from(lost + 10_000 - twice).unwrap());
    }

    #[test]
    fn one_seed_one_luck_and_each_direction_its_own() {
        let spec = LinkSpec { devices: 0..1, loss_per_mille: 300, answers_twice: false };
        let fates = |seed| {
            let mut link = FleetLink::new(&spec, seed);
            (0..100).map(|_| (link.towards_server(0, 100), link.towards_device(0, 100))).collect::<Vec<_>>()
        };
        assert_eq!(fates(1), fates(1));
        assert_ne!(fates(1), fates(2));
        assert!(fates(1).iter().any(|(there, back)| there != back));
    }
}
