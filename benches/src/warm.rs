//! Many enrolments at one server, one after the other: what an enrolment costs a server that has been running.
//!
//! The first enrolment of a server also grows its tables and queues, and finds every cache empty. The others do not.

use std::collections::VecDeque;

use est::Now;
use sim::VirtualClock;

use crate::case::Case;
use crate::device::DeviceSpec;
use crate::shard::{Shard, device_path};

/// What many devices sent, each for its whole enrolment and its close_notify.
pub struct WarmRecording {
    now: Now,
    enrolments: Vec<Vec<Vec<u8>>>,
}

impl WarmRecording {
    /// Lets so many devices enrol.
    ///
    /// # Panics
    /// If an enrolment fails: the benchmarks would measure a refusal.
    #[must_use]
    pub fn new(case: Case, devices: u32) -> Self {
        let now = VirtualClock::start().now();
        let ca = Shard::ca();
        let mut shard = Self::shard(&ca, now, devices);
        let specs = (1..=devices).map(|number| (number, DeviceSpec::new(&ca, number, case, now)));
        let enrolments = specs.map(|(number, spec)| enrol(&mut shard, number, &spec)).collect();
        Self { now, enrolments }
    }

    /// A fresh server that will receive all of it.
    #[must_use]
    pub fn replay(&self) -> WarmReplay {
        let devices = u32::try_from(self.enrolments.len()).unwrap_or(u32::MAX);
        let shard = Self::shard(&Shard::ca(), self.now, devices);
        WarmReplay { shard, enrolments: (1..).zip(self.enrolments.clone()).collect(), datagrams_sent: 0 }
    }

    fn shard(ca: &sim::TestCa, now: Now, devices: u32) -> Shard {
        Shard::with_rows(ca, now, usize::try_from(devices).unwrap_or(usize::MAX).saturating_add(1))
    }
}

/// A server, and the datagrams that it will receive.
pub struct WarmReplay {
    shard: Shard,
    enrolments: VecDeque<(u32, Vec<Vec<u8>>)>,
    datagrams_sent: usize,
}

impl WarmReplay {
    /// Replays the next so many devices. Returns the number of datagrams that the server has sent since its start.
    pub fn run(&mut self, devices: usize) -> usize {
        for _ in 0..devices {
            let Some((number, datagrams)) = self.enrolments.pop_front() else { break };
            for mut datagram in datagrams {
                self.shard.handle_from(device_path(number), &mut datagram, |_| self.datagrams_sent += 1);
            }
        }
        self.datagrams_sent
    }
}

fn enrol(shard: &mut Shard, number: u32, spec: &DeviceSpec) -> Vec<Vec<u8>> {
    let mut device = spec.device();
    let (mut sent, mut answers) = (Vec::new(), VecDeque::new());
    let mut is_closed = false;
    loop {
        while let Some(bytes) = device.poll_transmit() {
            let mut datagram = bytes.to_vec();
            sent.push(datagram.clone());
            shard.handle_from(device_path(number), &mut datagram, |answer: &[u8]| answers.push_back(answer.to_vec()));
        }
        match answers.pop_front() {
            Some(mut answer) => device.handle(&mut answer),
            // No datagram is lost or late here: if no answer is in flight, the device has finished.
            None if is_closed => break,
            None => {
                assert!(device.certificate.is_some(), "device {number} has no certificate");
                device.close();
                is_closed = true;
            }
        }
    }
    sent
}

#[cfg(test)]
mod tests {
    use dtls::Suite;

    use super::*;

    #[test]
    fn a_fresh_server_answers_all_devices_as_the_first_one_did() {
        let case = Case { suite: Suite::EcdheEcdsaAes128Ccm8, block: 512 };
        let recording = WarmRecording::new(case, 3);
        let (mut one, mut other) = (recording.replay(), recording.replay());
        let first = one.run(1);
        assert_eq!(one.run(2), 3 * first);
        assert_eq!(other.run(3), 3 * first);
    }
}
