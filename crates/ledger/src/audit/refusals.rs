//! Refusals on their way into the audit: those of one device for one reason are counted together.
//!
//! The first refusal of a device for a reason is written with the next batch, within about a second. Those that follow within [`WINDOW`] are counted,
//! and written as one record with their count at its end; a device that goes on is then written once a window.
//!
//! **Bounds.** A device is refused for one of a closed set of reasons, so it causes at most one record of each a window, and one more at the
//! beginning. All devices together cause [`RECORDS_PER_SECOND`], after a burst of [`RECORDS_BURST`]. [`HELD_MAX`] pairs of device and reason are
//! held, and one more makes the oldest be written at once; as many records may wait for their turn. What comes beyond is dropped, and the audit says
//! how many requests that were. A datagram that cannot be read, or a handshake that fails, does not get here: no authority has decided about it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use authority::{Device, RefusalRecord};
use pki::Digest;

use crate::seconds::seconds;

/// How long refusals of one device for one reason are counted together, in seconds.
pub(crate) const WINDOW: i64 = 60;

/// Pairs of device and reason that are held, and records that wait: some 400 octets each.
pub(crate) const HELD_MAX: usize = 4_096;

/// What all devices together may add to the audit: some 90 KB a second.
pub(crate) const RECORDS_PER_SECOND: i64 = 256;
pub(crate) const RECORDS_BURST: i64 = 1_024;

/// Refusals of one device for one reason.
#[derive(Clone, Debug)]
pub(crate) struct CoalescedRefusal {
    pub(crate) first: RefusalRecord,
    pub(crate) count: i64,
    /// The time of the last one, in seconds since 1970.
    pub(crate) until: i64,
}

/// What has to be written now.
#[derive(Debug, Default)]
pub(crate) struct DueRefusals {
    pub(crate) refusals: Vec<CoalescedRefusal>,
    /// Requests whose refusal was dropped since the last time.
    pub(crate) dropped: i64,
}

impl DueRefusals {
    pub(crate) fn is_empty(&self) -> bool {
        self.refusals.is_empty() && self.dropped == 0
    }
}

/// How much is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// What is due at its time, as far as the rate allows.
    ByRate,
    /// Everything: the ledger is flushed or closed.
    Everything,
}

/// Whose refusals are counted together. A client without a known device is known by its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum RefusedClient {
    Device(Device),
    Certificate(Digest),
}

type Key = (RefusedClient, &'static str);

/// One pair of device and reason.
struct Held {
    /// Its place in the order.
    age: u64,
    /// What has not been written yet.
    unwritten: Option<CoalescedRefusal>,
    /// The end of its window; none before its first record was written.
    window_end: Option<i64>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Refusals {
    held: HashMap<Key, Held>,
    /// The oldest first.
    order: BTreeMap<u64, Key>,
    ages: u64,
    /// Ages of pairs whose first record was not written yet; some may have been removed meanwhile.
    fresh: VecDeque<u64>,
    /// Records whose pair is not held any more, and those of a batch that failed.
    waiting: VecDeque<CoalescedRefusal>,
    dropped: i64,
    allowance: i64,
    allowed_at: Option<i64>,
}

impl Refusals {
    pub(crate) fn add(&mut self, record: RefusalRecord) {
        let client = record.device.clone().map_or(RefusedClient::Certificate(record.client), RefusedClient::Device);
        let key = (client, record.reason);
        let at = seconds(record.at);
        if let Some(held) = self.held.get_mut(&key) {
            match &mut held.unwritten {
                Some(refusal) => {
                    refusal.count += 1;
                    refusal.until = refusal.until.max(at);
                }
                none => *none = Some(CoalescedRefusal { first: record, count: 1, until: at }),
            }
            return;
        }
        if self.held.len() >= HELD_MAX {
            self.remove_oldest();
        }
        let age = self.next_age();
        let unwritten = Some(CoalescedRefusal { first: record, count: 1, until: at });
        self.held.insert(key.clone(), Held { age, unwritten, window_end: None });
        self.order.insert(age, key);
        if self.fresh.len() >= 2 * HELD_MAX {
            self.fresh.retain(|age| self.order.contains_key(age));
        }
        self.fresh.push_back(age);
    }

    /// What has to be written at the time `now`; the caller gives back what it could not write.
    pub(crate) fn take(&mut self, now: i64, due: Due) -> DueRefusals {
        self.refill(now);
        let mut taken = DueRefusals { refusals: Vec::new(), dropped: std::mem::take(&mut self.dropped) };
        if due == Due::Everything {
            self.allowance = i64::MAX;
        }
        while self.allowance > 0
            && let Some(refusal) = self.waiting.pop_front()
        {
            self.give(&mut taken, refusal);
        }
        while self.allowance > 0
            && let Some(age) = self.fresh.pop_front()
        {
            let Some(held) = self.order.get(&age).and_then(|key| self.held.get_mut(key)) else { continue };
            held.window_end = Some(now.saturating_add(WINDOW));
            if let Some(refusal) = held.unwritten.take() {
                self.give(&mut taken, refusal);
            }
        }
        self.take_ended(now, &mut taken);
        if due == Due::Everything {
            taken.refusals.extend(self.held.values_mut().filter_map(|held| held.unwritten.take()));
            self.allowance = RECORDS_BURST;
        }
        taken
    }

    /// Takes the records of windows that have ended. One whose end is too far away was begun before the clock was set back.
    fn take_ended(&mut self, now: i64, taken: &mut DueRefusals) {
        for _ in 0..self.order.len() {
            let Some((&age, key)) = self.order.first_key_value() else { return };
            let Some(held) = self.held.get_mut(key) else { return };
            let Some(end) = held.window_end else { return };
            let has_ended = end <= now || end > now.saturating_add(WINDOW);
            if !has_ended || (self.allowance <= 0 && held.unwritten.is_some()) {
                return;
            }
            let Some(key) = self.order.remove(&age) else { return };
            match held.unwritten.take() {
                Some(refusal) => {
                    held.window_end = Some(now.saturating_add(WINDOW));
                    self.ages += 1;
                    held.age = self.ages;
                    self.order.insert(held.age, key);
                    self.give(taken, refusal);
                }
                None => drop(self.held.remove(&key)),
            }
        }
    }

    /// Takes back what could not be written. Whether it is durable is not always known: after a fault a record can stand twice.
    pub(crate) fn give_back(&mut self, due: DueRefusals) {
        self.dropped += due.dropped;
        for refusal in due.refusals.into_iter().rev() {
            if self.waiting.len() < HELD_MAX {
                self.waiting.push_front(refusal);
            } else {
                self.dropped += refusal.count;
            }
        }
    }

    fn give(&mut self, taken: &mut DueRefusals, refusal: CoalescedRefusal) {
        self.allowance -= 1;
        taken.refusals.push(refusal);
    }

    fn refill(&mut self, now: i64) {
        let gained = match self.allowed_at {
            None => RECORDS_BURST,
            Some(before) => now.saturating_sub(before).clamp(0, RECORDS_BURST).saturating_mul(RECORDS_PER_SECOND),
        };
        self.allowance = self.allowance.saturating_add(gained).min(RECORDS_BURST);
        self.allowed_at = Some(now);
    }

    fn remove_oldest(&mut self) {
        let Some((_, key)) = self.order.pop_first() else { return };
        let Some(refusal) = self.held.remove(&key).and_then(|held| held.unwritten) else { return };
        if self.waiting.len() < HELD_MAX {
            self.waiting.push_back(refusal);
        } else {
            self.dropped += refusal.count;
        }
    }

    fn next_age(&mut self) -> u64 {
        self.ages += 1;
        self.ages
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use authority::{DeviceId, Function, ProfileVersion};
    use pki::{AnchorId, UnixTime};

    use super::*;

    fn refusal(device: u64, reason: &'static str, at: u64) -> RefusalRecord {
        let id = DeviceId::new(&format!("device-{device}")).unwrap();
        RefusalRecord {
            reason,
            function: Function::SimpleEnroll,
            profile: "p".into(),
            profile_version: ProfileVersion::from_bytes([3; 8]),
            device: Some(Device { manufacturer: AnchorId::from_bytes([1; 32]), id }),
            client: Digest::of(&device.to_be_bytes()),
            peer: ([192, 0, 2, 1], 40_000).into(),
            at: UnixTime::since_unix_epoch(Duration::from_secs(at)),
        }
    }

    fn counts(due: &DueRefusals) -> Vec<i64> {
        due.refusals.iter().map(|it| it.count).collect()
    }

    #[test]
    fn e38_the_first_refusal_is_due_at_once_and_the_others_of_a_window_at_its_end() {
        let mut refusals = Refusals::default();
        refusals.add(refusal(1, "a", 1_000));
        assert_eq!(counts(&refusals.take(1_000, Due::ByRate)), [1]);
        for second in 1..60 {
            refusals.add(refusal(1, "a", 1_000 + second));
            assert!(refusals.take(1_000 + i64::try_from(second).unwrap(), Due::ByRate).is_empty());
        }
        let due = refusals.take(1_060, Due::ByRate);
        assert_eq!(counts(&due), [59]);
        assert_eq!((seconds(due.refusals[0].first.at), due.refusals[0].until), (1_001, 1_059));
        // A window without a refusal ends the pair: the next one is the first again.
        assert!(refusals.take(1_120, Due::ByRate).is_empty());
        assert!(refusals.held.is_empty() && refusals.order.is_empty());
        refusals.add(refusal(1, "a", 1_121));
        assert_eq!(counts(&refusals.take(1_121, Due::ByRate)), [1]);
    }

    #[test]
    fn e38_reasons_and_devices_are_counted_apart() {
        let mut refusals = Refusals::default();
        for record in [refusal(1, "a", 9), refusal(1, "b", 9), refusal(2, "a", 9), refusal(1, "a", 9)] {
            refusals.add(record);
        }
        refusals.add(RefusalRecord { device: None, ..refusal(1, "a", 9) });
        assert_eq!(counts(&refusals.take(9, Due::ByRate)), [2, 1, 1, 1]);
    }

    /// A thousand devices a second for a minute, and a disk that takes what it may: every request is in the audit or counted as dropped.
    #[test]
    fn e38_a_flood_of_devices_is_bounded_in_space_and_rate_and_each_request_is_counted() {
        let mut refusals = Refusals::default();
        let (mut written, mut records, mut dropped) = (0, 0, 0);
        for second in 0..60_u64 {
            for device in 0..1_000 {
                refusals.add(refusal(second * 1_000 + device, "a", second));
            }
            assert!(refusals.held.len() <= HELD_MAX && refusals.order.len() == refusals.held.len());
            assert!(refusals.waiting.len() <= HELD_MAX && refusals.fresh.len() <= 2 * HELD_MAX);
            let due = refusals.take(i64::try_from(second).unwrap(), Due::ByRate);
            let count = i64::try_from(due.refusals.len()).unwrap();
            assert!(count <= RECORDS_BURST);
            records += count;
            written += counts(&due).iter().sum::<i64>();
            dropped += due.dropped;
        }
        assert!(records <= RECORDS_BURST + 60 * RECORDS_PER_SECOND, "{records}");
        assert!(dropped > 0, "more than fits");
        let rest = refusals.take(60, Due::Everything);
        written += counts(&rest).iter().sum::<i64>();
        assert_eq!(written + dropped + rest.dropped, 60_000);
    }

    #[test]
    fn e38_one_device_takes_one_place_a_reason_from_others() {
        let mut refusals = Refusals::default();
        refusals.add(refusal(7, "a", 1));
        for _ in 0..100_000 {
            refusals.add(refusal(1, "a", 1));
        }
        assert_eq!((refusals.held.len(), refusals.dropped), (2, 0));
    }

    #[test]
    fn what_was_not_written_is_due_again_first_and_in_order() {
        let mut refusals = Refusals::default();
        for device in 0..3 {
            refusals.add(refusal(device, "a", device));
        }
        let due = refusals.take(5, Due::ByRate);
        refusals.give_back(due);
        refusals.add(refusal(9, "a", 9));
        let again = refusals.take(5, Due::ByRate);
        assert_eq!(again.refusals.iter().map(|it| it.until).collect::<Vec<_>>(), [0, 1, 2, 9]);
    }

    /// Nothing is taken meanwhile, and a batch that fails is given back.
    #[test]
    fn a_ledger_that_cannot_write_holds_a_bounded_number_and_counts_the_others() {
        let mut refusals = Refusals::default();
        let due = refusals.take(1, Due::ByRate);
        refusals.give_back(due);
        for number in 0..100_000 {
            refusals.add(refusal(number, "a", 1));
            assert!(refusals.held.len() <= HELD_MAX && refusals.waiting.len() <= HELD_MAX);
            assert!(refusals.order.len() <= HELD_MAX && refusals.fresh.len() <= 2 * HELD_MAX);
        }
        for _ in 0..3 {
            let due = refusals.take(2, Due::Everything);
            refusals.give_back(due);
            assert!(refusals.waiting.len() <= HELD_MAX);
        }
        let rest = refusals.take(3, Due::Everything);
        assert_eq!(counts(&rest).iter().sum::<i64>() + rest.dropped, 100_000, "each one is written or counted");
        let most = i64::try_from(HELD_MAX).unwrap();
        assert!(rest.dropped >= 100_000 - 2 * most, "{}", rest.dropped);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_no_window_open() {
        let mut refusals = Refusals::default();
        refusals.add(refusal(1, "a", 100_000));
        assert_eq!(counts(&refusals.take(100_000, Due::ByRate)), [1]);
        refusals.add(refusal(1, "a", 1_000));
        assert_eq!(counts(&refusals.take(1_000, Due::ByRate)), [1]);
    }
}
