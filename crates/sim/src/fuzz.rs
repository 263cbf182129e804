//! The fuzz targets: the name of each, and a body that takes any bytes and panics if a property does not hold.
//!
//! Bodies that need only one crate are in that crate (`coap::fuzz`, `dtls::fuzz`, `pki::fuzz`, `est::fuzz`); those that need a PKI,
//! an authority or both ends are here. Two programs call them: the fuzzer outside the workspace, for as long as it runs, and
//! `tests/fuzz_seeds.rs`, over every committed seed and its mutations.

mod client;
mod mutation;
mod operations;
mod seeds;
mod site;
mod stream;

use std::time::Instant;

use pki::chain::Anchors;
use pki::{DnsName, ServerName};

use crate::clock::{EPOCH, VirtualClock};
use crate::trust::SERVER_NAME;
use site::{FIXTURE, Site, SiteSetup};

pub use client::client_stream;
pub use mutation::mutations;
pub use operations::server_operations;
pub use seeds::{Seed, recorded};
pub use stream::server_stream;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also the name of its folder under `fuzz/seeds`.
    pub name: &'static str,
    /// Processes one input; a panic is a finding.
    pub body: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "coap_client", body: |data| coap::fuzz::client_operations(start(), data) },
    Target { name: "coap_message", body: coap::fuzz::message },
    Target { name: "coap_multipart", body: coap::fuzz::multipart },
    Target { name: "coap_server", body: |data| coap::fuzz::server_operations(start(), data) },
    Target { name: "dtls_framing", body: dtls::fuzz::framing },
    Target { name: "dtls_messages", body: dtls::fuzz::messages },
    Target { name: "dtls_reassembly", body: dtls::fuzz::reassembly },
    Target { name: "est_client_stream", body: client_stream },
    Target { name: "est_datagrams", body: unproven_datagrams },
    Target { name: "est_discovery", body: est::fuzz::discovery_filter },
    Target { name: "est_key_answer", body: est::fuzz::key_answer },
    Target { name: "est_operations", body: server_operations },
    Target { name: "est_plain_coap", body: |data| est::fuzz::plain_coap(start(), data) },
    Target { name: "est_renewal_info", body: est::fuzz::renewal_info },
    Target { name: "est_server_stream", body: server_stream },
    Target { name: "est_trace", body: |data| est::fuzz::trace_line(VirtualClock::start().now(), data) },
    Target { name: "pki_certificate", body: pki::fuzz::certificate },
    Target { name: "pki_chain", body: chain },
    Target { name: "pki_cms", body: pki::fuzz::cms },
    Target { name: "pki_csr", body: pki::fuzz::csr },
    Target { name: "pki_csr_attributes", body: pki::fuzz::csr_attributes },
    Target { name: "pki_der", body: pki::fuzz::der },
    Target { name: "pki_enveloped_key", body: pki::fuzz::enveloped_key },
    Target { name: "pki_pem", body: pki::fuzz::pem },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}

fn start() -> Instant {
    VirtualClock::start().now().mono
}

/// Datagrams to a server for which no input has a valid cookie: the recorded cookies are those of another server.
fn unproven_datagrams(data: &[u8]) {
    let mut site = Site::new(SiteSetup(0), "another server");
    let now = site.now();
    est::fuzz::server_datagrams(&mut site.server, now, data);
}

/// Certificate chains for verifiers that trust the manufacturer and the root.
fn chain(data: &[u8]) {
    let profile = FIXTURE.ca.profile(|_| {});
    let anchors = profile.anchors().chain([FIXTURE.ca.root()]).cloned().collect();
    let anchors = Anchors::new(anchors).expect("authorities");
    let name = ServerName::DnsName(DnsName::try_from(SERVER_NAME).expect("a DNS name"));
    pki::fuzz::chain(&anchors, EPOCH, &name, data);
}
