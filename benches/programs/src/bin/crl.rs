//! What revocation lists cost: time, memory and size for a number of revoked certificates, in one list or in 128 shards.
//!
//! `cargo run --release -p programs --bin crl -- whole 1000000`, or `shards` instead of `whole`. The entries come from an iterator, as from a
//! ledger; for `shards` there is an index of which certificate belongs to which shard, four octets for each certificate, and one list after the
//! other is made and dropped. The peak of memory is that of the process, so each run measures one of the two. Prints one JSON object.
//!
//! `crl -- ledger FOLDER REVOKED` does what the server does: it revokes so many rows of one CA in a ledger that `ledger -- FOLDER ROWS fill` has filled,
//! and then writes each list to a file and syncs it.
#![allow(clippy::print_stdout, reason = "its result goes to whoever started it")]
#![allow(clippy::disallowed_methods, reason = "a measurement of its own: no engine runs here")]

use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use std::{env, fs};

use authority::{
    Actor, Completion, CrlEntryQuery, CrlLayout, Cursor, LISTING_ROWS_MAX, Ledger, LedgerFault, ListQuery, Locator,
    NextCrl, Revocation, Revoke, RowFilter,
};
use ledger::SqliteLedger;
use ledger::sqlite::Fresh;
use pki::issue::crl::{Crl, CrlEntry, CrlScope, CrlShards, CrlSpec, CrlToBeSigned, CrlUrl, shard_of};
use pki::issue::{IssuerCertificate, NodePrefix, RevocationReason, Serial};
use pki::make::{AuthorityCertificateSpec, root};
use pki::{AnchorId, Curve, PrivateKey, SigningKey, Validity};
use ring::rand::SystemRandom;
use rustls_pki_types::UnixTime;

const NOW: u64 = 1_767_225_600;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [mode, folder, revoked] = &arguments[..]
        && mode == "ledger"
    {
        return publish(Path::new(folder), revoked.parse()?);
    }
    let [mode, count] = &arguments[..] else {
        return Err("usage: crl whole|shards COUNT, or crl ledger FOLDER REVOKED".into());
    };
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

/// One CA of the fleet.
const FLEET_CA: AnchorId = AnchorId::from_bytes([2; 32]);
/// Rows of one call that revokes, and lists that get their numbers in one.
const REVOKED_ROWS: usize = 512;
const NUMBERED_LISTS: usize = 64;

fn publish(folder: &Path, revoked: u64) -> Result<(), Box<dyn Error>> {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
    let ledger = SqliteLedger::open(&folder.join("ledger.db"), Fresh { serial_key: [7; 16] }, now)?;
    let (ca, url) = (Ca::new()?, CrlUrl::new("http://pki.example.net/main/{shard}.crl", CrlShards::DEFAULT)?);
    let layout = CrlLayout::of(&url);
    ask(|done| ledger.fix_crl_layout(FLEET_CA, layout, done))?;
    let rss_before = kib("VmRSS:")?;
    let (count, revoking) = revoke(&ledger, revoked)?;
    let start = Instant::now();
    let mut lists = Vec::new();
    let shards: Vec<u32> = (0..CrlShards::DEFAULT.count()).collect();
    for batch in shards.chunks(NUMBERED_LISTS) {
        let next = |&list: &u32| NextCrl { ca: FLEET_CA, list, number_min: NOW, expired_before: None };
        ask(|done| ledger.number_crls(batch.iter().map(next).collect(), done))?;
        for &list in batch {
            let scope = url.scope(list).ok_or("no such shard")?;
            let crl = ca.list(scope, Entries { ledger: &ledger, list, page: Vec::new(), after: Some(None) })?;
            let mut file = fs::File::create(folder.join(format!("{list}.crl")))?;
            file.write_all(crl.der())?;
            file.sync_all()?;
            lists.push(Measured::of(&crl));
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let bytes: usize = lists.iter().map(|list| list.bytes).sum();
    let result = serde_json::json!({
        "revoked": count,
        "revoking_seconds": revoking,
        "lists": lists.len(),
        "entries": lists.iter().map(|list| list.entries).sum::<usize>(),
        "seconds": seconds,
        "bytes": bytes,
        "largest_list_bytes": lists.iter().map(|list| list.bytes).max(),
        "rss_before_kib": rss_before,
        "rss_peak_kib": kib("VmHWM:")?,
    });
    println!("{result}");
    Ok(())
}

/// Revokes two fifths of the CA's rows in their order, until there are so many; the time is that of the revocations alone.
fn revoke(ledger: &SqliteLedger, wanted: u64) -> Result<(u64, f64), Box<dyn Error>> {
    let (mut count, mut seen, mut after, mut seconds) = (0, 0_u64, None, 0.0);
    let mut serials = Vec::new();
    loop {
        let filter = RowFilter { ca: Some(FLEET_CA), ..RowFilter::default() };
        let query = ListQuery { filter, after, rows_max: LISTING_ROWS_MAX };
        let listing = ask(|done| ledger.list(query, done))?;
        for row in listing.rows {
            seen += 1;
            if seen % 5 < 2 && count < wanted {
                count += 1;
                serials.push(row.intent.serial);
            }
        }
        after = listing.next;
        if serials.len() >= REVOKED_ROWS || after.is_none() {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
            let reason = RevocationReason::KeyCompromise;
            let revocation = Revocation { reason, at, actor: Actor::server() };
            let rows =
                serials.drain(..).map(|serial| Revoke { row: Locator::Serial(serial), revocation: revocation.clone() });
            let rows = rows.collect();
            let start = Instant::now();
            ask(|done| ledger.revoke(rows, done))?;
            seconds += start.elapsed().as_secs_f64();
        }
        if after.is_none() || count == wanted {
            return Ok((count, seconds));
        }
    }
}

/// The entries of one list, page by page.
struct Entries<'l> {
    ledger: &'l SqliteLedger,
    list: u32,
    page: Vec<CrlEntry>,
    /// `None` after the last page.
    after: Option<Option<Cursor>>,
}

impl Iterator for Entries<'_> {
    type Item = CrlEntry;

    fn next(&mut self) -> Option<CrlEntry> {
        while self.page.is_empty() {
            let query = CrlEntryQuery { ca: FLEET_CA, list: self.list, after: self.after? };
            let page = ask(|done| self.ledger.crl_entries(query, done)).ok()?;
            (self.page, self.after) = (page.entries, page.next.map(Some));
        }
        self.page.pop()
    }
}

fn ask<T: Send + 'static>(call: impl FnOnce(Completion<Result<T, LedgerFault>>)) -> Result<T, Box<dyn Error>> {
    let (sender, answer) = mpsc::channel();
    call(Box::new(move |it| drop(sender.send(it))));
    answer.recv()?.map_err(|fault| format!("the ledger is {fault}").into())
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
