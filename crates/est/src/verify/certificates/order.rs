//! The order in which the certificates of one segment give way to others.
//!
//! ```text
//!   authenticates ──► Arrived ──► SentAway ──► Served ──► Ended
//!
//!   A device that is issued something skips SentAway; one whose last session ends skips all; one that authenticates again begins anew.
//! ```
//!
//! Each certificate is a slot, which stands in one of four lines: it joins at the end and leaves from anywhere, without an allocation. What a device
//! needs its certificate for decides about the line, and the line about who gives way ([`EvictionOrder::next_to_go`]).

/// How far the device of a certificate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Its sessions have ended: it has what it asked for, or will come back with a new session.
    Ended,
    /// It was issued what it asked for. While its session is open, it may not have received it, and repeat its request.
    Served,
    /// It has authenticated, and has not been issued anything since.
    Arrived,
    /// It was asked to come back.
    SentAway,
}

/// No slot.
const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub(super) struct EvictionOrder {
    places: Vec<LinePlace>,
    lines: [Line; 4],
    /// So many of the devices that have been served are kept while there are others: they may repeat their request.
    served_kept: usize,
    /// So many may be away. They never give way, so that as many as are left are there for devices that arrive.
    away_max: usize,
}

/// The place of a slot: its line, and its neighbours there.
#[derive(Clone, Copy, Debug)]
struct LinePlace {
    progress: Progress,
    before: u32,
    after: u32,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    first: u32,
    last: u32,
    count: usize,
}

impl EvictionOrder {
    /// An order of up to `slots_max` slots. An eighth is for devices that may repeat their request, as an eighth of the places that wait for the
    /// authority is; three quarters for those that are away.
    pub(super) fn new(slots_max: usize) -> Self {
        let (served_kept, away_max) = (slots_max / 8, slots_max / 4 * 3);
        debug_assert!(served_kept + away_max < slots_max.max(1), "there is room for devices that arrive");
        Self { places: Vec::new(), lines: [Line { first: NONE, last: NONE, count: 0 }; 4], served_kept, away_max }
    }

    /// Adds the next slot, of a device that has arrived.
    pub(super) fn add(&mut self) -> u32 {
        let slot = u32::try_from(self.places.len()).expect("a segment has fewer slots");
        self.places.push(LinePlace { progress: Progress::Arrived, before: NONE, after: NONE });
        self.link_last(slot, Progress::Arrived);
        slot
    }

    /// Moves a slot to the end of a line.
    pub(super) fn join(&mut self, slot: u32, progress: Progress) {
        if self.unlink(slot) {
            self.link_last(slot, progress);
        }
    }

    pub(super) fn progress(&self, slot: u32) -> Option<Progress> {
        self.place(slot).map(|place| place.progress)
    }

    /// The slot that has been in a line for longest.
    pub(super) fn first(&self, progress: Progress) -> Option<u32> {
        Some(self.lines[progress as usize].first).filter(|slot| *slot != NONE)
    }

    /// The number of slots in a line.
    pub(super) fn count(&self, progress: Progress) -> usize {
        self.lines[progress as usize].count
    }

    /// Whether one more device may be away.
    pub(super) fn has_room_away(&self) -> bool {
        self.count(Progress::SentAway) < self.away_max
    }

    /// The slot that gives way to a newcomer: as long as there are more than are kept of devices that have been served, one whose sessions have ended, then
    /// one that has been served; else the one that arrived first.
    pub(super) fn next_to_go(&self) -> Option<u32> {
        let served = self.first(Progress::Ended).or_else(|| self.first(Progress::Served));
        let too_many = self.count(Progress::Ended) + self.count(Progress::Served) > self.served_kept;
        served.filter(|_| too_many).or_else(|| self.first(Progress::Arrived)).or(served)
    }

    fn place(&self, slot: u32) -> Option<&LinePlace> {
        self.places.get(usize::try_from(slot).unwrap_or(usize::MAX))
    }

    fn place_mut(&mut self, slot: u32) -> Option<&mut LinePlace> {
        self.places.get_mut(usize::try_from(slot).unwrap_or(usize::MAX))
    }

    /// Takes a slot out of its line; `false` if there is no such slot.
    fn unlink(&mut self, slot: u32) -> bool {
        let Some(LinePlace { progress, before, after }) = self.place(slot).copied() else { return false };
        match self.place_mut(before) {
            Some(place) => place.after = after,
            None => self.lines[progress as usize].first = after,
        }
        match self.place_mut(after) {
            Some(place) => place.before = before,
            None => self.lines[progress as usize].last = before,
        }
        self.lines[progress as usize].count -= 1;
        true
    }

    fn link_last(&mut self, slot: u32, progress: Progress) {
        let line = &mut self.lines[progress as usize];
        let before = std::mem::replace(&mut line.last, slot);
        line.count += 1;
        if before == NONE {
            line.first = slot;
        }
        if let Some(place) = self.place_mut(before) {
            place.after = slot;
        }
        if let Some(place) = self.place_mut(slot) {
            *place = LinePlace { progress, before, after: NONE };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Progress::{Arrived, Ended, SentAway, Served};
    use super::*;

    fn of(progress: [Progress; 8]) -> EvictionOrder {
        let mut order = EvictionOrder::new(progress.len());
        for progress in progress {
            let slot = order.add();
            order.join(slot, progress);
        }
        order
    }

    /// The slots in the order in which newcomers take them; each newcomer then has its own place.
    fn gone(order: &mut EvictionOrder, count: usize) -> Vec<u32> {
        let mut next = || {
            let slot = order.next_to_go()?;
            order.join(slot, Arrived);
            Some(slot)
        };
        std::iter::from_fn(&mut next).take(count).collect()
    }

    #[test]
    fn c47_those_who_have_been_served_go_before_those_who_wait() {
        let mut order = of([Arrived, Served, Arrived, Served, SentAway, Served, Arrived, SentAway]);
        // Of eight, one that has been served is kept for its repetition; those who were sent away stay.
        assert_eq!(gone(&mut order, 6), [1, 3, 0, 2, 6, 1]);
        assert_eq!(order.first(SentAway), Some(4));
    }

    #[test]
    fn c47_those_whose_sessions_have_ended_go_before_those_who_may_not_have_their_answer() {
        let mut order = of([Served, Ended, Served, Arrived, Ended, Served, Arrived, Ended]);
        assert_eq!(gone(&mut order, 6), [1, 4, 7, 0, 2, 3]);
    }

    #[test]
    fn c47_those_who_were_sent_away_leave_room_for_those_who_arrive() {
        let mut order = of([Arrived; 8]);
        let away = (0..8).take_while(|slot| {
            let has_room = order.has_room_away();
            if has_room {
                order.join(*slot, SentAway);
            }
            has_room
        });
        assert_eq!(away.count(), 6);
        assert_eq!(gone(&mut order, 3), [6, 7, 6]);
    }

    #[test]
    fn a_slot_leaves_its_line_from_anywhere() {
        let mut order = of([Arrived, Arrived, Arrived, Served, Served, Served, Arrived, Arrived]);
        for (slot, progress) in [(1, Served), (0, SentAway), (7, Served), (4, Arrived), (4, Arrived), (3, SentAway)] {
            order.join(slot, progress);
            let line = |progress| {
                let after = |slot: &u32| order.place(*slot).map(|place| place.after).filter(|slot| *slot != NONE);
                std::iter::successors(order.first(progress), after).collect::<Vec<_>>()
            };
            for progress in [Ended, Served, Arrived, SentAway] {
                assert_eq!(line(progress).len(), order.lines[progress as usize].count);
                assert_eq!(line(progress).last().copied().unwrap_or(NONE), order.lines[progress as usize].last);
            }
            assert_eq!(line(order.progress(slot).unwrap()).last(), Some(&slot));
        }
        assert_eq!(order.lines.map(|line| line.count), [0, 3, 3, 2]);
        order.join(8, Served);
        assert_eq!(order.progress(8), None, "there is no such slot");
    }

    #[test]
    fn one_slot_is_for_whoever_arrives() {
        let mut order = EvictionOrder::new(1);
        order.add();
        assert!(!order.has_room_away());
        assert_eq!(gone(&mut order, 2), [0, 0]);
    }
}
