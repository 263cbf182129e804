//! OpenSSL 4.0 over a memory BIO, through pyOpenSSL: each datagram of a handshake and of an exchange is lost,
//! duplicated and reordered once, and a fleet of devices enrols at the same time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::world::{CCM8, InteropDevice, InteropWorld, MTU};
use crate::openssl_fleet::OpenSslFleet;
use crate::process::Program;
use crate::tree;

const TIMEOUT: Duration = Duration::from_secs(100);
/// Devices on each address family, and how many of them enrol at the same time.
const FLEET: u32 = 40;
const FLEET_AT_ONCE: u32 = 16;
/// The minimum for both address families together.
const HANDSHAKES_MIN: usize = 100;
const DIRECTIONS: [&str; 2] = ["to-server", "to-client"];
const KINDS: [&str; 3] = ["drop", "double", "swap"];
/// The minimum of datagrams in a handshake with a client certificate (RFC 6347 §4.2.4, RFC 5246 §7.3) and one exchange: two hellos, Certificate,
/// ClientKeyExchange, CertificateVerify, ChangeCipherSpec, Finished, the request; HelloVerifyRequest, ServerHello, Certificate, ServerKeyExchange,
/// CertificateRequest, ServerHelloDone, ChangeCipherSpec, Finished, the answer. In flights: three from each side, and the exchange.
const DATAGRAMS_MIN: [(&str, [u64; 2]); 2] = [("records", [8, 9]), ("flights", [4, 4])];

pub(super) fn each_datagram_astray(world: &InteropWorld) -> Result<String> {
    let name = "pyopenssl";
    let (device, server) = world.begin(name, &[])?;
    let (mut cases, mut handshakes) = (0, 0);
    for address in [server.v4, server.v6] {
        let report = play(world, &device, address)?;
        ensure!(
            report["openssl"].as_str().is_some_and(|name| name.starts_with("OpenSSL 4.0")),
            "{}",
            report["openssl"]
        );
        cases += judge(&report).with_context(|| format!("with {address}"))?;
        handshakes += report["handshakes"].as_u64().map(usize::try_from).context("no number of handshakes")??;
    }
    ensure!(cases >= HANDSHAKES_MIN, "{cases} cases, expected at least {HANDSHAKES_MIN}");
    server.saw(&device, CCM8.iana, handshakes)?;
    let facts = server.stop()?.shows(&CCM8, &device, handshakes, MTU)?;
    Ok(format!("{cases} of {cases}; {facts}"))
}

fn play(world: &InteropWorld, device: &InteropDevice, server: SocketAddr) -> Result<Value> {
    let client = world.python("pyopenssl_client.py", device, server, CCM8.openssl)?;
    // A failed case makes the client fail with the case's name.
    let ended = client.timeout(TIMEOUT).expect_success()?;
    serde_json::from_str(&ended.stdout).with_context(|| format!("the pyOpenSSL client said {:?}", ended.stdout))
}

/// As `bench e2e` measures them, in the blocks of both of its configurations.
pub(super) fn a_fleet_at_once(world: &InteropWorld) -> Result<String> {
    let server = world.serve("pyopenssl-fleet", &[])?;
    for (server, prefix, block) in [(server.v4, "fleet4", 512), (server.v6, "fleet6", 64)] {
        let fleet = OpenSslFleet {
            pki: &world.pki(""),
            server,
            suite: CCM8.openssl,
            prefix,
            devices: FLEET,
            at_once: FLEET_AT_ONCE,
            block,
        };
        let python = Program::new(tree::python()).timeout(TIMEOUT);
        let report = fleet.play(python, &world.folder.join(format!("{prefix}.json")))?;
        judge_fleet(&report, block)?;
    }
    server.operator(world, "ledger verify").expect_success()?;
    let rows = server.operator(world, "cert list --state good --json").expect_success()?.stdout;
    let recorded = rows.lines().filter(|row| row.contains("\"fleet")).count();
    ensure!(recorded == usize::try_from(2 * FLEET)?, "{recorded} certificates are in the ledger: {rows}");
    server.stop()?;
    Ok(format!("{recorded} of {recorded}, {FLEET_AT_ONCE} at once"))
}

/// All of them are enrolled, and their report counts every datagram: in blocks of 64 bytes there are about four times as many.
fn judge_fleet(report: &Value, block: u16) -> Result<()> {
    ensure!(report["enrolled"] == FLEET && report["failed"] == 0, "not all devices: {report}");
    let exchanges = if block == 64 { 20 } else { 3 };
    for (datagrams, handshake) in [("datagrams_sent", 4), ("datagrams_received", 3)] {
        let datagrams = report["traffic"][datagrams].as_u64().unwrap_or_default();
        ensure!(datagrams >= u64::from(FLEET) * (exchanges + handshake), "{datagrams} datagrams: {report}");
    }
    let ends = ["p50_us", "p99_us"].map(|it| report["stages"][1][it].as_u64().unwrap_or_default());
    ensure!(ends[0] > 0 && ends[0] <= ends[1], "no latency: {report}");
    Ok(())
}

/// Every datagram must have had each fate once, and each case must have used the expected suite and version; returns
/// the number of cases.
fn judge(report: &Value) -> Result<usize> {
    let mut wanted = BTreeSet::new();
    for (packing, at_least) in DATAGRAMS_MIN {
        for (direction, least) in DIRECTIONS.into_iter().zip(at_least) {
            let datagrams = report["packings"][packing][direction].as_u64().unwrap_or_default();
            ensure!(datagrams >= least, "{datagrams} datagrams {direction} in {packing}, not {least}");
            let names =
                (0..datagrams).flat_map(|index| KINDS.map(|kind| format!("{packing}:{direction}:{index}:{kind}")));
            wanted.extend(names);
        }
    }
    let cases = report["cases"].as_array().map(Vec::as_slice).unwrap_or_default();
    for case in cases {
        ensure!(case["suite"] == CCM8.openssl && case["version"] == "DTLSv1.2", "unexpected suite or version: {case}");
    }
    let played: BTreeSet<String> = cases.iter().filter_map(|case| case["case"].as_str()).map(str::to_owned).collect();
    ensure!(played == wanted, "cases that did not run: {:?}", wanted.difference(&played));
    ensure!(cases.len() == wanted.len(), "a case ran twice");
    Ok(cases.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        let counts = json!({
            "records": {"to-server": 8, "to-client": 9},
            "flights": {"to-server": 4, "to-client": 4},
        });
        let mut cases = Vec::new();
        for (packing, direction, datagrams) in [
            ("records", "to-server", 8),
            ("records", "to-client", 9),
            ("flights", "to-server", 4),
            ("flights", "to-client", 4),
        ] {
            for (index, kind) in (0..datagrams).flat_map(|index| KINDS.map(|kind| (index, kind))) {
                let case = format!("{packing}:{direction}:{index}:{kind}");
                cases.push(json!({"case": case, "suite": CCM8.openssl, "version": "DTLSv1.2"}));
            }
        }
        json!({"packings": counts, "cases": cases})
    }

    #[test]
    fn a_case_for_each_datagram_and_fate_is_wanted() {
        assert_eq!(judge(&report()).unwrap(), 3 * (8 + 9 + 4 + 4));
        let mut short = report();
        short["cases"].as_array_mut().unwrap().retain(|case| case["case"] != "records:to-client:3:swap");
        let error = judge(&short).unwrap_err().to_string();
        assert!(error.contains("records:to-client:3:swap"), "{error}");
    }

    #[test]
    fn a_report_of_too_few_datagrams_or_another_suite_is_refused() {
        let mut few = report();
        few["packings"]["flights"]["to-client"] = json!(3);
        assert!(judge(&few).is_err());
        let mut other = report();
        other["cases"][7]["suite"] = json!("ECDHE-ECDSA-AES128-GCM-SHA256");
        assert!(judge(&other).is_err());
    }
}
