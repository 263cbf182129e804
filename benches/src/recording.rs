//! One enrolment by a real device, with every datagram recorded.

use std::collections::VecDeque;
use std::sync::Arc;

use coap::BlockSize;
use dtls::Suite;
use est::{Answer, Client, ClientConfig, ClientEvent, DtlsConfig, Now, Operation, ServerVerifier};
use rustls_pki_types::ServerName;
use sim::{DerivedRandom, TestCa, VirtualClock};

use crate::shard::{Issuance, Replay, Shard};

/// The parameters of an enrolment.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The only suite that the device offers.
    pub suite: Suite,
    /// Block size in bytes, in both directions.
    pub block: usize,
}

/// The recorded enrolment.
pub struct Recording {
    ca: TestCa,
    now: Now,
    /// The device's datagrams, in order: the handshake, GET /crts, POST /sen.
    datagrams: Vec<Vec<u8>>,
    /// The number of datagrams in the handshake.
    handshake: usize,
    certificate: Vec<u8>,
}

impl Recording {
    /// Lets a device enrol.
    ///
    /// # Panics
    /// If the enrolment fails: the benchmarks would measure a refusal.
    #[must_use]
    pub fn new(case: Case) -> Self {
        let now = VirtualClock::start().now();
        let ca = Shard::ca();
        let mut recording = Self { now, datagrams: Vec::new(), handshake: 0, certificate: Vec::new(), ca };
        recording.enrol(case);
        assert!(recording.handshake > 0 && !recording.certificate.is_empty(), "the enrolment failed");
        recording
    }

    /// The server's side of the handshake.
    #[must_use]
    pub fn handshake(&self) -> Replay {
        Replay::new(Shard::new(&Shard::ca(), self.now), self.datagrams[..self.handshake].to_vec())
    }

    /// The server's side of the whole enrolment.
    #[must_use]
    pub fn enrolment(&self) -> Replay {
        Replay::new(Shard::new(&Shard::ca(), self.now), self.datagrams.clone())
    }

    /// The authority's part, from CSR to certificate.
    #[must_use]
    pub fn issuance(&self) -> Issuance {
        self.enrolment().into_issuance()
    }

    /// What the device received.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    fn enrol(&mut self, case: Case) {
        // The server's certificate is made before the device's, as in every replay: both draw from one stream.
        let mut shard = Shard::new(&self.ca, self.now);
        let mut device = RecordedDevice::new(&self.ca, case, self.now);
        let mut answers: VecDeque<Vec<u8>> = VecDeque::new();
        loop {
            while let Some(bytes) = device.client.poll_transmit() {
                self.datagrams.push(bytes.to_vec());
                let mut sent = bytes.to_vec();
                shard.handle(&mut sent, |answer| answers.push_back(answer.to_vec()));
            }
            // No datagram is lost or late here: if no answer is in flight, the device has finished.
            let Some(mut answer) = answers.pop_front() else { return };
            device.client.handle_datagram(self.now, &mut answer);
            while let Some(event) = device.client.poll_event() {
                self.follow(&mut device, event);
            }
        }
    }

    fn follow(&mut self, device: &mut RecordedDevice, event: ClientEvent) {
        match event {
            ClientEvent::Connected { .. } => {
                self.handshake = self.datagrams.len();
                device.client.start(self.now, Operation::CaCertificates).expect("an association without a request");
            }
            ClientEvent::Done(Answer::Certificate(certificate)) => self.certificate = certificate,
            ClientEvent::Done(_) => {
                let csr = std::mem::take(&mut device.csr);
                device.client.start(self.now, Operation::Enroll { csr }).expect("an association without a request");
            }
            ClientEvent::Failed(failure) => panic!("the recorded enrolment failed: {failure:?}"),
            ClientEvent::Acknowledged
            | ClientEvent::Reconnected { .. }
            | ClientEvent::Again { .. }
            | ClientEvent::Closed(_) => {}
        }
    }
}

struct RecordedDevice {
    client: Client,
    csr: Vec<u8>,
}

impl RecordedDevice {
    fn new(ca: &TestCa, case: Case, now: Now) -> Self {
        let random = Arc::new(DerivedRandom::new(1, "device"));
        let identity = ca.device(1);
        let csr = ca.request(identity.certificate.subject()).csr;
        let name = ServerName::try_from(sim::trust::SERVER_NAME).expect("a DNS name");
        let verifier = ServerVerifier::new(vec![Arc::clone(ca.root())], name).expect("the root is an anchor");
        let mut dtls = DtlsConfig::new(Some(identity.for_dtls(&random)), Arc::new(verifier));
        dtls.suites = vec![case.suite];
        let block = BlockSize::from_bytes(case.block).expect("a size that RFC 7959 has");
        let asks = ClientConfig { anchor_update: est::AnchorUpdate::Ignore, block, ..ClientConfig::default() };
        Self { client: Client::new(Arc::new(asks), Arc::new(dtls), random, now), csr }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Case = Case { suite: Suite::EcdheEcdsaAes128Ccm8, block: 64 };

    #[test]
    fn a_fresh_server_accepts_the_recorded_datagrams_and_answers_as_the_first_did() {
        let recording = Recording::new(CASE);
        let (first, second) = (recording.enrolment().run(), recording.enrolment().run());
        assert_eq!((first.datagrams_sent, first.bytes_sent), (second.datagrams_sent, second.bytes_sent));
        assert!(first.datagrams_sent > recording.handshake().run().datagrams_sent);
    }

    #[test]
    fn the_replayed_authority_issues_the_very_certificate_that_the_device_received() {
        let recording = Recording::new(CASE);
        assert_eq!(recording.issuance().run().certificate(), Some(recording.certificate()));
    }

    #[test]
    fn smaller_blocks_take_more_datagrams() {
        let sent = |block| Recording::new(Case { block, ..CASE }).enrolment().run().datagrams_sent;
        assert!(sent(64) > sent(512));
    }
}
