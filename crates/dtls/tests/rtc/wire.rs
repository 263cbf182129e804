//! The wire between two ends: it counts the datagrams each way, and may lose, duplicate or delay one of them.

use std::collections::VecDeque;
use std::time::Duration;

use dtls::AlertDescription;

use super::PathMtu;
use super::end::End;
use crate::support::forge::{ALERT, records};
use crate::support::{Clock, Way};

const FATAL: u8 = 2;
const SERVER_HELLO: u8 = 2;

/// What happens to a datagram, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Lost,
    Doubled,
    /// It arrives after the next datagram of its direction, which may be of the same flight or a repetition of it.
    Swapped,
}

pub const FAULTS: [Fault; 3] = [Fault::Lost, Fault::Doubled, Fault::Swapped];

/// One datagram of a handshake, and what happens to it.
#[derive(Clone, Copy, Debug)]
pub struct Misfortune {
    pub way: Way,
    /// Counted from zero in its direction.
    pub number: usize,
    pub fault: Fault,
}

/// Two ends, the datagrams between them, and their common clock.
pub struct Wire<C, S> {
    pub client: C,
    pub server: S,
    pub clock: Clock,
    /// Every datagram that was sent, in order.
    pub sent: Vec<(Way, Vec<u8>)>,
    pub misfortune: Option<Misfortune>,
    under_way: VecDeque<(Way, Vec<u8>)>,
    delivered: [usize; 2],
    held_back: Option<(Way, Vec<u8>)>,
}

impl<C: End, S: End> Wire<C, S> {
    pub fn new(clock: Clock, client: C, server: S) -> Self {
        let mut wire = Self {
            client,
            server,
            clock,
            sent: Vec::new(),
            misfortune: None,
            under_way: VecDeque::new(),
            delivered: [0; 2],
            held_back: None,
        };
        wire.collect();
        wire
    }

    /// Both ends are done.
    pub fn is_established(&self) -> bool {
        self.client.is_established() && self.server.is_established()
    }

    /// Checks that both ends are done without errors; if not, says why.
    pub fn assert_established(&self) {
        let faults = (self.client.faults(), self.server.faults());
        let fine = self.is_established() && faults.0.is_empty() && faults.1.is_empty();
        assert!(
            fine,
            "client {:?}, server {:?}, after {:?}: {:?}",
            faults.0, faults.1, self.clock.elapsed, self.misfortune
        );
    }

    fn collect(&mut self) {
        while let Some(datagram) = self.client.poll_transmit() {
            self.sent.push((Way::ToServer, datagram.clone()));
            self.under_way.push_back((Way::ToServer, datagram));
        }
        while let Some(datagram) = self.server.poll_transmit() {
            self.sent.push((Way::ToClient, datagram.clone()));
            self.under_way.push_back((Way::ToClient, datagram));
        }
    }

    /// Hands a datagram to its receiver.
    pub fn give(&mut self, way: Way, datagram: &[u8]) {
        let now = self.clock.now();
        match way {
            Way::ToServer => self.server.handle(now, datagram),
            Way::ToClient => self.client.handle(now, datagram),
        }
        self.collect();
    }

    /// Delivers until no datagram is in transit. Time does not pass.
    pub fn run(&mut self) {
        for _ in 0..1_000 {
            let Some((way, datagram)) = self.under_way.pop_front() else { return };
            let number = &mut self.delivered[usize::from(way == Way::ToClient)];
            let struck = self.misfortune.filter(|struck| struck.way == way && struck.number == *number);
            *number += 1;
            match struck.map(|struck| struck.fault) {
                Some(Fault::Lost) => continue,
                Some(Fault::Swapped) => {
                    self.held_back = Some((way, datagram));
                    continue;
                }
                Some(Fault::Doubled) => self.give(way, &datagram),
                None => (),
            }
            self.give(way, &datagram);
            if let Some((way, late)) = self.held_back.take_if(|(held, _)| *held == way) {
                self.give(way, &late);
            }
        }
        panic!("the two ends keep sending");
    }

    /// Delivers, and advances the clock to each next timeout, until both ends are done or `at_most` has passed.
    pub fn shake_hands(&mut self, at_most: Duration) {
        self.run();
        while !self.is_established() && self.clock.elapsed < at_most {
            let due = [self.client.poll_timeout(), self.server.poll_timeout()].into_iter().flatten().min();
            let Some(at) = due else { return };
            self.clock.advance_to(at);
            let now = self.clock.now();
            self.client.handle_timeout(now);
            self.server.handle_timeout(now);
            self.collect();
            self.run();
        }
        if let Some((way, late)) = self.held_back.take() {
            self.give(way, &late);
            self.run();
        }
    }

    /// Checks that data of this length arrives in both directions.
    pub fn assert_alive(&mut self, length: usize) {
        let request: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
        let answer: Vec<u8> = request.iter().rev().copied().collect();
        self.client.send(self.clock.now(), &request);
        self.collect();
        self.run();
        assert_eq!(self.server.received().last(), Some(&request));
        self.server.send(self.clock.now(), &answer);
        self.collect();
        self.run();
        assert_eq!(self.client.received().last(), Some(&answer));
    }

    /// Checks that the client's close_notify reaches the server.
    pub fn client_closes(&mut self) {
        self.client.close(self.clock.now());
        self.collect();
        self.run();
        assert!(self.server.is_closed_by_peer());
    }

    /// Checks that the server's close_notify reaches the client.
    pub fn server_closes(&mut self) {
        self.server.close(self.clock.now());
        self.collect();
        self.run();
        assert!(self.client.is_closed_by_peer());
    }

    /// Number of datagrams sent this way.
    pub fn count(&self, way: Way) -> usize {
        self.sent.iter().filter(|(sent, _)| *sent == way).count()
    }

    /// Length of the longest datagram sent this way.
    pub fn longest(&self, way: Way) -> usize {
        self.sent.iter().filter(|(sent, _)| *sent == way).map(|(_, datagram)| datagram.len()).max().unwrap()
    }

    pub fn assert_within(&self, path: PathMtu) {
        for way in [Way::ToServer, Way::ToClient] {
            assert!(self.longest(way) <= path.0, "{way:?}: {} bytes on a path of {path:?}", self.longest(way));
        }
    }

    /// The suite in the ServerHello on the wire, which must be whole in one record.
    pub fn suite_code(&self) -> u16 {
        let to_client = self.sent.iter().filter(|(way, _)| *way == Way::ToClient);
        let mut records = to_client.flat_map(|(_, datagram)| records(datagram));
        let hello = records.find(|record| record.handshake_type() == Some(SERVER_HELLO)).unwrap();
        let body = &hello.payload[12..];
        let session_id = usize::from(body[34]);
        u16::from_be_bytes([body[35 + session_id], body[36 + session_id]])
    }

    /// The last datagram sent this way, which must be a single fatal alert in plaintext.
    pub fn last_alert(&self, way: Way) -> AlertDescription {
        let records = records(&self.sent.iter().rfind(|(sent, _)| *sent == way).unwrap().1);
        assert_eq!(records.len(), 1);
        let (header, content) = ((records[0].content_type, records[0].epoch), &records[0].payload);
        assert_eq!((header, content[0]), ((ALERT, 0), FATAL));
        AlertDescription(content[1])
    }
}
