//! The duration of an enrolment that the timers of RFC 6347 and RFC 7252 predict: a model that shares no code with our engines.
//!
//! ```text
//!   handshake: flights 1 to 6 (RFC 6347 §4.2.4, Figure 1), each of one or more datagrams; a flight is sent again when its
//!              timer expires, which doubles up to 60 s (§4.2.4.1), or when the other side repeats its last flight (Figure 3)
//!   exchange:  a request is sent up to five times: at 0, T, 3T, 7T and 15T, with T between ACK_TIMEOUT and 1.5 times that;
//!              at 31T the exchange starts again (RFC 7252 §4.2), until an answer has arrived
//! ```
//!
//! Every datagram is lost with the same probability or arrives after its delay. Computing takes no time, every datagram fits the path, neither
//! side gives up, and every request is answered. An engine can come close to this model; where it is faster, it repeats sooner than its RFC
//! says.

use std::collections::BTreeMap;
use std::time::Duration;

use coap::{ACK_TIMEOUT, MAX_RETRANSMIT};
use link::Delay;

use crate::chance::Chance;

/// The parameters of the model.
#[derive(Clone, Copy, Debug)]
pub struct Ideal {
    /// Datagrams lost per thousand, in each direction.
    pub loss: u16,
    /// The delay of a datagram, one way.
    pub delay: Delay,
    /// The client's first handshake timeout.
    pub client_timeout: Duration,
    /// The server's first handshake timeout.
    pub server_timeout: Duration,
    /// The number of datagrams of flights 4 and 5; each other flight is one datagram.
    pub flight_datagrams: (u32, u32),
    /// The number of requests after the handshake, sent one after the other; each block is a request.
    pub exchanges: u32,
}

/// "up to no less than the RFC 6298 maximum of 60 seconds" (RFC 6347 §4.2.4.1).
const HANDSHAKE_TIMEOUT_MAX: Duration = Duration::from_secs(60);

impl Ideal {
    /// Draws the duration of one enrolment.
    pub fn sample(&self, chance: &mut Chance) -> Duration {
        let handshake = ModelHandshake::new(self).run(chance);
        (0..self.exchanges).fold(handshake, |time, _| time + self.exchange(chance))
    }

    /// The time from the first transmission of a request to the arrival of its answer.
    fn exchange(&self, chance: &mut Chance) -> Duration {
        let mut sent = Duration::ZERO;
        let mut answered: Option<Duration> = None;
        loop {
            let mut timeout = chance.between(ACK_TIMEOUT, ACK_TIMEOUT * 3 / 2);
            for _ in 0..=MAX_RETRANSMIT {
                if let Some(at) = answered.filter(|at| *at <= sent) {
                    return at;
                }
                if let (Some(there), Some(back)) = (self.passage(chance), self.passage(chance)) {
                    let at = sent + there + back;
                    answered = Some(answered.map_or(at, |before| before.min(at)));
                }
                sent += timeout;
                timeout *= 2;
            }
        }
    }

    /// The delay of one datagram, or `None` if it is lost.
    fn passage(&self, chance: &mut Chance) -> Option<Duration> {
        (!chance.permille(self.loss)).then(|| chance.between(self.delay.least, self.delay.most))
    }
}

/// One handshake.
struct ModelHandshake<'i> {
    ideal: &'i Ideal,
    now: Duration,
    events: BTreeMap<(Duration, u64), ModelEvent>,
    count: u64,
    client: SideState,
    server: SideState,
}

#[derive(Clone, Copy)]
enum ModelEvent {
    ToClient(FlightDatagram),
    ToServer(FlightDatagram),
    /// The timer of this flight; ignored once another flight has been sent.
    ClientTimer(u32),
    ServerTimer(u32),
}

/// A datagram of a flight.
#[derive(Clone, Copy)]
struct FlightDatagram {
    flight: u32,
    number: u32,
}

/// The progress of one side.
struct SideState {
    /// The flight that it sent last; 0 before the first.
    sent: u32,
    /// The datagrams of the next flight that have arrived, one bit for each.
    arrived: u64,
    timeout: Duration,
}

impl<'i> ModelHandshake<'i> {
    fn new(ideal: &'i Ideal) -> Self {
        let side = || SideState { sent: 0, arrived: 0, timeout: Duration::ZERO };
        ModelHandshake { ideal, now: Duration::ZERO, events: BTreeMap::new(), count: 0, client: side(), server: side() }
    }

    fn run(mut self, chance: &mut Chance) -> Duration {
        self.client_sends(1, chance);
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            match event {
                ModelEvent::ToServer(datagram) => self.server_hears(datagram, chance),
                ModelEvent::ToClient(datagram) if datagram.flight == 6 && self.client.sent == 5 => return self.now,
                ModelEvent::ToClient(datagram) => self.client_hears(datagram, chance),
                ModelEvent::ClientTimer(flight) if flight == self.client.sent => {
                    self.client.timeout = (self.client.timeout * 2).min(HANDSHAKE_TIMEOUT_MAX);
                    self.transmit(flight, chance);
                    self.at(self.client.timeout, ModelEvent::ClientTimer(flight));
                }
                ModelEvent::ServerTimer(flight) if flight == self.server.sent => {
                    self.server.timeout = (self.server.timeout * 2).min(HANDSHAKE_TIMEOUT_MAX);
                    self.transmit(flight, chance);
                    self.at(self.server.timeout, ModelEvent::ServerTimer(flight));
                }
                ModelEvent::ClientTimer(_) | ModelEvent::ServerTimer(_) => {}
            }
        }
        self.now
    }

    fn client_hears(&mut self, datagram: FlightDatagram, chance: &mut Chance) {
        if datagram.flight == self.client.sent + 1 {
            if self.has_whole_flight(datagram) {
                self.client_sends(datagram.flight + 1, chance);
            }
        } else if datagram.flight + 1 == self.client.sent && datagram.flight == 4 && datagram.number == 0 {
            self.transmit(self.client.sent, chance);
        }
    }

    fn server_hears(&mut self, datagram: FlightDatagram, chance: &mut Chance) {
        match datagram.flight {
            // A hello without a cookie: the server answers it without keeping state.
            1 => self.transmit(2, chance),
            3 if self.server.sent < 4 => self.server_sends(4, chance),
            5 if self.server.sent == 4 => self.server_hears_keys(datagram, chance),
            flight if flight + 1 == self.server.sent && datagram.number == 0 => self.transmit(self.server.sent, chance),
            _ => {}
        }
    }

    fn server_hears_keys(&mut self, datagram: FlightDatagram, chance: &mut Chance) {
        if self.has_whole_flight(datagram) {
            // Flight 6 gets no answer, so its sender has no timer.
            self.server.sent = 6;
            self.transmit(6, chance);
        }
    }

    fn has_whole_flight(&mut self, datagram: FlightDatagram) -> bool {
        let all = (1 << self.datagrams(datagram.flight)) - 1;
        let side = if is_servers(datagram.flight) { &mut self.client } else { &mut self.server };
        side.arrived |= 1 << datagram.number;
        side.arrived == all
    }

    fn client_sends(&mut self, flight: u32, chance: &mut Chance) {
        self.client = SideState { sent: flight, arrived: 0, timeout: self.ideal.client_timeout };
        self.transmit(flight, chance);
        self.at(self.client.timeout, ModelEvent::ClientTimer(flight));
    }

    fn server_sends(&mut self, flight: u32, chance: &mut Chance) {
        self.server = SideState { sent: flight, arrived: 0, timeout: self.ideal.server_timeout };
        self.transmit(flight, chance);
        self.at(self.server.timeout, ModelEvent::ServerTimer(flight));
    }

    fn transmit(&mut self, flight: u32, chance: &mut Chance) {
        for number in 0..self.datagrams(flight) {
            let datagram = FlightDatagram { flight, number };
            if let Some(passage) = self.ideal.passage(chance) {
                self.at(
                    passage,
                    if is_servers(flight) { ModelEvent::ToClient(datagram) } else { ModelEvent::ToServer(datagram) },
                );
            }
        }
    }

    fn datagrams(&self, flight: u32) -> u32 {
        match flight {
            4 => self.ideal.flight_datagrams.0,
            5 => self.ideal.flight_datagrams.1,
            _ => 1,
        }
    }

    fn at(&mut self, after: Duration, event: ModelEvent) {
        self.count += 1;
        self.events.insert((self.now + after, self.count), event);
    }
}

/// Flights 1, 3 and 5 are the client's, 2, 4 and 6 the server's.
const fn is_servers(flight: u32) -> bool {
    flight.is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERFECT: Ideal = Ideal {
        loss: 0,
        delay: Delay::exactly(Duration::from_millis(50)),
        client_timeout: Duration::from_secs(1),
        server_timeout: Duration::from_secs(1),
        flight_datagrams: (2, 2),
        exchanges: 7,
    };

    #[test]
    fn without_loss_it_takes_three_round_trips_and_one_an_exchange() {
        assert_eq!(PERFECT.sample(&mut Chance::new(1, "ideal")), Duration::from_millis(100 * 10));
    }

    #[test]
    fn the_mean_of_an_exchange_is_what_can_be_computed_by_hand() {
        // Each transmission fails with p = 0.19, and the one after k failures is sent at (2^k - 1) T, where T is 2.5 s on average;
        // after five failures, at 31 T, the exchange starts again.
        let ideal = Ideal { loss: 100, delay: Delay::NONE, ..PERFECT };
        let mut chance = Chance::new(2, "ideal");
        let count = 100_000;
        let sum: f64 = (0..count).map(|_| ideal.exchange(&mut chance).as_secs_f64()).sum();
        let p: f64 = 0.19;
        let waits: f64 = (0..5).map(|k| p.powi(k) * (1.0 - p) * (2.0_f64.powi(k) - 1.0)).sum();
        let expected = 2.5 * (waits + p.powi(5) * 31.0) / (1.0 - p.powi(5));
        let mean = sum / f64::from(count);
        assert!((mean / expected - 1.0).abs() < 0.03, "{mean} instead of {expected}");
    }

    #[test]
    fn what_is_lost_costs_the_timer_of_its_side() {
        // Without delay only the sums of the timeouts remain: one second, doubled each time.
        let ideal = Ideal { loss: 200, delay: Delay::NONE, exchanges: 0, ..PERFECT };
        let mut chance = Chance::new(3, "ideal");
        let times: Vec<Duration> = (0..10_000).map(|_| ideal.sample(&mut chance)).collect();
        let share = |time: u64| times.iter().filter(|took| **took == Duration::from_secs(time)).count();
        assert!(share(0) > 1_000 && share(1) > 1_000 && share(3) > 100, "{} {} {}", share(0), share(1), share(3));
        assert!(times.iter().all(|took| took.subsec_nanos() == 0), "timers of whole seconds");
    }
}
