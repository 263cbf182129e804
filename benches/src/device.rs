//! The device's side of an enrolment, which the benchmarks measure alone.

use std::sync::Arc;

use coap::BlockSize;
use est::{Answer, Client, ClientConfig, ClientEvent, DtlsConfig, Now, Operation, ServerVerifier};
use pki::Certificate;
use rustls_pki_types::ServerName;
use sim::{DerivedRandom, TestCa, TestIdentity};

use crate::case::Case;
use crate::drag::{Drag, DraggedStep};

/// What makes the same device again and again: it draws the same randomness each time.
#[derive(Clone)]
pub(crate) struct DeviceSpec {
    number: u32,
    case: Case,
    identity: TestIdentity,
    root: Arc<Certificate>,
    csr: Vec<u8>,
    now: Now,
}

impl DeviceSpec {
    /// A new device of this PKI: its key and its certificate are made here, and only once.
    pub(crate) fn new(ca: &TestCa, number: u32, case: Case, now: Now) -> Self {
        let identity = ca.device(number);
        let csr = ca.request(identity.certificate.subject()).csr;
        Self { number, case, identity, root: Arc::clone(ca.root()), csr, now }
    }

    /// The device before its first datagram.
    pub(crate) fn device(&self) -> RecordedDevice {
        let random = Arc::new(DerivedRandom::new(self.number.into(), "device"));
        let name = ServerName::try_from(sim::trust::SERVER_NAME).expect("a DNS name");
        let verifier = ServerVerifier::new(vec![Arc::clone(&self.root)], name).expect("the root is an anchor");
        let mut dtls = DtlsConfig::new(Some(self.identity.for_dtls(&random)), Arc::new(verifier));
        dtls.suites = vec![self.case.suite];
        let block = BlockSize::from_bytes(self.case.block).expect("a size that RFC 7959 has");
        let asks = ClientConfig { anchor_update: est::AnchorUpdate::Ignore, block, ..ClientConfig::default() };
        let client = Client::new(Arc::new(asks), Arc::new(dtls), random, self.now);
        RecordedDevice { client, csr: self.csr.clone(), now: self.now, certificate: None, is_connected: false }
    }
}

/// A device that connects, asks for the CA certificates and enrols.
pub(crate) struct RecordedDevice {
    client: Client,
    csr: Vec<u8>,
    now: Now,
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) is_connected: bool,
}

impl RecordedDevice {
    /// What the device sends next.
    pub(crate) fn poll_transmit(&mut self) -> Option<&[u8]> {
        self.client.poll_transmit()
    }

    /// Ends its session, as a device does that has its certificate.
    pub(crate) fn close(&mut self) {
        self.client.close(self.now);
    }

    /// Takes a datagram of the server, and starts the next request where one has ended.
    pub(crate) fn handle(&mut self, datagram: &mut [u8]) {
        self.client.handle_datagram(self.now, datagram);
        while let Some(event) = self.client.poll_event() {
            match event {
                ClientEvent::Connected { .. } => {
                    self.is_connected = true;
                    self.client.start(self.now, Operation::CaCertificates).expect("an association without a request");
                }
                ClientEvent::Done(Answer::Certificate(certificate)) => self.certificate = Some(certificate),
                ClientEvent::Done(_) => {
                    let csr = std::mem::take(&mut self.csr);
                    self.client.start(self.now, Operation::Enroll { csr }).expect("an association without a request");
                }
                ClientEvent::Failed(failure) => panic!("the recorded enrolment failed: {failure:?}"),
                ClientEvent::Acknowledged
                | ClientEvent::Reconnected { .. }
                | ClientEvent::Again { .. }
                | ClientEvent::Closed(_) => {}
            }
        }
    }
}

/// A fresh device and the datagrams that it will receive.
pub struct ClientReplay {
    device: RecordedDevice,
    answers: Vec<Vec<u8>>,
    drag: Drag,
    /// The number of datagrams that the device sent.
    pub datagrams_sent: usize,
    /// Their bytes of UDP payload.
    pub bytes_sent: usize,
}

impl ClientReplay {
    pub(crate) fn new(device: RecordedDevice, answers: Vec<Vec<u8>>) -> Self {
        Self { device, answers, drag: Drag::of(DraggedStep::ClientHandshake), datagrams_sent: 0, bytes_sent: 0 }
    }

    /// Replays the server. Returns `self`, so that the measurement does not include dropping it.
    #[must_use]
    pub fn run(mut self) -> Self {
        self.drag.pull();
        self.transmit();
        for mut answer in std::mem::take(&mut self.answers) {
            self.device.handle(&mut answer);
            self.transmit();
        }
        self
    }

    /// The same device, and what the server sends next. Only the handshake is slowed down.
    pub(crate) fn then(self, answers: Vec<Vec<u8>>) -> Self {
        Self { answers, drag: Drag::default(), ..self }
    }

    fn transmit(&mut self) {
        while let Some(bytes) = self.device.poll_transmit() {
            self.datagrams_sent += 1;
            self.bytes_sent += bytes.len();
        }
    }

    /// The certificate that the device received, DER.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8]> {
        self.device.certificate.as_deref()
    }
}
