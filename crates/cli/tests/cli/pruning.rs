//! Rows whose certificates ended are removed beside a server, which goes on: with its audit, its export and its revocation lists.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::{
    Actor, Device, DeviceId, Function, Intent, Issued, Origin, ProfileVersion, Record, RepeatWindow, Revocation,
};
use ledger::line::{push_issued, push_revoked};
use pki::issue::{NodePrefix, RevocationReason, Serial};
use pki::make::{self, DeviceCertificateSpec, Parent};
use pki::{Certificate, Curve, Digest, PrivateKey, SigningKey, UnixTime, Validity};
use ring::rand::SystemRandom;
use serde_json::Value;

use crate::common::{Pki, Serving, expect_status, muster, openssl, stderr, stdout};

const DAY: u64 = 86_400;
/// Rows of certificates that ended a year ago; every fourth is revoked.
const OLD: u8 = 12;
/// Longer than any list takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn ledger(pki: &Pki, verb: &str, more: &[&str]) -> Output {
    muster().args(["ledger", verb, "--config"]).arg(pki.path("muster.toml")).args(more).output().unwrap()
}

fn json(output: &Output) -> Value {
    expect_status(output, 0);
    serde_json::from_str(&stdout(output)).unwrap()
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn certificate(path: &Path) -> Certificate {
    Certificate::parse(&pki::pem::certificates(&fs::read(path).unwrap()).unwrap()[0]).unwrap()
}

/// The export of a ledger from which this CA has issued two years ago.
fn old_rows(pki: &Pki, now: u64) -> String {
    let random = SystemRandom::new();
    let (issuing, maker) = (certificate(&pki.path("ca/issuing.pem")), certificate(&pki.path("manufacturer/ca.pem")));
    let key = pki::pem::private_key(&fs::read(pki.path("ca/issuing.key")).unwrap()).unwrap();
    let key = SigningKey::from_pkcs8(key.pkcs8(), &random).unwrap();
    let mut lines = String::new();
    for number in 1..=OLD {
        let began = now - 730 * DAY + u64::from(number);
        let validity = Validity { not_before: at(began), not_after: at(began + 365 * DAY) };
        let serial = Serial::new(NodePrefix::new(7), [number; 16]);
        let name = format!("{number:06}");
        let spec =
            DeviceCertificateSpec { common_name: "meter", serial_number: &name, organization: None, serial, validity };
        let device = PrivateKey::generate(Curve::P256, &random).unwrap();
        let device = SigningKey::from_pkcs8(device.pkcs8(), &random).unwrap();
        let parent = Parent { certificate: &issuing, key: &key };
        let certificate = make::idevid(&spec, device.public_key(), parent, &random).unwrap();
        let digest = |what: &str| Digest::of(format!("{what} {number}").as_bytes());
        let intent = Intent {
            serial,
            ca: issuing.anchor_id(),
            to_be_signed: Digest::of(certificate.to_be_signed()),
            function: Function::SimpleEnroll,
            profile: "default".into(),
            profile_version: ProfileVersion::from_bytes([3; 8]),
            device: Device { manufacturer: maker.anchor_id(), id: DeviceId::new(&name).unwrap() },
            anchor: maker.anchor_id(),
            vouched_by: Origin::Manufacturer,
            client: digest("client"),
            factory_key: None,
            csr: digest("csr"),
            spki: Digest::of(certificate.spki()),
            names: digest("names"),
            subject: certificate.subject().clone(),
            validity,
            peer: ([192, 0, 2, 1], 40_000).into(),
            at: at(began),
        };
        let issued = Issued {
            device: intent.device.clone(),
            profile: Arc::clone(&intent.profile),
            digest: certificate.digest(),
            certificate: certificate.der().to_vec(),
            validity,
            at: at(began),
        };
        let window = RepeatWindow { until: at(began + DAY) };
        push_issued(&mut lines, &intent, &Record { serial, issued: Arc::new(issued), window });
        if number % 4 == 0 {
            let actor = Actor::new("alice").unwrap();
            let reason = RevocationReason::KeyCompromise;
            push_revoked(&mut lines, &serial, &Revocation { reason, at: at(began + DAY), actor });
        }
    }
    lines
}

fn enrol_and_revoke(pki: &Pki, server: &Serving, name: &str) {
    let folder = pki.beside(name);
    expect_status(&pki.device("enroll", server.uri()).arg("--out").arg(&folder).output().unwrap(), 0);
    let mut revoke = muster();
    revoke.args(["cert", "revoke", "--reason", "keyCompromise", "--yes", "--config"]).arg(pki.path("muster.toml"));
    expect_status(&revoke.arg(folder.join("device.pem")).output().unwrap(), 0);
}

/// The number of the list and how many entries it has, once this is so; by OpenSSL.
#[track_caller]
fn listed(pki: &Pki, is_so: impl Fn(u64, usize) -> bool) -> (u64, usize) {
    let file = pki.path("crl/main.crl");
    let began = Instant::now();
    loop {
        if file.exists() {
            let shown = openssl(["crl", "-inform", "DER", "-noout", "-text", "-in", file.to_str().unwrap()]);
            let text = stdout(&shown);
            let number = text.split_once("X509v3 CRL Number:").and_then(|(_, rest)| rest.split_whitespace().next());
            let number = number.map_or(0, |number| {
                number.strip_prefix("0x").map_or_else(|| number.parse(), |hex| u64::from_str_radix(hex, 16)).unwrap()
            });
            let entries = text.matches("Serial Number:").count();
            if is_so(number, entries) {
                return (number, entries);
            }
            assert!(began.elapsed() < PATIENCE, "number {number}, {entries} entries:\n{text}");
        }
        assert!(began.elapsed() < PATIENCE, "{} was not written", file.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn rows_that_ended_are_removed_and_the_server_its_audit_export_and_lists_go_on() {
    let pki = Pki::new();
    let config = pki.path("muster.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("[ca.main]\n", "[ca.main]\ncrl_url = \"http://127.0.0.1/main.crl\"\n");
    fs::write(&config, text + "\n[crl]\nfolder = \"crl\"\nlisten = \"127.0.0.1:0\"\ninterval = \"100ms\"\n").unwrap();
    let now = UnixTime::now().as_secs();
    let lines = pki.beside("old.jsonl");
    fs::write(&lines, old_rows(&pki, now)).unwrap();
    let imported = json(&ledger(&pki, "import", &["--json", lines.to_str().unwrap()]));
    assert_eq!((&imported["rows"], &imported["revocations"]), (&12.into(), &3.into()));

    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    enrol_and_revoke(&pki, &server, "one");
    let (before, _) = listed(&pki, |_, entries| entries >= 1);
    let exported = stdout(&ledger(&pki, "export", &[]));
    let cursor = serde_json::from_str::<Value>(exported.lines().last().unwrap()).unwrap()["cursor"].clone();
    let cursor = cursor.as_str().unwrap();

    // The audit has records of the import, of a moment ago.
    std::thread::sleep(Duration::from_secs(1));
    let date = Command::new("date").args(["-u", "+%FT%TZ"]).output().unwrap();
    let date = stdout(&date).trim().to_owned();
    let planned = json(&ledger(&pki, "prune", &["--before", &date, "--dry-run", "--json"]));
    assert_eq!(planned["rows"], 12);
    let done = json(&ledger(&pki, "prune", &["--before", &date, "--yes", "--json"]));
    assert_eq!((&done["rows"], &done["certificates"], &done["rows_in_lists"]), (&12.into(), &12.into(), &0.into()));

    let verified = ledger(&pki, "verify", &[]);
    expect_status(&verified, 0);
    assert_eq!(stdout(&ledger(&pki, "export", &["--after", cursor])), "", "{}", stderr(&verified));
    enrol_and_revoke(&pki, &server, "two");
    let (after, entries) = listed(&pki, |number, entries| number > before && entries >= 2);
    assert!(after > before && entries == 2, "those that ended are not listed: {entries}");
    let more = stdout(&ledger(&pki, "export", &["--after", cursor]));
    assert_eq!(more.lines().count(), 2, "the certificate and its revocation: {more}");
    assert_eq!(stdout(&ledger(&pki, "export", &[])).lines().count(), 4);
    assert_eq!(server.terminate().0, Some(0));
    expect_status(&ledger(&pki, "verify", &[]), 0);
}
