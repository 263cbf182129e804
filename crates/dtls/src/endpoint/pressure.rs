//! Who gives way when every handshake slot is taken.
//!
//! As long as a slot is free nobody is counted, and one network may hold all of them: a whole fleet may stand behind one address of a NAT.
//! When none is free, a newcomer takes the slot of another handshake:
//!
//! - If a prefix holds more than its share ([`SHARES`]), the victim is from there: from the prefix that holds most, there from the part
//!   that holds most, there the least advanced, then the oldest. Its age does not matter, and nobody outside is touched. A newcomer from
//!   the same prefix displaces only what is older than [`DUE`].
//! - Otherwise the least advanced goes, then the oldest, but none younger than [`AGE_MIN`].
//!
//! A handshake that has had [`DUE`] and has not proven its certificate counts as least advanced. Only a verified CertificateVerify is
//! proof: chains travel in the clear, and anybody can send one. Proven handshakes go last; where no prefix holds more than its share, not
//! before [`DUE`]. At most [`PROVEN_PER_CERTIFICATE_MAX`] of one certificate count as proven.
//!
//! One look at all handshakes chooses victims for many newcomers ([`BATCH_MAX`]), and there is no look without newcomers: the ordinary path
//! keeps no counts, and a flood pays for each look with that many begun handshakes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::drops::Drop;
use crate::limits::{HANDSHAKE_DEADLINE_DEFAULT, HELLO_DEADLINE};
use crate::route::{Route, SessionId};
use crate::server::Stage;

/// By then a device on RFC 7925 §11 timers (9 s, doubling) has repeated its flight twice, after 9 and after 27 s.
pub(super) const DUE: Duration = Duration::from_secs(27);

/// By then a client with a first timer of a second (RFC 6347 §4.2.4.1) has repeated its flight twice, after 1 and after 3 s. A flood from
/// so many prefixes that none holds more than its share makes honest peers wait for their turn rather than lose what they have.
const AGE_MIN: Duration = Duration::from_secs(3);

/// Of the slots, what one prefix may hold while others wait: a /16 or a /32, which may be a carrier, a quarter; a /20 or a /48 an eighth; a
/// /24 or a /56, behind which a NAT may stand, a sixteenth.
const SHARES: [usize; LEVELS] = [4, 8, 16];
const LEVELS: usize = 3;

/// A device has one handshake, and after a restart another one; twins that were given the same certificate have a few.
const PROVEN_PER_CERTIFICATE_MAX: u32 = 4;

/// Victims of one look, at most, and the part of the slots that it may be.
const BATCH_MAX: usize = 256;
const BATCH_PART: usize = 32;

/// Victims are chosen anew after this time: who held most then may hold nothing now.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// Between two looks of which the first found hardly anybody. For a small number of slots a look costs nothing.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const FEW: usize = 64;

const _: () = {
    assert!(DUE.as_secs() < HANDSHAKE_DEADLINE_DEFAULT.as_secs());
    assert!(HELLO_DEADLINE.as_secs() < DUE.as_secs());
    assert!(AGE_MIN.as_secs() < DUE.as_secs());
    assert!(SHARES[0] < SHARES[1] && SHARES[1] < SHARES[2]);
};

/// A network: its kind, then its narrowest prefix (a /24 of IPv4, a /56 of IPv6), in one number. Neighbours are neighbours in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network(u64);

impl Network {
    pub(super) fn of(route: Route) -> Self {
        let [a, b, c, d, e, f, g] = match route.peer().ip().to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                return Self(u64::from_be_bytes([4, 0, 0, 0, 0, a, b, c]));
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, ..] = ip.octets();
                [a, b, c, d, e, f, g]
            }
        };
        Self(u64::from_be_bytes([6, a, b, c, d, e, f, g]))
    }

    /// Level 0 is the widest.
    fn prefix(self, level: usize) -> u64 {
        let is_v6 = self.0 >> 56 == 6;
        let dropped = match (is_v6, level) {
            (true, 0) => 24,
            (true, 1) | (false, 0) => 8,
            (false, 1) => 4,
            _ => 0,
        };
        self.0 >> dropped << dropped
    }
}

/// A handshake, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    pub(super) id: SessionId,
    pub(super) network: Network,
    pub(super) stage: Stage,
    pub(super) began: Instant,
    /// Which certificate it has proven, as the verifier tells them apart.
    pub(super) holder: Option<u64>,
}

/// Its place in the order of going; what goes first is least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Its time is up, or it has not even sent its whole hello.
    Due,
    Waiting,
    Advanced,
    Proven,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Victim {
    pub(super) id: SessionId,
    network: Network,
    began: Instant,
    rank: Rank,
    /// What its prefixes held, widest first.
    held: [usize; LEVELS],
}

impl Victim {
    /// Whether what is known of it still holds: it may have proven itself meanwhile.
    pub(super) fn is_still(&self, stage: Stage) -> bool {
        self.rank == Rank::Proven || stage != Stage::Proven
    }
}

/// The victims that were chosen last.
#[derive(Default)]
pub(super) struct Pressure {
    victims: VecDeque<Victim>,
    /// Whether they are from a prefix that holds more than its share.
    crowded: bool,
    /// Networks of all handshakes when it was looked, in order.
    networks: Vec<Network>,
    looked: Option<Instant>,
    found: usize,
    used: usize,
}

impl Pressure {
    /// Who gives way to a newcomer from `network`. The caller ends that handshake, or comes back for the next one if there is none.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        network: Network,
        is_still: impl Fn(&Victim) -> bool,
        look: impl FnOnce() -> Vec<Holding>,
    ) -> Result<SessionId, Drop> {
        let since = self.looked.map(|looked| now.saturating_duration_since(looked));
        if since.is_some_and(|since| since > GOOD_FOR) {
            self.victims.clear();
        }
        while self.victims.front().is_some_and(|victim| !is_still(victim)) {
            self.victims.pop_front();
        }
        let paid_for = self.found > 0 && self.used * 2 >= self.found;
        if self.victims.is_empty()
            && (self.networks.len() <= FEW || paid_for || since.is_none_or(|since| since >= LOOK_INTERVAL))
        {
            self.look(now, look());
        }
        let victim = *self.victims.front().ok_or(Drop::HalfOpenFull)?;
        if self.crowded && !self.may_displace(now, network, &victim) {
            return Err(Drop::NetworkFull);
        }
        self.used += 1;
        self.victims.pop_front();
        Ok(victim.id)
    }

    /// Within a crowded prefix a newcomer takes its slot from a part that holds more than its own would then; from one that holds as much
    /// only what has had [`AGE_MIN`], from its own only what is due.
    fn may_displace(&self, now: Instant, network: Network, victim: &Victim) -> bool {
        match (0..LEVELS).find(|level| network.prefix(*level) != victim.network.prefix(*level)) {
            Some(level) if victim.held[level] > self.count(network, level) + 1 => true,
            Some(_) => now.saturating_duration_since(victim.began) >= AGE_MIN,
            None => now.saturating_duration_since(victim.began) >= DUE,
        }
    }

    fn count(&self, network: Network, level: usize) -> usize {
        let prefix = network.prefix(level);
        let start = self.networks.partition_point(|one| one.prefix(level) < prefix);
        self.networks[start..].partition_point(|one| one.prefix(level) == prefix)
    }

    /// Chooses the next victims among all handshakes: all slots are taken by them.
    fn look(&mut self, now: Instant, mut holdings: Vec<Holding>) {
        holdings.sort_unstable_by_key(|holding| holding.network);
        self.networks.clear();
        self.networks.extend(holdings.iter().map(|holding| holding.network));
        let slots = holdings.len();
        let batch = (slots / BATCH_PART).clamp(1, BATCH_MAX);
        let mut victims = rank(now, &holdings);
        self.count_all(&mut victims);
        let share = |level: usize| (slots / SHARES[level]).max(1);
        let crowd = (0..LEVELS).find_map(|level| {
            let fullest = victims.iter().max_by_key(|victim| victim.held[level])?;
            (fullest.held[level] > share(level)).then_some((level, fullest.network.prefix(level), fullest.held[level]))
        });
        self.crowded = crowd.is_some();
        let most = match crowd {
            Some((level, prefix, held)) => {
                victims.retain(|victim| victim.network.prefix(level) == prefix);
                // Parts that keep to their share are all alike.
                let excess = |victim: &Victim, at: usize| victim.held[at].saturating_sub(share(at));
                victims.sort_unstable_by_key(|victim| {
                    let fullest_first = Reverse([1, 2].map(|at| if at > level { excess(victim, at) } else { 0 }));
                    (fullest_first, victim.rank, victim.began)
                });
                batch.min(held - share(level))
            }
            None => {
                let age = |victim: &Victim| now.saturating_duration_since(victim.began);
                victims.retain(|victim| age(victim) >= if victim.rank == Rank::Proven { DUE } else { AGE_MIN });
                victims.sort_unstable_by_key(|victim| (victim.rank, victim.began));
                batch
            }
        };
        victims.truncate(most);
        (self.found, self.used, self.looked) = (victims.len(), 0, Some(now));
        self.victims = victims.into();
    }

    /// Runs of equal prefixes, level by level: victims and networks are in the same order.
    fn count_all(&self, victims: &mut [Victim]) {
        for level in 0..LEVELS {
            for run in victims.chunk_by_mut(|a, b| a.network.prefix(level) == b.network.prefix(level)) {
                let length = run.len();
                run.iter_mut().for_each(|victim| victim.held[level] = length);
            }
        }
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
            Stage::Proven if of_certificate.is_none_or(|count| count <= PROVEN_PER_CERTIFICATE_MAX) => Rank::Proven,
            Stage::Hello => Rank::Due,
            _ if is_due(holding) => Rank::Due,
            Stage::Answered => Rank::Waiting,
            Stage::Shown | Stage::Proven => Rank::Advanced,
        }
    };
    let victim = |holding: &Holding| Victim {
        id: holding.id,
        network: holding.network,
        began: holding.began,
        rank: rank(holding),
        held: [0; LEVELS],
    };
    holdings.iter().map(victim).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::route::{Path, SocketIndex};

    fn network(address: &str) -> Network {
        let peer = SocketAddr::new(address.parse().unwrap(), 1);
        Network::of(Route::Address(Path { peer, local: None, socket: SocketIndex(0) }))
    }

    /// Handshakes, and the time at which the last one that is named `age` 0 began.
    struct Slots(Vec<Holding>, Instant);

    impl Slots {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        fn new() -> Self {
            Self(Vec::new(), Instant::now() + Duration::from_secs(1_000))
        }

        fn add(&mut self, address: &str, stage: Stage, age: u64) -> SessionId {
            let id = SessionId { slot: u32::try_from(self.0.len()).unwrap(), generation: 0 };
            let began = self.1 - Duration::from_secs(age);
            self.0.push(Holding { id, network: network(address), stage, began, holder: None });
            id
        }

        fn prove(&mut self, address: &str, certificate: u64, age: u64) -> SessionId {
            let id = self.add(address, Stage::Proven, age);
            self.0.last_mut().unwrap().holder = Some(certificate);
            id
        }

        fn choose(&self, newcomer: &str) -> Result<SessionId, Drop> {
            Pressure::default().choose(self.1, network(newcomer), |_| true, || self.0.clone())
        }
    }

    #[test]
    fn d87_the_victim_is_of_the_prefix_that_holds_most_and_there_least_advanced_then_oldest() {
        let mut slots = Slots::new();
        for n in 0..20 {
            slots.add(&format!("10.{n}.0.1"), Stage::Answered, 26);
        }
        slots.add("192.0.2.1", Stage::Shown, 20);
        slots.add("192.0.2.2", Stage::Answered, 1);
        let expected = slots.add("192.0.2.3", Stage::Answered, 2);
        slots.prove("192.0.2.4", 7, 25);
        assert_eq!(slots.choose("203.0.113.1"), Ok(expected));
        // Nobody outside of it goes before 27 s, and a newcomer of the prefix itself displaces nobody.
        assert_eq!(slots.choose("192.0.2.9"), Err(Drop::NetworkFull));
        let due = slots.add("192.0.2.5", Stage::Shown, 27);
        assert_eq!(slots.choose("192.0.2.9"), Ok(due));
    }

    #[test]
    fn d87_a_chain_is_no_proof_and_proven_handshakes_go_last_but_for_too_many_of_one_certificate() {
        let mut slots = Slots::new();
        for n in 0..60 {
            slots.prove(&format!("10.{n}.0.1"), n, 26);
        }
        let shown = slots.add("11.0.0.1", Stage::Shown, 4);
        assert_eq!(slots.choose("203.0.113.1"), Ok(shown));
        slots.0.pop();
        assert_eq!(slots.choose("203.0.113.1"), Err(Drop::HalfOpenFull), "all of them are proven and not due");
        for n in 0..4 {
            slots.prove(&format!("12.{n}.0.1"), 999, 5);
        }
        assert_eq!(slots.choose("203.0.113.1"), Err(Drop::HalfOpenFull), "as many as one certificate may have");
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
                    slots.add(&address(n), Stage::Answered, 0);
                }
                for n in held..64 {
                    slots.add(&format!("10.{n}.0.1"), Stage::Answered, 2);
                }
                slots
            };
            let victim = slots_with(held).choose("203.0.113.1").unwrap();
            assert!(usize::try_from(victim.slot).unwrap() < held, "{length}: {victim:?}");
            // One less, and the share does not bind: everybody has his first seconds.
            assert_eq!(slots_with(held - 1).choose("203.0.113.1"), Err(Drop::HalfOpenFull), "{length}");
        }
    }

    #[test]
    fn d86_with_one_handshake_in_each_prefix_the_oldest_goes_and_none_younger_than_three_seconds() {
        let mut slots = Slots::new();
        for n in 0..200 {
            slots.add(&format!("{}.{n}.0.1", n + 10), Stage::Answered, 3);
        }
        let oldest = slots.add("9.0.0.1", Stage::Answered, 4);
        let unfinished = slots.add("8.0.0.1", Stage::Hello, 3);
        assert_eq!(slots.choose("203.0.113.1"), Ok(unfinished));
        slots.0.pop();
        assert_eq!(slots.choose("203.0.113.1"), Ok(oldest));
    }

    #[test]
    fn d86_one_look_serves_many_newcomers_and_an_empty_one_is_not_repeated_at_once() {
        let mut slots = Slots::new();
        for n in 0..4_096_u32 {
            slots.add(&format!("{}.{}.0.1", n / 250 + 10, n % 250), Stage::Answered, 5);
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
            assert_eq!(pressure.choose(now, network("203.0.113.1"), |_| true, look), Err(Drop::HalfOpenFull));
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
