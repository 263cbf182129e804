//! The URLs that certificates contain. They cannot be changed in a certificate that exists, so each is checked before it is written into one.

use pki::GeneralName;
use pki::issue::crl::{CrlShards, CrlUrl, CrlUrlError};

use super::fault::Problem;
use super::reader::{Read, Section, SectionReader, number};
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
