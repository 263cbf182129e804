//! A device that receives arbitrary datagrams from the network.
//!
//! An input starts with two bytes, the [`Errand`]. Frames follow: two bytes with the length of a datagram of the server, then the
//! datagram; or, with the highest bit set, two bytes with a time that passes. The seeds are answers of a real server, which this
//! client accepts as the recording client did.

use std::sync::Arc;
use std::time::Duration;

use coap::{BlockSize, Kind};
use dtls::{Now, Suite};
use est::{Answer, Client, ClientConfig, ClientEvent, DtlsConfig, Operation, Packing, Persistence};

use super::site::{FIXTURE, SEED};
use crate::chance::DerivedRandom;
use crate::clock::VirtualClock;
use crate::trust::TestIdentity;

/// The highest bit of a length: a time, in [`TICK`]s.
pub(super) const TIME: u16 = 0x8000;
pub(super) const TICK: Duration = Duration::from_millis(10);

/// The most datagrams that the client sends for one that it receives: its second flight in the smallest pieces, twice.
const SAID_AT_ONCE_MAX: usize = 100;
/// The most deadlines that are served before the client gives up.
const TURNS_MAX: u32 = 5_000;

/// The device's request and settings, from two bytes of an input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand(pub(super) u16);

impl Errand {
    pub(super) const NON: u16 = 0x20;
    pub(super) const BARE: u16 = 0x40;
    pub(super) const CCM: u16 = 0x80;
    /// The client repeats by itself after failures.
    pub(super) const PERSISTENT: u16 = 0x100;
    /// An undefined block size, which selects blocks of 64 bytes and the smallest datagrams.
    pub(super) const SMALL: u16 = 7 << 2;

    const fn is_small(self) -> bool {
        self.0 & Self::SMALL == Self::SMALL
    }

    fn block(self) -> BlockSize {
        let szx = u8::try_from(self.0 >> 2 & 7).ok();
        szx.and_then(BlockSize::from_szx).unwrap_or(BlockSize::B64)
    }

    fn dtls(self, identity: &TestIdentity) -> DtlsConfig {
        let mut config = FIXTURE.dtls_config(identity);
        if self.0 & Self::CCM != 0 {
            config.suites = vec![Suite::EcdheEcdsaAes128Ccm8];
        }
        if self.is_small() {
            config.mtu = dtls::MTU_MIN;
        }
        config
    }

    fn operation(self) -> Operation {
        let csr = || FIXTURE.devices[0].request.csr.clone();
        match self.0 & 3 {
            0 => Operation::CaCertificates,
            1 => Operation::Enroll { csr: csr() },
            2 => Operation::Reenroll { csr: csr() },
            _ => Operation::Discover { query: Some("rt=ace.est*".to_owned()) },
        }
    }

    fn config(self) -> ClientConfig {
        ClientConfig {
            block: self.block(),
            kind: if self.0 & Self::NON == 0 { Kind::Confirmable } else { Kind::NonConfirmable },
            accept: (self.0 & Self::BARE != 0).then_some(Packing::Single),
            persistence: (self.0 & Self::PERSISTENT != 0).then(Persistence::default),
            ..ClientConfig::default()
        }
    }
}

/// A device with one errand.
pub(super) struct Visitor {
    pub(super) client: Client,
    errand: Errand,
    pub(super) answer: Option<Answer>,
}

impl Visitor {
    /// The device that runs `errand` with its present certificate, `identity`, and an optional observer.
    pub(super) fn new(
        errand: Errand,
        identity: &TestIdentity,
        now: Now,
        observer: Option<Arc<dyn dtls::Observer>>,
    ) -> Self {
        let random = Arc::new(DerivedRandom::new(SEED, "visitor"));
        let (config, dtls) = (Arc::new(errand.config()), Arc::new(errand.dtls(identity)));
        let client = Client::with_observer(config, dtls, random, now, observer);
        Self { client, errand, answer: None }
    }

    pub(super) fn hear(&mut self, now: Now, datagram: &mut [u8]) -> Vec<Vec<u8>> {
        self.client.handle_datagram(now, datagram);
        self.attend(now)
    }

    /// Handles the client's events and takes its datagrams.
    pub(super) fn attend(&mut self, now: Now) -> Vec<Vec<u8>> {
        while let Some(event) = self.client.poll_event() {
            match event {
                ClientEvent::Connected { server, .. } => {
                    assert!(server.san().iter().next().is_some(), "a server without a name");
                    let _busy_or_over = self.client.start(now, self.errand.operation());
                }
                ClientEvent::Done(answer) => {
                    check(&answer);
                    self.answer = Some(answer);
                }
                _ => {}
            }
        }
        let mut said = Vec::new();
        while let Some(datagram) = self.client.poll_transmit() {
            said.push(datagram.to_vec());
        }
        assert!(said.len() <= SAID_AT_ONCE_MAX, "{} datagrams at once", said.len());
        said
    }
}

/// The target's body: a stream of datagrams to a device.
///
/// # Panics
/// If it accepts a certificate that is not for its key, or does not terminate.
pub fn client_stream(data: &[u8]) {
    let _answer = play(data);
}

/// Plays the input; the answer that the device has at the end.
pub(super) fn play(data: &[u8]) -> Option<Answer> {
    let (errand, mut rest) =
        data.split_first_chunk::<2>().map_or((0, data), |(errand, rest)| (u16::from_be_bytes(*errand), rest));
    let mut clock = VirtualClock::start();
    let mut visitor = Visitor::new(Errand(errand), &FIXTURE.devices[0].identity, clock.now(), None);
    visitor.attend(clock.now());
    while let Some((&head, after)) = rest.split_first_chunk::<2>() {
        let head = u16::from_be_bytes(head);
        if head & TIME != 0 {
            clock.advance_to(clock.now().mono + TICK * u32::from(head & !TIME));
            if visitor.client.poll_timeout().is_some_and(|at| at <= clock.now().mono) {
                visitor.client.handle_timeout(clock.now());
                visitor.attend(clock.now());
            }
            rest = after;
        } else {
            let (datagram, next) = after.split_at(usize::from(head).min(after.len()));
            visitor.hear(clock.now(), &mut datagram.to_vec());
            rest = next;
        }
    }
    let mut turns = 0;
    while let Some(at) = visitor.client.poll_timeout() {
        clock.advance_to(at);
        visitor.client.handle_timeout(clock.now());
        visitor.attend(clock.now());
        turns += 1;
        assert!(turns < TURNS_MAX, "a client without an answer must give up");
    }
    visitor.answer
}

fn check(answer: &Answer) {
    if let Answer::Certificate(der) = answer {
        let certificate = pki::Certificate::parse(der).expect("an accepted certificate can be parsed");
        assert_eq!(certificate.spki(), FIXTURE.devices[0].request.spki, "a certificate for another key");
    }
}
