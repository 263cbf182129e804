//! One or two shards of one server, each on a thread of its own, one after the other: which memory both of them touch, and which instructions could take
//! a lock, as a tool sees it that traces every instruction and access (`src/bin/shards.rs`, `cargo xtask bench shards`).
//!
//! On each shard a device enrols. Around each of its datagrams the shard's thread writes
//! marks, which the tool sees. A datagram counts if its session is established and if it completes no function: an attempt is reported with the names of its
//! device and profile, and a request goes to the authority, but these share something a constant number of times in an enrolment.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use est::Now;
use sim::VirtualClock;

use crate::case::Case;
use crate::device::DeviceSpec;
use crate::shard::Shard;

/// A cache line of its own, which is written to say something to the tool.
#[repr(align(64))]
struct Mark(AtomicU64);

impl Mark {
    fn write(&self) {
        self.0.store(1, Ordering::SeqCst);
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(&self.0).addr()
    }
}

/// A datagram begins, by shard.
static BEGIN: [Mark; 2] = [Mark(AtomicU64::new(0)), Mark(AtomicU64::new(0))];
/// It counts.
static COUNTS: Mark = Mark(AtomicU64::new(0));
/// It does not count.
static VOID: Mark = Mark(AtomicU64::new(0));

/// The addresses of the marks.
#[derive(Clone, Copy, Debug)]
pub struct ShardMarks {
    /// A datagram begins, by shard.
    pub begin: [usize; 2],
    /// It counts.
    pub counts: usize,
    /// It does not count.
    pub void: usize,
}

/// The shards, each with the device that enrols on it.
pub struct TracedShards {
    shards: Vec<(Shard, DeviceSpec)>,
}

/// The address of one mark for each of its meanings, without a run.
#[must_use]
pub fn shard_marks() -> ShardMarks {
    let begin = [&BEGIN[0], &BEGIN[1]].map(Mark::address);
    ShardMarks { begin, counts: COUNTS.address(), void: VOID.address() }
}

impl TracedShards {
    /// A server with one shard, and its device.
    #[must_use]
    pub fn one(case: Case) -> Self {
        Self::labelled(&["one"], case)
    }

    /// A server with two shards, and their devices.
    #[must_use]
    pub fn two(case: Case) -> Self {
        Self::labelled(&["one", "two"], case)
    }

    fn labelled(labels: &[&str], case: Case) -> Self {
        let now: Now = VirtualClock::start().now();
        let ca = Shard::ca();
        let shards = Shard::of_one_server(&ca, now, labels);
        let devices = (1..).map(|number| DeviceSpec::new(&ca, number, case, now));
        Self { shards: shards.into_iter().zip(devices).collect() }
    }

    /// Lets the devices enrol; returns how many datagrams counted, by shard.
    ///
    /// # Panics
    /// If an enrolment fails.
    #[must_use]
    pub fn run(self) -> Vec<u32> {
        // All threads live until the end: the memory of a thread that has ended is given to the next one.
        let (done, dones) = channel();
        let mut counts = Vec::new();
        std::thread::scope(|scope| {
            let mut releases = Vec::new();
            for (place, (mut shard, device)) in self.shards.into_iter().enumerate() {
                let (done, (release, released)) = (done.clone(), channel::<()>());
                scope.spawn(move || {
                    let counted = enrol(&mut shard, &device, &BEGIN[place]);
                    done.send(counted).expect("the main thread waits");
                    released.recv().expect("the main thread lets all go");
                });
                counts.push(dones.recv().expect("an enrolment fails"));
                releases.push(release);
            }
            for release in releases {
                release.send(()).expect("the thread waits");
            }
        });
        counts
    }
}

/// Lets a device enrol; returns how many datagrams counted.
fn enrol(shard: &mut Shard, device: &DeviceSpec, begin: &Mark) -> u32 {
    let mut device = device.device();
    let mut answers: VecDeque<Vec<u8>> = VecDeque::new();
    let mut counted = 0;
    loop {
        while let Some(bytes) = device.poll_transmit() {
            let mut sent = bytes.to_vec();
            let (is_established, attempts) = (device.is_connected, shard.attempts);
            // What a shell needs to take an answer is not the shard's: it is there before the mark.
            let (mut said, mut ends) = (Vec::with_capacity(ANSWER_BYTES), Vec::with_capacity(ANSWERS));
            begin.write();
            let job = shard.handle_until_job(&mut sent, &mut |bytes: &[u8]| {
                said.extend_from_slice(bytes);
                ends.push(said.len());
            });
            let counts = is_established && job.is_none() && shard.attempts == attempts;
            let end = if counts { &COUNTS } else { &VOID };
            end.write();
            counted += u32::from(counts);
            let mut start = 0;
            for end in ends {
                answers.push_back(said[start..end].to_vec());
                start = end;
            }
            if let Some(job) = job {
                shard.run(job, |bytes| answers.push_back(bytes.to_vec()));
            }
        }
        let Some(mut answer) = answers.pop_front() else { break };
        device.handle(&mut answer);
    }
    assert!(device.certificate.is_some(), "the enrolment failed");
    counted
}

/// Room for the answers to one datagram: a flight is the longest.
const ANSWER_BYTES: usize = 16 * 1024;
const ANSWERS: usize = 32;

#[cfg(test)]
mod tests {
    use dtls::Suite;

    use super::*;

    #[test]
    fn on_each_shard_most_datagrams_of_an_established_session_count() {
        let case = Case { suite: Suite::EcdheEcdsaAes128Ccm8, block: 64 };
        let alone = TracedShards::one(case).run();
        assert!(alone.len() == 1 && alone[0] >= 10, "{alone:?}");
        assert_eq!(TracedShards::two(case).run(), [alone[0]; 2]);
    }
}
