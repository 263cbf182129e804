//! Which session gives way although none is idle for long: one of a certificate that has several.
//!
//! A peer keeps its sessions from being idle with a datagram each few seconds. If nothing but idleness counted, one certificate could hold every slot for
//! as long as it likes. Sessions are not counted by certificate, since that would cost each of a million a few bytes: when every slot is taken, a
//! random sample of the sessions tells. A certificate that has a tenth of them has several in the sample, and among certificates with one session each
//! none has two. Who has as many as the certificate that has most takes nothing from it, so the devices of a shared certificate do not displace each
//! other.

use std::time::{Duration, Instant};

use super::Endpoint;
use super::table::{EndpointTable, Occupation};
use crate::time::Now;
use crate::verify::VerifyPeer;

/// Sessions of one sample: some microseconds of reading memory that is in no cache.
const SAMPLE: usize = 64;

/// Slots that are tried for a sample: in a small table most may belong to handshakes.
const TRIES: u32 = 256;

/// For so long hellos are judged by one sample, so that many of them cost little.
const GOOD_FOR: Duration = Duration::from_millis(50);

/// The last sample.
#[derive(Default)]
pub(super) struct Crowd {
    looked: Option<Instant>,
    found: bool,
    /// Distinguishes the samples.
    number: u64,
}

impl<V: VerifyPeer> Endpoint<V> {
    /// Whether there is a session that would give way to a peer with none. Every slot is taken.
    pub(super) fn is_crowded(&mut self, now: Now) -> bool {
        let is_good = |looked: Instant| now.mono.saturating_duration_since(looked) < GOOD_FOR;
        if !self.crowd.looked.is_some_and(is_good) {
            self.crowd.found = self.one_of_many(None).is_some();
            self.crowd.looked = Some(now.mono);
        }
        self.crowd.found
    }

    /// The session that gives way to one of the certificate with this number.
    pub(super) fn one_of_many(&mut self, newcomer: Option<u64>) -> Option<u32> {
        self.crowd.number = self.crowd.number.wrapping_add(1);
        self.table.one_of_many(self.crowd.number, newcomer)
    }
}

impl<V: VerifyPeer> EndpointTable<V> {
    /// Of a sample of the sessions that are not busy: the longest idle one of the certificate that has most, if it has more than the newcomer would
    /// have.
    fn one_of_many(&self, number: u64, newcomer: Option<u64>) -> Option<u32> {
        let slots = self.slot_count();
        let all = slots <= TRIES;
        let tried = (0..slots.min(TRIES)).map(|n| if all { n } else { self.random_slot((number, n)) });
        let mut found: Vec<(u64, Instant, u32)> = tried
            .filter_map(|slot| {
                let member = self.session_at(slot).filter(|member| member.occupation() == Occupation::Free)?;
                Some((V::holder_of(member.session.peer())?, member.session.last_heard(), slot))
            })
            .take(if all { usize::MAX } else { SAMPLE })
            .collect();
        found.sort_unstable();
        found.dedup();
        let held = |holder: u64| found.iter().filter(|(other, ..)| *other == holder).count();
        let most = found.chunk_by(|a, b| a.0 == b.0).max_by_key(|run| run.len())?;
        let (_, _, longest_idle) = most.first()?;
        (most.len() > newcomer.map_or(0, held) + 1).then_some(*longest_idle)
    }
}
