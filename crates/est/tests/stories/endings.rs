//! How sessions end, and which reports abnormal ends produce.

#[path = "../../../dtls/tests/support/forge.rs"]
#[allow(dead_code, unreachable_pub, reason = "the stories of the DTLS engine use the rest of it")]
mod forge;

use std::sync::{Arc, Mutex};

use authority::ShownDevice;
use dtls::{Direction, FragmentLength, RecordLimit, Suite, TraceEvent};
use est::{Attempt, Now, Path, Reason};

use crate::support::World;
use crate::support::raw::Raw;
use forge::{ALERT, APPLICATION_DATA, Forger, records};

/// A sequence number that the device itself has not reached.
const FAR: u64 = 1_000;

/// Reads the secrets of a session and the failures from the server's trace.
#[derive(Default)]
struct Ear(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    server_random: [u8; 32],
    client_random: [u8; 32],
    master_secret: Option<[u8; 48]>,
    failed: Vec<String>,
}

impl dtls::Observer for Ear {
    fn observe(&self, _: Now, _: Option<Path>, event: &TraceEvent<'_>) {
        let mut heard = self.0.lock().unwrap();
        match event {
            TraceEvent::Secrets { client_random, master_secret } => {
                (heard.client_random, heard.master_secret) = (**client_random, Some(**master_secret));
            }
            TraceEvent::Datagram { direction: Direction::Sent, bytes } => {
                // After the handshake header and the version.
                let hello = records(bytes).into_iter().find(|record| record.handshake_type() == Some(2));
                if let Some(hello) = hello {
                    heard.server_random.copy_from_slice(&hello.payload[14..46]);
                }
            }
            TraceEvent::Failed { reason, .. } => heard.failed.push((*reason).into()),
            _ => {}
        }
    }
}

/// A world, a device with a session, and a sender that uses the device's keys.
struct Scene {
    world: World,
    raw: Raw,
    forger: Forger,
    ear: Arc<Ear>,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new();
        let ear = Arc::new(Ear::default());
        world.server.set_observer(Some(Arc::clone(&ear) as Arc<dyn dtls::Observer>));
        let holder = world.pki.device(1);
        let raw = Raw::connect_with(&mut world, 1, &holder, |config| {
            config.suites = vec![Suite::EcdheEcdsaAes128GcmSha256];
            config.record_limit = Some(RecordLimit::MaxFragmentLength(FragmentLength::Bytes512));
        });
        let forger = {
            let heard = ear.0.lock().unwrap();
            Forger::new(&heard.master_secret.unwrap(), &heard.client_random, &heard.server_random, true)
        };
        world.attempts.clear();
        Self { world, raw, forger, ear }
    }

    /// Sends this under the device's keys; returns the attempts that were reported.
    fn say(&mut self, content_type: u8, plaintext: &[u8]) -> Vec<Attempt> {
        let mut datagram = self.forger.seal(content_type, FAR, plaintext);
        self.world.server.handle_datagram(self.world.now, self.raw.path, &mut datagram);
        self.world.serve();
        std::mem::take(&mut self.world.attempts)
    }

    fn sessions(&self) -> usize {
        self.world.server.counters().sessions.unwrap().established
    }
}

/// The only attempt, which must be the refusal of an authenticated device.
fn one_refusal(attempts: &[Attempt]) -> (Reason, &Attempt) {
    let [attempt] = attempts else { panic!("{attempts:?}") };
    assert_eq!(attempt.device.as_ref().map(ShownDevice::to_string).as_deref(), Some("000001"), "{attempt:?}");
    assert_eq!(attempt.peer, World::path(1).peer);
    assert!(attempt.claimed.is_none());
    (attempt.reason().unwrap(), attempt)
}

#[test]
fn d104_a_fatal_alert_in_a_session_stands_by_its_name_with_the_device() {
    let mut scene = Scene::new();
    let attempts = scene.say(ALERT, &[2, 51]);
    let (reason, attempt) = one_refusal(&attempts);
    assert_eq!(reason.code(), "dtls.alert.decrypt_error");
    assert_eq!(attempt.detail.as_deref(), Some("alert decrypt_error (51), after the handshake"));
    assert_eq!(scene.ear.0.lock().unwrap().failed, ["dtls.alert.decrypt_error"]);
    assert_eq!(scene.sessions(), 0);
    // An alert without a specific reason is reported with its number.
    let mut scene = Scene::new();
    let attempts = scene.say(ALERT, &[2, 199]);
    let (reason, attempt) = one_refusal(&attempts);
    assert_eq!(reason, Reason::AlertOther);
    assert!(attempt.detail.as_deref().unwrap().contains("(199)"), "{attempt:?}");
}

#[test]
fn d104_a_session_that_ends_for_a_long_record_is_told_of() {
    let mut scene = Scene::new();
    let attempts = scene.say(APPLICATION_DATA, &[0; 513]);
    assert_eq!(one_refusal(&attempts).0, Reason::RecordOverflow);
    assert_eq!(scene.sessions(), 0);
}

#[test]
fn d104_a_session_that_ends_as_it_should_makes_no_line() {
    for alert in [[1, 0], [2, 0]] {
        let mut scene = Scene::new();
        assert_eq!(scene.say(ALERT, &alert), []);
        assert_eq!(scene.sessions(), 0);
    }
    // A warning does not end a session.
    let mut scene = Scene::new();
    assert_eq!(scene.say(ALERT, &[1, 90]), []);
    assert_eq!(scene.sessions(), 1);
    let now = scene.world.now;
    scene.world.server.close_all(now);
    scene.world.serve();
    assert_eq!((scene.sessions(), scene.world.attempts.len()), (0, 0));
}

#[test]
fn d104_who_gives_its_place_to_another_is_told_of() {
    let mut world = World::with(|_, spec| spec.dtls.sessions_max = 1);
    let (first, second) = (world.pki.device(1), world.pki.device(2));
    Raw::connect(&mut world, 1, &first);
    world.attempts.clear();
    world.advance(std::time::Duration::from_secs(3_600));
    let dtls = world.dtls_config(&second);
    let mut client = dtls::Client::new(Arc::new(dtls), Arc::new(crate::support::TestRandom), world.now);
    while client.facts().is_none() {
        let mut datagram = client.poll_transmit().unwrap().to_vec();
        world.server.handle_datagram(world.now, World::path(2), &mut datagram);
        world.serve();
        while let Some((path, mut answer)) =
            world.server.poll_transmit().map(|transmit| (transmit.path, transmit.bytes.to_vec()))
        {
            if path == World::path(2) {
                client.handle_datagram(world.now, &mut answer);
            }
        }
    }
    let refused: Vec<Attempt> = world.attempts.into_iter().filter(|attempt| attempt.outcome.is_err()).collect();
    assert_eq!(one_refusal(&refused).0, Reason::SessionEvicted);
}
