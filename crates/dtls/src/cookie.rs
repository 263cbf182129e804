//! Stateless cookies (RFC 6347 §4.2.1): who returns one has shown that datagrams reach it at its address, and cost us no memory so far.
//!
//! A cookie is one byte that names the period of its key and sixteen bytes of HMAC-SHA256 over the peer's address and the parameters of
//! its ClientHello. The key of a period comes from a secret and the number of the period since 1970, so that several nodes behind one
//! address, given the same secret, accept one another's cookies and rotate together.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;

use crate::crypto::MacKey;
use crate::route::Random;
use crate::wire::HelloParameters;

/// Bytes of a cookie: a HelloVerifyRequest with it has 45 bytes, less than the smallest ClientHello.
pub(crate) const COOKIE_BYTES: usize = 1 + TAG_BYTES;

/// 128 bits: to be guessed online only, within two periods.
const TAG_BYTES: usize = 16;

/// How long one key is in use, unless configured. A cookie is good for one to two periods.
const PERIOD_DEFAULT: Duration = Duration::from_secs(60);

/// The secret of the cookies and the length of their periods.
#[derive(Clone)]
pub struct CookieKeys {
    secret: Zeroizing<[u8; 32]>,
    period: Duration,
}

impl CookieKeys {
    /// Keys from a secret that several nodes share. `period` is at least a second.
    pub fn shared(secret: [u8; 32], period: Duration) -> Self {
        Self { secret: Zeroizing::new(secret), period: period.max(Duration::from_secs(1)) }
    }

    /// Keys of this process alone, with periods of a minute.
    pub fn from_random(random: &dyn Random) -> Self {
        let mut secret = [0; 32];
        random.fill(&mut secret);
        Self::shared(secret, PERIOD_DEFAULT)
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

/// The keys in use now: made once a period, not once a hello.
pub(crate) struct CookieJar {
    keys: CookieKeys,
    number: u64,
    /// Previous, current and next period. The next one is a neighbour's whose clock is ahead.
    derived: [MacKey; 3],
}

impl CookieJar {
    pub(crate) fn new(keys: CookieKeys) -> Self {
        let derived = [0, 1, 2].map(|number| keys.key_of(number));
        Self { keys, number: 1, derived }
    }

    pub(crate) fn make(&mut self, utc: UnixTime, peer: SocketAddr, hello: &HelloParameters<'_>) -> [u8; COOKIE_BYTES] {
        self.turn(utc);
        let address = AddressBytes::of(peer);
        let tag: [u8; TAG_BYTES] = self.derived[1].tag(&parts(&address, hello));
        let mut cookie = [0; COOKIE_BYTES];
        cookie[0] = low_byte(self.number);
        cookie[1..].copy_from_slice(&tag);
        cookie
    }

    pub(crate) fn verify(
        &mut self,
        utc: UnixTime,
        peer: SocketAddr,
        hello: &HelloParameters<'_>,
        cookie: &[u8],
    ) -> bool {
        self.turn(utc);
        let Some((period, tag)) = cookie.split_first() else { return false };
        let named = (0..3).find(|offset| low_byte(self.number.wrapping_sub(1).wrapping_add(*offset)) == *period);
        let Some(key) = named.and_then(|offset| usize::try_from(offset).ok()).and_then(|at| self.derived.get(at))
        else {
            return false;
        };
        key.verify::<TAG_BYTES>(&parts(&AddressBytes::of(peer), hello), tag)
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

/// "Cookie = HMAC(Secret, Client-IP, Client-Parameters)" (RFC 6347 §4.2.1), with the port. Each part carries its own lengths.
fn parts<'a>(address: &'a AddressBytes, hello: &'a HelloParameters<'_>) -> [&'a [u8]; 3] {
    [&address.0, hello.before_cookie, hello.after_cookie]
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
