//! Finds servers over CoAP without DTLS: by a question to a multicast group (RFC 7252 §8), or to a CoRE Resource Directory (RFC 9176 §6).
//!
//! Nothing that comes back is believed: it gives URIs to connect to, as text of a closed form. What the server there must prove is the
//! business of the caller.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};

use coap::client::{Exchange, ExchangeProgress, Reply, RequestSpec};
use coap::{Code, ContentFormat, Encoder, Kind, Message, MessageId, MessageIds, Method, Number, Token};
use dtls::Random as _;
use est::discovery::{DirectoryUri, LinkBase, ParsedLink, parse_links};
use net::SystemRandom;
use net::udp::ask_group;

use crate::arguments::ServerUri;
use crate::outcome::{CommandFault, CommandResult, Status};

/// A server that somebody told of.
pub(crate) struct FoundServer {
    /// Where it is.
    pub(crate) uri: ServerUri,
    /// What it serves there, as it was told.
    pub(crate) links: Vec<String>,
}

/// Answers come within the leisure of five seconds (RFC 7252 §8.2), and a moment later.
const LEISURE: Duration = Duration::from_secs(6);
/// The question is sent again after this time: a multicast datagram is lost as easily as any other.
const AGAIN: Duration = Duration::from_secs(2);
/// More servers than on any link; the rest is left out.
const SERVERS_MAX: usize = 64;
/// Of these, what one responder may name: a server by its name and by its addresses, and the one beside it. One that answers with a long list does
/// not keep the others out.
const SERVERS_PER_RESPONDER_MAX: usize = 4;
const DATAGRAM_BYTES_MAX: usize = 2_048;
/// The list of a directory: some hundred servers.
const LIST_BYTES_MAX: usize = 64 << 10;

/// Asks a group. Answers are gathered for the time of the leisure, at most `timeout`.
pub(crate) fn group(
    group: IpAddr,
    port: u16,
    interface: Option<&str>,
    timeout: Duration,
) -> CommandResult<Vec<FoundServer>> {
    let failed = |source: std::io::Error| {
        let place = interface.map_or(String::new(), |name| format!(" on {name}"));
        CommandFault::failed(format!("the group {group} cannot be asked{place}: {source}"))
            .remedy("name an interface that leads to it: --interface IF; `ip link` lists them")
    };
    if !group.is_multicast() {
        return Err(CommandFault::usage(format!(
            "{group} is not a multicast address, such as ff02::fd or 224.0.1.187"
        )));
    }
    let (socket, index) = ask_group(group, interface).map_err(failed)?;
    let to = match group {
        IpAddr::V4(group) => SocketAddr::from((group, port)),
        IpAddr::V6(group) => SocketAddr::V6(SocketAddrV6::new(group, port, 0, index)),
    };
    let (question, token) = question(group);
    let begun = Instant::now();
    let end = begun + timeout.min(LEISURE);
    let mut again = Some(begun + AGAIN);
    let mut found = FoundServers::default();
    socket.send_to(&question, to).map_err(failed)?;
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    loop {
        let now = Instant::now();
        if again.is_some_and(|again| again <= now) {
            again = None;
            socket.send_to(&question, to).map_err(failed)?;
        }
        let until = again.unwrap_or(end).min(end);
        let wait = until.saturating_duration_since(now);
        if now >= end {
            return Ok(found.in_turns());
        }
        socket.set_read_timeout(Some(wait.max(Duration::from_millis(1)))).map_err(failed)?;
        match socket.recv_from(&mut buffer) {
            Ok((bytes, from)) => {
                if let Some(list) = buffer.get(..bytes).and_then(|datagram| answer(datagram, token)) {
                    found.gather(from.ip(), SERVERS_PER_RESPONDER_MAX, &list, zone(from));
                }
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            // ICMP about a datagram of ours.
            Err(_) => {}
        }
    }
}

/// A non-confirmable GET of the links, with a token that nobody guesses.
fn question(group: IpAddr) -> (Vec<u8>, Token) {
    let mut random = [0; 10];
    SystemRandom::new().fill(&mut random);
    let [high, low, rest @ ..] = random;
    let token = Token::new(&rest).unwrap_or(Token::EMPTY);
    // A server beyond the link answers with as many bytes as it was asked with at most. The same filter several times has one meaning, and room
    // for a link.
    let is_of_the_link = matches!(group, IpAddr::V6(group) if group.octets()[1] & 15 <= 2);
    let queries: &[&str] = if is_of_the_link { &["rt=ace.est*"] } else { &["rt=ace.est.sen"; 4] };
    let mut bytes = Vec::new();
    let id = MessageId(u16::from_be_bytes([high, low]));
    let encoder = Encoder::new(&mut bytes, Kind::NonConfirmable, Method::Get.code(), id, token)
        .option(Number::URI_PATH, b".well-known")
        .option(Number::URI_PATH, b"core");
    queries.iter().fold(encoder, |encoder, query| encoder.option(Number::URI_QUERY, query.as_bytes())).payload(&[]);
    (bytes, token)
}

/// The links of an answer to the question with this token.
fn answer(datagram: &[u8], token: Token) -> Option<String> {
    let message = Message::parse(datagram).ok()?;
    let is_ours = message.code() == Code::CONTENT && message.token() == token && message.kind() == Kind::NonConfirmable;
    // A list that comes in blocks is not fetched: whole links of the first block are enough to find its server.
    is_ours.then(|| String::from_utf8_lossy(message.payload()).into_owned())
}

/// Where a link-local address is reached: on the link that the answer came from.
fn zone(from: SocketAddr) -> Option<u32> {
    if let SocketAddr::V6(from) = from { Some(from.scope_id()).filter(|zone| *zone > 0) } else { None }
}

/// Asks a directory for the servers that it lists.
pub(crate) fn directory(uri: &DirectoryUri, timeout: Duration) -> CommandResult<Vec<FoundServer>> {
    let no_answer = |why: String| {
        CommandFault::new(Status::NoAnswer, format!("{uri}: {why}"))
            .remedy("check the address of the directory; it is asked over CoAP without DTLS, port 5683")
    };
    let mut addresses =
        (uri.host.as_str(), uri.port).to_socket_addrs().map_err(|error| no_answer(format!("no address: {error}")))?;
    let address = addresses.next().ok_or_else(|| no_answer("the name has no address".to_owned()))?;
    let own: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0)).and_then(|socket| socket.connect(address).map(|()| socket));
    let socket = socket.map_err(|error| no_answer(error.to_string()))?;
    let host = uri.host.parse::<IpAddr>().is_err().then(|| uri.host.clone());
    let end = Instant::now() + timeout;
    let ask = |path: &str, query: &str| {
        let mut spec = RequestSpec::get(path).accepting(ContentFormat::LINK_FORMAT);
        spec.queries.push(query.to_owned());
        spec.uri_host.clone_from(&host);
        spec.answer_bytes_max = LIST_BYTES_MAX;
        let reply = exchange(&socket, spec, end.saturating_duration_since(Instant::now())).map_err(&no_answer)?;
        match reply.code {
            Code::CONTENT => Ok(Some(String::from_utf8_lossy(&reply.body).into_owned())),
            // Nothing matches, in the way that some directories say it.
            Code::NOT_FOUND => Ok(None),
            code => Err(CommandFault::new(Status::Refused, format!("{uri} answered {code} to GET /{path}?{query}"))),
        }
    };
    let list = ask(".well-known/core", "rt=core.rd-lookup-res")?.unwrap_or_default();
    let lookup = parse_links(&list).into_iter().find(|link| is_of_type(link, "core.rd-lookup-res"));
    // "rd-lookup/res" is an example of RFC 9176, not a default: without a link there is no directory.
    let path = lookup.and_then(|link| link.target.strip_prefix('/')).filter(|path| !path.starts_with('/'));
    let path = path.map(str::to_owned);
    let path = path.ok_or_else(|| {
        CommandFault::failed(format!("{uri} is not a resource directory: it lists no lookup (rt=core.rd-lookup-res)"))
    })?;
    let mut found = FoundServers::default();
    found.gather(address.ip(), SERVERS_MAX, &ask(&path, "rt=ace.est*")?.unwrap_or_default(), None);
    Ok(found.in_turns())
}

/// One confirmable request over a connected socket.
fn exchange(socket: &UdpSocket, spec: RequestSpec, timeout: Duration) -> Result<Reply, String> {
    let mut random = [0; 14];
    SystemRandom::new().fill(&mut random);
    let [a, b, c, d, e, f, token @ ..] = random;
    let mut ids = MessageIds::new(u16::from_be_bytes([a, b]));
    let token = Token::new(&token).unwrap_or(Token::EMPTY);
    let mut exchange = Exchange::new(Instant::now(), spec, &mut ids, token, u32::from_be_bytes([c, d, e, f]));
    let end = Instant::now() + timeout;
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    loop {
        while let Some(datagram) = exchange.poll_transmit() {
            // What the kernel does not take is sent again at its time.
            let _ = socket.send(datagram);
        }
        let now = Instant::now();
        if now >= end {
            return Err(format!("no answer within {timeout:?}"));
        }
        let wait = exchange.poll_timeout().unwrap_or(end).min(end).saturating_duration_since(now);
        socket.set_read_timeout(Some(wait.max(Duration::from_millis(1)))).map_err(|error| error.to_string())?;
        let progress = match socket.recv(&mut buffer) {
            Ok(bytes) => match Message::parse(buffer.get(..bytes).unwrap_or_default()) {
                Ok(message) => exchange.handle(Instant::now(), &message, &mut ids),
                Err(_) => ExchangeProgress::Ignored,
            },
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                return Err(format!("nothing listens there: {error}"));
            }
            Err(_) => exchange.handle_timeout(Instant::now(), &mut ids),
        };
        match progress {
            ExchangeProgress::Done(reply) => return Ok(reply),
            ExchangeProgress::Failed(failure) => return Err(failure.to_string()),
            ExchangeProgress::Ignored | ExchangeProgress::Pending | ExchangeProgress::Acknowledged => {}
        }
    }
}

fn is_of_type(link: &ParsedLink<'_>, wanted: &str) -> bool {
    link.resource_type.split(' ').any(|kind| kind == wanted)
}

/// Servers by those who told of them, in the order in which they answered.
#[derive(Default)]
struct FoundServers {
    responders: Vec<(IpAddr, Vec<FoundServer>)>,
    count: usize,
}

impl FoundServers {
    /// Adds the absolute coaps links of EST functions; of one responder, `servers_max` servers. A link without a host leads to where it was asked for, over
    /// CoAP without DTLS: EST is not there.
    fn gather(&mut self, responder: IpAddr, servers_max: usize, list: &str, zone: Option<u32>) {
        for link in parse_links(list) {
            let Some(uri) = server_of(&link, zone) else { continue };
            let place = self.responders.iter().position(|(known, _)| *known == responder);
            let servers = match place {
                Some(place) => &mut self.responders[place].1,
                None if self.count < SERVERS_MAX => {
                    self.responders.push((responder, Vec::new()));
                    &mut self.responders.last_mut().expect("it was pushed").1
                }
                None => return,
            };
            let line = format!("{}  rt={}  ct={}", link.target, link.resource_type, link.content_formats);
            match servers.iter().position(|server| server.uri == uri) {
                Some(place) => {
                    let links = &mut servers[place].links;
                    if !links.contains(&line) && links.len() < est::discovery::PARSED_LINKS_MAX {
                        links.push(line);
                    }
                }
                None if servers.len() < servers_max && self.count < SERVERS_MAX => {
                    servers.push(FoundServer { uri, links: vec![line] });
                    self.count += 1;
                }
                None => {}
            }
        }
    }

    /// The first server of each responder, then the second ones. A server that several told of is there once.
    fn in_turns(self) -> Vec<FoundServer> {
        let mut all: Vec<FoundServer> = Vec::new();
        let mut queues: Vec<_> = self.responders.into_iter().map(|(_, servers)| servers.into_iter()).collect();
        while queues.iter().any(|queue| queue.len() > 0) {
            for server in queues.iter_mut().filter_map(Iterator::next) {
                if all.iter().all(|known| known.uri != server.uri) {
                    all.push(server);
                }
            }
        }
        all
    }
}

/// The server of an absolute coaps link to a function of EST.
fn server_of(link: &ParsedLink<'_>, zone: Option<u32>) -> Option<ServerUri> {
    let authority = link.target.strip_prefix("coaps://")?.split('/').next()?;
    let base = LinkBase::parse(&format!("coaps://{authority}")).ok()?;
    if !link.resource_type.split(' ').any(|kind| kind.starts_with("ace.est")) {
        return None;
    }
    let is_local = base.host().parse::<Ipv6Addr>().is_ok_and(|address| address.is_unicast_link_local());
    let host = match zone.filter(|_| is_local) {
        Some(zone) => format!("{}%{zone}", base.host()),
        None => base.host().to_owned(),
    };
    Some(ServerUri { host, port: base.port(), label: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(list: &str, zone: Option<u32>) -> Vec<(String, usize)> {
        let mut found = FoundServers::default();
        found.gather(IpAddr::from([192, 0, 2, 1]), SERVERS_MAX, list, zone);
        found.in_turns().into_iter().map(|server| (server.uri.to_string(), server.links.len())).collect()
    }

    #[test]
    fn one_responder_fills_its_share_and_the_others_keep_theirs() {
        let link = |host: &str| format!("<coaps://{host}/est/sen>;rt=ace.est.sen");
        let flood: Vec<_> = (0..200).map(|number| link(&format!("a{number}.example"))).collect();
        let mut found = FoundServers::default();
        let of = |number: u8| IpAddr::from([192, 0, 2, number]);
        for _ in 0..2 {
            found.gather(of(1), SERVERS_PER_RESPONDER_MAX, &flood.join(","), None);
        }
        found.gather(of(2), SERVERS_PER_RESPONDER_MAX, &link("ours.example"), None);
        found.gather(of(3), SERVERS_PER_RESPONDER_MAX, &link("a0.example"), None);
        let order: Vec<_> = found.in_turns().iter().map(|server| server.uri.host.clone()).collect();
        assert_eq!(order, ["a0.example", "ours.example", "a1.example", "a2.example", "a3.example"]);
        // However many answer, the number is bounded.
        let mut found = FoundServers::default();
        for number in 0..200 {
            found.gather(of(number), SERVERS_PER_RESPONDER_MAX, &link(&format!("h{number}.example")), None);
        }
        assert_eq!(found.in_turns().len(), SERVERS_MAX);
    }

    #[test]
    fn only_absolute_coaps_links_of_est_name_servers() {
        let list = concat!(
            "<coaps://est.example.net:5690/est/sen>;rt=\"ace.est.sen\";ct=\"281 287\",",
            "<coaps://est.example.net:5690/est/crts>;rt=\"ace.est.crts\",",
            "<coaps://est.example.net:5690/est/crts>;rt=\"ace.est.crts\",",
            "</est/sen>;rt=\"ace.est.sen\",<coap://h/est/sen>;rt=\"ace.est.sen\",",
            "<coaps://other/temperature>;rt=\"temperature\",<coaps://a\u{1b}[2J/est/sen>;rt=\"ace.est.sen\",",
            "<coaps://[fe80::7]/est/sen>;rt=\"ace.est.sen\""
        );
        assert_eq!(
            found(list, Some(3)),
            [("coaps://est.example.net:5690".to_owned(), 2), ("coaps://[fe80::7%3]:5684".to_owned(), 1)]
        );
        assert_eq!(found(list, None)[1].0, "coaps://[fe80::7]:5684", "a directory names no link");
    }

    #[test]
    fn an_answer_has_the_token_of_the_question() {
        let (question, token) = question("ff02::fd".parse().unwrap());
        assert!(Message::parse(&question).unwrap().kind() == Kind::NonConfirmable);
        let mut bytes = Vec::new();
        Encoder::new(&mut bytes, Kind::NonConfirmable, Code::CONTENT, MessageId(1), token).payload(b"<x>");
        assert_eq!(answer(&bytes, token).as_deref(), Some("<x>"));
        assert_eq!(answer(&bytes, Token::EMPTY), None);
        assert_eq!(answer(&question, token), None);
    }
}
