//! One enrolment by a real device at a real server, with every datagram of both recorded.

use std::collections::VecDeque;

use est::Now;
use sim::VirtualClock;

use crate::case::Case;
use crate::device::{ClientReplay, DeviceSpec};
use crate::shard::{Issuance, Replay, Shard};

/// The recorded enrolment.
pub struct Recording {
    now: Now,
    device: DeviceSpec,
    /// The device's datagrams, in order: the handshake, GET /crts, POST /sen.
    datagrams: Vec<Vec<u8>>,
    /// The number of datagrams in the handshake.
    handshake: usize,
    /// The server's datagrams, in the order in which the device received them.
    answers: Vec<Vec<u8>>,
    /// The number of them in the handshake.
    handshake_answers: usize,
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
        // The server's certificate is made before the device's, as in every replay: both draw from one stream.
        let shard = Shard::new(&ca, now);
        let device = DeviceSpec::new(&ca, 1, case, now);
        let mut recording = Self {
            now,
            device,
            datagrams: Vec::new(),
            handshake: 0,
            answers: Vec::new(),
            handshake_answers: 0,
            certificate: Vec::new(),
        };
        recording.enrol(shard);
        assert!(recording.handshake > 0 && !recording.certificate.is_empty(), "the enrolment failed");
        recording
    }

    /// The server's side of the handshake.
    #[must_use]
    pub fn handshake(&self) -> Replay {
        Replay::new(Shard::new(&Shard::ca(), self.now), self.datagrams[..self.handshake].to_vec())
    }

    /// The number of the device's datagrams in the handshake.
    #[must_use]
    pub fn handshake_datagrams(&self) -> usize {
        self.handshake
    }

    /// The server's side of one datagram of the handshake, after so many.
    #[must_use]
    pub fn handshake_after(&self, datagrams: usize) -> Replay {
        let before = Replay::new(Shard::new(&Shard::ca(), self.now), self.datagrams[..datagrams].to_vec());
        before.run().then(vec![self.datagrams[datagrams].clone()])
    }

    /// The server's side of the whole enrolment.
    #[must_use]
    pub fn enrolment(&self) -> Replay {
        Replay::new(Shard::new(&Shard::ca(), self.now), self.datagrams.clone())
    }

    /// The server's side of what follows the handshake: GET /crts and POST /sen.
    #[must_use]
    pub fn requests(&self) -> Replay {
        self.handshake().run().then(self.datagrams[self.handshake..].to_vec())
    }

    /// The authority's part, from CSR to certificate.
    #[must_use]
    pub fn issuance(&self) -> Issuance {
        self.enrolment().into_issuance()
    }

    /// The client's side of the handshake.
    #[must_use]
    pub fn client_handshake(&self) -> ClientReplay {
        ClientReplay::new(self.device.device(), self.answers[..self.handshake_answers].to_vec())
    }

    /// The number of the server's datagrams in the handshake.
    #[must_use]
    pub fn handshake_answers(&self) -> usize {
        self.handshake_answers
    }

    /// The client's side of one datagram of the handshake, after so many.
    #[must_use]
    pub fn client_handshake_after(&self, answers: usize) -> ClientReplay {
        let before = ClientReplay::new(self.device.device(), self.answers[..answers].to_vec());
        before.run().then(vec![self.answers[answers].clone()])
    }

    /// The client's side of the whole enrolment.
    #[must_use]
    pub fn client_enrolment(&self) -> ClientReplay {
        ClientReplay::new(self.device.device(), self.answers.clone())
    }

    /// What the device received.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    fn enrol(&mut self, mut shard: Shard) {
        let mut device = self.device.device();
        let mut answers: VecDeque<Vec<u8>> = VecDeque::new();
        loop {
            while let Some(bytes) = device.poll_transmit() {
                self.datagrams.push(bytes.to_vec());
                let mut sent = bytes.to_vec();
                shard.handle(&mut sent, |answer| answers.push_back(answer.to_vec()));
            }
            // No datagram is lost or late here: if no answer is in flight, the device has finished.
            let Some(mut answer) = answers.pop_front() else { break };
            self.answers.push(answer.clone());
            let was_connected = device.is_connected;
            device.handle(&mut answer);
            if device.is_connected && !was_connected {
                (self.handshake, self.handshake_answers) = (self.datagrams.len(), self.answers.len());
            }
        }
        self.certificate = device.certificate.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use dtls::Suite;

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
    fn a_fresh_device_accepts_the_recorded_answers_and_has_the_certificate() {
        let recording = Recording::new(CASE);
        let replayed = recording.client_enrolment().run();
        assert_eq!(replayed.certificate(), Some(recording.certificate()));
        assert_eq!(replayed.datagrams_sent, recording.datagrams.len());
        assert_eq!(recording.client_handshake().run().certificate(), None);
    }

    #[test]
    fn the_requests_are_what_the_enrolment_has_beside_its_handshake() {
        let recording = Recording::new(CASE);
        let sent = |replay: Replay| replay.run().datagrams_sent;
        let handshake = sent(recording.handshake());
        assert_eq!(sent(recording.requests()), sent(recording.enrolment()));
        assert_eq!(sent(recording.enrolment()) - handshake, recording.answers.len() - handshake);
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
