//! Stateless cookies (RFC 6347 §4.2.1): a peer that returns one has shown that datagrams reach it at its address, without any memory
//! used for it.
//!
//! ```text
//!   period │ issued │ shown │ tag of the head │ tag of the rest
//!     8        12      12          128               64         bits
//! ```
//!
//! `issued` is the time of issue in eighths of a second, modulo 512 s: a server that is late begins the handshakes of those first who have waited
//! ([`Patience`]), without any memory used for them. A client gives up before that, whatever its timers (RFC 6347 §4.2.4.1 doubles
//! from one second to 60, RFC 7925 §11 from nine).
//!
//! The tag of the head is HMAC-SHA256 over the peer's address, version, random, session_id, `issued` and `shown`. The tag of the rest also covers the
//! first `shown` bytes after the cookie: cipher suites and compression methods, as far as the fragment that was answered showed them. So a
//! first fragment that includes the cookie is answered from its own content, and the head alone earns a slot. What the first fragment of the
//! second hello does not show is checked once the hello has been reassembled ([`Promise`]).
//!
//! The key of a period is derived from a secret and the number of the period since 1970. Several nodes behind one address that share the
//! secret therefore accept one another's cookies and rotate together.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;

use crate::crypto::MacKey;
use crate::limits::CLIENT_HELLO_BYTES_MAX;
use crate::random::Random;
use crate::time::Now;
use crate::wire::HelloHead;

/// Bytes of a cookie: a HelloVerifyRequest with it is not longer than the shortest fragment that it answers.
pub(crate) const COOKIE_BYTES: usize = 1 + STATED_BYTES + HEAD_TAG_BYTES + REST_TAG_BYTES;

/// Bytes of [`Stated`].
const STATED_BYTES: usize = 3;

/// Bits of each of its numbers.
const STATED_BITS: u32 = 12;
const STATED_MASK: u16 = (1 << STATED_BITS) - 1;
// What a hello shows behind its cookie is shorter than the hello.
const _: () = assert!(CLIENT_HELLO_BYTES_MAX <= STATED_MASK as usize + 1);

/// 128 bits: an attacker can guess only online, and only within two periods.
const HEAD_TAG_BYTES: usize = 16;

/// 64 bits: this tag shows that a proven peer has sent the same hello again; it proves nothing about the
/// address.
const REST_TAG_BYTES: usize = 8;

/// Default lifetime of one key. A cookie is valid for one to two periods.
const PERIOD_DEFAULT: Duration = Duration::from_secs(60);

/// One step of the time of issue.
const TICK: Duration = Duration::from_millis(1_000 / TICKS_PER_SECOND);

const TICKS_PER_SECOND: u64 = 8;
const _: () = assert!(1_000 % TICKS_PER_SECOND == 0);

/// A hello that comes this long after its cookie was issued is a repeated one, or its client is this far away. Devices repeat a hello after
/// 0.4 s (Mbed TLS in some devices) at the earliest; a cookie that is that old counts three ticks or four.
const WAITED_TICKS: u16 = 3;

/// Five seconds: the third repetition of most clients, whose timers double from one second, and the first of those of RFC 7925 §11. The next one may be the
/// client's last.
const WAITED_LONG_TICKS: u16 = 40;

/// Cookies of the future, from a node whose clock is ahead by less than two seconds, count as fresh.
const AHEAD_TICKS: u16 = 16;
const OLDEST_TICKS: u16 = STATED_MASK - AHEAD_TICKS;

/// The secret of the cookies and the length of their periods.
#[derive(Clone)]
pub struct CookieKeys {
    secret: Zeroizing<[u8; 32]>,
    period: Duration,
}

impl CookieKeys {
    /// Keys from a secret that several nodes share. `period` is at least a second.
    #[must_use]
    pub fn shared(secret: [u8; 32], period: Duration) -> Self {
        Self { secret: Zeroizing::new(secret), period: period.max(Duration::from_secs(1)) }
    }

    /// A key of this process alone, with periods of a minute.
    pub fn from_random(random: &dyn Random) -> Self {
        let mut secret = [0; 32];
        random.fill(&mut secret);
        Self::shared(secret, PERIOD_DEFAULT)
    }

    /// The longest time for which a cookie may be valid: the rest of its period, and the next period.
    pub(crate) fn lifetime(&self) -> Duration {
        self.period.saturating_mul(2)
    }

    fn number_of(&self, utc: UnixTime) -> u64 {
        utc.as_secs() / self.period.as_secs().max(1)
    }

    fn key_of(&self, number: u64) -> MacKey {
        let key: Zeroizing<[u8; 32]> =
            Zeroizing::new(MacKey::new(self.secret.as_ref()).tag(&[b"muster dtls cookie", &number.to_be_bytes()]));
        MacKey::new(key.as_ref())
    }
}

/// The keys in use now: derived once per period, not once per hello.
pub(crate) struct CookieJar {
    keys: CookieKeys,
    number: u64,
    /// Keys of the previous, current and next period. The next one serves a neighbour whose clock is ahead.
    derived: [MacKey; 3],
    /// The origin of the ticks: a time, and the ticks since 1970 at that time, as far as whole seconds tell.
    origin: Option<(Instant, u64)>,
}

/// What a cookie states in the clear.
#[derive(Clone, Copy)]
struct Stated {
    /// Ticks, modulo 4,096.
    issued: u16,
    /// So many bytes behind the cookie are covered by the second tag.
    shown: u16,
}

impl Stated {
    fn to_bytes(self) -> [u8; STATED_BYTES] {
        let [_, bytes @ ..] = (u32::from(self.issued) << STATED_BITS | u32::from(self.shown)).to_be_bytes();
        bytes
    }

    fn from_bytes([first, middle, last]: [u8; STATED_BYTES]) -> Self {
        let issued = u16::from_be_bytes([first, middle]) >> (u16::BITS - STATED_BITS);
        Self { issued, shown: u16::from_be_bytes([middle, last]) & STATED_MASK }
    }

    fn patience(self, tick: u16) -> Patience {
        match tick.wrapping_sub(self.issued) & STATED_MASK {
            WAITED_LONG_TICKS..=OLDEST_TICKS => Patience::WaitedLong,
            WAITED_TICKS..WAITED_LONG_TICKS => Patience::Waited,
            _ => Patience::Fresh,
        }
    }
}

/// How long ago the cookie of a hello was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Patience {
    /// A moment ago: the client has lost nothing yet.
    Fresh,
    /// The client has waited: its first hello with this cookie found no place, or the path to it is long.
    Waited,
    /// It has waited long, and may soon give up.
    WaitedLong,
}

/// A cookie that this server issued to this address, for this hello.
pub(crate) struct GoodCookie {
    pub(crate) promise: Promise,
    pub(crate) patience: Patience,
}

impl CookieJar {
    pub(crate) fn new(keys: CookieKeys) -> Self {
        let derived = [0, 1, 2].map(|number| keys.key_of(number));
        Self { keys, number: 1, derived, origin: None }
    }

    pub(crate) fn make(&mut self, now: Now, peer: SocketAddr, hello: &HelloHead<'_>) -> [u8; COOKIE_BYTES] {
        self.turn(now.utc);
        let address = AddressBytes::of(peer);
        // A hello that is longer than its maximum would only be covered in part.
        let shown = u16::try_from(hello.after_cookie.len()).unwrap_or(u16::MAX).min(STATED_MASK);
        let stated = Stated { issued: self.tick(now), shown }.to_bytes();
        let head: [u8; HEAD_TAG_BYTES] = self.derived[1].tag(&head_parts(&address, hello, &stated));
        let rest = covered(hello, shown);
        let rest: [u8; REST_TAG_BYTES] = self.derived[1].tag(&rest_parts(&address, hello, &shown.to_be_bytes(), rest));
        let mut cookie = [0; COOKIE_BYTES];
        let parts = [low_byte(self.number)].into_iter().chain(stated).chain(head).chain(rest);
        cookie.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
        cookie
    }

    /// Judges the cookie in `hello`. The returned cookie proves the address; the rest of the hello may still have to be
    /// checked.
    pub(crate) fn verify(&mut self, now: Now, peer: SocketAddr, hello: &HelloHead<'_>) -> Option<GoodCookie> {
        self.turn(now.utc);
        let tick = self.tick(now);
        let cookie: &[u8; COOKIE_BYTES] = hello.cookie.try_into().ok()?;
        let (&[period, stated @ ..], tags) = cookie.split_first_chunk::<{ 1 + STATED_BYTES }>()?;
        let (head, rest) = tags.split_first_chunk::<HEAD_TAG_BYTES>()?;
        let named = (0..3).find(|offset| low_byte(self.number.wrapping_sub(1).wrapping_add(*offset)) == period)?;
        let key = self.derived.get(usize::try_from(named).ok()?)?;
        let address = AddressBytes::of(peer);
        if !key.verify::<HEAD_TAG_BYTES>(&head_parts(&address, hello, &stated), head) {
            return None;
        }
        let stated = Stated::from_bytes(stated);
        let good = |promise| GoodCookie { promise, patience: stated.patience(tick) };
        let shown = stated.shown;
        if hello.after_cookie.len() < usize::from(shown) {
            let rest = rest.try_into().ok()?;
            return Some(good(Promise(Some(Box::new(Later { key: key.clone(), address, shown, rest })))));
        }
        let (covered, shown) = (covered(hello, shown), shown.to_be_bytes());
        let kept = key.verify::<REST_TAG_BYTES>(&rest_parts(&address, hello, &shown, covered), rest);
        kept.then(|| good(Promise(None)))
    }

    /// Whether the cookie in `hello` says of itself that it is [`Patience::Fresh`]. Its tags are not looked at: good for
    /// nothing that is to the client's advantage.
    pub(crate) fn claims_fresh(&mut self, now: Now, hello: &HelloHead<'_>) -> bool {
        let tick = self.tick(now);
        let cookie: Result<&[u8; COOKIE_BYTES], _> = hello.cookie.try_into();
        let stated = cookie.ok().and_then(|[_, rest @ ..]| rest.first_chunk());
        stated.is_some_and(|stated| Stated::from_bytes(*stated).patience(tick) == Patience::Fresh)
    }

    /// The time in ticks, modulo 4,096. Nodes that share the secret agree to about a second and their clocks' difference.
    fn tick(&mut self, now: Now) -> u16 {
        let (origin, ticks) = *self.origin.get_or_insert((now.mono, now.utc.as_secs().wrapping_mul(TICKS_PER_SECOND)));
        let since = now.mono.saturating_duration_since(origin).as_millis() / TICK.as_millis();
        let [.., high, low] = ticks.wrapping_add(u64::try_from(since).unwrap_or(u64::MAX)).to_be_bytes();
        u16::from_be_bytes([high, low]) & STATED_MASK
    }

    fn turn(&mut self, utc: UnixTime) {
        let number = self.keys.number_of(utc);
        if number != self.number {
            self.number = number;
            self.derived = [0_u64, 1, 2].map(|offset| self.keys.key_of(number.wrapping_sub(1).wrapping_add(offset)));
        }
    }
}

fn low_byte(number: u64) -> u8 {
    number.to_be_bytes()[7]
}

/// What a cookie says about the rest of its hello: nothing more, if the first fragment showed enough; otherwise the tag to check the whole
/// hello against. Only a peer whose head is proven has one on the heap.
pub(crate) struct Promise(Option<Box<Later>>);

struct Later {
    key: MacKey,
    address: AddressBytes,
    shown: u16,
    rest: [u8; REST_TAG_BYTES],
}

impl Promise {
    /// Whether the reassembled hello is the one that the cookie was issued for.
    pub(crate) fn is_kept(&self, body: &[u8]) -> bool {
        let Some(later) = &self.0 else { return true };
        let Ok(hello) = HelloHead::parse(body) else { return false };
        let (covered, shown) = (covered(&hello, later.shown), later.shown.to_be_bytes());
        covered.len() == usize::from(later.shown)
            && later.key.verify::<REST_TAG_BYTES>(&rest_parts(&later.address, &hello, &shown, covered), &later.rest)
    }
}

/// The part of the rest that a cookie's second tag covers, as far as it is present.
fn covered<'a>(hello: &HelloHead<'a>, shown: u16) -> &'a [u8] {
    &hello.after_cookie[..usize::from(shown).min(hello.after_cookie.len())]
}

/// "Cookie = HMAC(Secret, Client-IP, Client-Parameters)" (RFC 6347 §4.2.1), with the port. Each part has a fixed length or carries its own.
fn head_parts<'a>(
    address: &'a AddressBytes,
    hello: &'a HelloHead<'_>,
    stated: &'a [u8; STATED_BYTES],
) -> [&'a [u8]; 4] {
    [b"head", &address.0, hello.before_cookie, stated]
}

fn rest_parts<'a>(
    address: &'a AddressBytes,
    hello: &'a HelloHead<'_>,
    shown: &'a [u8; 2],
    covered: &'a [u8],
) -> [&'a [u8]; 5] {
    [b"rest", &address.0, hello.before_cookie, shown, covered]
}

/// IP and port in one form, so that an IPv4 peer is the same over a dual-stack socket.
struct AddressBytes([u8; 18]);

impl AddressBytes {
    fn of(peer: SocketAddr) -> Self {
        let mut bytes = [0; 18];
        let ip = match peer.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        bytes[..16].copy_from_slice(&ip.octets());
        bytes[16..].copy_from_slice(&peer.port().to_be_bytes());
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a cookie counts that comes back after so many milliseconds.
    fn returned_after(milliseconds: u64) -> Option<Patience> {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let start = Now { mono: Instant::now(), utc: UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_030)) };
        let passed = Duration::from_millis(milliseconds);
        let later = Now {
            mono: start.mono + passed,
            utc: UnixTime::since_unix_epoch(Duration::from_secs(start.utc.as_secs()) + passed),
        };
        let peer = SocketAddr::from(([192, 0, 2, 1], 5_684));
        let mut jar = CookieJar::new(CookieKeys::shared([7; 32], PERIOD_DEFAULT));
        let first = hello(&[]);
        let cookie = jar.make(start, peer, &HelloHead::parse(&first).unwrap());
        let second = hello(&cookie);
        jar.verify(later, peer, &HelloHead::parse(&second).unwrap()).map(|good| good.patience)
    }

    fn hello(cookie: &[u8]) -> Vec<u8> {
        let length = u8::try_from(cookie.len()).unwrap();
        [&[0xFE, 0xFD][..], &[9; 32], &[0, length], cookie, &[0, 2, 0xC0, 0xAE, 1, 0]].concat()
    }

    #[test]
    fn c47_a_hello_that_is_repeated_has_waited_and_one_that_answers_at_once_has_not() {
        for fresh in [0, 20, 125, 240] {
            assert_eq!(returned_after(fresh), Some(Patience::Fresh), "{fresh} ms");
        }
        for waited in [400, 1_000, 3_000, 4_800] {
            assert_eq!(returned_after(waited), Some(Patience::Waited), "{waited} ms");
        }
        for long in [5_200, 7_000, 9_000, 15_000, 27_000, 31_000, 63_000] {
            assert_eq!(returned_after(long), Some(Patience::WaitedLong), "{long} ms");
        }
        assert_eq!(returned_after(121_000), None, "after two periods");
    }

    #[test]
    fn what_a_cookie_states_is_read_as_it_was_written() {
        for (issued, shown) in [(0, 0), (STATED_MASK, 0), (0, STATED_MASK), (0x123, 0xABC), (0xFED, 0x001)] {
            let read = Stated::from_bytes(Stated { issued, shown }.to_bytes());
            assert_eq!((read.issued, read.shown), (issued, shown));
        }
    }

    /// What a cookie says of its time is covered by its tag: nobody makes it older.
    #[test]
    fn c47_nobody_makes_a_cookie_older() {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let now = Now { mono: Instant::now(), utc: UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_030)) };
        let peer = SocketAddr::from(([192, 0, 2, 1], 5_684));
        let mut jar = CookieJar::new(CookieKeys::shared([7; 32], PERIOD_DEFAULT));
        let mut cookie = jar.make(now, peer, &HelloHead::parse(&hello(&[])).unwrap());
        let stated = Stated::from_bytes([cookie[1], cookie[2], cookie[3]]);
        let older = Stated { issued: stated.issued.wrapping_sub(WAITED_TICKS) & STATED_MASK, ..stated };
        cookie[1..4].copy_from_slice(&older.to_bytes());
        assert!(jar.verify(now, peer, &HelloHead::parse(&hello(&cookie)).unwrap()).is_none());
    }
}
