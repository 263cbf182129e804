//! `[authority]`: whether this server issues, or is a Registrar that asks upstream CAs; and the keys of a profile that only a Registrar has.

use std::path::PathBuf;
use std::time::Duration;

use authority::{RelayedKeys, SubjectRule};
use hyper::Uri;

use super::fault::Problem;
use super::model::{AuthorityKind, CaSection, ProfileSection, RegistrarSection, RelaySection, UpstreamSection};
use super::reader::{Read, Section, SectionReader, number, span};
use super::value::{SecretUri, Word, Words, unknown};

impl Words for AuthorityKind {
    const ALL: &'static [(&'static str, Self)] = &[("ca", Self::Ca), ("registrar", Self::Registrar)];
    const WANTED: &'static str = "`ca`, which issues, or `registrar`, which asks upstream CAs";
}

impl Words for RelayedKeys {
    const ALL: &'static [(&'static str, Self)] =
        &[("none", Self::NotServed), ("upstream", Self::Upstream), ("here", Self::Here)];
    const WANTED: &'static str =
        "`none`, `upstream`, which relays serverkeygen, or `here`, where the Registrar makes the keys";
}

/// Longer, a repeat after a crash would come before the row counts as unresolved (`authority::RELAY_LIFETIME`).
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
const _: () =
    assert!(TIMEOUT_MAX.as_secs() < authority::RELAY_LIFETIME.as_secs(), "a live exchange is never unresolved");
/// More than that is a list of all servers of the world; the name of each is in rows of the ledger.
const UPSTREAMS_MAX: usize = 8;
/// The keys of `[authority]` that only a Registrar has.
const REGISTRAR_KEYS: [&str; 7] =
    ["upstreams", "trust", "certificate", "key", "timeout", "in_flight_max", "refresh_interval"];

/// The section; the first part says which kind of authority the other sections belong to.
pub(super) fn authority(
    reader: &mut SectionReader,
    root: &mut Section<'_>,
) -> (AuthorityKind, Option<Option<UpstreamSection>>) {
    let mut section = reader.section(root, "authority");
    let kind = reader.or(&mut section, "kind", Word(AuthorityKind::Ca)).value.0;
    if kind == AuthorityKind::Ca {
        for key in REGISTRAR_KEYS {
            let what = "this server issues with its own CA and asks no upstream";
            reader.refuse(
                &mut section,
                key,
                what,
                "remove it, or set `kind = \"registrar\"` and remove every [ca.NAME]",
            );
        }
        reader.finish(&section);
        return (kind, Some(None));
    }
    let upstreams: Option<Read<Vec<String>>> =
        reader.required(&mut section, "upstreams", "upstreams = [\"https://ca.example.net/.well-known/est\"]");
    let trust: Option<Read<Vec<PathBuf>>> = reader.required(&mut section, "trust", "trust = [\"upstream/root.pem\"]");
    let certificate: Option<Read<PathBuf>> =
        reader.required(&mut section, "certificate", "certificate = \"registrar.pem\"");
    let key: Option<Read<SecretUri>> = reader.required(&mut section, "key", "key = \"file:registrar.key\"");
    let timeout = span(reader, &mut section, "timeout", Duration::from_secs(30), (Duration::from_secs(1), TIMEOUT_MAX));
    let in_flight_max = number(reader, &mut section, "in_flight_max", 256, (1, 65_536));
    let day = Duration::from_secs(86_400);
    let refresh_interval = span(reader, &mut section, "refresh_interval", day / 24, (Duration::from_secs(1), 30 * day));
    reader.finish(&section);
    let upstreams = upstreams.map(|upstreams| checked(reader, upstreams));
    let section = (|| {
        Some(UpstreamSection {
            upstreams: upstreams?,
            trust: trust?,
            certificate: certificate?,
            key: key?,
            timeout,
            in_flight_max,
            refresh_interval,
        })
    })();
    (kind, section.map(Some))
}

/// The URLs without a slash at their end.
fn checked(reader: &mut SectionReader, upstreams: Read<Vec<String>>) -> Read<Vec<String>> {
    if upstreams.value.is_empty() || upstreams.value.len() > UPSTREAMS_MAX {
        let what = format!("{} upstreams; a Registrar has 1 to {UPSTREAMS_MAX}", upstreams.value.len());
        let remedy = "list the URLs of the CA's EST service, the preferred one first";
        reader.faults.push(upstreams.fault(Problem::Conflict { what, remedy }));
    }
    let mut value: Vec<String> = Vec::new();
    for url in &upstreams.value {
        let trimmed = url.trim_end_matches('/');
        let is_usable = trimmed.parse::<Uri>().is_ok_and(|uri| {
            uri.scheme_str() == Some("https")
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.path().ends_with("/.well-known/est")
                && uri.query().is_none()
                && !uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
        });
        if !is_usable {
            let wanted = "a URL such as `https://ca.example.net/.well-known/est`; a label goes into `upstream_label` of a profile";
            reader.faults.push(upstreams.fault(unknown(url, wanted)));
        }
        if value.iter().any(|known| known == trimmed) {
            let problem = Problem::Duplicate { what: url.clone(), first: "another entry of this list".into() };
            reader.faults.push(upstreams.fault(problem));
        }
        value.push(trimmed.to_owned());
    }
    Read { value, ..upstreams }
}

/// The keys of a profile that only a Registrar has; in a profile of a CA they are refused.
pub(super) fn relay(
    reader: &mut SectionReader,
    section: &mut Section<'_>,
    kind: AuthorityKind,
) -> Option<Option<RelaySection>> {
    if kind == AuthorityKind::Ca {
        for key in ["issuers", "upstream_label"] {
            let what = "this server issues with its own CA and asks no upstream";
            reader.refuse(section, key, what, "remove it, or set `kind = \"registrar\"` in [authority]");
        }
        return Some(None);
    }
    let what = "the upstream CA issues for this profile";
    reader.refuse(section, "ca", what, "remove it; `issuers` names the certificates of the CAs that issue upstream");
    let server_keys = reader.or(section, "server_keys", Word(RelayedKeys::NotServed)).value.0;
    let upstream_label: Option<Read<String>> = reader.optional(section, "upstream_label");
    if let Some(label) = &upstream_label
        && (label.value.is_empty()
            || !label.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)))
    {
        reader.faults.push(label.fault(unknown(&label.value, "one path segment of letters, digits and -._~")));
    }
    let issuers: Option<Read<Vec<PathBuf>>> =
        reader.required(section, "issuers", "issuers = [\"upstream/issuing.pem\"]");
    Some(Some(RelaySection { issuers: issuers?, upstream_label, server_keys }))
}

/// The keys of `issue` that an upstream decides.
pub(super) fn refuse_issue<'s, 'd>(reader: &mut SectionReader, issue: &'s mut Section<'d>) -> &'s mut Section<'d> {
    let what = "the upstream CA decides this";
    reader.refuse(issue, "validity", what, "remove it, and configure the life of certificates at the upstream CA");
    issue
}

/// A Registrar forwards the CSR unchanged, and has no CA.
pub(super) fn cross_check_relay(
    reader: &mut SectionReader,
    (cas, registrars): (&[CaSection], &[RegistrarSection]),
    profiles: &[ProfileSection],
) {
    for ca in cas {
        let problem = Problem::Conflict {
            what: format!("`{}` is a CA of this server, and a Registrar has none", ca.name),
            remedy: "remove every [ca.NAME], or set `kind = \"ca\"` in [authority] and remove its other keys",
        };
        reader.faults.push(ca.certificate.fault(problem));
    }
    let vouching = || {
        Problem::Conflict {
        what: "a Registrar accepts no request from another Registrar: only a Registrar that sees the device can speak for it".into(),
        remedy: "remove it here, and list every Registrar at the server with the CA",
    }
    };
    for profile in profiles.iter().filter(|profile| !profile.registrars.value.is_empty()) {
        reader.faults.push(profile.registrars.fault(vouching()));
    }
    for registrar in registrars {
        reader.faults.push(registrar.trust.fault(vouching()));
    }
    for profile in profiles.iter().filter(|profile| profile.spec.subject != SubjectRule::Csr) {
        let problem = Problem::Conflict {
            what: "`issue.subject` is a template, and a Registrar forwards the CSR as the device made it".into(),
            remedy: "remove it, and let the upstream CA write the subject",
        };
        reader.faults.push(profile.name.fault(problem));
    }
}
