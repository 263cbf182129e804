//! A bad link between some devices and the server: datagrams are lost, repeated, delayed, damaged or too long, and a device's transmitter has a share of
//! the air; a seed decides which.
//!
//! It is part of the generator's socket layer and works on real DTLS datagrams. The model is [`::link::Weather`], shared with the simulator and the
//! proxy; this module adds the queue of the datagrams in flight and the transmitter. `fleet` calls it for each datagram of a device behind the link.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use link::{Conditions, Fate, IN_FLIGHT_BYTES_MAX, Passage, Weather};

use crate::function::PerMille;
use crate::number::Spell;

/// The faults of the link, and the devices that it affects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSpec {
    /// The devices behind it.
    pub devices: Range<usize>,
    /// What happens to datagrams, in each direction.
    pub conditions: Conditions,
    /// Each answer that is not lost arrives twice.
    pub answers_twice: bool,
    /// The transmitter of each device.
    pub airtime: Option<Airtime>,
}

/// A transmitter that is slow and may not send all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Airtime {
    /// The bits that it sends in a second.
    pub bits_per_second: u32,
    /// The share of time that it may send, of a thousand: after each datagram it is silent for the rest (in the EU's 868 MHz bands 0.1, 1 or 10 %).
    pub duty_per_mille: u16,
}

impl Airtime {
    /// The time that a datagram is in the air.
    fn of(self, bytes: usize) -> Duration {
        let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8);
        Duration::from_micros(bits.saturating_mul(1_000_000) / u64::from(self.bits_per_second.max(1)))
    }

    /// From the beginning of a datagram to that of the next one.
    fn interval(self, airtime: Duration) -> Duration {
        airtime.saturating_mul(1_000) / u32::from(self.duty_per_mille.max(1))
    }
}

impl LinkSpec {
    /// A link that loses datagrams in both directions and does nothing else.
    #[must_use]
    pub fn losing(devices: Range<usize>, loss_per_mille: u16) -> Self {
        let conditions = Conditions { loss: loss_per_mille, ..Conditions::PERFECT };
        Self { devices, conditions, answers_twice: false, airtime: None }
    }
}

impl fmt::Display for LinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conditions { loss, duplication, corruption, reordering, delay, mtu } = self.conditions;
        let mut words = Vec::new();
        for (share, what) in
            [(loss, "lost"), (duplication, "duplicated"), (corruption, "damaged"), (reordering, "held back")]
        {
            if share > 0 {
                words.push(format!("{} {what}", PerMille(share)));
            }
        }
        if !delay.most.is_zero() {
            let jitter = delay.most.saturating_sub(delay.least);
            words.push(format!("delay {}", Spell(delay.least)));
            if !jitter.is_zero() {
                words.push(format!("jitter {}", Spell(jitter)));
            }
        }
        if mtu != usize::MAX {
            words.push(format!("MTU {mtu}"));
        }
        if let Some(Airtime { bits_per_second, duty_per_mille }) = self.airtime {
            words.push(format!("{bits_per_second} bit/s with a duty cycle of {}", PerMille(duty_per_mille)));
        }
        if words.is_empty() { f.write_str("perfect") } else { f.write_str(&words.join(", ")) }
    }
}

/// What becomes of one datagram now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It never arrives.
    Lost,
    /// It arrives.
    Arrives,
    /// It arrives twice.
    Twice,
    /// Its copies, if any, are in flight.
    Later,
}

/// Where a datagram in flight goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heading {
    /// From this device to the server.
    Server(usize),
    /// To this device.
    Device(usize),
}

/// The link of one phase.
#[derive(Debug)]
pub(crate) struct FleetLink {
    devices: Range<usize>,
    towards_server: Weather,
    towards_device: Weather,
    airtime: Option<Airtime>,
    /// When the transmitter of each device at work may send again.
    silent_until: HashMap<usize, Instant>,
}

impl FleetLink {
    /// A link whose faults `seed` decides; `thread` tells the links of several threads apart.
    pub(crate) fn new(spec: &LinkSpec, seed: u64, thread: usize) -> Self {
        let questions = spec.conditions;
        let answers = if spec.answers_twice { Conditions { duplication: 1_000, ..questions } } else { questions };
        let name = |direction: &str| match thread {
            0 => direction.to_owned(),
            thread => format!("{direction} in thread {thread}"),
        };
        Self {
            devices: spec.devices.clone(),
            towards_server: Weather::new(questions, seed, &name("towards the server")),
            towards_device: Weather::new(answers, seed, &name("towards the device")),
            airtime: spec.airtime,
            silent_until: HashMap::new(),
        }
    }

    /// A datagram from a device to the server.
    pub(crate) fn towards_server(
        &mut self,
        device: usize,
        now: Instant,
        bytes: &[u8],
        in_flight: &mut InFlight,
    ) -> Delivery {
        if !self.devices.contains(&device) {
            return Delivery::Arrives;
        }
        let wait = self.airtime.map_or(Duration::ZERO, |air| {
            let airtime = air.of(bytes.len());
            let free = self.silent_until.get(&device).copied().filter(|at| *at > now).unwrap_or(now);
            self.silent_until.insert(device, free + air.interval(airtime));
            free.saturating_duration_since(now) + airtime
        });
        let fate = self.towards_server.judge(bytes.len());
        in_flight.take(fate, now + wait, now, Heading::Server(device), bytes)
    }

    /// A datagram from the server to a device.
    pub(crate) fn towards_device(
        &mut self,
        device: usize,
        now: Instant,
        bytes: &[u8],
        in_flight: &mut InFlight,
    ) -> Delivery {
        if !self.devices.contains(&device) {
            return Delivery::Arrives;
        }
        let fate = self.towards_device.judge(bytes.len());
        let wait = self.airtime.map_or(Duration::ZERO, |air| air.of(bytes.len()));
        in_flight.take(fate, now + wait, now, Heading::Device(device), bytes)
    }

    /// Forgets a device that is done.
    pub(crate) fn forget(&mut self, device: usize) {
        self.silent_until.remove(&device);
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

/// The datagrams in flight on all links of a thread.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    /// By time of arrival, then by order of sending.
    queue: BTreeMap<(Instant, u64), (Heading, Vec<u8>)>,
    bytes: usize,
    sent: u64,
    /// Datagrams lost because too many were in flight, as in a router whose queue is full.
    pub(crate) crowded_out: u64,
}

/// The overhead counted for each datagram, so that empty ones are bounded too.
const OVERHEAD_BYTES: usize = 64;

impl InFlight {
    fn take(&mut self, fate: Fate, leaves: Instant, now: Instant, heading: Heading, bytes: &[u8]) -> Delivery {
        let at_once = |passage: &Passage| leaves == now && passage.delay.is_zero() && passage.flip.is_none();
        match fate {
            Fate::Lost => Delivery::Lost,
            Fate::Once(passage) if at_once(&passage) => Delivery::Arrives,
            Fate::Once(passage) => {
                self.carry(leaves, heading, bytes, passage);
                Delivery::Later
            }
            Fate::Twice(first, second) if at_once(&first) && at_once(&second) => Delivery::Twice,
            Fate::Twice(first, second) => {
                self.carry(leaves, heading, bytes, first);
                self.carry(leaves, heading, bytes, second);
                Delivery::Later
            }
        }
    }

    fn carry(&mut self, leaves: Instant, heading: Heading, bytes: &[u8], passage: Passage) {
        let size = bytes.len() + OVERHEAD_BYTES;
        if self.bytes + size > IN_FLIGHT_BYTES_MAX {
            self.crowded_out += 1;
            return;
        }
        self.bytes += size;
        let mut bytes = bytes.to_vec();
        passage.damage(&mut bytes);
        self.sent += 1;
        self.queue.insert((leaves + passage.delay, self.sent), (heading, bytes));
    }

    /// When the next datagram arrives.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next datagram that has arrived.
    pub(crate) fn arrived(&mut self, now: Instant) -> Option<(Heading, Vec<u8>)> {
        if self.next()? > now {
            return None;
        }
        let (_, (heading, bytes)) = self.queue.pop_first()?;
        self.bytes -= bytes.len() + OVERHEAD_BYTES;
        Some((heading, bytes))
    }
}

#[cfg(test)]
mod tests {
    use link::Delay;

    use super::*;

    const BYTES: &[u8] = &[7; 100];

    fn link() -> FleetLink {
        FleetLink::new(&LinkSpec { answers_twice: true, ..LinkSpec::losing(10..20, 100) }, 42, 0)
    }

    #[test]
    fn devices_elsewhere_have_a_perfect_link() {
        let (mut link, mut air, now) = (link(), InFlight::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(link.towards_server(9, now, BYTES, &mut air), Delivery::Arrives);
            assert_eq!(link.towards_device(20, now, BYTES, &mut air), Delivery::Arrives);
        }
        assert_eq!((link.lost(), link.repeated(), air.next()), (0, 0, None));
    }

    #[test]
    fn one_datagram_in_ten_is_lost_and_answers_come_twice() {
        let (mut link, mut air, now) = (link(), InFlight::default(), Instant::now());
        let up = |link: &mut FleetLink, air: &mut InFlight| link.towards_server(10, now, BYTES, air);
        let lost = (0..10_000).filter(|_| up(&mut link, &mut air) == Delivery::Lost).count();
        assert!((900..1100).contains(&lost), "{lost}");
        let twice = (0..10_000).filter(|_| link.towards_device(19, now, BYTES, &mut air) == Delivery::Twice).count();
        assert!((8900..9100).contains(&twice), "{twice}");
        assert_eq!(link.repeated(), u64::try_from(twice).unwrap());
        assert_eq!(link.lost(), u64::try_from(lost + 10_000 - twice).unwrap());
    }

    #[test]
    fn one_seed_one_luck_and_each_direction_and_thread_its_own() {
        let spec = LinkSpec::losing(0..1, 300);
        let fates = |seed, thread| {
            let (mut link, mut air, now) = (FleetLink::new(&spec, seed, thread), InFlight::default(), Instant::now());
            let both = |_| {
                let up = link.towards_server(0, now, BYTES, &mut air);
                (up, link.towards_device(0, now, BYTES, &mut air))
            };
            (0..100).map(both).collect::<Vec<_>>()
        };
        assert_eq!(fates(1, 0), fates(1, 0));
        assert_ne!(fates(1, 0), fates(2, 0));
        assert_ne!(fates(1, 0), fates(1, 1));
        assert!(fates(1, 0).iter().any(|(there, back)| there != back));
    }

    #[test]
    fn a_delayed_datagram_arrives_when_its_time_has_come_and_a_long_one_never() {
        let delay = Delay::exactly(Duration::from_millis(400));
        let conditions = Conditions { delay, mtu: 200, ..Conditions::PERFECT };
        let spec = LinkSpec { conditions, ..LinkSpec::losing(0..1, 0) };
        let (mut link, mut air, now) = (FleetLink::new(&spec, 1, 0), InFlight::default(), Instant::now());
        assert_eq!(link.towards_server(0, now, BYTES, &mut air), Delivery::Later);
        assert_eq!(link.towards_device(0, now, &[1; 201], &mut air), Delivery::Lost);
        let arrives = now + Duration::from_millis(400);
        assert_eq!((air.next(), air.arrived(arrives - Duration::from_nanos(1))), (Some(arrives), None));
        assert_eq!(air.arrived(arrives), Some((Heading::Server(0), BYTES.to_vec())));
        assert_eq!((air.next(), air.bytes), (None, 0));
    }

    #[test]
    fn a_transmitter_keeps_its_duty_cycle() {
        // 100 bytes at 8 kbit/s are 100 ms in the air; at 10 % the next one begins a second later.
        let airtime = Some(Airtime { bits_per_second: 8_000, duty_per_mille: 100 });
        let spec = LinkSpec { airtime, ..LinkSpec::losing(0..2, 0) };
        let (mut link, mut air, now) = (FleetLink::new(&spec, 1, 0), InFlight::default(), Instant::now());
        for device in [0, 0, 0, 1] {
            assert_eq!(link.towards_server(device, now, BYTES, &mut air), Delivery::Later);
        }
        let mut arrivals = Vec::new();
        while let Some(at) = air.next() {
            let (heading, _) = air.arrived(at).unwrap();
            arrivals.push((at.duration_since(now).as_millis(), heading));
        }
        let (zero, one) = (Heading::Server(0), Heading::Server(1));
        assert_eq!(arrivals, [(100, zero), (100, one), (1_100, zero), (2_100, zero)]);
        link.forget(0);
        assert_eq!(link.silent_until.len(), 1);
    }

    #[test]
    fn what_is_in_flight_is_bounded() {
        let mut air = InFlight::default();
        let (now, passage) = (Instant::now(), Passage { delay: Duration::from_secs(1), flip: None });
        for _ in 0..=IN_FLIGHT_BYTES_MAX / (60_000 + OVERHEAD_BYTES) {
            air.take(Fate::Once(passage), now, now, Heading::Server(0), &[0; 60_000]);
        }
        assert_eq!(air.crowded_out, 1);
        assert!(air.bytes <= IN_FLIGHT_BYTES_MAX);
    }
}
