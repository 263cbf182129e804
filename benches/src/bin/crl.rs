//! What revocation lists cost: time, memory and size for a number of revoked certificates, in one list or in 128 shards.
//!
//! `cargo run --release -p benches --bin crl -- whole 1000000`, or `shards` instead of `whole`. The entries come from an iterator, as from a
//! ledger; for `shards` there is an index of which certificate belongs to which shard, four octets for each certificate, and one list after the
//! other is made and dropped. The peak of memory is that of the process, so each run measures one of the two. Prints one JSON object.
#![allow(clippy::print_stdout, reason = "its result goes to whoever started it")]
#![allow(clippy::disallowed_methods, reason = "a measurement of its own: no engine runs here")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use pki::issue::crl::{Crl, CrlEntry, CrlScope, CrlShards, CrlSpec, CrlToBeSigned, CrlUrl, shard_of};
use pki::issue::{IssuerCertificate, NodePrefix, RevocationReason, Serial};
use pki::make::{AuthorityCertificateSpec, root};
use pki::{Curve, PrivateKey, SigningKey, Validity};
use ring::rand::SystemRandom;
use rustls_pki_types::UnixTime;

const NOW: u64 = 1_767_225_600;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [mode, count] = &arguments[..] else { return Err("usage: crl whole|shards COUNT".into()) };
    let count: u32 = count.parse()?;
    let ca = Ca::new()?;
    let rss_before = kib("VmRSS:")?;
    let (start, lists) = match mode.as_str() {
        "whole" => {
            let start = Instant::now();
            (start, vec![Measured::of(&ca.list(CrlScope::Whole, (0..count).map(entry))?)])
        }
        "shards" => {
            let url = CrlUrl::new("http://pki.example.net/main/{shard}.crl", CrlShards::DEFAULT)?;
            let mut index = vec![Vec::new(); usize::try_from(CrlShards::DEFAULT.count())?];
            for number in 0..count {
                let shard = shard_of(&entry(number).serial, CrlShards::DEFAULT);
                index[usize::try_from(shard.index())?].push(number);
            }
            let start = Instant::now();
            let lists = url
                .scopes()
                .zip(&index)
                .map(|(scope, own)| Ok(Measured::of(&ca.list(scope, own.iter().map(|&number| entry(number)))?)));
            (start, lists.collect::<Result<Vec<_>, Box<dyn Error>>>()?)
        }
        _ => return Err("the lists are `whole` or `shards`".into()),
    };
    let seconds = start.elapsed().as_secs_f64();
    let bytes: usize = lists.iter().map(|list| list.bytes).sum();
    let entries: usize = lists.iter().map(|list| list.entries).sum();
    let result = serde_json::json!({
        "lists": lists.len(),
        "entries": entries,
        "seconds": seconds,
        "bytes": bytes,
        "bytes_per_entry": f64::from(u32::try_from(bytes)?) / f64::from(u32::try_from(entries.max(1))?),
        "largest_list_bytes": lists.iter().map(|list| list.bytes).max(),
        "rss_before_kib": rss_before,
        "rss_peak_kib": kib("VmHWM:")?,
    });
    println!("{result}");
    Ok(())
}

struct Measured {
    bytes: usize,
    entries: usize,
}

impl Measured {
    fn of(list: &Crl) -> Self {
        Self { bytes: list.der().len(), entries: list.entries() }
    }
}

/// Half of the certificates are revoked with a reason.
fn entry(number: u32) -> CrlEntry {
    CrlEntry {
        serial: Serial::new(NodePrefix::new(1), u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()),
        at: UnixTime::since_unix_epoch(Duration::from_secs(NOW - u64::from(number))),
        reason: if number.is_multiple_of(2) { RevocationReason::Unspecified } else { RevocationReason::KeyCompromise },
    }
}

struct Ca {
    issuer: Arc<IssuerCertificate>,
    key: SigningKey,
    random: SystemRandom,
}

impl Ca {
    fn new() -> Result<Self, Box<dyn Error>> {
        let random = SystemRandom::new();
        let key = SigningKey::from_pkcs8(PrivateKey::generate(Curve::P256, &random)?.pkcs8(), &random)?;
        let spec = AuthorityCertificateSpec {
            common_name: "Issuing",
            organization: Some("Example"),
            serial: Serial::new(NodePrefix::new(0), [1; 16]),
            validity: Validity { not_before: at(NOW), not_after: at(NOW + 1_000_000_000) },
            path_len: Some(0),
        };
        let issuer = Arc::new(IssuerCertificate::new(Arc::new(root(&spec, &key, &random)?))?);
        Ok(Self { issuer, key, random })
    }

    fn list(&self, scope: CrlScope<'_>, entries: impl Iterator<Item = CrlEntry>) -> Result<Crl, Box<dyn Error>> {
        let spec = CrlSpec { scope, number: 1, this_update: at(NOW), next_update: at(NOW + 86_400) };
        let to_be_signed = CrlToBeSigned::new(Arc::clone(&self.issuer), &spec, entries)?;
        let signature = self.key.sign(&self.random, to_be_signed.der())?;
        Ok(to_be_signed.assemble(&signature)?)
    }
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// A value of this process's `/proc/self/status`, in KiB.
fn kib(name: &str) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
