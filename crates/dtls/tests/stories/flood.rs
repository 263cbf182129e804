//! Honest devices during a flood of handshakes that are begun and never finished.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use dtls::{Client, Event, HandshakeRefusal, HandshakeType, Path, SocketIndex};

use crate::support::forge::{HANDSHAKE, Piece, Raw, records};
use crate::support::script::{Hello, Script};
use crate::support::{Known, World};

pub(crate) const STEP: Duration = Duration::from_millis(20);
/// More handshake slots than the flood takes: at 150 a second, given up after 12 s, the flood takes 1,800.
const PLENTY: usize = 4_096;
/// Fewer slots than the flood takes.
const SCARCE: usize = 512;
const ONE_WAY: Duration = Duration::from_millis(100);

pub(crate) fn at(address: [u8; 4], port: u16) -> Path {
    Path { peer: SocketAddr::from((address, port)), local: None, socket: SocketIndex(0) }
}

/// A device on a link that loses one datagram in ten, each way; every run loses the same ones.
pub(crate) struct Device {
    client: Client<Known>,
    path: Path,
    pub(crate) begins: Duration,
    to_server: VecDeque<(Duration, Vec<u8>)>,
    to_client: VecDeque<(Duration, Vec<u8>)>,
    dice: u64,
    /// Everything it sends in this time after it began is lost.
    silent: Range<Duration>,
    pub(crate) took: Option<Duration>,
}

impl Device {
    /// A device that begins now, with this timer.
    pub(crate) fn new(script: &Script, world: &World, path: Path, timer: Duration, seed: u64) -> Self {
        Self {
            client: world.client_with(&script.clock, |config| config.retransmission_initial = timer),
            path,
            begins: script.clock.elapsed,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            dice: seed,
            silent: Duration::ZERO..Duration::ZERO,
            took: None,
        }
    }

    fn loses(&mut self) -> bool {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33).is_multiple_of(10)
    }

    fn fetch(&mut self, now: Duration) {
        while let Some(datagram) = self.client.poll_transmit().map(<[u8]>::to_vec) {
            let lost = self.loses() || self.silent.contains(&(now.saturating_sub(self.begins)));
            if !lost {
                self.to_server.push_back((now + ONE_WAY, datagram));
            }
        }
    }
}

/// What strangers send, how often, and from where.
#[derive(Clone, Copy)]
struct Flood {
    sends: Sent,
    per_second: u64,
    /// The path of the n-th handshake.
    source: fn(u64) -> Path,
}

#[derive(Clone, Copy)]
enum Sent {
    /// First fragments that include the whole cookie.
    Fragments,
    /// Whole hellos: each costs a signature.
    Hellos,
}

/// 10,000 networks, each in a different /16.
pub(crate) fn everywhere(n: u64) -> Path {
    let [.., a, b] = (n * 7_919 % 10_000).to_be_bytes();
    at([11 + a, b, 1, 1], port(n))
}

/// Sixteen hosts in sixteen /24s, four in each of four /16s: when together they hold every slot, no prefix holds more than its share.
pub(crate) fn sixteen_networks(n: u64) -> Path {
    let [.., n_16] = (n % 16).to_be_bytes();
    at([11, n_16 % 4, n_16 / 4 * 64, 1], port(n / 16))
}

/// 256 hosts, four in each of 64 /16s: when together they hold every slot, no prefix holds more than a
/// sixteenth of its share.
fn many_networks(n: u64) -> Path {
    let [.., n_256] = (n % 256).to_be_bytes();
    at([11, n_256 % 64, n_256 / 64 * 64, 1], port(n / 256))
}

pub(crate) fn port(n: u64) -> u16 {
    u16::try_from(n % 60_000).unwrap() + 1
}

/// The devices of a run.
#[derive(Clone)]
struct Trial {
    /// The time during which the devices begin, one after the other, and the flood arrives.
    lasts: Duration,
    half_open_max: usize,
    /// When the datagrams of each device are lost, counted from its beginning.
    silent: Range<Duration>,
}

impl Trial {
    fn of(seconds: u64, half_open_max: usize) -> Self {
        Self { lasts: Duration::from_secs(seconds), half_open_max, silent: Duration::ZERO..Duration::ZERO }
    }
}

/// A device that has the server's flight cannot reach the server for twenty seconds: with timers of 9 s it sends its own flight for the
/// third time after 27 s.
fn after_its_hello() -> Range<Duration> {
    Duration::from_millis(400)..Duration::from_secs(20)
}

/// Handshake times of all devices, sorted; `None` last.
fn times(flood: Option<Flood>, trial: &Trial) -> Vec<Option<Duration>> {
    let &Trial { lasts, half_open_max, ref silent } = trial;
    let world = World::new();
    let endpoint = world.endpoint_with(|config| config.limits.half_open_max = half_open_max);
    let mut script = Script::unbegun(&world, endpoint, Hello::default());
    let mut sent = 0_u64;
    let crowd = Crowd { begins_within: lasts, ends: lasts + Duration::from_secs(180), silent: silent.clone() };
    crowd.times_beside(&world, &mut script, |script, now| {
        let Some(flood) = flood.filter(|_| now < lasts) else { return };
        while sent * 1_000 < flood.per_second * u64::try_from(now.as_millis()).unwrap() {
            sent += 1;
            begin(script, (flood.source)(sent), sent, flood.sends);
        }
    })
}

/// Forty honest devices, each with an address in a network of its own, with timers of 1 s and of 9 s in turn.
pub(crate) struct Crowd {
    /// They begin one after the other.
    pub(crate) begins_within: Duration,
    /// End of the run: no device waits longer than this.
    pub(crate) ends: Duration,
    /// When the datagrams of each device are lost, counted from its beginning.
    pub(crate) silent: Range<Duration>,
}

impl Crowd {
    /// Handshake times of all devices, sorted, `None` last, while strangers act at each step of time.
    pub(crate) fn times_beside(
        &self,
        world: &World,
        script: &mut Script,
        mut strangers: impl FnMut(&mut Script, Duration),
    ) -> Vec<Option<Duration>> {
        let mut devices = Vec::new();
        for n in 0..40_u16 {
            script.clock.elapsed = self.begins_within * u32::from(n) / 40;
            let timer = Duration::from_secs(if n % 2 == 0 { 1 } else { 9 });
            let path = at([100, 64 + n.to_be_bytes()[1], 0, 1], 5_000);
            let device = Device::new(script, world, path, timer, u64::from(n) + 9);
            devices.push(Device { silent: self.silent.clone(), ..device });
        }
        script.clock.elapsed = Duration::ZERO;
        while script.clock.elapsed < self.ends && devices.iter().any(|device| device.took.is_none()) {
            let now = script.clock.elapsed;
            strangers(script, now);
            for device in devices.iter_mut().filter(|device| device.begins <= now && device.took.is_none()) {
                step(script, device, now);
            }
            if script.endpoint.poll_timeout().is_some_and(|due| due <= script.clock.now().mono) {
                script.endpoint.handle_timeout(script.clock.now());
                while script.endpoint.poll_event().is_some() {}
                deliver(script, &mut devices, now);
            }
            script.clock.elapsed += STEP;
        }
        let mut times: Vec<_> = devices.iter().map(|device| device.took).collect();
        times.sort_by_key(|took| took.unwrap_or(Duration::MAX));
        times
    }
}

/// Asks for a cookie from `path`, with the n-th random, and leaves the hello with that cookie in the script.
pub(crate) fn fetch_cookie(script: &mut Script, path: Path, n: u64) {
    script.path = path;
    let mut random = [3; 32];
    random[..8].copy_from_slice(&n.to_be_bytes());
    script.hello = Hello { random, ..Hello::default() };
    let answers = script.give(&script.hello.datagram(0, 0));
    let request = Piece::parse(&records(&answers[0])[0].payload);
    assert_eq!(request.kind, 3, "HelloVerifyRequest");
    script.hello.cookie = request.body[3..].to_vec();
}

fn begin(script: &mut Script, path: Path, n: u64, sends: Sent) {
    fetch_cookie(script, path, n);
    match sends {
        Sent::Fragments => {
            let first = Piece::whole(1, 1, &script.hello.body()).fragments(70).remove(0);
            script.give(&Raw::new(HANDSHAKE, 0, 1, &first.bytes()).bytes());
        }
        Sent::Hellos => drop(script.give(&script.hello.datagram(1, 1))),
    }
    script.answers.clear();
    script.events.clear();
}

/// One device, one step of time.
pub(crate) fn step(script: &mut Script, device: &mut Device, now: Duration) {
    if device.client.poll_timeout().is_some_and(|due| due <= script.clock.now().mono) {
        device.client.handle_timeout(script.clock.now());
    }
    device.fetch(now);
    while let Some((_, datagram)) = device.to_server.pop_front_if(|(arrives, _)| *arrives <= now) {
        script.path = device.path;
        for answer in script.give(&datagram) {
            if !device.loses() {
                device.to_client.push_back((now + ONE_WAY, answer));
            }
        }
        script.answers.clear();
        script.events.clear();
    }
    while let Some((_, mut datagram)) = device.to_client.pop_front_if(|(arrives, _)| *arrives <= now) {
        device.client.handle_datagram(script.clock.now(), &mut datagram);
        while device.client.poll_event().is_some() {}
        device.fetch(now);
    }
    if device.client.facts().is_some() {
        device.took = Some(now - device.begins);
    }
}

/// The server's own repetitions.
pub(crate) fn deliver(script: &mut Script, devices: &mut [Device], now: Duration) {
    while let Some((path, bytes)) = script.endpoint.poll_transmit().map(|one| (one.path, one.bytes.to_vec())) {
        let of_route = |device: &&mut Device| device.path == path;
        if let Some(device) = devices.iter_mut().find(of_route)
            && !device.loses()
        {
            device.to_client.push_back((now + ONE_WAY, bytes));
        }
    }
}

fn assert_unharmed(flood: Flood, trial: &Trial) {
    let (quiet, flooded) = (times(None, trial), times(Some(flood), trial));
    assert!(quiet.iter().all(Option::is_some), "{quiet:?}");
    assert!(flooded.iter().all(Option::is_some), "{flooded:?}");
    // With forty devices the 99th percentile is the slowest.
    assert!(flooded.last().unwrap() <= &quiet.last().unwrap().map(|slowest| slowest * 2), "{quiet:?} {flooded:?}");
}

#[test]
fn d86_first_fragments_for_ten_minutes_keep_no_device_out() {
    let flood = Flood { sends: Sent::Fragments, per_second: 150, source: everywhere };
    assert_unharmed(flood, &Trial::of(600, PLENTY));
}

#[test]
fn d86_first_fragments_that_take_every_slot_keep_no_device_out() {
    let flood = Flood { sends: Sent::Fragments, per_second: 150, source: everywhere };
    assert_unharmed(flood, &Trial::of(120, SCARCE));
}

#[test]
fn d86_a_first_fragment_holds_its_slot_for_twelve_seconds_and_no_longer() {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
    let path = script.path;
    begin(&mut script, path, 1, Sent::Fragments);
    let began = script.clock.elapsed;
    let mut at = |millis: u64| {
        script.clock.elapsed = began + Duration::from_millis(millis);
        script.endpoint.handle_timeout(script.clock.now());
        let refused = std::iter::from_fn(|| script.endpoint.poll_event()).find_map(|event| match event {
            Event::Refused { refusal, .. } => Some(refusal),
            _ => None,
        });
        (script.endpoint.counts().half_open, refused)
    };
    assert_eq!(at(11_900), (1, None));
    let expected = HandshakeType::CLIENT_HELLO;
    assert_eq!(at(12_000), (0, Some(HandshakeRefusal::TimedOut { expected })));
}

#[test]
fn d86_d87_begun_handshakes_for_two_minutes_keep_no_device_out() {
    let flood = Flood { sends: Sent::Hellos, per_second: 150, source: everywhere };
    assert_unharmed(flood, &Trial::of(120, PLENTY));
}

#[test]
fn d87_d88_sixteen_networks_that_keep_to_their_shares_displace_each_other_and_no_device() {
    let flood = Flood { sends: Sent::Hellos, per_second: 400, source: sixteen_networks };
    assert_unharmed(flood, &Trial { silent: after_its_hello(), ..Trial::of(60, PLENTY) });
}

#[test]
fn d87_d88_sixteen_networks_that_begin_more_than_the_slots_serve_keep_no_device_out() {
    let flood = Flood { sends: Sent::Hellos, per_second: 2_000, source: sixteen_networks };
    assert_unharmed(flood, &Trial::of(40, PLENTY));
}

#[test]
fn d87_networks_that_hold_a_small_part_of_their_shares_displace_no_device_that_holds_less() {
    let flood = Flood { sends: Sent::Hellos, per_second: 400, source: many_networks };
    assert_unharmed(flood, &Trial { silent: after_its_hello(), ..Trial::of(60, PLENTY) });
}
