//! Admission of new handshakes.

use std::time::{Duration, Instant};

use super::network::{LEVELS, PrefixHashes, SHARES};
use crate::cookie::Patience;
use crate::drops::DropReason;
use crate::limits::{DATAGRAMS_PER_BEGIN_BEHIND, FRESH_PARTS};

/// Whether new handshakes are admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// All are admitted.
    #[default]
    Open,
    /// Few are admitted, because the server is behind with its work: one for each 64 datagrams taken. Cookies are still given out, and
    /// sessions and handshakes in progress continue. The client of a dropped hello repeats it, and is considered again then.
    Behind,
    /// None are admitted; handshakes in progress and sessions continue until they end.
    Draining,
}

/// The admission setting, and what has been admitted since it was set.
///
/// While the server is behind, the datagrams it takes pay for the handshakes it begins. One whole handshake costs as much time as about a
/// hundred datagrams that lead to nothing, on a fast machine and on a slow one. This bounds the share of time that goes to new handshakes
/// when handshakes make the server late, and still begins new handshakes when a flood of other datagrams does.
///
/// Hellos that have waited go first ([`Patience`]): devices repeat their hellos, and a sender of many hellos that is heard of only once
/// gets what they leave. A fresh hello is admitted when the next handshake is paid for, and no hello that had waited was turned away lately.
///
/// A hello that has waited, and whose prefixes had few of the handshakes begun recently ([`RecentBegins`]), is admitted on credit, against datagrams that
/// are yet to arrive; one at a time. Other hellos wait until the credit is paid back and the next handshake is paid for; the first of them to arrive
/// after that is admitted. Nothing is reserved for hellos that do not arrive, so one network gets every handshake if no other asks for any.
/// When hellos admitted on credit use up all that is paid for, the others get nothing until their prefixes count as having few again.
///
/// One that has waited long has more credit: who comes again seldom would else be passed again and again by those who came a second ago, until its client
/// gives up, at a server that serves as many as come. If its prefixes had much, it has that credit only while no other network asks.
#[derive(Debug, Default)]
pub(super) struct Door {
    admission: Admission,
    /// Datagrams taken while the server is behind, less those that paid for handshakes. At most the price of one handshake: unused credit is not saved up.
    /// At least minus that of [`LONG_ON_CREDIT_MAX`].
    credit: i32,
    recent: RecentBegins,
    /// When a hello that had waited was turned away last.
    turned_away: Option<Instant>,
    /// When a hello that had waited last came from prefixes that had little beside others: networks compete for what is begun.
    contested: Option<Instant>,
    /// When a hello that had not waited was turned away last.
    fresh_turned_away: Option<Instant>,
    /// When the server caught up last.
    caught_up: Option<Instant>,
    /// Handshakes that were in progress when it fell behind without a storm, as far as they may still be.
    left_over: usize,
}

/// For how long a hello that had waited and was turned away has precedence, until one that has waited is admitted: its client repeats it within this time,
/// also with timers of 9 s (RFC 7925 §11).
const WAITING: Duration = Duration::from_secs(10);

/// For how long slots are held back after the server was behind. A server that is offered more than it can serve catches up and falls behind many times
/// a second; when that is over, new devices are served at once again.
const AFTERMATH: Duration = Duration::from_secs(2);

/// A storm turns fresh hellos away many times a second. Without one for this long it is over, also where the server is late again within [`AFTERMATH`]:
/// the flights for the strangers of a storm are due again together, seconds later, and take it some time to send.
/// Anybody may send a hello that is turned away, with a forged address too: the storm is then over [`AFTERMATH`] after the server has caught up.
const CALM: Duration = Duration::from_secs(1);

/// The price of one handshake, in datagrams.
const PRICE: i32 = DATAGRAMS_PER_BEGIN_BEHIND.cast_signed();

/// Handshakes of those that have waited long which may be begun on credit: 3 ms of work.
const LONG_ON_CREDIT_MAX: i32 = 8;

impl Door {
    pub(super) fn admission(&self) -> Admission {
        self.admission
    }

    /// The counts per prefix are kept: a server may be behind many times in a second.
    pub(super) fn set(&mut self, now: Instant, admission: Admission, half_open: usize) {
        match (self.admission, admission) {
            (Admission::Behind, Admission::Behind) => {}
            (Admission::Behind, _) => self.caught_up = Some(now),
            (_, Admission::Behind) if self.is_calm(now) => self.left_over = half_open,
            _ => {}
        }
        (self.admission, self.credit) = (admission, 0);
    }

    pub(super) fn note_datagram(&mut self) {
        if self.admission == Admission::Behind {
            self.credit = PRICE.min(self.credit + 1);
        }
    }

    /// Whether a handshake may be begun now.
    pub(super) fn admits(
        &mut self,
        now: Instant,
        patience: Patience,
        prefixes: impl FnOnce() -> PrefixHashes,
    ) -> Result<(), DropReason> {
        match (self.admission, patience) {
            (Admission::Open, _) => return Ok(()),
            (Admission::Draining, _) => return Err(DropReason::Draining),
            (Admission::Behind, Patience::Fresh) if self.turns_fresh_away(now) => {
                self.note_fresh_turned_away(now);
                return Err(DropReason::Behind);
            }
            (Admission::Behind, Patience::Fresh) => return Ok(()),
            (Admission::Behind, Patience::Waited | Patience::WaitedLong) => {}
        }
        if self.credit >= self.credit_needed(now, patience, &prefixes()) {
            return Ok(());
        }
        self.turned_away = Some(now);
        Err(DropReason::Behind)
    }

    /// The credit from which on a hello that has waited is admitted: the less, the sooner.
    fn credit_needed(&mut self, now: Instant, patience: Patience, prefixes: &PrefixHashes) -> i32 {
        let had_little = self.recent.had_little(now, prefixes);
        if had_little && self.recent.others_had_some(prefixes) {
            self.contested = Some(now);
        }
        let is_alone = self.contested.is_none_or(|at| now.saturating_duration_since(at) >= WAITING);
        match patience {
            Patience::WaitedLong if had_little || is_alone => PRICE * (1 - LONG_ON_CREDIT_MAX),
            Patience::WaitedLong => PRICE / 2,
            Patience::Waited if had_little => 0,
            Patience::Waited | Patience::Fresh => PRICE,
        }
    }

    /// Whether every hello that has not waited is turned away now.
    pub(super) fn turns_fresh_away(&self, now: Instant) -> bool {
        self.admission == Admission::Behind && (self.credit < PRICE || self.somebody_waits(now))
    }

    /// A hello that had not waited was turned away, for whatever reason.
    pub(super) fn note_fresh_turned_away(&mut self, now: Instant) {
        self.fresh_turned_away = Some(now);
    }

    /// So many handshakes are in progress now. Of those that were left over, the ones that have ended do not come back.
    pub(super) fn note_in_progress(&mut self, half_open: usize) {
        self.left_over = self.left_over.min(half_open);
    }

    /// Slots of `all` that a hello may take which has not waited. While the server is behind, and when it has just caught up, they are few: clients that
    /// fetch a cookie, send one hello and are never heard of again fill them, and cost no further key pair until one comes free. A device that finds
    /// none repeats its hello, and then has waited.
    ///
    /// What was in progress before the server fell behind does not count: strangers of a storm stay for minutes, and a server that is late again would
    /// turn every new device away because of them. The last quarter is in any case for those that have waited.
    pub(super) fn open_to_fresh(&self, now: Instant, all: usize) -> usize {
        if self.admission != Admission::Behind && self.is_calm(now) {
            return usize::MAX;
        }
        let part = all.div_ceil(FRESH_PARTS);
        (self.left_over + part).min(part * FRESH_PARTS * 3 / 4)
    }

    /// Whether there is no storm, by what the server has done so far. It may be late all the same.
    fn is_calm(&self, now: Instant) -> bool {
        let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        since(self.caught_up) >= AFTERMATH || since(self.fresh_turned_away) >= CALM
    }

    fn somebody_waits(&self, now: Instant) -> bool {
        self.turned_away.is_some_and(|at| now.saturating_duration_since(at) < WAITING)
    }

    /// A handshake begins. An admitted hello that begins none (its cookie is spent, its address repeats it too soon) changes nothing for others.
    pub(super) fn note_begun(&mut self, now: Instant, patience: Patience, prefixes: impl FnOnce() -> PrefixHashes) {
        if self.admission == Admission::Behind {
            self.credit -= PRICE;
            self.recent.note(now, &prefixes());
            if patience > Patience::Fresh {
                self.turned_away = None;
            }
        }
    }
}

/// Handshakes begun recently while the server was behind, by prefix. The counts are halved every
/// [`HALF_LIFE`].
///
/// Prefixes are not stored. At each length the hash of a prefix selects one cell in each of two rows, and the lower of the two counts is its
/// count. A prefix that shares both cells with others may seem to have had more than it did, and then waits with them; it never seems to have
/// had less.
#[derive(Debug, Default)]
struct RecentBegins {
    /// Allocated when the server is behind for the first time.
    counts: Option<Box<[[[u16; CELLS]; ROWS]; LEVELS]>>,
    total: u16,
    halved: Option<Instant>,
}

const ROWS: usize = 2;
const CELLS: usize = 256;

/// The counts reach as far back as a client waits before it repeats its hello: with timers of 9 s, two half-lives.
const HALF_LIFE: Duration = Duration::from_secs(4);

/// A prefix has had few up to this part of its share. Attackers need as many prefixes as would each hold this part before they are all
/// admitted like everybody else.
const LITTLE: u32 = 4;

impl RecentBegins {
    fn had_little(&mut self, now: Instant, prefixes: &PrefixHashes) -> bool {
        self.halve(now);
        (0..LEVELS).all(|level| {
            let share = u32::try_from(SHARES[level]).unwrap_or(u32::MAX);
            u32::from(self.had(prefixes, level)) <= (u32::from(self.total) / (share * LITTLE)).max(1)
        })
    }

    fn others_had_some(&self, prefixes: &PrefixHashes) -> bool {
        (0..LEVELS).any(|level| self.had(prefixes, level) < self.total)
    }

    fn had(&self, prefixes: &PrefixHashes, level: usize) -> u16 {
        let Some(counts) = &self.counts else { return 0 };
        (0..ROWS).map(|row| counts[level][row][cell(prefixes[level], row)]).min().unwrap_or(0)
    }

    fn note(&mut self, now: Instant, prefixes: &PrefixHashes) {
        self.halve(now);
        let counts = self.counts.get_or_insert_with(|| Box::new([[[0; CELLS]; ROWS]; LEVELS]));
        for (rows, hash) in counts.iter_mut().zip(prefixes) {
            for (row, cells) in rows.iter_mut().enumerate() {
                let count = &mut cells[cell(*hash, row)];
                *count = count.saturating_add(1);
            }
        }
        self.total = self.total.saturating_add(1);
    }

    fn halve(&mut self, now: Instant) {
        let halved = self.halved.get_or_insert(now);
        if now.saturating_duration_since(*halved) < HALF_LIFE {
            return;
        }
        let times = now.saturating_duration_since(*halved).as_secs() / HALF_LIFE.as_secs();
        let shift = u32::try_from(times).unwrap_or(u32::MAX);
        *halved = now;
        let halve = |count: u16| count.checked_shr(shift).unwrap_or(0);
        self.total = halve(self.total);
        let cells = self.counts.iter_mut().flat_map(|counts| counts.as_flattened_mut().as_flattened_mut());
        cells.for_each(|count| *count = halve(*count));
    }
}

/// The cell of a row: each row has its own eight bits of the hash.
fn cell(hash: u64, row: usize) -> usize {
    usize::from(hash.to_le_bytes()[row])
}

const _: () = assert!(CELLS == 1 << u8::BITS && ROWS <= 8);

#[cfg(test)]
mod tests {
    use super::*;

    const A: PrefixHashes = [0x0101, 0x0202, 0x0303];
    const B: PrefixHashes = [0x1111, 0x1212, 0x1313];
    const C: PrefixHashes = [0x2121, 0x2222, 0x2323];

    struct House(Door, Instant);

    impl House {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        fn behind() -> Self {
            let mut door = Door::default();
            let now = Instant::now();
            door.set(now, Admission::Behind, 0);
            Self(door, now)
        }

        fn take(&mut self, datagrams: u32) {
            (0..datagrams).for_each(|_| self.0.note_datagram());
        }

        fn knock(&mut self, prefixes: PrefixHashes) -> bool {
            self.knock_after(Patience::Waited, prefixes)
        }

        fn knock_after(&mut self, patience: Patience, prefixes: PrefixHashes) -> bool {
            let admitted = self.0.admits(self.1, patience, || prefixes).is_ok();
            if admitted {
                self.0.note_begun(self.1, patience, || prefixes);
            }
            admitted
        }
    }

    #[test]
    fn c47_while_behind_one_handshake_is_begun_for_so_many_datagrams() {
        let mut house = House::behind();
        assert!(house.knock(A), "on credit");
        let mut begun = 0;
        for _ in 0..DATAGRAMS_PER_BEGIN_BEHIND * 10 {
            house.take(1);
            begun += u32::from(house.knock(A));
        }
        // The first ones were admitted on credit: the datagrams since then have paid for one of them.
        assert!((9..=10).contains(&begun), "{begun}");
        house.take(DATAGRAMS_PER_BEGIN_BEHIND * 10);
        assert!(house.knock(A));
        assert!(!house.knock(A), "nothing is saved up");
        house.0.set(house.1, Admission::Open, 0);
        assert_eq!(house.0.admits(house.1, Patience::Waited, || A), Ok(()));
        house.0.set(house.1, Admission::Draining, 0);
        assert_eq!(house.0.admits(house.1, Patience::WaitedLong, || A), Err(DropReason::Draining));
    }

    #[test]
    fn c47_who_has_waited_long_is_not_passed_by_who_came_a_second_ago() {
        let mut house = House::behind();
        let long = Patience::WaitedLong;
        // Whoever comes: the credit is used up, and what the datagrams pay for goes to those that come most often.
        assert!(house.knock(A) && !house.knock(B));
        assert!(house.knock_after(long, C), "one network that had nothing");
        assert!((0..100).filter(|_| house.knock_after(long, B)).count() < 8, "no more than so much on credit");
        house.take(DATAGRAMS_PER_BEGIN_BEHIND * 20);
        assert!(house.knock(A), "what they had is paid back");
        // A network that had much gets no credit while others ask, and goes before those of its own that came a second ago.
        for _ in 0..100 {
            house.take(DATAGRAMS_PER_BEGIN_BEHIND * 2);
            house.knock(A);
        }
        house.0.set(house.1, Admission::Open, 0);
        house.0.set(house.1, Admission::Behind, 0);
        assert!(house.knock(C) && !house.knock_after(long, A));
        house.take(DATAGRAMS_PER_BEGIN_BEHIND * 3 / 2);
        assert!(!house.knock(A) && house.knock_after(long, A) && !house.knock_after(long, A));
        // Alone it has the credit that it would have among others.
        house.1 += WAITING;
        for _ in 0..100 {
            house.take(DATAGRAMS_PER_BEGIN_BEHIND * 2);
            house.knock(A);
        }
        house.1 += WAITING;
        assert!(!house.knock(A) && house.knock_after(long, A) && house.knock_after(long, A));
        // Nothing is begun beyond what datagrams pay for, however many have waited long.
        let begun = (0..DATAGRAMS_PER_BEGIN_BEHIND * 100).filter(|_| {
            house.take(1);
            house.knock_after(long, A) | house.knock_after(long, B) | house.knock_after(long, C)
        });
        assert!((90..=110).contains(&begun.count()));
    }

    #[test]
    fn c47_d88_one_network_gets_all_while_no_other_asks_and_waits_when_one_does() {
        let mut house = House::behind();
        for _ in 0..100 {
            house.take(DATAGRAMS_PER_BEGIN_BEHIND);
            house.knock(A);
        }
        house.take(DATAGRAMS_PER_BEGIN_BEHIND * 2);
        assert!(house.knock(A) && !house.knock(A));
        // Then others ask: one is admitted on credit, the next one when that is paid back.
        assert!(house.knock(B) && !house.knock(C));
        house.take(DATAGRAMS_PER_BEGIN_BEHIND - 1);
        assert!(!house.knock(C));
        house.take(1);
        assert!(!house.knock(A) && house.knock(C) && !house.knock(A));
        // What the prefix had long ago no longer counts.
        house.1 += HALF_LIFE * 10;
        house.take(DATAGRAMS_PER_BEGIN_BEHIND);
        assert!(house.knock(A));
    }

    #[test]
    fn c47_a_hello_that_begins_nothing_takes_no_precedence_from_those_that_wait() {
        let mut house = House::behind();
        assert!(house.knock(A) && !house.knock(A), "A waits");
        house.take(DATAGRAMS_PER_BEGIN_BEHIND * 2);
        assert!(house.0.turns_fresh_away(house.1));
        // Admitted, but nothing is begun with it.
        assert_eq!(house.0.admits(house.1, Patience::Waited, || B), Ok(()));
        assert!(house.0.turns_fresh_away(house.1));
        assert!(house.knock(A));
        house.take(DATAGRAMS_PER_BEGIN_BEHIND * 2);
        assert!(!house.0.turns_fresh_away(house.1));
    }

    #[test]
    fn c47_a_server_that_is_behind_again_and_again_remembers_who_had_most() {
        let mut house = House::behind();
        for _ in 0..100 {
            house.0.set(house.1, Admission::Open, 0);
            house.0.set(house.1, Admission::Behind, 0);
            house.take(DATAGRAMS_PER_BEGIN_BEHIND);
            house.knock(A);
        }
        house.0.set(house.1, Admission::Open, 0);
        house.0.set(house.1, Admission::Behind, 0);
        assert!(!house.knock(A) && house.knock(B));
    }
}
