//! Our client and our server over a link that loses, repeats and reorders.

use std::time::{Duration, Instant};

use coap::client::{Exchange, ExchangeFailure, ExchangeProgress, Reply, RequestSpec};
use coap::server::{Config, ExchangeId, Handled, Peer, Response, Shared};
use coap::{BlockSize, Code, ContentFormat, Kind, Message, MessageIds, Outbox, Token};

use crate::harness::{Table, body};

/// A seeded link in both directions.
struct Link {
    random: u64,
    lost_percent: u64,
    /// (due, order, to the server, datagram)
    on_the_way: Vec<(Instant, u64, bool, Vec<u8>)>,
    order: u64,
}

impl Link {
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn send(&mut self, now: Instant, to_server: bool, datagram: &[u8]) {
        let copies = if self.draw(100) < 20 { 2 } else { 1 };
        for _ in 0..copies {
            if self.draw(100) < self.lost_percent {
                continue;
            }
            // Sometimes seconds late, after datagrams that were sent later.
            let delay = if self.draw(100) < 10 { 5_000 } else { 100 };
            let due = now + Duration::from_millis(1 + self.draw(delay));
            self.order += 1;
            self.on_the_way.push((due, self.order, to_server, datagram.to_vec()));
        }
    }
}

struct Pair {
    link: Link,
    peer: Peer,
    shared: Shared,
    client: Exchange,
    ids: MessageIds,
    now: Instant,
    /// How long the handler takes.
    work: Duration,
    working: Vec<(Instant, ExchangeId, Vec<u8>)>,
    executed: Vec<Vec<u8>>,
    answer: Vec<u8>,
}

impl Pair {
    fn new(seed: u64, lost_percent: u64, work: Duration, spec: RequestSpec) -> Self {
        let now = Instant::now();
        let mut ids = MessageIds::new(u16::try_from(seed % 65_536).unwrap());
        let token = Token::new(&seed.to_be_bytes()[4..]).unwrap();
        let client = Exchange::new(now, spec, &mut ids, token, 12_345);
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self {
            link: Link { random, lost_percent, on_the_way: Vec::new(), order: 0 },
            peer: Peer::new(),
            shared: Shared::new(Config::default(), seed),
            client,
            ids,
            now,
            work,
            working: Vec::new(),
            executed: Vec::new(),
            answer: body(520, 3),
        }
    }

    fn run(&mut self) -> Result<Reply, ExchangeFailure> {
        let mut out = Outbox::new();
        for _ in 0..10_000 {
            while let Some(datagram) = self.client.poll_transmit() {
                self.link.send(self.now, true, datagram);
            }
            let arrival = self.link.on_the_way.iter().map(|(due, ..)| *due).min();
            let finished = self.working.iter().map(|(due, ..)| *due).min();
            let timers = [arrival, finished, self.peer.poll_timeout(), self.client.poll_timeout()];
            let Some(next) = timers.into_iter().flatten().min() else { break };
            self.now = self.now.max(next);
            let progress = if arrival == Some(next) {
                self.arrive(&mut out)
            } else {
                self.finish(&mut out);
                out.clear();
                self.peer.handle_timeout(self.now, &mut self.shared, &mut out);
                self.send_from_server(&out);
                self.client.handle_timeout(self.now, &mut self.ids)
            };
            match progress {
                ExchangeProgress::Done(reply) => return Ok(reply),
                ExchangeProgress::Failed(failure) => return Err(failure),
                ExchangeProgress::Ignored | ExchangeProgress::Pending | ExchangeProgress::Acknowledged => {}
            }
        }
        panic!("the exchange never ends");
    }

    fn arrive(&mut self, out: &mut Outbox) -> ExchangeProgress {
        let (first, _) = self
            .link
            .on_the_way
            .iter()
            .enumerate()
            .min_by_key(|(_, (due, order, ..))| (*due, *order))
            .expect("something is on the way");
        let (_, _, to_server, datagram) = self.link.on_the_way.remove(first);
        if !to_server {
            let message = Message::parse(&datagram).expect("the server writes messages");
            return self.client.handle(self.now, &message, &mut self.ids);
        }
        out.clear();
        let handled = self.peer.handle(self.now, &datagram, &mut self.shared, &Table, out);
        if let Handled::Request { id, request, .. } = handled {
            let body = request.into_body();
            self.working.push((self.now + self.work, id, body));
        }
        self.send_from_server(out);
        if self.work.is_zero() {
            self.finish(out);
        }
        ExchangeProgress::Ignored
    }

    fn finish(&mut self, out: &mut Outbox) {
        while let Some(index) = self.working.iter().position(|(due, ..)| *due <= self.now) {
            let (_, id, request) = self.working.remove(index);
            self.executed.push(request);
            out.clear();
            let response = Response::content(Code::CHANGED, ContentFormat::PKIX_CERT, &self.answer);
            self.peer.respond(self.now, id, &response, &mut self.shared, out).expect("it is pending");
            self.send_from_server(out);
        }
    }

    fn send_from_server(&mut self, out: &Outbox) {
        for datagram in out.iter() {
            self.link.send(self.now, false, datagram);
        }
    }
}

fn enrolments(kind: Kind, lost_percent: u64, work: Duration) {
    let csr = body(333, 0);
    let mut failed = 0;
    for seed in 1..=150 {
        let mut spec = RequestSpec::post("est/sen", ContentFormat::PKCS10, csr.clone()).in_blocks(BlockSize::B64);
        spec.kind = kind;
        let mut pair = Pair::new(seed, lost_percent, work, spec);
        match pair.run() {
            Ok(reply) => assert_eq!((reply.code, &reply.body), (Code::CHANGED, &pair.answer), "seed {seed}"),
            Err(failure) => {
                failed += 1;
                assert!(lost_percent > 0, "seed {seed}: {failure}");
            }
        }
        assert!(pair.executed.iter().all(|body| *body == csr), "seed {seed}: spliced");
        if kind == Kind::Confirmable {
            assert_eq!(pair.executed.len(), 1, "seed {seed}: executed once");
        }
    }
    assert!(failed <= 2, "{failed} of 150 failed");
}

#[test]
fn enrolments_over_a_clean_but_unordered_link() {
    enrolments(Kind::Confirmable, 0, Duration::ZERO);
}

#[test]
fn enrolments_over_a_lossy_link() {
    enrolments(Kind::Confirmable, 10, Duration::ZERO);
}

#[test]
fn slow_enrolments_over_a_lossy_link() {
    enrolments(Kind::Confirmable, 10, Duration::from_secs(9));
}

#[test]
fn non_confirmable_enrolments_over_a_lossy_link() {
    enrolments(Kind::NonConfirmable, 10, Duration::ZERO);
}

#[test]
fn large_downloads_over_a_lossy_link() {
    for seed in 1..=50 {
        let spec = RequestSpec::get("est/crts").in_blocks(BlockSize::B32);
        let mut pair = Pair::new(seed, 10, Duration::ZERO, spec);
        let reply = pair.run().unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        assert_eq!(reply.body, pair.answer, "seed {seed}");
        assert_eq!(pair.shared.response_bytes(), 0);
    }
}
