//! The crate `rtc-dtls` as the peer of our engines: its configuration, and the pairs of ends.
//!
//! Everything runs in virtual time. `rtc-dtls` has its own randomness, so no two runs have the same bytes; the name of a fault replays it.

#![allow(clippy::unwrap_used, reason = "helpers of tests: what fails here fails the test")]
#![allow(unreachable_pub, reason = "a module of tests")]

pub mod end;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use dtls::{ClientConfig, Identity, NamedCurve, ServerConfig};
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, gen_self_signed_root_cert};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::crypto_provider::{SignatureScheme, default_provider};

use self::end::{OurClient, OurServer, Rtc};
use self::wire::Wire;
use crate::support::{Clock, Known, World, identity_and_key};

/// `rtc-dtls` cuts handshake messages into pieces of its mtu and adds the headers of record and fragment to each
/// (`DTLSConn::fragment_handshake`): its datagrams may exceed the configured mtu by this much.
pub const RTC_HEADERS: usize = 13 + 12;

/// Less than our first timeout of one second: while `rtc-dtls` waits, any handshake record stops its timer, and only sending a flight sets
/// it again (`DTLSConn::wait`, `send`); and it does not retransmit when it "reads a retransmitted flight from the peer" (RFC 6347 §4.2.4).
/// If its last flight is lost and our repetition arrives before its timer expires, it waits for ever: with 1.5 s, the loss of any datagram
/// of that flight fails the handshake, as client and as server, and our end cannot repair that.
pub const RTC_FLIGHT_INTERVAL: Duration = Duration::from_millis(400);

/// The longest datagrams of the path, as each end is configured.
#[derive(Clone, Copy, Debug)]
pub struct PathMtu(pub usize);

/// An identity and its key.
pub struct Party {
    pub identity: Arc<Identity>,
    pkcs8: Vec<u8>,
}

impl Party {
    pub fn new(curve: NamedCurve) -> Self {
        let (identity, pkcs8) = identity_and_key(curve);
        Self { identity, pkcs8 }
    }

    /// With a key on P-256: the providers of `rtc-dtls` verify with P-384, but cannot sign with it (`RingSigningKey::import`).
    pub fn for_rtc(&self) -> Certificate {
        let provider = default_provider().unwrap();
        let key = provider.crypto().import_signing_key(SignatureScheme::EcdsaP256Sha256, &self.pkcs8).unwrap();
        Certificate::from_signing_key(self.identity.chain().iter().map(|der| der.clone().into()).collect(), key)
    }
}

/// A server and a client that trust each other; either can be ours.
pub struct Parties {
    pub world: World,
    pub client: Party,
    pub server: Party,
}

impl Parties {
    pub fn new() -> Self {
        Self::of(NamedCurve::P256, NamedCurve::P256)
    }

    pub fn of(client: NamedCurve, server: NamedCurve) -> Self {
        let (client, server) = (Party::new(client), Party::new(server));
        let mut world = World::new();
        (world.client, world.client_key) = (client.identity.clone(), client.pkcs8.clone());
        world.server = server.identity.clone();
        Self { world, client, server }
    }

    /// Our server with a client of the other implementation.
    pub fn ours_serves(
        &self,
        path: PathMtu,
        rtc: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
        ours: impl FnOnce(&mut ServerConfig<Known>),
    ) -> Wire<Rtc, OurServer> {
        let clock = Clock::new();
        let endpoint = self.world.endpoint_with(|config| {
            config.limits.mtu = path.0;
            ours(config);
        });
        let config = trusting(rtc_config(path), &self.server.identity)
            .with_certificates(vec![self.client.for_rtc()])
            .with_server_name("peer.example".to_owned());
        let client = Rtc::connect(rtc(config).build(true, None).unwrap(), clock.now());
        Wire::new(clock, client, OurServer::new(endpoint))
    }

    /// Our client with a server of the other implementation, which requires a certificate.
    pub fn ours_asks(
        &self,
        path: PathMtu,
        rtc: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
        ours: impl FnOnce(&mut ClientConfig<Known>),
    ) -> Wire<OurClient, Rtc> {
        let clock = Clock::new();
        let client = self.world.client_with(&clock, |config| {
            config.mtu = path.0;
            ours(config);
        });
        let config = trusting(rtc_config(path), &self.client.identity)
            .with_certificates(vec![self.server.for_rtc()])
            .with_client_auth(ClientAuthType::RequireAndVerifyClientCert);
        let server = Rtc::listen(rtc(config).build(false, None).unwrap());
        Wire::new(clock, OurClient::new(client), server)
    }
}

/// CCM_8 only, with extended_master_secret required.
fn rtc_config(path: PathMtu) -> ConfigBuilder {
    ConfigBuilder::default()
        .with_crypto_provider(default_provider().unwrap())
        .with_cipher_suites(vec![CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Ccm_8])
        .with_extended_master_secret(ExtendedMasterSecretType::Require)
        .with_flight_interval(RTC_FLIGHT_INTERVAL)
        .with_mtu(path.0 - RTC_HEADERS)
}

/// Trusts only one certificate, which webpki then verifies: as a server and as a client.
pub fn trusting(config: ConfigBuilder, identity: &Identity) -> ConfigBuilder {
    // The type of the store belongs to rustls, which `rtc-dtls` does not re-export: empty one of its stores.
    let mut store = gen_self_signed_root_cert();
    store.roots.clear();
    store.add(identity.chain()[0].clone().into()).unwrap();
    config.with_client_cas(store.clone()).with_roots_cas(store)
}
