//! A full server: an idle session is evicted for a new device, a session in the middle of an enrolment stays until it
//! has its certificate, and if no session is idle the new device is refused with a reason.

use std::time::Duration;

use coap::BlockSize;
use dtls::{Closed, DropReason};
use est::{ClientConfig, ClientEvent, Operation, Reason};

use crate::support::{Device, Holder, Key, Pace, World, csr};

/// Longer than `eviction_idle_min`, shorter than any wait of a device in the middle of an enrolment.
const IDLE: Duration = Duration::from_secs(11);

/// No limit on datagrams.
const ALL: usize = usize::MAX;

/// A server with few places and the devices that want one. A device acts only when a test lets it.
struct House {
    world: World,
    devices: Vec<Device>,
}

impl House {
    fn of(sessions_max: usize) -> Self {
        let mut world = World::with(|_, spec| spec.dtls.sessions_max = sessions_max);
        world.pace = Pace::Held;
        Self { world, devices: Vec::new() }
    }

    /// A device arrives and sends `most` datagrams of its handshake.
    fn arrive(&mut self, most: usize) -> usize {
        let holder = self.world.pki.device(u32::try_from(self.devices.len()).unwrap() + 1);
        self.arrive_as(&holder, most)
    }

    /// Like `arrive`, with a certificate that may have other sessions.
    fn arrive_as(&mut self, holder: &Holder, most: usize) -> usize {
        let who = self.devices.len();
        let dtls = self.world.dtls_config(holder);
        let config = ClientConfig { block: BlockSize::B64, ..ClientConfig::default() };
        self.devices.push(self.world.dial(u16::try_from(who).unwrap() + 1, dtls, config));
        self.speak(who, most);
        who
    }

    fn settled(&mut self) -> usize {
        let who = self.arrive(ALL);
        assert!(matches!(self.devices[who].event(), ClientEvent::Connected { .. }));
        who
    }

    /// A device asks for its certificate, and sends `most` datagrams of the request.
    fn enroll(&mut self, who: usize, most: usize) {
        let holder = self.world.pki.device(u32::try_from(who).unwrap() + 1);
        let request = csr(holder.certificate.subject(), &Key::new());
        self.devices[who].client.start(self.world.now, Operation::Enroll { csr: request }).unwrap();
        self.speak(who, most);
    }

    /// Carries datagrams until this device and the server have none left, or the device has sent `most`. Every device
    /// receives.
    fn speak(&mut self, who: usize, most: usize) {
        let mut sent = 0;
        loop {
            let next = if sent < most { self.devices[who].client.poll_transmit().map(<[u8]>::to_vec) } else { None };
            let Some(mut datagram) = next else { return };
            sent += 1;
            let path = self.devices[who].path;
            self.world.server.handle_datagram(self.world.now, path, &mut datagram);
            self.world.serve();
            self.hear();
        }
    }

    /// Delivers the server's datagrams to every device.
    fn hear(&mut self) {
        while let Some((path, mut datagram)) = self.said() {
            let device = self.devices.iter_mut().find(|device| device.path == path).expect("to a known device");
            device.client.handle_datagram(self.world.now, &mut datagram);
            while let Some(event) = device.client.poll_event() {
                device.events.push_back(event);
            }
        }
    }

    fn said(&mut self) -> Option<(est::Path, Vec<u8>)> {
        self.world.server.poll_transmit().map(|transmit| (transmit.path, transmit.bytes.to_vec()))
    }

    /// Lets time pass; the server's datagrams are lost meanwhile.
    fn pass(&mut self, duration: Duration) {
        let end = self.world.now.mono + duration;
        while let Some(due) = self.world.server.poll_timeout().filter(|due| *due <= end) {
            self.world.advance_to(due.max(self.world.now.mono));
            self.world.server.handle_timeout(self.world.now);
            while self.said().is_some() {}
        }
        self.world.advance_to(end);
    }

    /// Two devices arrive one after the other while all others are idle, and the second takes the place of the first.
    fn two_newcomers_share_a_place(&mut self, idle: usize) {
        self.pass(IDLE);
        let first = self.settled();
        assert!(
            matches!(self.devices[idle].event(), ClientEvent::Closed(Closed::ByPeer)),
            "the idle session made room"
        );
        self.pass(IDLE);
        self.settled();
        assert!(matches!(self.devices[first].event(), ClientEvent::Closed(Closed::ByPeer)));
    }

    fn turned_away(&self) -> u64 {
        self.world.server.drops().count(DropReason::SessionsFull)
    }

    fn serve_jobs(&mut self) {
        self.world.release();
        self.hear();
    }
}

#[test]
fn an_upload_keeps_its_session_while_idle_ones_make_room() {
    let mut house = House::of(2);
    let busy = house.settled();
    house.enroll(busy, 2);
    let idle = house.settled();
    house.two_newcomers_share_a_place(idle);
    assert!(house.devices[busy].events.is_empty(), "{:?}", house.devices[busy].events);
    house.speak(busy, ALL);
    house.serve_jobs();
    house.speak(busy, ALL);
    house.devices[busy].certificate();
    assert_eq!(house.world.ledger.issued_count(), 1);
}

#[test]
fn a_request_that_waits_for_its_signature_keeps_its_session() {
    let mut house = House::of(2);
    let busy = house.settled();
    house.enroll(busy, ALL);
    assert_eq!(house.world.submitted, 1);
    let idle = house.settled();
    house.two_newcomers_share_a_place(idle);
    house.serve_jobs();
    house.speak(busy, ALL);
    house.devices[busy].certificate();
    assert_eq!((house.world.submitted, house.world.ledger.issued_count()), (1, 1));
}

#[test]
fn a_separate_response_that_nobody_acknowledged_keeps_its_session() {
    let mut house = House::of(2);
    let busy = house.settled();
    house.enroll(busy, ALL);
    let idle = house.settled();
    // After the empty acknowledgement, the answer is sent as a separate message, and is lost.
    house.pass(Duration::from_secs(2));
    house.world.release();
    assert!(house.said().is_some(), "the answer");
    assert_eq!(house.world.server.counters().coap.separate, 1);
    house.two_newcomers_share_a_place(idle);
    // One of its retransmissions arrives: "retransmission counter", up to MAX_RETRANSMIT (RFC 7252 §4.2).
    while house.devices[busy].events.is_empty() {
        let due = house.world.server.poll_timeout().expect("a repetition to come");
        house.world.advance_to(due);
        house.world.server.handle_timeout(house.world.now);
        house.hear();
        house.speak(busy, ALL);
    }
    house.devices[busy].certificate();
    assert_eq!(house.world.ledger.issued_count(), 1);
}

#[test]
fn an_answer_in_blocks_keeps_its_session_until_the_last_one_is_fetched() {
    let mut house = House::of(2);
    let busy = house.settled();
    house.enroll(busy, ALL);
    house.serve_jobs();
    house.speak(busy, 1);
    assert!(house.devices[busy].events.is_empty(), "a certificate has more than two blocks of 64 bytes");
    let idle = house.settled();
    house.two_newcomers_share_a_place(idle);
    house.speak(busy, ALL);
    house.devices[busy].certificate();
    assert_eq!(house.world.ledger.issued_count(), 1);
    // After the last block it is a session like any other.
    house.pass(IDLE);
    let newcomers = [house.settled(), house.settled()];
    assert!(matches!(house.devices[busy].event(), ClientEvent::Closed(Closed::ByPeer)));
    assert!(newcomers.iter().all(|newcomer| house.devices[*newcomer].events.is_empty()));
}

#[test]
fn where_nobody_is_idle_the_newcomer_is_turned_away_by_name() {
    let mut house = House::of(2);
    let (uploading, waiting) = (house.settled(), house.settled());
    house.enroll(uploading, 1);
    house.enroll(waiting, ALL);
    house.pass(IDLE);
    let newcomer = house.arrive(ALL);
    assert!(house.devices[newcomer].events.is_empty());
    assert_eq!(house.turned_away(), 1, "{:?}", house.world.server.drops());
    assert_eq!(
        house.world.server.counters().sessions.unwrap().half_open,
        0,
        "no state is kept for a device without a place"
    );

    house.speak(uploading, ALL);
    house.serve_jobs();
    for busy in [uploading, waiting] {
        house.speak(busy, ALL);
        house.devices[busy].certificate();
    }
    assert_eq!(house.world.ledger.issued_count(), 2);
    // The same device connects again after they have been idle for a while.
    house.pass(IDLE);
    let due = house.devices[newcomer].client.poll_timeout().unwrap().max(house.world.now.mono);
    house.world.advance_to(due);
    house.devices[newcomer].client.handle_timeout(house.world.now);
    house.speak(newcomer, ALL);
    assert!(matches!(house.devices[newcomer].event(), ClientEvent::Connected { .. }));
}

#[test]
fn whose_place_was_taken_during_its_handshake_is_refused_by_name() {
    let mut house = House::of(1);
    let first = house.settled();
    house.pass(IDLE);
    // Both hellos: the server has sent its flight, and another session is still idle.
    let newcomer = house.arrive(2);
    house.enroll(first, 1);
    house.speak(newcomer, ALL);
    let refused = house.world.attempts.last().unwrap();
    assert_eq!(refused.reason(), Some(Reason::SessionsFull), "{refused:?}");
    assert!(Reason::SessionsFull.explain().contains("on wire  close_notify"));
    // Our Finished had to be sent first: otherwise the alert would be under keys that the device does not have yet.
    assert!(matches!(house.devices[newcomer].event(), ClientEvent::Connected { .. }));
    assert!(matches!(house.devices[newcomer].event(), ClientEvent::Closed(Closed::ByPeer)));
    assert_eq!(house.turned_away(), 0, "it was not at the door any more");
    house.speak(first, ALL);
    house.serve_jobs();
    house.speak(first, ALL);
    house.devices[first].certificate();
}

#[test]
fn c44_open_uploads_of_one_certificate_leave_places_to_the_sessions_of_others() {
    const SESSIONS_MAX: usize = 8;
    let mut house = House::of(SESSIONS_MAX);
    let greedy = house.world.pki.device(1_000);
    let begin_upload = |house: &mut House| {
        let who = house.arrive_as(&greedy, ALL);
        assert!(matches!(house.devices[who].event(), ClientEvent::Connected { .. }));
        house.enroll(who, 1);
        who
    };
    let uploading: Vec<_> = (0..SESSIONS_MAX).map(|_| begin_upload(&mut house)).collect();
    house.pass(IDLE);
    // Other devices arrive one after the other; each is in the middle of its enrolment when the next one arrives.
    let others: Vec<_> = (0..SESSIONS_MAX / 2)
        .map(|_| {
            let who = house.settled();
            house.enroll(who, 1);
            house.pass(IDLE);
            who
        })
        .collect();
    assert_eq!(house.turned_away(), 0, "{:?}", house.world.server.drops());
    // It keeps the sessions that it may pin, and can continue in them.
    let kept = uploading.iter().filter(|who| house.devices[**who].events.is_empty()).count();
    assert_eq!(kept, SESSIONS_MAX / 2);
    for who in others {
        house.speak(who, ALL);
        house.serve_jobs();
        house.speak(who, ALL);
        house.devices[who].certificate();
    }
    // They are idle now. The device connects again, and pins no more sessions than before.
    house.pass(IDLE);
    for _ in 0..SESSIONS_MAX / 2 {
        begin_upload(&mut house);
    }
    house.pass(IDLE);
    let last = house.settled();
    house.enroll(last, ALL);
    house.serve_jobs();
    house.speak(last, ALL);
    house.devices[last].certificate();
    assert_eq!(house.turned_away(), 0);
}

#[test]
fn c44_the_sessions_of_one_certificate_give_way_to_others_however_awake_they_are() {
    const SESSIONS_MAX: usize = 8;
    let mut house = House::of(SESSIONS_MAX);
    let greedy = house.world.pki.device(1_000);
    let connected = |house: &mut House, who: usize| {
        matches!(house.devices[who].events.pop_front(), Some(ClientEvent::Connected { .. }))
    };
    for _ in 0..SESSIONS_MAX {
        let who = house.arrive_as(&greedy, ALL);
        assert!(connected(&mut house, who));
    }
    // No session has been idle for as long as a session may be.
    let others: Vec<_> = (0..SESSIONS_MAX - 2).map(|_| house.settled()).collect();
    assert_eq!(house.turned_away(), 0);
    // It takes none from those who have one, however often it tries.
    for _ in 0..SESSIONS_MAX {
        let who = house.arrive_as(&greedy, ALL);
        assert!(connected(&mut house, who), "our Finished comes before the refusal");
        assert!(matches!(house.devices[who].event(), ClientEvent::Closed(Closed::ByPeer)));
    }
    assert_eq!(house.world.server.counters().sessions.unwrap().established, SESSIONS_MAX);
    assert!(others.iter().all(|who| house.devices[*who].events.is_empty()));
}
