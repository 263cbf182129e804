//! The URLs that certificates contain. They cannot be changed in a certificate that exists, so each is checked before it is written into one.

use std::path::PathBuf;
use std::time::Duration;

use pki::GeneralName;
use pki::issue::crl::{CrlShards, CrlUrl, CrlUrlError};

use super::fault::Problem;
use super::model::{CaSection, CrlSection};
use super::reader::{Read, Section, SectionReader, number, span};
use super::value::unknown;

/// A URL without placeholders.
pub(super) fn url(reader: &mut SectionReader, section: &mut Section<'_>, key: &'static str) -> Option<Read<String>> {
    let url: Read<String> = reader.optional(section, key)?;
    if url.value.contains(['{', '}']) {
        let what = "this URL has no placeholders: only `crl_url` has one, `{shard}`".into();
        let remedy = "remove the braces; write `%7B` and `%7D` if they belong to the URL itself";
        reader.faults.push(url.fault(Problem::Conflict { what, remedy }));
    } else if !is_fetched(&url.value) || GeneralName::Uri(&url.value).check().is_err() {
        reader.faults.push(url.fault(not_a_url(&url.value)));
    }
    Some(url)
}

/// `crl_url` and `crl_shards`: where the revocation lists of a CA are.
pub(super) fn crl_url(reader: &mut SectionReader, section: &mut Section<'_>) -> Option<Read<CrlUrl>> {
    let url: Option<Read<String>> = reader.optional(section, "crl_url");
    let is_sharded = url.as_ref().is_some_and(|url| CrlUrl::is_sharded(&url.value));
    let shards = if is_sharded {
        number(reader, section, "crl_shards", CrlShards::DEFAULT.count(), (1, CrlShards::MAX))
    } else {
        refuse_shards(reader, section);
        CrlShards::DEFAULT.count()
    };
    let url = url?;
    // A number out of its bounds is a fault by now.
    let parsed = CrlUrl::new(&url.value, CrlShards::new(shards).unwrap_or(CrlShards::DEFAULT));
    let problem = match parsed {
        Ok(value) if is_fetched(&url.value) => return Some(Read { key: url.key, place: url.place, value }),
        Ok(_) | Err(CrlUrlError::Url) => not_a_url(&url.value),
        Err(error @ CrlUrlError::Placeholder(_)) => Problem::Conflict {
            what: error.to_string(),
            remedy: "write `{shard}`; write `%7B` and `%7D` if the braces belong to the URL itself",
        },
        Err(error @ CrlUrlError::Repeated) => {
            Problem::Conflict { what: error.to_string(), remedy: "write `{shard}` only once" }
        }
    };
    reader.faults.push(url.fault(problem));
    None
}

/// A list is valid for this long, unless the operator says otherwise: a verifier that has not asked for a week is offline.
const CRL_VALIDITY: Duration = Duration::from_secs(7 * 86_400);
/// Shorter, a list would end while a verifier that caches it still uses it.
const CRL_VALIDITY_MIN: Duration = Duration::from_secs(60);
const CRL_VALIDITY_MAX: Duration = Duration::from_secs(366 * 86_400);
/// How often lists that changed are written.
const CRL_INTERVAL: Duration = Duration::from_secs(10);
/// A revocation is published within a minute: half of it is left for writing.
const CRL_INTERVAL_MAX: Duration = Duration::from_secs(30);
const CRL_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// `[crl]`
pub(super) fn crl(reader: &mut SectionReader, root: &mut Section<'_>) -> Option<CrlSection> {
    let mut section = reader.section(root, "crl");
    if !section.is_present() {
        return None;
    }
    let folder = reader.or(&mut section, "folder", PathBuf::from("crl"));
    let listen = reader.optional(&mut section, "listen");
    let validity = span(reader, &mut section, "validity", CRL_VALIDITY, (CRL_VALIDITY_MIN, CRL_VALIDITY_MAX));
    let interval = span(reader, &mut section, "interval", CRL_INTERVAL, (CRL_INTERVAL_MIN, CRL_INTERVAL_MAX));
    reader.finish(&section);
    Some(CrlSection { folder, listen, validity, interval })
}

/// What `[crl]` and the URLs of the CAs have to agree about.
pub(super) fn cross_check_crl(reader: &mut SectionReader, crl: &CrlSection, cas: &[CaSection]) {
    let lists: Vec<(&str, &Read<CrlUrl>)> =
        cas.iter().filter_map(|ca| ca.crl_url.as_ref().map(|url| (ca.name.as_str(), url))).collect();
    if lists.is_empty() {
        let what = "no CA has a `crl_url`, so there are no revocation lists to write".into();
        let remedy = "write `crl_url` into [ca.NAME], or remove [crl]";
        reader.faults.push(crl.folder.fault(Problem::Conflict { what, remedy }));
    }
    for (index, (name, url)) in lists.iter().enumerate() {
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            let what =
                format!("the files of its revocation lists are named after the CA, and `{name}` is not a file name");
            let remedy = "name the CA with letters, digits, `-` and `_`";
            reader.faults.push(url.fault(Problem::Conflict { what, remedy }));
        }
        if crl.listen.is_none() {
            continue;
        }
        let target = url.value.http_target();
        if target.is_none() && url.value.to_string().starts_with("http://") {
            let what = "`crl.listen` serves lists by the path of their URL, and this one names none, or `{shard}` stands in the host".into();
            let remedy = "write a path that ends in the file's name, such as `http://pki.example.net/main.{shard}.crl`";
            reader.faults.push(url.fault(Problem::Conflict { what, remedy }));
        }
        if let Some((first, _)) =
            lists[..index].iter().find(|(_, other)| target.is_some() && other.value.http_target() == target)
        {
            let what = "the path of this URL".into();
            reader.faults.push(url.fault(Problem::Duplicate { what, first: format!("the CA `{first}`") }));
        }
    }
}

/// A number that has no effect would mislead.
fn refuse_shards(reader: &mut SectionReader, section: &mut Section<'_>) {
    let written: Option<Read<u32>> = reader.optional(section, "crl_shards");
    if let Some(written) = written {
        let what = "there are no shards, because `crl_url` does not contain `{shard}`".into();
        let remedy = "write `{shard}` into `crl_url` where the number of the shard belongs, or remove `crl_shards`";
        reader.faults.push(written.fault(Problem::Conflict { what, remedy }));
    }
}

/// RFC 5280 §4.2.1.13 wants HTTP or LDAP; HTTPS would need the same PKI that is being checked.
fn is_fetched(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("ldap://"));
    rest.is_some_and(|rest| !rest.is_empty())
}

fn not_a_url(found: &str) -> Problem {
    unknown(found, "a URL that begins with `http://`")
}
