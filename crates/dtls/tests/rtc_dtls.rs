//! Handshakes with the crate `rtc-dtls`, another implementation of DTLS 1.2 without I/O: our server with its client, our
//! client with its server.
//!
//! Its limitations, and their consequences for these tests, are described at [`rtc::RTC_HEADERS`] and
//! [`rtc::RTC_FLIGHT_INTERVAL`].

mod rtc;
mod support;

use std::time::Duration;

use dtls::{AlertDescription, CertificateFault, ExtendedMasterSecret, Group, HandshakeRefusal, NamedCurve, Suite};
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType};

use rtc::end::End;
use rtc::wire::{FAULTS, Misfortune, Wire};
use rtc::{Parties, Party, PathMtu, RTC_HEADERS, trusting};
use support::Way;

const WIDE: PathMtu = PathMtu(1_232);
const NARROW: PathMtu = PathMtu(256);

/// A block of 64 bytes with its options, and one of 1,024.
const SMALL_MESSAGE: usize = 96;
const LARGE_MESSAGE: usize = 1_100;

const PATIENCE: Duration = Duration::from_secs(10);

/// Our suites, each with its name in `rtc-dtls`.
const SUITES: [(Suite, CipherSuiteId, u16); 3] = [
    (Suite::EcdheEcdsaAes128Ccm8, CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Ccm_8, 0xC0AE),
    (Suite::EcdheEcdsaAes128Ccm, CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Ccm, 0xC0AC),
    (Suite::EcdheEcdsaAes128GcmSha256, CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256, 0xC02B),
];

/// Leaves a configuration unchanged.
fn same(config: ConfigBuilder) -> ConfigBuilder {
    config
}

#[test]
fn our_server_and_its_client_agree_a_hundred_times() {
    for _ in 0..100 {
        let parties = Parties::new();
        let require = ExtendedMasterSecret::Require;
        let mut wire = parties.ours_serves(WIDE, same, |config| config.extended_master_secret = require);
        wire.shake_hands(PATIENCE);
        wire.assert_established();
        assert_eq!(wire.clock.elapsed, Duration::ZERO, "no retransmission was necessary");
        assert_eq!(wire.server.facts().suite, Suite::EcdheEcdsaAes128Ccm8);
        assert_eq!(wire.suite_code(), 0xC0AE);
        assert!(wire.server.facts().extended_master_secret);
        assert_eq!(wire.server.peer(), parties.client.identity.chain()[0]);
        assert_eq!(wire.server.server_name(), Some("peer.example"));
        assert_eq!(wire.client.peer_chain(), parties.server.identity.chain());
        wire.assert_alive(SMALL_MESSAGE);
        wire.assert_alive(LARGE_MESSAGE);
        wire.assert_within(WIDE);
        wire.client_closes();
        assert_eq!(wire.server.endpoint.counts().established, 0);
    }
}

#[test]
fn our_client_and_its_server_agree_a_hundred_times() {
    for _ in 0..100 {
        let parties = Parties::new();
        let require = ExtendedMasterSecret::Require;
        let mut wire = parties.ours_asks(WIDE, same, |config| config.extended_master_secret = require);
        wire.shake_hands(PATIENCE);
        wire.assert_established();
        assert_eq!(wire.clock.elapsed, Duration::ZERO, "no retransmission was necessary");
        let facts = wire.client.client.facts().unwrap();
        assert_eq!(facts.suite, Suite::EcdheEcdsaAes128Ccm8);
        assert_eq!(wire.suite_code(), 0xC0AE);
        assert!(facts.extended_master_secret);
        assert_eq!(wire.server.peer_chain(), parties.client.identity.chain());
        assert_eq!(wire.client.client.peer().unwrap().as_slice(), parties.server.identity.chain()[0]);
        wire.assert_alive(SMALL_MESSAGE);
        wire.assert_alive(LARGE_MESSAGE);
        wire.assert_within(WIDE);
        wire.client_closes();
    }
}

#[test]
fn a_server_s_close_notify_ends_both_sides() {
    let parties = Parties::new();
    let mut wire = parties.ours_serves(WIDE, same, |_| ());
    wire.shake_hands(PATIENCE);
    wire.server_closes();
    let mut wire = parties.ours_asks(WIDE, same, |_| ());
    wire.shake_hands(PATIENCE);
    wire.server_closes();
    assert!(wire.client.client.facts().is_none());
}

#[test]
fn every_suite_that_both_have_with_either_curve_in_our_certificate() {
    for (suite, theirs, code) in SUITES {
        for ours in [NamedCurve::P256, NamedCurve::P384] {
            let offer = |config: ConfigBuilder| config.with_cipher_suites(vec![theirs]);
            let parties = Parties::of(NamedCurve::P256, ours);
            let mut wire = parties.ours_serves(WIDE, offer, |_| ());
            wire.shake_hands(PATIENCE);
            wire.assert_established();
            assert_eq!((wire.server.facts().suite, wire.suite_code()), (suite, code));
            wire.assert_alive(LARGE_MESSAGE);

            let parties = Parties::of(ours, NamedCurve::P256);
            let mut wire = parties.ours_asks(WIDE, offer, |config| config.suites = vec![suite]);
            wire.shake_hands(PATIENCE);
            wire.assert_established();
            assert_eq!((wire.client.client.facts().unwrap().suite, wire.suite_code()), (suite, code));
            wire.assert_alive(LARGE_MESSAGE);
        }
    }
}

#[test]
fn every_group_that_both_have() {
    // The list of its client is fixed; its server chooses the first suite of ours.
    let parties = Parties::new();
    for group in [Group::Secp256r1, Group::Secp384r1, Group::X25519] {
        let groups = vec![group, Group::Secp256r1];
        let mut wire = parties.ours_asks(WIDE, same, |config| config.groups = groups);
        wire.shake_hands(PATIENCE);
        wire.assert_established();
        wire.assert_alive(SMALL_MESSAGE);
    }
}

#[test]
fn without_extended_master_secret_where_we_do_not_demand_it() {
    let parties = Parties::new();
    let disable = |config: ConfigBuilder| config.with_extended_master_secret(ExtendedMasterSecretType::Disable);
    let mut wire = parties.ours_serves(WIDE, disable, |_| ());
    wire.shake_hands(PATIENCE);
    wire.assert_established();
    assert!(!wire.server.facts().extended_master_secret);
    wire.assert_alive(SMALL_MESSAGE);
    let mut wire = parties.ours_asks(WIDE, disable, |_| ());
    wire.shake_hands(PATIENCE);
    wire.assert_established();
    assert!(!wire.client.client.facts().unwrap().extended_master_secret);
    wire.assert_alive(SMALL_MESSAGE);

    let require = ExtendedMasterSecret::Require;
    let mut wire = parties.ours_serves(WIDE, disable, |config| config.extended_master_secret = require);
    wire.run();
    assert_eq!(wire.server.refusals(), [HandshakeRefusal::ExtendedMasterSecretRequired]);
    let mut wire = parties.ours_asks(WIDE, disable, |config| config.extended_master_secret = require);
    wire.run();
    assert_eq!(wire.client.refusals(), [HandshakeRefusal::ExtendedMasterSecretRequired]);
}

#[test]
fn a_narrow_path_carries_every_datagram_of_both() {
    let parties = Parties::new();
    for path in [NARROW, PathMtu(228), PathMtu(300), PathMtu(548)] {
        let mut wire = parties.ours_serves(path, same, |_| ());
        wire.shake_hands(PATIENCE);
        wire.assert_established();
        wire.assert_alive(SMALL_MESSAGE);
        wire.assert_within(path);
        let mut wire = parties.ours_asks(path, same, |_| ());
        wire.shake_hands(PATIENCE);
        wire.assert_established();
        wire.assert_alive(SMALL_MESSAGE);
        wire.assert_within(path);
    }
}

#[test]
fn it_cuts_its_hello_and_all_else_into_small_pieces() {
    let parties = Parties::new();
    for mtu in [64, 80, 100] {
        let cut = |config: ConfigBuilder| config.with_mtu(mtu);
        let mut wire = parties.ours_serves(NARROW, cut, |_| ());
        let pieces = wire.count(Way::ToServer);
        assert!(pieces > 1, "{pieces}");
        wire.shake_hands(PATIENCE);
        wire.assert_established();
        assert!(wire.longest(Way::ToServer) <= mtu + RTC_HEADERS);
        wire.assert_alive(SMALL_MESSAGE);
        let mut wire = parties.ours_asks(NARROW, cut, |_| ());
        wire.shake_hands(PATIENCE);
        wire.assert_established();
        assert!(wire.longest(Way::ToClient) <= mtu + RTC_HEADERS);
        wire.assert_alive(SMALL_MESSAGE);
    }
}

#[test]
fn a_client_without_a_certificate_gets_our_alert() {
    let parties = Parties::new();
    let mut wire = parties.ours_serves(WIDE, |config| config.with_certificates(Vec::new()), |_| ());
    wire.run();
    assert!(!wire.is_established());
    assert_eq!(wire.server.refusals(), [HandshakeRefusal::MissingCertificate]);
    assert_eq!(wire.server.endpoint.counts().established + wire.server.endpoint.counts().half_open, 0);
    assert_eq!(wire.last_alert(Way::ToClient), AlertDescription::HANDSHAKE_FAILURE);
    assert_eq!(wire.client.faults().len(), 1, "{:?}", wire.client.faults());
}

#[test]
fn a_client_whose_certificate_is_not_trusted_gets_our_alert() {
    let parties = Parties::new();
    let stranger = Party::new(NamedCurve::P256);
    let mut wire = parties.ours_serves(WIDE, |config| config.with_certificates(vec![stranger.for_rtc()]), |_| ());
    wire.run();
    assert!(!wire.is_established());
    assert_eq!(wire.server.refusals(), [HandshakeRefusal::Certificate(CertificateFault::UnknownIssuer)]);
    assert_eq!(wire.last_alert(Way::ToClient), AlertDescription::UNKNOWN_CA);
    assert_eq!(wire.client.faults().len(), 1, "{:?}", wire.client.faults());
}

#[test]
fn our_client_refuses_a_server_whose_certificate_is_not_trusted() {
    let parties = Parties::new();
    let stranger = Party::new(NamedCurve::P256);
    let mut wire = parties.ours_asks(WIDE, |config| config.with_certificates(vec![stranger.for_rtc()]), |_| ());
    wire.run();
    assert!(!wire.is_established());
    assert_eq!(wire.client.refusals(), [HandshakeRefusal::Certificate(CertificateFault::UnknownIssuer)]);
    assert_eq!(wire.count(Way::ToServer), 3, "two hellos, and then only the alert");
    assert_eq!(wire.last_alert(Way::ToServer), AlertDescription::UNKNOWN_CA);
    assert_eq!(wire.server.faults().len(), 1, "{:?}", wire.server.faults());
}

#[test]
fn its_refusals_reach_us() {
    let parties = Parties::new();
    let stranger = Party::new(NamedCurve::P256).identity;
    let bad_certificate = [HandshakeRefusal::AlertReceived(AlertDescription::BAD_CERTIFICATE)];

    let mut wire = parties.ours_serves(WIDE, |config| trusting(config, &stranger), |_| ());
    wire.run();
    assert_eq!(wire.server.refusals(), bad_certificate);
    let other_name = |config: ConfigBuilder| config.with_server_name("other.example".to_owned());
    let mut wire = parties.ours_serves(WIDE, other_name, |_| ());
    wire.run();
    assert_eq!(wire.server.refusals(), bad_certificate);

    let mut wire = parties.ours_asks(WIDE, |config| trusting(config, &stranger), |_| ());
    wire.run();
    assert_eq!(wire.client.refusals(), bad_certificate);
    let mut wire = parties.ours_asks(WIDE, same, |config| config.identity = None);
    wire.run();
    assert!(matches!(wire.client.refusals()[..], [HandshakeRefusal::AlertReceived(_)]), "{:?}", wire.client.refusals());
    assert!(!wire.is_established());
}

/// Applies each fault to each datagram of a handshake in turn; every handshake must complete.
fn whatever_happens<C: End, S: End>(meet: impl Fn() -> Wire<C, S>, path: PathMtu) {
    let mut wire = meet();
    wire.shake_hands(PATIENCE);
    wire.assert_established();
    for way in [Way::ToServer, Way::ToClient] {
        let datagrams = wire.count(way);
        assert!(datagrams >= if path.0 == NARROW.0 { 5 } else { 3 }, "{way:?}: {datagrams}");
        for number in 0..datagrams {
            for fault in FAULTS {
                let mut wire = meet();
                wire.misfortune = Some(Misfortune { way, number, fault });
                wire.shake_hands(PATIENCE);
                wire.assert_established();
                wire.assert_alive(SMALL_MESSAGE);
                wire.assert_within(path);
                // One loss costs one timeout: at most our second.
                assert!(
                    wire.clock.elapsed <= Duration::from_secs(1),
                    "{:?}: {:?}",
                    wire.misfortune,
                    wire.clock.elapsed
                );
            }
        }
    }
}

#[test]
fn our_server_and_its_client_with_every_datagram_lost_doubled_or_swapped() {
    let parties = Parties::new();
    for path in [WIDE, NARROW] {
        whatever_happens(|| parties.ours_serves(path, same, |_| ()), path);
    }
}

#[test]
fn our_client_and_its_server_with_every_datagram_lost_doubled_or_swapped() {
    let parties = Parties::new();
    for path in [WIDE, NARROW] {
        whatever_happens(|| parties.ours_asks(path, same, |_| ()), path);
    }
}
