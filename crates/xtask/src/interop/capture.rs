//! Reads the capture of `muster serve --pcap` with Wireshark's engine: an independent view of our records and of our
//! CoAP.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::openssl;
use super::world::{InteropDevice, SuiteNames};
use crate::process::Program;

/// Length of a UDP header, which tshark's `udp.length` includes.
const UDP_HEADER_BYTES: usize = 8;
const SERVER_HELLO: &str = "2";

/// A whole capture of one server.
pub(super) struct Capture {
    pub(super) file: PathBuf,
    pub(super) ports: [u16; 2],
}

/// The unencrypted facts of a capture's handshakes.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Suites of ServerHellos.
    suites: BTreeSet<String>,
    /// Certificates that devices sent, in hex, and how often.
    certificates: BTreeMap<String, usize>,
    /// Bytes of UDP payload.
    pub(super) largest_from_server: usize,
    pub(super) largest_from_devices: usize,
}

impl std::fmt::Display for Facts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { largest_from_server, largest_from_devices, .. } = self;
        write!(out, "datagrams up to {largest_from_server} bytes from the server, {largest_from_devices} from devices")
    }
}

impl Capture {
    /// Checks that every handshake chose this suite, that only this device's certificate was shown, and that no datagram of the server was longer than
    /// `mtu`. Half of the `times` handshakes must be found: tshark treats a client on a reused port as a retransmission, and does not reassemble
    /// reordered messages. The server's log gives the exact count. Returns the facts for the story to print.
    pub(super) fn shows(&self, suite: &SuiteNames, device: &InteropDevice, times: usize, mtu: usize) -> Result<Facts> {
        let facts = self.facts()?;
        let chosen: Vec<&str> = facts.suites.iter().map(String::as_str).collect();
        ensure!(chosen == [suite.code], "the ServerHellos of the capture chose {chosen:?}, not {}", suite.code);
        let certificate = openssl::der_hex(&device.certificate())?;
        ensure!(
            facts.certificates.get(&certificate).is_some_and(|seen| *seen * 2 >= times),
            "the capture does not hold {}'s certificate in half of {times} handshakes: {:?}",
            device.name,
            facts.certificates.values()
        );
        ensure!(facts.certificates.len() == 1, "the capture holds certificates of other devices");
        ensure!(
            facts.largest_from_server <= mtu,
            "a datagram of {} bytes from a server whose path MTU is {mtu}",
            facts.largest_from_server
        );
        Ok(facts)
    }

    fn facts(&self) -> Result<Facts> {
        let fields = [
            "udp.srcport",
            "udp.length",
            "dtls.handshake.type",
            "dtls.handshake.ciphersuite",
            "dtls.handshake.certificate",
        ];
        let mut facts = Facts::default();
        for row in self.fields("udp", &fields)? {
            let from_server = self.ports.iter().any(|port| row[0] == port.to_string());
            let length: usize = row[1].parse().with_context(|| format!("no length in {row:?}"))?;
            let length = length.saturating_sub(UDP_HEADER_BYTES);
            if from_server {
                facts.largest_from_server = facts.largest_from_server.max(length);
                if row[2].split(',').any(|kind| kind == SERVER_HELLO) {
                    facts.suites.insert(row[3].clone());
                }
            } else {
                facts.largest_from_devices = facts.largest_from_devices.max(length);
                for certificate in row[4].split(',').filter(|certificate| !certificate.is_empty()) {
                    *facts.certificates.entry(certificate.to_owned()).or_default() += 1;
                }
            }
        }
        Ok(facts)
    }

    pub(super) fn fields(&self, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
        let ended = self.reader(filter, fields).expect_success()?;
        Ok(ended.stdout.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
    }

    pub(super) fn reader(&self, filter: &str, fields: &[&str]) -> Program {
        let tshark = Program::new("tshark").arg("-r").arg(&self.file);
        let tshark = tshark.args(["-T", "fields", "-E", "separator=|", "-Y", filter]);
        // CoAP is expected on 5684 only.
        let tshark =
            self.ports.iter().fold(tshark, |tshark, port| tshark.arg("-d").arg(format!("dtls.port=={port},coap")));
        fields.iter().fold(tshark, |tshark, field| tshark.args(["-e", field])).timeout(Duration::from_secs(60))
    }
}
