//! Which handshake gives way when every handshake slot is taken.
//!
//! As long as a slot is free, no counts are kept and one network may hold all slots: a whole fleet may be behind one NAT address. When no
//! slot is free, a newcomer takes the slot of another handshake:
//!
//! - Handshakes that a prefix holds beyond its share ([`SHARES`]) go first: from the prefix that holds most, there from the part that holds
//!   most, there the least advanced, then the oldest. Their age does not matter to a newcomer whose own prefixes hold less. A newcomer from
//!   an equally full prefix displaces only a handshake older than [`AGE_MIN`], and one from the same prefix only a handshake older than
//!   [`DUE`].
//! - Otherwise the handshakes that the fullest prefixes hold beyond the others go, if they are enough for a batch of victims; if not, any may
//!   go. Among these the least advanced goes first, then the oldest. The fewer slots a prefix holds, the more time its handshakes get, up to
//!   [`AGE_MIN`]: a flood from as many prefixes as there are slots makes honest peers wait for their turn, but does not displace their
//!   handshakes.
//! - Handshakes of prefixes that hold less than these do not go before [`DUE`], and then after them.
//!
//! A handshake that is older than [`DUE`] and has not proven its certificate counts as least advanced, and goes first of all if the server's
//! flight is unanswered: its client may still be repeating its hello, and can begin a new handshake with that. A client that has the flight
//! repeats messages of a handshake that no longer exists, until it gives up. Only a verified CertificateVerify is proof: chains travel in the
//! clear, and anybody can send one. Proven handshakes go last, and where no prefix holds more than its share, not before [`DUE`]. At most
//! [`PROVEN_PER_CERTIFICATE_MAX`] handshakes of one certificate count as proven.
//!
//! One scan of all handshakes chooses victims for many newcomers ([`BATCH_PART`]), and without newcomers there is no scan: the ordinary path
//! keeps no counts. A flood pays for each scan with half as many begun handshakes, or waits for [`LOOK_INTERVAL`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::network::{LEVELS, Network, SHARES};
use crate::drops::DropReason;
use crate::handshake::server::ClientStage;
use crate::limits::{HANDSHAKE_DEADLINE_DEFAULT, HELLO_DEADLINE};
use crate::session_id::SessionId;

/// After this time a device on RFC 7925 §11 timers (9 s, doubling) has repeated its flight twice, after 9 and
/// after 27 s.
pub(super) const DUE: Duration = Duration::from_secs(27);

/// After this time a client with a first timer of a second (RFC 6347 §4.2.4.1) has repeated its flight twice, after 1 and
/// after 3 s.
const AGE_MIN: Duration = Duration::from_secs(3);

/// A device has one handshake, and another one after a restart; devices that share a certificate have a few.
const PROVEN_PER_CERTIFICATE_MAX: u32 = 4;

/// Victims of one scan, as a part of the slots.
const BATCH_PART: usize = 32;

/// Victims are chosen anew after this time: the prefix that held most may hold nothing by then.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// Minimum time between two scans for each `LOOK_SLOTS` slots begun, if the first scan served hardly any newcomer: the cost of a scan grows
/// with the number of slots. Up to `FEW` slots there is no minimum.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const LOOK_SLOTS: usize = 4_096;
const FEW: usize = 64;

const _: () = {
    assert!(DUE.as_secs() < HANDSHAKE_DEADLINE_DEFAULT.as_secs());
    assert!(HELLO_DEADLINE.as_secs() < DUE.as_secs());
    assert!(AGE_MIN.as_secs() < DUE.as_secs());
};

/// The facts about a handshake that decide whether it gives way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    pub(super) id: SessionId,
    pub(super) network: Network,
    pub(super) stage: ClientStage,
    pub(super) began: Instant,
    /// The certificate it has proven, as the verifier numbers it.
    pub(super) holder: Option<u64>,
}

/// Position in the order in which handshakes give way; the least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// It is past [`DUE`] and its flight is unanswered, or its hello is still incomplete.
    Due,
    /// It is past [`DUE`] and has shown nothing but a chain.
    DueShown,
    Waiting,
    Advanced,
    Proven,
}

/// Order of the handshakes found by one scan.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum GoingOrder {
    /// Beyond a share, by weight.
    Beyond(Reverse<usize>),
    /// Among the heaviest, and past its minimum time.
    Ready,
    /// Among the heaviest, but not past its minimum time: ordered by the time at which it will be.
    Soon(Instant),
    /// Lighter than these, and past [`DUE`].
    Light,
    /// As [`GoingOrder::Soon`], and proven.
    Proven(Instant),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Victim {
    pub(super) id: SessionId,
    network: Network,
    began: Instant,
    rank: Rank,
    /// What its prefixes held, widest first.
    held: [usize; LEVELS],
    /// How much of its share the prefix in excess holds once the handshakes that go earlier are gone: slots times the divisor of the share.
    /// Zero for a handshake that is alone in its prefixes.
    weight: usize,
    /// Whether the prefix is beyond its share.
    beyond: bool,
    /// When a newcomer whose prefixes hold less may displace it.
    from: Instant,
}

impl Victim {
    /// Whether the facts still hold: the handshake may have proven its certificate since.
    pub(super) fn is_still(&self, stage: ClientStage) -> bool {
        self.rank == Rank::Proven || stage != ClientStage::Proven
    }
}

/// The victims chosen by the last scan.
#[derive(Default)]
pub(super) struct Pressure {
    /// In the order in which they give way.
    victims: VecDeque<Victim>,
    /// Networks of all handshakes at the time of the scan, sorted.
    networks: Vec<Network>,
    looked: Option<Instant>,
    found: usize,
    used: usize,
}

impl Pressure {
    /// Chooses the handshake that gives way to a newcomer from `network`. The caller ends that handshake; if it no longer exists,
    /// the caller asks for the next one.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        network: Network,
        is_still: impl Fn(&Victim) -> bool,
        look: impl FnOnce() -> Vec<Holding>,
    ) -> Result<SessionId, DropReason> {
        let since = self.looked.map(|looked| now.saturating_duration_since(looked));
        if since.is_some_and(|since| since > GOOD_FOR) {
            self.victims.clear();
        }
        while self.victims.front().is_some_and(|victim| !is_still(victim)) {
            self.victims.pop_front();
        }
        let paid_for = self.found > 0 && self.used * 2 >= self.found;
        if self.victims.front().is_none_or(|victim| victim.from > now)
            && (self.networks.len() <= FEW || paid_for || since.is_none_or(|since| since >= self.look_interval()))
        {
            self.look(now, look());
        }
        let victim = *self.victims.front().ok_or(DropReason::HalfOpenFull)?;
        if !self.may_displace(now, network, &victim) {
            return Err(if victim.beyond { DropReason::NetworkFull } else { DropReason::HalfOpenFull });
        }
        self.used += 1;
        self.victims.pop_front();
        Ok(victim.id)
    }

    /// Whether a newcomer may take this slot. It may take one from a prefix that holds more of its share than the newcomer's prefix would
    /// then hold. From a prefix that holds as much it may take only a handshake past [`AGE_MIN`], and from its own prefix, if that is beyond
    /// its share, only one past [`DUE`]. If both are in one wide prefix, the narrower parts are compared.
    fn may_displace(&self, now: Instant, network: Network, victim: &Victim) -> bool {
        if now < victim.from {
            return false;
        }
        let age = now.saturating_duration_since(victim.began);
        let Some(apart) = (0..LEVELS).find(|level| network.prefix(*level) != victim.network.prefix(*level)) else {
            return age >= if victim.beyond { DUE } else { AGE_MIN };
        };
        let theirs = (apart..LEVELS).map(|level| victim.held[level] * SHARES[level]).max();
        let ours = (apart..LEVELS).map(|level| (self.count(network, level) + 1) * SHARES[level]).max();
        theirs > ours || age >= AGE_MIN
    }

    fn look_interval(&self) -> Duration {
        let times = self.networks.len().div_ceil(LOOK_SLOTS);
        LOOK_INTERVAL.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX).max(1)).min(GOOD_FOR)
    }

    fn count(&self, network: Network, level: usize) -> usize {
        let prefix = network.prefix(level);
        let start = self.networks.partition_point(|one| one.prefix(level) < prefix);
        self.networks[start..].partition_point(|one| one.prefix(level) == prefix)
    }

    /// Scans all handshakes and chooses the next victims. All slots are taken.
    fn look(&mut self, now: Instant, mut holdings: Vec<Holding>) {
        holdings.sort_unstable_by_key(|holding| holding.network);
        self.networks.clear();
        self.networks.extend(holdings.iter().map(|holding| holding.network));
        let slots = holdings.len();
        let batch = (slots / BATCH_PART).max(1).min(slots);
        let mut victims = rank(now, &holdings);
        weigh(&mut victims, slots);
        victims.iter_mut().for_each(|victim| victim.from = may_go_from(victim, slots));
        // The lightest of a batch of the heaviest.
        let mut weights: Vec<_> = victims.iter().map(|victim| victim.weight).collect();
        weights.sort_unstable();
        let least = weights.get(slots - batch).copied().unwrap_or(0);
        victims.retain(|victim| victim.weight >= least || now.saturating_duration_since(victim.began) >= DUE);
        victims.sort_unstable_by_key(|victim| {
            let turn = match victim.rank {
                _ if victim.beyond => GoingOrder::Beyond(Reverse(victim.weight)),
                _ if victim.weight < least => GoingOrder::Light,
                _ if victim.from <= now => GoingOrder::Ready,
                Rank::Proven => GoingOrder::Proven(victim.from),
                _ => GoingOrder::Soon(victim.from),
            };
            (turn, victim.rank, victim.began)
        });
        victims.truncate(batch);
        (self.found, self.used, self.looked) = (victims.len(), 0, Some(now));
        self.victims = victims.into();
    }
}

/// Counts what each prefix holds, from narrow to wide, and gives each victim its weight: the first one to go from a prefix is in excess of
/// all others there, the second one of all but one.
fn weigh(victims: &mut [Victim], slots: usize) {
    for level in (0..LEVELS).rev() {
        victims.sort_unstable_by_key(|victim| {
            (victim.network.prefix(level), Reverse(victim.weight), victim.rank, victim.began)
        });
        let share = (slots / SHARES[level]).max(1);
        for run in victims.chunk_by_mut(|a, b| a.network.prefix(level) == b.network.prefix(level)) {
            let length = run.len();
            for (before, victim) in run.iter_mut().enumerate() {
                let left = length - before;
                victim.held[level] = length;
                victim.weight = victim.weight.max((left - 1) * SHARES[level]);
                victim.beyond |= left > share;
            }
        }
    }
}

/// A handshake beyond a share goes at once. For the others the minimum time shrinks from [`AGE_MIN`] as the prefix approaches its share.
fn may_go_from(victim: &Victim, slots: usize) -> Instant {
    let part = |whole: usize| u32::try_from(whole).unwrap_or(u32::MAX).max(1);
    match victim.rank {
        _ if victim.beyond => victim.began,
        Rank::Proven => victim.began + DUE,
        _ => victim.began + AGE_MIN / part(slots) * part(slots.saturating_sub(victim.weight)),
    }
}

fn rank(now: Instant, holdings: &[Holding]) -> Vec<Victim> {
    let mut proven = BTreeMap::new();
    let is_due = |holding: &Holding| now.saturating_duration_since(holding.began) >= DUE;
    let mut rank = |holding: &Holding| {
        let of_certificate = holding.holder.map(|holder| {
            let count = proven.entry(holder).or_insert(0_u32);
            *count += 1;
            *count
        });
        match holding.stage {
            ClientStage::Proven if of_certificate.is_none_or(|count| count <= PROVEN_PER_CERTIFICATE_MAX) => {
                Rank::Proven
            }
            ClientStage::Hello => Rank::Due,
            ClientStage::Answered if is_due(holding) => Rank::Due,
            ClientStage::Answered => Rank::Waiting,
            ClientStage::Shown | ClientStage::Proven if is_due(holding) => Rank::DueShown,
            ClientStage::Shown | ClientStage::Proven => Rank::Advanced,
        }
    };
    let victim = |holding: &Holding| Victim {
        id: holding.id,
        network: holding.network,
        began: holding.began,
        rank: rank(holding),
        held: [0; LEVELS],
        weight: 0,
        beyond: false,
        from: holding.began,
    };
    holdings.iter().map(victim).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::path::{Path, SocketIndex};

    fn network(address: &str) -> Network {
        let peer = SocketAddr::new(address.parse().unwrap(), 1);
        Network::of(Path { peer, local: None, socket: SocketIndex(0) })
    }

    /// Handshakes, and the time at which the youngest one (`age` 0) began.
    struct Slots(Vec<Holding>, Instant);

    impl Slots {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        fn new() -> Self {
            Self(Vec::new(), Instant::now() + Duration::from_secs(1_000))
        }

        fn add(&mut self, address: &str, stage: ClientStage, age: u64) -> SessionId {
            let id = SessionId { slot: u32::try_from(self.0.len()).unwrap(), generation: 0 };
            let began = self.1 - Duration::from_secs(age);
            self.0.push(Holding { id, network: network(address), stage, began, holder: None });
            id
        }

        fn prove(&mut self, address: &str, certificate: u64, age: u64) -> SessionId {
            let id = self.add(address, ClientStage::Proven, age);
            self.0.last_mut().unwrap().holder = Some(certificate);
            id
        }

        fn choose(&self, newcomer: &str) -> Result<SessionId, DropReason> {
            Pressure::default().choose(self.1, network(newcomer), |_| true, || self.0.clone())
        }
    }

    #[test]
    fn d87_the_victim_is_of_the_prefix_that_holds_most_and_there_least_advanced_then_oldest() {
        let mut slots = Slots::new();
        for n in 0..20 {
            slots.add(&format!("10.{n}.0.1"), ClientStage::Answered, 26);
        }
        slots.add("192.0.2.1", ClientStage::Shown, 20);
        slots.add("192.0.2.2", ClientStage::Answered, 1);
        let expected = slots.add("192.0.2.3", ClientStage::Answered, 2);
        slots.prove("192.0.2.4", 7, 25);
        assert_eq!(slots.choose("203.0.113.1"), Ok(expected));
        // No handshake outside of that prefix goes before 27 s, and a newcomer of the prefix itself displaces
        // none.
        assert_eq!(slots.choose("192.0.2.9"), Err(DropReason::NetworkFull));
        let due = slots.add("192.0.2.5", ClientStage::Shown, 27);
        assert_eq!(slots.choose("192.0.2.9"), Ok(due));
    }

    #[test]
    fn d87_a_chain_is_no_proof_and_proven_handshakes_go_last_but_for_too_many_of_one_certificate() {
        let mut slots = Slots::new();
        for n in 0..60 {
            slots.prove(&format!("10.{n}.0.1"), n, 26);
        }
        let shown = slots.add("11.0.0.1", ClientStage::Shown, 4);
        assert_eq!(slots.choose("203.0.113.1"), Ok(shown));
        slots.0.pop();
        assert_eq!(slots.choose("203.0.113.1"), Err(DropReason::HalfOpenFull), "all of them are proven and not due");
        for n in 0..4 {
            slots.prove(&format!("12.{n}.0.1"), 999, 5);
        }
        assert_eq!(slots.choose("203.0.113.1"), Err(DropReason::HalfOpenFull), "as many as one certificate may have");
        let fifth = slots.prove("12.4.0.1", 999, 5);
        assert_eq!(slots.choose("203.0.113.1"), Ok(fifth));
    }

    #[test]
    fn d88_shares_bind_at_each_prefix_length() {
        // 64 slots: a sixteenth is 4, an eighth 8, a quarter 16.
        type Address = fn(usize) -> String;
        let crowds: [(&str, usize, Address); 6] = [
            ("/24", 5, |n| format!("192.0.2.{n}")),
            ("/20", 9, |n| format!("192.0.{n}.1")),
            ("/16", 17, |n| format!("192.0.{}.1", n * 15)),
            ("/56", 5, |n| format!("2001:db8:0:{n:x}::1")),
            ("/48", 9, |n| format!("2001:db8:0:{n:x}00::1")),
            ("/32", 17, |n| format!("2001:db8:{n:x}::1")),
        ];
        for (length, held, address) in crowds {
            let slots_with = |held: usize| {
                let mut slots = Slots::new();
                for n in 0..held {
                    slots.add(&address(n), ClientStage::Answered, 0);
                }
                for n in held..64 {
                    slots.add(&format!("10.{n}.0.1"), ClientStage::Answered, 2);
                }
                slots
            };
            let victim = slots_with(held).choose("203.0.113.1").unwrap();
            assert!(usize::try_from(victim.slot).unwrap() < held, "{length}: {victim:?}");
            // With one less, the share does not bind: every handshake gets its first seconds.
            assert_eq!(slots_with(held - 1).choose("203.0.113.1"), Err(DropReason::HalfOpenFull), "{length}");
        }
    }

    #[test]
    fn d86_with_one_handshake_in_each_prefix_the_oldest_goes_and_none_younger_than_three_seconds() {
        let mut slots = Slots::new();
        for n in 0..200 {
            slots.add(&format!("{}.{n}.0.1", n + 10), ClientStage::Answered, 3);
        }
        let oldest = slots.add("9.0.0.1", ClientStage::Answered, 4);
        let unfinished = slots.add("8.0.0.1", ClientStage::Hello, 3);
        assert_eq!(slots.choose("203.0.113.1"), Ok(unfinished));
        slots.0.pop();
        assert_eq!(slots.choose("203.0.113.1"), Ok(oldest));
    }

    /// 4,096 handshakes from sixteen /24s that hold 256 each, four in each of four /16s.
    fn sixteen_networks(age: u64) -> Slots {
        let mut slots = Slots::new();
        for n in 0..4_096 {
            slots.add(&format!("11.{}.{}.1", n % 4, n / 4 % 4 * 64), ClientStage::Answered, age);
        }
        slots
    }

    #[test]
    fn d87_d88_prefixes_that_hold_their_whole_share_give_way_to_one_that_holds_less_at_once() {
        let mut slots = sixteen_networks(1);
        let lone = slots.add("198.51.100.1", ClientStage::Answered, 26);
        for newcomer in ["203.0.113.1", "198.51.100.2"] {
            assert_ne!(slots.choose(newcomer).unwrap(), lone, "{newcomer}");
        }
        // A newcomer from a prefix that holds as much, and one from the same prefix.
        assert_eq!(sixteen_networks(2).choose("11.0.0.1"), Err(DropReason::HalfOpenFull));
        assert!(sixteen_networks(3).choose("11.0.0.1").is_ok());
    }

    #[test]
    fn d87_while_others_hold_more_a_lone_handshake_keeps_its_slot_however_small_their_part_of_a_share_is() {
        let mut slots = Slots::new();
        for n in 0..2_048 {
            for host in 1..=2 {
                slots.add(&format!("{}.{}.0.{host}", n / 250 + 10, n % 250), ClientStage::Answered, 4);
            }
        }
        let lone = slots.add("198.51.100.1", ClientStage::Answered, 200);
        let mut pressure = Pressure::default();
        for _ in 0..1_000 {
            let victim = pressure.choose(slots.1, network("203.0.113.1"), |_| true, || slots.0.clone()).unwrap();
            assert_ne!(victim, lone);
            slots.0.retain(|holding| holding.id != victim);
        }
        // In time their excess becomes smaller than a batch, and then the oldest goes.
        for n in 0..2_048 {
            slots.0.retain(|holding| holding.network != network(&format!("{}.{}.0.1", n / 250 + 10, n % 250)));
            slots.add(&format!("{}.{}.0.1", n / 250 + 10, n % 250), ClientStage::Answered, 4);
        }
        assert_eq!(slots.choose("203.0.113.1"), Ok(lone));
    }

    #[test]
    fn d88_a_fleet_behind_one_address_outlives_older_handshakes_of_as_many_networks_as_there_are_slots() {
        let mut slots = Slots::new();
        for n in 0..4_056 {
            slots.add(&format!("{}.{}.0.1", n / 250 + 10, n % 250), ClientStage::Answered, 10);
        }
        for n in 0..40 {
            slots.add(&format!("198.51.100.{n}"), ClientStage::Answered, 9);
        }
        let mut pressure = Pressure::default();
        for _ in 0..128 {
            let victim = pressure.choose(slots.1, network("203.0.113.1"), |_| true, || slots.0.clone()).unwrap();
            assert!(victim.slot < 4_056, "{victim:?}");
        }
    }

    #[test]
    fn d87_of_two_that_are_due_the_one_goes_whose_flight_is_unanswered() {
        let mut slots = Slots::new();
        let shown = slots.add("192.0.2.1", ClientStage::Shown, 40);
        let unanswered = slots.add("198.51.100.1", ClientStage::Answered, 30);
        slots.add("203.0.113.1", ClientStage::Answered, 26);
        assert_eq!(slots.choose("10.0.0.1"), Ok(unanswered));
        slots.0.remove(1);
        assert_eq!(slots.choose("10.0.0.1"), Ok(shown));
    }

    #[test]
    fn d86_looks_are_few_when_newcomers_are_more_than_the_slots_serve() {
        let mut slots = sixteen_networks(0);
        let (mut looks, mut begun, mut pressure) = (0, 0, Pressure::default());
        for n in 0..20_000_u64 {
            let now = slots.1 + Duration::from_micros(n * 500);
            let from = network(&format!("11.{}.{}.1", n % 4, n / 4 % 4 * 64));
            let victim = pressure.choose(
                now,
                from,
                |_| true,
                || {
                    looks += 1;
                    slots.0.clone()
                },
            );
            if let Ok(id) = victim {
                begun += 1;
                let gone = usize::try_from(id.slot).unwrap();
                slots.0[gone] = Holding { id, network: from, began: now, ..slots.0[gone] };
            }
        }
        // Ten seconds: one in 50 ms, or for half a batch.
        assert!(looks <= 200 + begun / 64, "{looks} {begun}");
        assert!(begun > 8_000, "{begun}");
    }

    #[test]
    fn d86_one_look_serves_many_newcomers_and_an_empty_one_is_not_repeated_at_once() {
        let mut slots = Slots::new();
        for n in 0..4_096_u32 {
            slots.add(&format!("{}.{}.0.1", n / 250 + 10, n % 250), ClientStage::Answered, 5);
        }
        let (looks, mut pressure) = (std::cell::Cell::new(0), Pressure::default());
        let mut knock = |now| {
            let look = || {
                looks.set(looks.get() + 1);
                slots.0.clone()
            };
            pressure.choose(now, network("203.0.113.1"), |_| true, look)
        };
        for _ in 0..1_280 {
            assert!(knock(slots.1).is_ok());
        }
        assert_eq!(looks.get(), 10);
        looks.set(0);
        let (mut young, mut pressure) = (slots.0.clone(), Pressure::default());
        young.iter_mut().for_each(|holding| holding.began = slots.1);
        for n in 0..1_000 {
            let look = || {
                looks.set(looks.get() + 1);
                young.clone()
            };
            let now = slots.1 + Duration::from_millis(n);
            assert_eq!(pressure.choose(now, network("203.0.113.1"), |_| true, look), Err(DropReason::HalfOpenFull));
        }
        assert_eq!(looks.get(), 20);
    }

    #[test]
    fn d46_networks_are_told_apart_by_their_prefixes() {
        let same = |a: &str, b: &str| network(a) == network(b);
        assert!(same("192.0.2.1", "192.0.2.200"));
        assert!(!same("192.0.2.1", "192.0.3.1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.7"), "a dual-stack socket");
        assert!(same("2001:db8:0:1::1", "2001:db8:0:fe::2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:100::1"));
    }
}
