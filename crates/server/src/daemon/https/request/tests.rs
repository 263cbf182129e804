//! Where an outcome can be lost on its way to its connection.

use authority::{Busy, Device, DeviceId, Job, MadeKey};
use pki::{AnchorId, Validity};

use super::*;

/// Counts the keys that did not reach their client, and keeps the time of the last one.
#[derive(Default)]
struct Counting(AtomicUsize, Mutex<Option<UnixTime>>);

impl Authority<Ticket> for Counting {
    fn submit(self: Arc<Self>, _: UnixTime, _: Vec<(Ticket, Job)>, _: Arc<dyn Deliver<Ticket>>) {}

    fn undelivered(&self, at: UnixTime, _: &Issued) {
        self.0.fetch_add(1, Ordering::SeqCst);
        *self.1.lock().unwrap() = Some(at);
    }
}

fn outcome(private_key: Option<Arc<MadeKey>>) -> Outcome {
    let at = UnixTime::since_unix_epoch(Duration::from_secs(9));
    let issued = Issued {
        device: Device { manufacturer: AnchorId::from_bytes([1; 32]), id: DeviceId::new("d").unwrap() },
        profile: "meters".into(),
        certificate: vec![0x30, 0],
        digest: Digest::of(b"certificate"),
        validity: Validity { not_before: at, not_after: at },
        at,
    };
    Outcome::Issued { issued: Arc::new(issued), private_key }
}

#[test]
fn a_key_is_undelivered_wherever_its_outcome_is_lost() {
    let key = || Some(Arc::new(MadeKey::Enveloped(vec![0x30, 0])));
    let counting = Arc::new(Counting::default());
    let lost = |of: Outcome, connection: fn(oneshot::Receiver<Answered>, &dyn Fn())| {
        let before = counting.0.load(Ordering::SeqCst);
        let (sender, answered) = oneshot::channel();
        let to_connection = ToConnection {
            waiting: Mutex::new(Some(sender)),
            authority: Arc::clone(&counting) as Arc<dyn Authority<Ticket>>,
            clock: Arc::new(IssuanceClock::ahead_by(Duration::from_secs(3_600))),
            journal: Journal::channel().0,
        };
        let outcome = Mutex::new(Some(of));
        let deliver = || to_connection.hand_over(outcome.lock().unwrap().take().unwrap());
        connection(answered, &deliver);
        counting.0.load(Ordering::SeqCst) - before
    };
    let is_gone = |answered: oneshot::Receiver<Answered>, deliver: &dyn Fn()| {
        drop(answered);
        deliver();
    };
    assert_eq!(lost(outcome(key()), is_gone), 1, "the connection ended before the outcome came");
    // A revocation list with a date that has not come is one that verifiers refuse.
    let revoked_at = counting.1.lock().unwrap().unwrap();
    assert!(revoked_at.as_secs() + 3_590 < UnixTime::now().as_secs(), "a clock that jumped ahead dates no revocation");
    assert_eq!(lost(outcome(None), is_gone), 0, "the same request yields the same certificate");
    assert_eq!(lost(Outcome::from(Busy::Full), is_gone), 0);
    let ends_then = |answered: oneshot::Receiver<Answered>, deliver: &dyn Fn()| {
        deliver();
        drop(answered);
    };
    assert_eq!(lost(outcome(key()), ends_then), 1, "it ended before it looked");
    let ends_later = |mut answered: oneshot::Receiver<Answered>, deliver: &dyn Fn()| {
        deliver();
        let Answered { key, .. } = answered.try_recv().unwrap();
        drop(key);
    };
    assert_eq!(lost(outcome(key()), ends_later), 1, "it ended before everything was sent");
    let ends_well = |mut answered: oneshot::Receiver<Answered>, deliver: &dyn Fn()| {
        deliver();
        answered.try_recv().unwrap().key.unwrap().delivered();
    };
    assert_eq!(lost(outcome(key()), ends_well), 0);
}
