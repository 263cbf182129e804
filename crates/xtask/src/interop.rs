//! Tests other implementations against a running `muster serve`, and `muster` against their servers.
//!
//! A mistake that our client and our server share stays invisible between them; OpenSSL, GnuTLS, Mbed TLS, libcoap and Wireshark show it. Each story runs
//! a hundred times, half over IPv4, half over IPv6, and compares the peer's report of its session with the server's report and with Wireshark's reading
//! of a capture: the suite, the device's certificate, the largest datagram. A peer that is not installed counts as a failure with its name: no story
//! passes because it could not run.
//!
//! Stories that are conversations of many sessions (`functions`, `enveloped`, `strongswan`) are played fewer times. Those of the Registrar (`chain`, `scripted`) and of
//! Resource Directories (`directory`) are played once: they are about what several programs hold in the end.

mod built;
mod capture;
mod cbor;
mod chain;
mod directory;
mod enveloped;
mod functions;
mod gnutls;
mod libcoap;
mod link;
mod mbedtls;
mod namespaces;
mod openssl;
mod pion;
mod pyopenssl;
pub(crate) mod registrar;
mod run;
mod runs;
mod s_client;
mod scripted;
mod server;
mod strongswan;
mod switch;
mod tshark;
mod wolfssl;
mod world;

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use crate::tree;
use world::InteropWorld;

/// The name of the story, the programs that it needs, and the function that runs it and returns a summary.
struct Story {
    name: &'static str,
    needs: &'static [&'static str],
    run: fn(&InteropWorld) -> Result<String>,
}

const fn story(name: &'static str, needs: &'static [&'static str], run: fn(&InteropWorld) -> Result<String>) -> Story {
    Story { name, needs, run }
}

const OPENSSL: &[&str] = &["openssl", "tshark"];
const GNUTLS: &[&str] = &["gnutls-cli", "openssl", "tshark"];
const LIBCOAP: &[&str] = &["coap-client-openssl", "coap-client-gnutls", "openssl", "tshark"];

/// Python is that of the peers.
const OPENSSL_CMS: &[&str] = &["coap-client-openssl", "openssl"];

const STRONGSWAN: &[&str] = &["pki", "coap-client-openssl", "openssl"];
const RESOURCE_DIRECTORY: &[&str] = &["coap-client-openssl", "openssl"];

const WOLFSSL: &[&str] = &["cc", "openssl", "tshark"];
const PION: &[&str] = &["go", "openssl", "tshark"];

/// Stories that keep the processors busy: they run one after the other.
const BUSY: &[Story] = &[
    story("openssl s_client, CCM_8", OPENSSL, s_client::ccm8),
    story("openssl s_client, GCM", OPENSSL, s_client::gcm),
    story("openssl s_client, both ends on a path of 256 bytes", OPENSSL, s_client::small_path),
    story("openssl s_client offers a session of another server", OPENSSL, s_client::resumption_declined),
    story("openssl s_client asks for a renegotiation", OPENSSL, s_client::renegotiation_refused),
    story("openssl s_client without a certificate is refused", OPENSSL, s_client::without_certificate),
    story("gnutls-cli, CCM_8", GNUTLS, gnutls::ccm8),
    story("gnutls-cli, GCM over x25519", GNUTLS, gnutls::gcm_over_x25519),
    story("gnutls-cli, both ends on a small path", GNUTLS, gnutls::small_path),
    story("gnutls-cli, CCM_8 in records of 512 bytes", GNUTLS, gnutls::small_records),
    story("gnutls-cli asks for a renegotiation", GNUTLS, gnutls::renegotiation_refused),
    story("Mbed TLS, GCM, and GET /.well-known/core", OPENSSL, mbedtls::gcm),
    story("Mbed TLS enrols in records of 512 bytes", OPENSSL, mbedtls::enrols_in_small_records),
    story("pyOpenSSL, each datagram dropped, doubled, swapped", OPENSSL, pyopenssl::each_datagram_astray),
    story("pyOpenSSL enrols a fleet, 16 at once", &[], pyopenssl::a_fleet_at_once),
    story("wolfSSL's client, CCM_8", WOLFSSL, wolfssl::ccm8),
    story("wolfSSL's client, GCM", WOLFSSL, wolfssl::gcm),
    story("muster discover against wolfSSL's server", WOLFSSL, wolfssl::serves),
    story("muster discover against wolfSSL's server, GCM", WOLFSSL, wolfssl::serves_gcm),
    story("Pion's client, CCM_8, messages cut to 200 bytes", PION, pion::ccm8),
    story("Pion's client, CCM, messages cut to 200 bytes", PION, pion::ccm),
    story("muster discover against Pion's server, CCM_8", PION, pion::serves_ccm8),
    story("muster discover against Pion's server, CCM", PION, pion::serves_ccm),
    story("libcoap's clients fetch the CA certificates, blocks of 64", LIBCOAP, libcoap::ca_certificates),
    story("libcoap's clients fetch the CSR attributes, blocks of 64", LIBCOAP, libcoap::csr_attributes),
    story("coap-client-openssl enrols, blocks of 64", LIBCOAP, libcoap::openssl_enrols),
    story("coap-client-gnutls enrols, blocks of 64", LIBCOAP, libcoap::gnutls_enrols),
    story("coap-client-openssl enrols by NON", LIBCOAP, libcoap::openssl_non),
    story("coap-client-gnutls enrols by NON", LIBCOAP, libcoap::gnutls_non),
    story("coap-client-openssl enrols with odd tokens", LIBCOAP, libcoap::openssl_odd_tokens),
    story("coap-client-gnutls enrols with odd tokens", LIBCOAP, libcoap::gnutls_odd_tokens),
    story("coap-client-openssl sends unknown options", LIBCOAP, libcoap::openssl_raw_options),
    story("coap-client-gnutls sends unknown options", LIBCOAP, libcoap::gnutls_raw_options),
    story("a CSR for another device is refused to coap-client-openssl", LIBCOAP, libcoap::stranger_is_refused),
    story("coap-client-openssl plays every function of EST-coaps", LIBCOAP, functions::every_function),
    story("coap-client-openssl gets keys that the server encrypts", OPENSSL_CMS, enveloped::from_the_server),
    story(
        "coap-client-openssl gets keys that a Registrar's upstream encrypts",
        OPENSSL_CMS,
        enveloped::through_a_registrar,
    ),
    story(
        "strongSwan's pki fetches the CA certificates and renews over HTTPS",
        STRONGSWAN,
        strongswan::fetches_and_renews,
    ),
    story("tshark reads our capture", LIBCOAP, tshark::tshark_reads_it),
    story(
        "muster discover and crts against coap-server-openssl",
        &["coap-server-openssl", "openssl"],
        libcoap::our_client_against_their_server,
    ),
    story("between two namespaces over link-local IPv6", &["ip", "openssl"], namespaces::link_local_enrolment),
];

/// Stories that mostly wait for timers: they run in parallel, beside the others.
const WAITING: &[Story] = &[
    story("openssl s_client through muster link", OPENSSL, s_client::bad_link),
    story("gnutls-cli offers a session of another server", &["gnutls-serv"], gnutls::resumption_declined),
    story("gnutls-cli through muster link", GNUTLS, gnutls::bad_link),
    story("wolfSSL's client through muster link", WOLFSSL, wolfssl::on_a_bad_link),
    story("muster discover against wolfSSL's server through muster link", WOLFSSL, wolfssl::serves_on_a_bad_link),
    story("Pion's client through muster link", PION, pion::on_a_bad_link),
    story("muster discover against Pion's server through muster link", PION, pion::serves_on_a_bad_link),
    story("coap-client-openssl loses a tenth", LIBCOAP, libcoap::openssl_loses),
    story("coap-client-gnutls loses a tenth", LIBCOAP, libcoap::gnutls_loses),
    story("coap-client-openssl enrols through muster link", LIBCOAP, libcoap::openssl_on_a_bad_link),
    story("coap-client-gnutls enrols through muster link", LIBCOAP, libcoap::gnutls_on_a_bad_link),
    story(
        "coap-client-openssl plays every function through a Registrar on a lossy link",
        LIBCOAP,
        functions::every_function_through_a_registrar,
    ),
    story("a Registrar, a lossy link, one certificate in two ledgers", LIBCOAP, chain::one_certificate_for_each_device),
    story("a Registrar whose upstream is slow, fails and lies", LIBCOAP, scripted::what_an_upstream_does_wrong),
    story(
        "coap-rd-openssl lists our server",
        &["coap-rd-openssl", "coap-client-openssl"],
        directory::libcoap_takes_a_registration,
    ),
    story(
        "aiocoap-rd lists our server, and our client finds it",
        RESOURCE_DIRECTORY,
        directory::aiocoap_lists_and_our_client_finds,
    ),
    story(
        "a fleet between two namespaces, the kernel loses a tenth",
        &["ip", "nft"],
        namespaces::kernel_loses_datagrams,
    ),
];

/// Runs every story whose name contains `chosen`; all failures together.
pub(crate) fn run(chosen: &str) -> Result<()> {
    let world = InteropWorld::new(crate::cargo::muster()?)?;
    let is_chosen = |story: &&Story| story.name.contains(chosen);
    let failures = Mutex::new(Vec::new());
    let tell = |story: &'static Story| {
        if let Some(failed) = story.tell(&world) {
            failures.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
        }
    };
    let tell = &tell;
    std::thread::scope(|scope| {
        for story in WAITING.iter().filter(is_chosen) {
            scope.spawn(move || tell(story));
        }
        BUSY.iter().filter(is_chosen).for_each(tell);
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    let told = BUSY.iter().chain(WAITING).filter(is_chosen).count();
    if told == 0 {
        bail!("no interoperation story has {chosen:?} in its name");
    }
    if !failures.is_empty() {
        bail!("{} of {told} stories failed: {}", failures.len(), failures.join("; "));
    }
    Ok(())
}

impl Story {
    /// Runs the story and prints its result; returns its name if it failed.
    fn tell(&self, world: &InteropWorld) -> Option<&'static str> {
        let began = Instant::now();
        let ended = self
            .missing()
            .map_or_else(|| (self.run)(world), |program| Err(anyhow!("{program} is not installed: cargo xtask setup")));
        match ended {
            Ok(seen) => {
                println!("   {:>6} ms  {}: {seen}", began.elapsed().as_millis(), self.name);
                None
            }
            Err(error) => {
                println!("      FAILED  {}: {error:#}", self.name);
                Some(self.name)
            }
        }
    }

    fn missing(&self) -> Option<&'static str> {
        self.needs.iter().copied().find(|program| tree::find_program(program).is_none())
    }
}
