//! The answer to discovery by multicast over plain CoAP (RFC 7252 §8): who asks a group finds out where coaps is served.
//!
//! ```text
//!   NON GET /.well-known/core?rt=… ──► judged ──► kept for a random part of the leisure ──► NON 2.05, unicast
//!                                        └──► silence, with a reason for the metrics
//! ```
//!
//! Nothing here is authenticated: a datagram of somebody else's address makes this server send to that address. So an answer
//! is never longer than its request unless the source is on the link, rates are bounded by network and in total, and
//! nothing is kept for a peer but the answer that waits. Errors and empty answers are silence: "the server MAY always ignore
//! the request, in particular if it doesn't have anything useful to respond" (RFC 7252 §8.2).
//!
//! It is not a CoAP server: a unicast request does not come here. The daemon's service drives it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use coap::{Block, Code, ContentFormat, Encoder, Kind, Message, MessageIds, Method, Number};
use splitmix::SplitMix64;

use super::{Directory, LinkBase};
use crate::resources::DISCOVERY_PATH;

/// Answers that wait for their time. Of a burst that is larger, the rest gets nothing and asks again.
const WAITING_MAX: usize = 64;
/// The payload of an answer on the link: it fits one datagram of IPv6 everywhere (RFC 7252 §4.6).
const PAYLOAD_BYTES_MAX: usize = 1_024;
/// Answers that all sources together get in a row, and in a second.
const TOTAL: Allowance = Allowance { burst: 128, per_second: 64 };
/// Answers that one network gets: on a link with a hundred devices that lost their power together, those without an answer
/// ask again, and hear the answers of others nowhere: answers are unicast.
const NETWORK: Allowance = Allowance { burst: 32, per_second: 8 };
/// Networks share this many counters, by a keyed hash: a source picks neither its counter nor their number.
const NETWORK_COUNTERS: usize = 256;
/// A neighbourhood of IPv4, and a link of IPv6.
const NETWORK_BITS: (u8, u8) = (24, 64);

/// A network by its first bits: `192.0.2.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkPrefix {
    address: IpAddr,
    bits: u8,
}

impl NetworkPrefix {
    /// Reads `ADDRESS/BITS`; `None` if it is something else, or if the address has bits behind the prefix.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let (address, bits) = (address.parse().ok()?, bits.parse().ok()?);
        let whole = if matches!(address, IpAddr::V4(_)) { 32 } else { 128 };
        (bits <= whole && masked(address, bits) == address).then_some(Self { address, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.bits) == self.address
    }
}

impl fmt::Display for NetworkPrefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.bits)
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() & u32::MAX.checked_shl(32 - bits).unwrap_or(0)).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & u128::MAX.checked_shl(128 - bits).unwrap_or(0)).into()),
    }
}

/// Why a datagram to the group is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// It is not a message, or not a request.
    NotRequest,
    /// "Such multicast requests MUST be Non-confirmable" (RFC 7252 §8.1).
    Confirmable,
    /// It is not a GET of `/.well-known/core` with a filter for a resource type.
    NotDiscovery,
    /// It has an option that would need an error as its answer.
    Option,
    /// No link matches.
    NoMatch,
    /// No link fits into an answer of the request's length, and the source is not on the link.
    TooLong,
    /// The network of the source, or all together, had enough answers.
    Rate,
    /// Too many answers wait.
    Full,
}

impl Silence {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::NotRequest,
        Self::Confirmable,
        Self::NotDiscovery,
        Self::Option,
        Self::NoMatch,
        Self::TooLong,
        Self::Rate,
        Self::Full,
    ];

    /// Its name in a metric.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotRequest => "not_request",
            Self::Confirmable => "confirmable",
            Self::NotDiscovery => "not_discovery",
            Self::Option => "option",
            Self::NoMatch => "no_match",
            Self::TooLong => "too_long",
            Self::Rate => "rate",
            Self::Full => "full",
        }
    }
}

/// What is answered with: the links of a configuration, and where devices reach the server.
#[derive(Debug, Clone, Copy)]
pub struct GroupLinks<'c> {
    /// The links.
    pub directory: &'c Directory,
    /// Their base.
    pub base: &'c LinkBase,
}

/// An answer whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupAnswer {
    /// The caller's number of the socket that got the request.
    pub socket: usize,
    /// Who asked.
    pub peer: SocketAddr,
    /// The message.
    pub bytes: Vec<u8>,
}

/// Judges requests to groups, and keeps answers until their time.
pub struct GroupResponder {
    /// "The server SHOULD then pick a random point of time within the chosen leisure period" (RFC 7252 §8.2).
    leisure: Duration,
    on_link: Vec<NetworkPrefix>,
    waiting: Vec<(Instant, GroupAnswer)>,
    rates: Rates,
    ids: MessageIds,
    random: SplitMix64,
}

impl GroupResponder {
    /// `on_link` are networks of the links, besides link-local addresses; `seed` spreads answers.
    #[must_use]
    pub fn new(leisure: Duration, on_link: Vec<NetworkPrefix>, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let rates = Rates::new(random.draw());
        let ids = MessageIds::new(u16::try_from(below(&mut random, 1 << 16)).unwrap_or(0));
        Self { leisure, on_link, waiting: Vec::new(), rates, ids, random }
    }

    /// Handles a datagram that came to a group. An answer is available from [`GroupResponder::poll_transmit`] at its time.
    ///
    /// # Errors
    /// Why there is none.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        (socket, peer): (usize, SocketAddr),
        datagram: &[u8],
        links: GroupLinks<'_>,
    ) -> Result<(), Silence> {
        let message = Message::parse(datagram).map_err(|_| Silence::NotRequest)?;
        let question = Question::read(&message)?;
        let found = links.directory.select(question.queries(), Some(links.base)).map_err(|_| Silence::Option)?;
        if found.is_empty() {
            return Err(Silence::NoMatch);
        }
        let mut bytes = Vec::new();
        let id = self.ids.next_id();
        Encoder::new(&mut bytes, Kind::NonConfirmable, Code::CONTENT, id, message.token())
            .uint(Number::CONTENT_FORMAT, ContentFormat::LINK_FORMAT.0.into());
        // One byte is the marker in front of the payload.
        let room = match self.is_on_link(peer.ip()) {
            true => PAYLOAD_BYTES_MAX,
            false => datagram.len().saturating_sub(bytes.len() + 1),
        };
        let payload = whole_links(&found, room.min(question.payload_bytes_max));
        if payload.is_empty() {
            return Err(Silence::TooLong);
        }
        bytes.push(PAYLOAD_MARKER);
        bytes.extend_from_slice(payload);
        if self.waiting.len() >= WAITING_MAX {
            return Err(Silence::Full);
        }
        if !self.rates.allow(now, peer.ip()) {
            return Err(Silence::Rate);
        }
        let leisure = u64::try_from(self.leisure.as_millis()).unwrap_or(u64::MAX);
        let at = now + Duration::from_millis(below(&mut self.random, leisure.saturating_add(1)));
        self.waiting.push((at, GroupAnswer { socket, peer, bytes }));
        Ok(())
    }

    /// An answer whose time has come.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<GroupAnswer> {
        let place = self.waiting.iter().position(|(at, _)| *at <= now)?;
        Some(self.waiting.swap_remove(place).1)
    }

    /// When the next answer is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.iter().map(|(at, _)| *at).min()
    }

    fn is_on_link(&self, source: IpAddr) -> bool {
        // Routers forward neither (RFC 4291 §2.5.6, RFC 3927 §7).
        let local = match source {
            IpAddr::V4(source) => source.is_link_local() || source.is_loopback(),
            IpAddr::V6(source) => source.is_unicast_link_local() || source.is_loopback(),
        };
        local || self.on_link.iter().any(|prefix| prefix.contains(source))
    }
}

impl fmt::Debug for GroupResponder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupResponder").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

const PAYLOAD_MARKER: u8 = 0xff;

/// A request that is answered if something matches.
struct Question<'m, 'd> {
    message: &'m Message<'d>,
    /// Of the block that the client asks for, if it asks for one.
    payload_bytes_max: usize,
}

impl<'m, 'd> Question<'m, 'd> {
    fn read(message: &'m Message<'d>) -> Result<Self, Silence> {
        if !message.code().is_request() {
            return Err(Silence::NotRequest);
        }
        match message.kind() {
            Kind::NonConfirmable => {}
            Kind::Confirmable => return Err(Silence::Confirmable),
            Kind::Acknowledgement | Kind::Reset => return Err(Silence::NotRequest),
        }
        let path = message.options_of(Number::URI_PATH);
        if message.code() != Method::Get.code() || !path.eq(DISCOVERY_PATH.map(str::as_bytes)) {
            return Err(Silence::NotDiscovery);
        }
        let known =
            [Number::URI_HOST, Number::URI_PORT, Number::URI_PATH, Number::URI_QUERY, Number::ACCEPT, Number::BLOCK2];
        if message.options().any(|option| option.number.is_critical() && !known.contains(&option.number)) {
            return Err(Silence::Option);
        }
        if message.uint(Number::ACCEPT).is_some_and(|format| format != ContentFormat::LINK_FORMAT.0.into()) {
            return Err(Silence::Option);
        }
        // A transfer in blocks goes on by unicast (RFC 7959 §2.8), which is not answered: a whole answer, or none.
        let payload_bytes_max = match message.block(Number::BLOCK2) {
            Ok(None) => PAYLOAD_BYTES_MAX,
            Ok(Some(Block { num: 0, size, .. })) => size.bytes(),
            Ok(Some(_)) | Err(_) => return Err(Silence::Option),
        };
        let question = Question { message, payload_bytes_max };
        let texts = message.options_of(Number::URI_QUERY).all(|query| str::from_utf8(query).is_ok());
        if !texts || !question.queries().any(|query| query.starts_with("rt=")) {
            return Err(Silence::NotDiscovery);
        }
        Ok(question)
    }

    fn queries(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        self.message.options_of(Number::URI_QUERY).filter_map(|query| str::from_utf8(query).ok())
    }
}

/// As many whole links from the beginning as `room` holds. Our links have no comma inside.
fn whole_links(links: &[u8], room: usize) -> &[u8] {
    if links.len() <= room {
        return links;
    }
    let end = links.iter().take(room + 1).rposition(|byte| *byte == b',').unwrap_or(0);
    &links[..end]
}

/// How many answers are allowed.
#[derive(Clone, Copy)]
struct Allowance {
    burst: u16,
    per_second: u16,
}

/// What of an allowance is left.
#[derive(Clone, Copy)]
struct Remaining {
    answers: u16,
    since: Instant,
}

impl Allowance {
    /// What is left now. A span below a second is kept for later.
    fn refilled(self, now: Instant, remaining: Option<Remaining>) -> Remaining {
        let Some(Remaining { answers, since }) = remaining else {
            return Remaining { answers: self.burst, since: now };
        };
        let seconds = u16::try_from(now.saturating_duration_since(since).as_secs()).unwrap_or(u16::MAX);
        let answers = answers.saturating_add(seconds.saturating_mul(self.per_second)).min(self.burst);
        Remaining { answers, since: since + Duration::from_secs(seconds.into()) }
    }
}

/// The counters: a fixed number, whatever the sources.
struct Rates {
    total: Option<Remaining>,
    networks: Box<[Option<Remaining>; NETWORK_COUNTERS]>,
    key: u64,
}

impl Rates {
    fn new(key: u64) -> Self {
        Self { total: None, networks: Box::new([None; NETWORK_COUNTERS]), key }
    }

    fn allow(&mut self, now: Instant, source: IpAddr) -> bool {
        let index = self.index(source);
        let mut total = TOTAL.refilled(now, self.total);
        let mut network = NETWORK.refilled(now, self.networks[index]);
        let allowed = total.answers > 0 && network.answers > 0;
        if allowed {
            total.answers -= 1;
            network.answers -= 1;
        }
        (self.total, self.networks[index]) = (Some(total), Some(network));
        allowed
    }

    fn index(&self, source: IpAddr) -> usize {
        let network = match masked(source, if source.is_ipv4() { NETWORK_BITS.0 } else { NETWORK_BITS.1 }) {
            IpAddr::V4(network) => u128::from(network.to_bits()),
            IpAddr::V6(network) => network.to_bits(),
        };
        let [high, low] = [network >> 64, network & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or(0));
        let mixed = splitmix::mix(splitmix::mix(self.key ^ high) ^ low);
        usize::try_from(mixed % 256).unwrap_or(0) % NETWORK_COUNTERS
    }
}

/// A number below `bound`; the bias of a span of minutes over 64 bits does not matter.
fn below(random: &mut SplitMix64, bound: u64) -> u64 {
    random.draw() % bound.max(1)
}

#[cfg(test)]
mod tests {
    use super::super::ResourceLink;
    use super::*;

    fn directory() -> Directory {
        let link = |href: &str, resource_type, content_formats| ResourceLink {
            href: href.into(),
            resource_type,
            content_formats,
        };
        Directory::new(vec![
            link("/est/crts", "ace.est.crts", "281 287"),
            link("/est/sen", "ace.est.sen", "281 287"),
            link("/est/att", "ace.est.att", "285"),
        ])
    }

    struct Link {
        directory: Directory,
        base: LinkBase,
        responder: GroupResponder,
        now: Instant,
    }

    const ON_LINK: &str = "[fe80::7]:40000";
    const BEYOND: &str = "[2001:db8::7]:40000";

    impl Link {
        fn new(leisure: u64) -> Self {
            #[allow(clippy::disallowed_methods, reason = "an origin for virtual time; nothing is measured with it")]
            let now = Instant::now();
            let base = LinkBase::parse("coaps://est.example.net").unwrap();
            let near = NetworkPrefix::parse("192.0.2.0/24").unwrap();
            Self {
                directory: directory(),
                base,
                responder: GroupResponder::new(Duration::from_secs(leisure), vec![near], 7),
                now,
            }
        }

        fn ask(&mut self, peer: &str, request: &[u8]) -> Result<(), Silence> {
            let links = GroupLinks { directory: &self.directory, base: &self.base };
            self.responder.handle_datagram(self.now, (3, peer.parse().unwrap()), request, links)
        }

        /// Waits for the one answer.
        fn answer(&mut self) -> GroupAnswer {
            self.now = self.responder.poll_timeout().unwrap();
            self.responder.poll_transmit(self.now).unwrap()
        }
    }

    fn request(kind: Kind, code: Code, queries: &[&str], more: &[(Number, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut options: Vec<(Number, &[u8])> = vec![(Number::URI_PATH, b".well-known"), (Number::URI_PATH, b"core")];
        options.extend(queries.iter().map(|query| (Number::URI_QUERY, query.as_bytes())));
        options.extend(more);
        options.sort_by_key(|(number, _)| *number);
        let encoder = Encoder::new(&mut bytes, kind, code, coap::MessageId(9), coap::Token::new(b"token").unwrap());
        options.into_iter().fold(encoder, |encoder, (number, value)| encoder.option(number, value)).payload(&[]);
        bytes
    }

    fn get(queries: &[&str]) -> Vec<u8> {
        request(Kind::NonConfirmable, Method::Get.code(), queries, &[])
    }

    #[test]
    fn a_group_is_answered_with_absolute_links_after_a_random_part_of_the_leisure() {
        let mut link = Link::new(5);
        let begun = link.now;
        link.ask(ON_LINK, &get(&["rt=ace.est*"])).unwrap();
        assert_eq!(link.responder.poll_transmit(begun), None, "not at once");
        let answer = link.answer();
        assert!(link.now > begun && link.now <= begun + Duration::from_secs(5));
        assert_eq!((answer.socket, answer.peer), (3, ON_LINK.parse().unwrap()));
        let message = Message::parse(&answer.bytes).unwrap();
        assert_eq!((message.kind(), message.code()), (Kind::NonConfirmable, Code::CONTENT));
        assert_eq!(message.token().as_bytes(), b"token");
        assert_eq!(message.uint(Number::CONTENT_FORMAT), Some(40));
        let text = str::from_utf8(message.payload()).unwrap();
        let targets: Vec<_> = super::super::parse_links(text).iter().map(|link| link.target.to_owned()).collect();
        let wanted = ["crts", "sen", "att"].map(|function| format!("coaps://est.example.net/est/{function}"));
        assert_eq!(targets, wanted);
        let mut times = std::collections::BTreeSet::new();
        for _ in 0..8 {
            link.ask(ON_LINK, &get(&["rt=ace.est.sen"])).unwrap();
            let asked = link.now;
            link.answer();
            times.insert(link.now - asked);
        }
        assert!(times.len() > 4, "the time is random: {times:?}");
    }

    #[test]
    fn what_is_not_a_question_for_a_link_of_ours_is_silence() {
        let mut link = Link::new(0);
        let non = |queries: &[&str], more: &[(Number, &[u8])]| {
            request(Kind::NonConfirmable, Method::Get.code(), queries, more)
        };
        let rt: &[&str] = &["rt=ace.est*"];
        let cases = [
            (b"\x50".to_vec(), Silence::NotRequest),
            (request(Kind::NonConfirmable, Code::CONTENT, rt, &[]), Silence::NotRequest),
            (request(Kind::Reset, Method::Get.code(), rt, &[]), Silence::NotRequest),
            (request(Kind::Confirmable, Method::Get.code(), rt, &[]), Silence::Confirmable),
            (request(Kind::NonConfirmable, Method::Post.code(), rt, &[]), Silence::NotDiscovery),
            (non(rt, &[(Number::URI_PATH, b"more")]), Silence::NotDiscovery),
            (non(&[], &[]), Silence::NotDiscovery),
            (non(&["href=/est*"], &[]), Silence::NotDiscovery),
            (non(&["rt=core.rd"], &[]), Silence::NoMatch),
            (non(&["rt=ace.est*", "ct=40"], &[]), Silence::NoMatch),
            (non(&["rt=*"; 5], &[]), Silence::Option),
            (non(rt, &[(Number::ACCEPT, &[50])]), Silence::Option),
            (non(rt, &[(Number::OSCORE, b"")]), Silence::Option),
            (non(rt, &[(Number::BLOCK2, &[0x10])]), Silence::Option),
            (non(rt, &[(Number::BLOCK2, &[0])]), Silence::TooLong),
        ];
        for (request, silence) in cases {
            assert_eq!(link.ask(ON_LINK, &request), Err(silence), "{request:?}");
        }
        assert_eq!(link.responder.poll_timeout(), None, "nothing is kept");
        link.ask(ON_LINK, &non(rt, &[(Number::BLOCK2, &[6]), (Number(65000), b"elective")])).unwrap();
    }

    #[test]
    fn an_answer_is_never_longer_than_its_request_unless_the_source_is_on_the_link() {
        let mut link = Link::new(0);
        let short = get(&["rt=ace.est*"]);
        assert_eq!(link.ask(BEYOND, &short), Err(Silence::TooLong));
        assert_eq!(link.ask("198.51.100.7:1", &short), Err(Silence::TooLong));
        for peer in [ON_LINK, "192.0.2.200:1", "169.254.3.4:1"] {
            link.ask(peer, &short).unwrap();
            assert!(link.answer().bytes.len() > short.len());
        }
        let padded = get(&["rt=ace.est.sen"; 4]);
        link.ask(BEYOND, &padded).unwrap();
        let answer = link.answer();
        assert!(answer.bytes.len() <= padded.len(), "{} > {}", answer.bytes.len(), padded.len());
        for length in 0..600 {
            let filler = vec![0; length];
            let request =
                request(Kind::NonConfirmable, Method::Get.code(), &["rt=ace.est*"], &[(Number(65000), &filler)]);
            match link.ask(BEYOND, &request) {
                Ok(()) => {
                    let bytes = link.answer().bytes;
                    assert!(bytes.len() <= request.len());
                    let text = str::from_utf8(Message::parse(&bytes).unwrap().payload()).unwrap().to_owned();
                    assert!(
                        super::super::parse_links(&text).iter().all(|link| !link.content_formats.is_empty()),
                        "{text}"
                    );
                }
                Err(silence) => assert!(matches!(silence, Silence::TooLong | Silence::Rate)),
            }
            link.now += Duration::from_secs(1);
        }
    }

    #[test]
    fn rates_are_bounded_by_network_and_in_total() {
        let mut link = Link::new(0);
        let request = get(&["rt=ace.est*"]);
        let asked = |link: &mut Link, peer: &str| {
            let judged = link.ask(peer, &request);
            while link.responder.poll_transmit(link.now).is_some() {}
            judged
        };
        for _ in 0..NETWORK.burst {
            asked(&mut link, "192.0.2.1:1").unwrap();
        }
        assert_eq!(asked(&mut link, "192.0.2.9:1"), Err(Silence::Rate), "the same network");
        asked(&mut link, ON_LINK).unwrap();
        link.now += Duration::from_secs(1);
        for _ in 0..NETWORK.per_second {
            asked(&mut link, "192.0.2.1:1").unwrap();
        }
        assert_eq!(asked(&mut link, "192.0.2.1:1"), Err(Silence::Rate));
        link.now += Duration::from_secs(3_600);
        let answered = (0..500).filter(|net| asked(&mut link, &format!("169.254.{}.1:1", net % 256)).is_ok()).count();
        assert_eq!(answered, usize::from(TOTAL.burst));
    }

    #[test]
    fn answers_that_wait_are_bounded() {
        let mut link = Link::new(60);
        let request = get(&["rt=ace.est*"]);
        let results: Vec<_> = (0..100).map(|net| link.ask(&format!("169.254.{net}.1:1"), &request)).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), WAITING_MAX);
        assert_eq!(results[99], Err(Silence::Full));
    }

    #[test]
    fn prefixes_are_read_strictly() {
        for text in ["192.0.2.0/24", "2001:db8::/64", "0.0.0.0/0", "::/0", "192.0.2.7/32"] {
            assert_eq!(NetworkPrefix::parse(text).unwrap().to_string(), text);
        }
        for text in ["192.0.2.7/24", "192.0.2.0", "192.0.2.0/33", "2001:db8::1/64", "::/129", "a/8"] {
            assert_eq!(NetworkPrefix::parse(text), None, "{text}");
        }
    }
}
