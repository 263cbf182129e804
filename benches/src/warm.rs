//! Many enrolments at one server: what an enrolment costs a server that has been running.
//!
//! The first enrolment of a server also grows its tables and queues, and finds every cache empty. The others do not. Devices come in groups: those of
//! one group send at the same time, and a turn of the shard takes one datagram of each.

use std::collections::{BTreeMap, VecDeque};

use dtls::PublicKeySteps;
use est::Now;
use sim::VirtualClock;

use crate::case::Case;
use crate::device::{DeviceSpec, RecordedDevice};
use crate::shard::Shard;

/// How a server is loaded.
#[derive(Clone, Copy, Debug)]
pub struct WarmLoad {
    /// What each device asks for.
    pub case: Case,
    /// Devices, one group after the other.
    pub devices: u32,
    /// Devices in a group.
    pub together: u32,
    /// Where the public-key steps run: at once, or together at the end of the turn.
    pub steps: PublicKeySteps,
}

/// The datagrams of one turn, by the number of their device.
type Turn = Vec<(u32, Vec<u8>)>;

/// What many devices sent, each for its whole enrolment and its close_notify.
pub struct WarmRecording {
    load: WarmLoad,
    now: Now,
    /// The turns of each group.
    groups: Vec<Vec<Turn>>,
}

impl WarmRecording {
    /// Lets the devices enrol.
    ///
    /// # Panics
    /// If an enrolment fails: the benchmarks would measure a refusal.
    #[must_use]
    pub fn new(load: WarmLoad) -> Self {
        let now = VirtualClock::start().now();
        let ca = Shard::ca();
        let mut shard = load.shard(&ca, now);
        let numbers: Vec<u32> = (1..=load.devices).collect();
        let together = usize::try_from(load.together.max(1)).unwrap_or(1);
        let group = |numbers: &[u32]| {
            let spec = |number: &u32| (*number, DeviceSpec::new(&ca, *number, load.case, now).device());
            enrol(&mut shard, numbers.iter().map(spec).collect())
        };
        let groups = numbers.chunks(together).map(group).collect();
        Self { load, now, groups }
    }

    /// A fresh server that will receive all of it.
    #[must_use]
    pub fn replay(&self) -> WarmReplay {
        let shard = self.load.shard(&Shard::ca(), self.now);
        WarmReplay { shard, groups: self.groups.clone().into(), datagrams_sent: 0 }
    }
}

impl WarmLoad {
    fn shard(&self, ca: &sim::TestCa, now: Now) -> Shard {
        let rows_max = usize::try_from(self.devices).unwrap_or(usize::MAX).saturating_add(1);
        Shard::with_rows(ca, now, (rows_max, self.steps))
    }
}

/// A server, and the datagrams that it will receive.
pub struct WarmReplay {
    shard: Shard,
    groups: VecDeque<Vec<Turn>>,
    datagrams_sent: usize,
}

impl WarmReplay {
    /// Replays the next so many groups. Returns the number of datagrams that the server has sent since its start.
    pub fn run(&mut self, groups: usize) -> usize {
        for _ in 0..groups {
            for mut turn in self.groups.pop_front().unwrap_or_default() {
                self.shard.turn(&mut turn, |_, _| self.datagrams_sent += 1);
            }
        }
        self.datagrams_sent
    }
}

fn enrol(shard: &mut Shard, mut devices: BTreeMap<u32, RecordedDevice>) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut are_closed = false;
    loop {
        let mut turn = Turn::new();
        for (number, device) in &mut devices {
            while let Some(bytes) = device.poll_transmit() {
                turn.push((*number, bytes.to_vec()));
            }
        }
        // No datagram is lost or late here: if none is in flight, the devices have finished.
        if turn.is_empty() && are_closed {
            return turns;
        }
        if turn.is_empty() {
            for (number, device) in &mut devices {
                assert!(device.certificate.is_some(), "device {number} has no certificate");
                device.close();
            }
            are_closed = true;
            continue;
        }
        turns.push(turn.clone());
        let mut answers = Vec::new();
        shard.turn(&mut turn, |number, bytes| answers.push((number, bytes.to_vec())));
        for (number, mut answer) in answers {
            if let Some(device) = devices.get_mut(&number) {
                device.handle(&mut answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dtls::Suite;

    use super::*;

    #[test]
    fn a_fresh_server_answers_all_devices_as_the_first_one_did() {
        let case = Case { suite: Suite::EcdheEcdsaAes128Ccm8, block: 512 };
        for (together, steps) in [(1, PublicKeySteps::Inline), (2, PublicKeySteps::Suspended)] {
            let recording = WarmRecording::new(WarmLoad { case, devices: 4, together, steps });
            let (mut one, mut other) = (recording.replay(), recording.replay());
            let first = one.run(1);
            let groups = 4 / usize::try_from(together).unwrap();
            assert_eq!(one.run(groups - 1), groups * first);
            assert_eq!(other.run(groups), groups * first);
        }
    }
}
