//! Other people's implementations against a running `muster serve`, and `muster` against theirs.
//!
//! Our own client agrees with our own server about every mistake that both make; OpenSSL, GnuTLS, Mbed TLS, libcoap and Wireshark do not. Each test
//! asserts what both ends say of the session: the suite, and the certificate that the server saw. A peer that is not installed is a failure with its
//! name: nothing here passes because it could not run.

mod capture;
mod gnutls;
mod handshakes;
mod libcoap;
mod namespaces;
mod openssl;
mod world;

use crate::tree;
use anyhow::{Result, bail};
use std::time::Instant;
use world::World;

/// A story: what it shows, the programs that it needs, and how it runs.
struct Story {
    name: &'static str,
    needs: &'static [&'static str],
    run: fn(&World) -> Result<()>,
}

/// Those that share one running server.
const AGAINST_OUR_SERVER: &[Story] = &[
    Story { name: "openssl s_client, CCM_8", needs: &["openssl"], run: handshakes::openssl_ccm8 },
    Story { name: "openssl s_client, GCM", needs: &["openssl"], run: handshakes::openssl_gcm },
    Story {
        name: "openssl s_client, CCM_8 in fragments of 256 bytes",
        needs: &["openssl"],
        run: handshakes::openssl_fragmented,
    },
    Story {
        name: "openssl s_client without a certificate is refused",
        needs: &["openssl"],
        run: handshakes::openssl_without_certificate,
    },
    Story {
        name: "gnutls-cli, CCM_8 on a path of 300 bytes",
        needs: &["gnutls-cli"],
        run: gnutls::ccm8_on_a_small_path,
    },
    Story { name: "gnutls-cli, GCM over x25519", needs: &["gnutls-cli"], run: gnutls::gcm_over_x25519 },
    Story {
        name: "gnutls-cli, CCM_8 in records of 512 bytes",
        needs: &["gnutls-cli"],
        run: gnutls::ccm8_in_small_records,
    },
    Story { name: "Mbed TLS, CCM_8, and GET /.well-known/core", needs: &[], run: handshakes::mbedtls_ccm8 },
    Story { name: "Mbed TLS, GCM, and GET /.well-known/core", needs: &[], run: handshakes::mbedtls_gcm },
    Story {
        name: "coap-client-openssl enrols, blocks of 64",
        needs: &["coap-client-openssl", "openssl"],
        run: libcoap::openssl_enrols,
    },
    Story {
        name: "coap-client-gnutls enrols, blocks of 64",
        needs: &["coap-client-gnutls", "openssl"],
        run: libcoap::gnutls_enrols,
    },
    Story {
        name: "a CSR for another device is refused to coap-client-openssl",
        needs: &["coap-client-openssl", "openssl"],
        run: libcoap::stranger_is_refused,
    },
];

/// Those that start what they need themselves.
const ALONE: &[Story] = &[
    Story {
        name: "tshark reads our capture",
        needs: &["tshark", "coap-client-openssl", "openssl"],
        run: capture::tshark_reads_it,
    },
    Story {
        name: "muster discover and crts against coap-server-openssl",
        needs: &["coap-server-openssl", "openssl"],
        run: libcoap::our_client_against_their_server,
    },
    Story {
        name: "between two namespaces over link-local IPv6",
        needs: &["ip", "openssl"],
        run: namespaces::link_local_enrolment,
    },
    Story {
        name: "a fleet between two namespaces where the kernel loses one datagram in five",
        needs: &["ip", "nft"],
        run: namespaces::kernel_loses_datagrams,
    },
];

/// Runs every story; all failures together.
pub(crate) fn run() -> Result<()> {
    let world = World::new(crate::check::muster()?)?;
    let mut failures = Vec::new();
    for story in AGAINST_OUR_SERVER.iter().chain(ALONE) {
        let began = Instant::now();
        match story.missing().map_or_else(
            || (story.run)(&world),
            |program| Err(anyhow::anyhow!("{program} is not installed: cargo xtask setup")),
        ) {
            Ok(()) => println!("   {:>6} ms  {}", began.elapsed().as_millis(), story.name),
            Err(error) => {
                println!("      FAILED  {}: {error:#}", story.name);
                failures.push(story.name);
            }
        }
    }
    world.close()?;
    if !failures.is_empty() {
        bail!(
            "{} of {} stories failed: {}",
            failures.len(),
            AGAINST_OUR_SERVER.len() + ALONE.len(),
            failures.join("; ")
        );
    }
    Ok(())
}

impl Story {
    fn missing(&self) -> Option<&'static str> {
        self.needs.iter().copied().find(|program| tree::find_program(program).is_none())
    }
}
