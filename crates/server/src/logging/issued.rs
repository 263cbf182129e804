//! One line per issued certificate: the operator's record while the ledger is in memory.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use authority::{Issued, Profile};
use pki::{Certificate, Digest};

use crate::rfc3339::rfc3339;

/// Certificates queued for the log: more than a node issues in a second.
const QUEUE_MAX: usize = 4_096;
/// Certificates that are remembered. Only a request that is repeated within the second of its issuance could be logged twice: this number covers more
/// than one second.
const TOLD_MAX: usize = 8_192;
const _: () = assert!(TOLD_MAX >= QUEUE_MAX);
/// The interval at which the number of lost lines is logged.
const SWEEP: Duration = Duration::from_secs(10);

/// A certificate that was issued, and the device that received it.
#[derive(Clone, Debug)]
pub(crate) struct Issuance {
    pub(crate) issued: Arc<Issued>,
    pub(crate) profile: Arc<Profile>,
    pub(crate) peer: Option<SocketAddr>,
}

/// The sending end, one per shard; the threads of the pool use it.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    /// `None` ends the reader, because a task of the pool may still hold a sender.
    queue: SyncSender<Option<Issuance>>,
    lost: Arc<AtomicU64>,
}

impl Journal {
    pub(crate) fn channel() -> (Self, IssuanceReporter) {
        let (queue, issuances) = sync_channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        (Self { queue, lost: Arc::clone(&lost) }, IssuanceReporter { issuances, lost, told: Told::default() })
    }

    /// Queues one certificate, if there is one, or counts it as not logged.
    pub(crate) fn note(&self, issuance: impl FnOnce() -> Option<Issuance>) {
        if tracing::enabled!(tracing::Level::INFO)
            && let Some(issuance) = issuance()
            && self.queue.try_send(Some(issuance)).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the log after the certificates that are queued now.
    pub(crate) fn end(self) {
        // The reader drains the queue; an error means that it has ended.
        let _ = self.queue.send(None);
    }
}

/// The receiving end: the body of a thread.
#[derive(Debug)]
pub(crate) struct IssuanceReporter {
    issuances: Receiver<Option<Issuance>>,
    lost: Arc<AtomicU64>,
    told: Told,
}

impl IssuanceReporter {
    pub(crate) fn run(mut self) {
        loop {
            match self.issuances.recv_timeout(SWEEP) {
                Ok(Some(issuance)) if self.told.is_new(issuance.issued.digest) => log(&issuance),
                Ok(Some(_)) => {}
                Err(RecvTimeoutError::Timeout) => self.count_lost(),
                Ok(None) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.count_lost();
    }

    fn count_lost(&self) {
        let times = self.lost.swap(0, Ordering::Relaxed);
        if times > 0 {
            tracing::warn!(
                times,
                "more certificates issued than logged one by one: the log is slower than the authority"
            );
        }
    }
}

fn log(Issuance { issued, profile, peer }: &Issuance) {
    let certificate = Certificate::parse(&issued.certificate).ok();
    tracing::info!(
        serial = certificate.as_ref().map(|it| hex(it.serial())),
        digest = %issued.digest,
        device = %profile.shown(&issued.device),
        subject = certificate.as_ref().map(|it| it.subject().to_string()),
        profile = profile.name(),
        peer = peer.as_ref().map(tracing::field::display),
        not_after = rfc3339(issued.validity.not_after),
        "certificate issued"
    );
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The certificates of the most recent lines.
#[derive(Debug, Default)]
struct Told {
    certificates: HashSet<Digest>,
    order: VecDeque<Digest>,
}

impl Told {
    fn is_new(&mut self, certificate: Digest) -> bool {
        if !self.certificates.insert(certificate) {
            return false;
        }
        self.order.push_back(certificate);
        if self.order.len() > TOLD_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.certificates.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(number: u32) -> Digest {
        Digest::of(&number.to_be_bytes())
    }

    #[test]
    fn e57_a_serial_is_told_once_and_few_are_remembered() {
        let mut told = Told::default();
        let most = u32::try_from(TOLD_MAX).unwrap();
        for number in 0..=most {
            assert!(told.is_new(certificate(number)));
            assert!(!told.is_new(certificate(number)));
        }
        assert_eq!((told.certificates.len(), told.order.len()), (TOLD_MAX, TOLD_MAX));
        assert!(told.is_new(certificate(0)), "the oldest is forgotten");
        assert!(!told.is_new(certificate(most)));
    }
}
