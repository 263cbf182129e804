//! Paths that silently drop datagrams above some length, and wide paths that merely lose some (D103).

use std::sync::Arc;
use std::time::Duration;

use dtls::Event;

use crate::support::{Clock, Notebook, Pair, Way, World};

/// Delay in one direction; both ends are close to a mobile network.
const DELAY: Duration = Duration::from_millis(40);

/// The link between the ends of a pair.
struct Line {
    /// Longer datagrams are dropped.
    widest: usize,
    /// Number of datagrams lost out of a thousand.
    loss: u64,
    /// State of the random generator; not zero.
    chance: u64,
    under_way: Vec<(Duration, Way, Vec<u8>)>,
    sent: usize,
}

impl Line {
    fn narrow(widest: usize) -> Self {
        Self { widest, loss: 0, chance: 1, under_way: Vec::new(), sent: 0 }
    }

    fn lossy(loss: u64, seed: u64) -> Self {
        Self { loss, chance: (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15), ..Self::narrow(usize::MAX) }
    }

    fn loses(&mut self) -> bool {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 11) % 1_000 < self.loss
    }

    fn take(&mut self, pair: &mut Pair) {
        let arrival = pair.clock.elapsed + DELAY;
        let to_server = pair.to_server.drain(..).map(|bytes| (arrival, Way::ToServer, bytes));
        let to_client = pair.to_client.drain(..).map(|bytes| (arrival, Way::ToClient, bytes));
        for one in to_server.chain(to_client) {
            self.sent += 1;
            if one.2.len() <= self.widest && !self.loses() {
                self.under_way.push(one);
            }
        }
    }

    /// Runs the pair until both ends are established, or for at most this time; returns the time it took.
    fn run(&mut self, pair: &mut Pair, at_most: Duration) -> Duration {
        while !pair.is_established() && pair.clock.elapsed < at_most {
            self.step(pair);
        }
        pair.clock.elapsed
    }

    /// Delivers all datagrams in transit and those that follow from them.
    fn deliver(&mut self, pair: &mut Pair) {
        self.take(pair);
        while !self.under_way.is_empty() {
            let (at, way, bytes) = self.under_way.remove(0);
            pair.clock.elapsed = pair.clock.elapsed.max(at);
            match way {
                Way::ToServer => pair.give_server(&bytes),
                Way::ToClient => pair.give_client(&bytes),
            }
            self.take(pair);
        }
    }

    /// The next arrival or timeout.
    fn step(&mut self, pair: &mut Pair) {
        self.take(pair);
        let arrival = self.under_way.iter().map(|(at, ..)| *at).min();
        let timeout = [pair.client.poll_timeout(), pair.endpoint.poll_timeout()]
            .into_iter()
            .flatten()
            .map(|at| pair.clock.until(at))
            .min();
        match (arrival, timeout) {
            (Some(at), due) if due.is_none_or(|due| at <= due) => {
                pair.clock.elapsed = pair.clock.elapsed.max(at);
                let index = self.under_way.iter().position(|(due, ..)| *due == at).unwrap();
                let (_, way, bytes) = self.under_way.remove(index);
                match way {
                    Way::ToServer => pair.give_server(&bytes),
                    Way::ToClient => pair.give_client(&bytes),
                }
            }
            _ => assert!(pair.tick(), "neither side has a timer"),
        }
    }
}

/// A client and a server with these first timers, each beginning with datagrams of this length.
fn pair(world: &World, client: (u64, usize), server: (u64, usize)) -> Pair {
    let clock = Clock::new();
    let endpoint = world.endpoint_with(|config| {
        config.limits.retransmission_initial = Duration::from_millis(server.0);
        config.limits.mtu = server.1;
    });
    let client = world.client_with(&clock, |config| {
        config.retransmission_initial = Duration::from_millis(client.0);
        config.mtu = client.1;
    });
    Pair::of(endpoint, client, clock)
}

/// Our client begins with the full length and finds the limit by itself; a client whose link is known to be narrow begins below it.
const LENGTHS: [usize; 2] = [dtls::MTU_DEFAULT, dtls::MTU_MIN];

#[test]
fn d103_a_path_that_drops_long_datagrams_is_found_fast_by_either_end() {
    let world = World::new();
    for (widest, seconds) in [(600, (6, 12)), (508, (6, 12)), (260, (10, 20))] {
        for peer in [400, 1_000, 9_000] {
            let at_most = Duration::from_secs(if peer == 9_000 { seconds.1 } else { seconds.0 });
            for mtu in LENGTHS {
                let ours = (1_000, dtls::MTU_DEFAULT);
                for (role, mut pair) in
                    [("server", pair(&world, (peer, mtu), ours)), ("client", pair(&world, ours, (peer, mtu)))]
                {
                    let took = Line::narrow(widest).run(&mut pair, Duration::from_secs(180));
                    assert!(
                        took <= at_most,
                        "{widest} bytes, a peer with {peer} ms and {mtu} bytes, ours the {role}: {took:?}"
                    );
                    pair.assert_alive();
                }
            }
        }
    }
}

#[test]
fn d103_both_ends_with_timers_of_nine_seconds_get_through() {
    let world = World::new();
    for widest in [600, 508, 260] {
        let mut pair = pair(&world, (9_000, dtls::MTU_DEFAULT), (9_000, dtls::MTU_DEFAULT));
        let took = Line::narrow(widest).run(&mut pair, Duration::from_secs(180));
        assert!(took <= Duration::from_secs(75), "{widest}: {took:?}");
    }
}

/// Handshakes of the loss test.
const HANDSHAKES: u64 = 2_000;

/// Datagrams of a thousand handshakes at a loss of one in ten and one in four, from a version that looked for narrow paths only after seven
/// seconds.
const DATAGRAMS_BEFORE: [(u64, usize); 2] = [(100, 7_235), (250, 9_546)];

#[test]
fn d103_where_datagrams_are_merely_lost_it_costs_few_more() {
    let world = World::new();
    for (loss, before) in DATAGRAMS_BEFORE {
        let mut datagrams = 0;
        for seed in 0..HANDSHAKES {
            let timer = (1_000, dtls::MTU_DEFAULT);
            let mut line = Line::lossy(loss, seed);
            line.run(&mut pair(&world, timer, timer), Duration::from_secs(180));
            datagrams += line.sent;
        }
        let per_thousand = datagrams * 1_000 / usize::try_from(HANDSHAKES).unwrap();
        assert!(per_thousand <= before * 110 / 100, "{loss} of 1,000 lost: {per_thousand} a thousand, {before} before");
    }
}

#[test]
fn d103_the_trace_says_what_is_tried() {
    let world = World::new();
    let notebook = Arc::new(Notebook::default());
    let timer = (1_000, dtls::MTU_DEFAULT);
    let mut pair = pair(&world, timer, timer);
    pair.endpoint.set_observer(Some(notebook.clone()));
    Line::narrow(260).run(&mut pair, Duration::from_secs(180));
    let lines = notebook.lines.lock().unwrap();
    for bytes in [508, 228] {
        assert!(lines.contains(&format!("Narrowing {{ bytes: {bytes} }}")), "{lines:?}");
    }
    let narrowed = pair.server_events.iter().find_map(|event| match event {
        Event::Established { narrowed_to, .. } => Some(*narrowed_to),
        _ => None,
    });
    assert_eq!(narrowed, Some(Some(228)));
}

/// A request and its answer, repeated as CoAP repeats them until they arrive; returns the number of
/// transmissions.
fn exchange(pair: &mut Pair, line: &mut Line, number: u32) -> u32 {
    let (request, answer) = (format!("request number {number}"), format!("the answer number {number}"));
    for repetitions in 0..4 {
        pair.clock.elapsed += Duration::from_secs(2);
        pair.client_sends(request.as_bytes());
        line.deliver(pair);
        // A repetition gets the same answer as before.
        if pair.server_received.last().is_some_and(|last| last == request.as_bytes()) {
            pair.server_sends(answer.as_bytes());
            line.deliver(pair);
        }
        if pair.client_received.last().is_some_and(|last| last == answer.as_bytes()) {
            return repetitions;
        }
    }
    panic!("request {number} does not get through");
}

#[test]
fn d103_a_size_that_was_narrowed_by_losses_grows_again() {
    let world = World::new();
    let timer = (1_000, dtls::MTU_DEFAULT);
    let mut pair = pair(&world, timer, timer);
    let mut line = Line::narrow(600);
    line.run(&mut pair, Duration::from_secs(60));
    let session = pair.session();
    assert!(pair.endpoint.plaintext_max(session) < 508 && pair.client.plaintext_max() < 508);
    line.widest = usize::MAX;
    let repetitions: u32 = (0..12).map(|number| exchange(&mut pair, &mut line, number)).sum();
    assert_eq!(repetitions, 0);
    assert!(pair.endpoint.plaintext_max(session) > 1_000, "{}", pair.endpoint.plaintext_max(session));
    assert!(pair.client.plaintext_max() > 1_000, "{}", pair.client.plaintext_max());
    assert!(pair.sent.iter().all(|(_, bytes)| bytes.len() <= dtls::MTU_DEFAULT));
}

#[test]
fn d103_on_a_path_that_is_narrow_an_attempt_costs_one_repetition_and_changes_nothing() {
    let world = World::new();
    let timer = (1_000, dtls::MTU_DEFAULT);
    let mut pair = pair(&world, timer, timer);
    let mut line = Line::narrow(600);
    line.run(&mut pair, Duration::from_secs(60));
    let session = pair.session();
    let repetitions: u32 = (0..400).map(|number| exchange(&mut pair, &mut line, number)).sum();
    // Each end makes an attempt at its eighth record, the next 64 records later, and then none for 512.
    assert_eq!(repetitions, 4);
    assert!(pair.endpoint.plaintext_max(session) < 508 && pair.client.plaintext_max() < 508);
}

#[test]
fn d103_a_session_that_was_never_narrowed_tries_nothing() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    let mut line = Line::narrow(usize::MAX);
    let from = pair.sent.len();
    for number in 0..40 {
        exchange(&mut pair, &mut line, number);
    }
    assert!(pair.sent[from..].iter().all(|(_, bytes)| bytes.len() < 100));
}
