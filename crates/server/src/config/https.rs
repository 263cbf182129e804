//! `[https]` and `[registrar.NAME]`: the front over HTTPS, and who vouches for devices there.

use std::path::PathBuf;

use super::fault::Problem;
use super::model::{HttpsSection, ProfileSection, RegistrarSection};
use super::reader::{Read, Section, SectionReader};

/// `[https]`. The outer `None` is a fault, the inner one an absent section.
pub(super) fn https(reader: &mut SectionReader, root: &mut Section<'_>) -> Option<Option<HttpsSection>> {
    let mut section = reader.section(root, "https");
    if !section.is_present() {
        return Some(None);
    }
    let listen = reader.required(&mut section, "listen", "listen = \"127.0.0.1:8443\"");
    let certificate: Option<Read<PathBuf>> = reader.optional(&mut section, "certificate");
    let key = reader.optional(&mut section, "key");
    reader.finish(&section);
    match (&certificate, &key) {
        (Some(certificate), None) => {
            let what = "there is no key for it: `https.key` is absent".into();
            let remedy = "write `key` too, or remove both: the front then shows the certificate of [server]";
            reader.faults.push(certificate.fault(Problem::Conflict { what, remedy }));
        }
        (None, Some(key)) => {
            let what = "there is no certificate for it: `https.certificate` is absent".into();
            let remedy = "write `certificate` too, or remove both: the front then shows the certificate of [server]";
            reader.faults.push(key.fault(Problem::Conflict { what, remedy }));
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    Some(Some(HttpsSection { listen: listen?, identity: certificate.zip(key) }))
}

/// `[registrar.NAME]`
pub(super) fn registrar(
    reader: &mut SectionReader,
    name: String,
    mut section: Section<'_>,
) -> Option<RegistrarSection> {
    let trust: Option<Read<Vec<PathBuf>>> = reader.required(&mut section, "trust", "trust = [\"registrar/root.pem\"]");
    let certified_as = reader.required(&mut section, "name", "name = \"ra.example.net\"");
    reader.finish(&section);
    if let Some(trust) = trust.as_ref().filter(|trust| trust.value.is_empty()) {
        let what = "no CA, so the Registrar could not be recognized".into();
        reader.faults.push(trust.fault(Problem::Conflict { what, remedy: "add at least one CA file" }));
    }
    Some(RegistrarSection { name, trust: trust?, certified_as: certified_as? })
}

/// What profiles, Registrars and the front have to agree about.
pub(super) fn cross_check_https(
    reader: &mut SectionReader,
    https: Option<&HttpsSection>,
    registrars: &[RegistrarSection],
    profiles: &[ProfileSection],
) {
    let known: Vec<String> = registrars.iter().map(|registrar| registrar.name.clone()).collect();
    for profile in profiles {
        for name in profile.registrars.value.iter().filter(|name| !known.contains(name)) {
            let problem = Problem::UnknownReference { kind: "registrar", name: name.clone(), known: known.clone() };
            reader.faults.push(profile.registrars.fault(problem));
        }
        if https.is_none() && !profile.registrars.value.is_empty() {
            let what = "Registrars ask over HTTPS, and there is no section [https]".into();
            let remedy = "add [https] with `listen`, or remove `registrars`";
            reader.faults.push(profile.registrars.fault(Problem::Conflict { what, remedy }));
        }
    }
    for (index, registrar) in registrars.iter().enumerate() {
        let same = |other: &&RegistrarSection| other.certified_as.value == registrar.certified_as.value;
        if let Some(first) = registrars[..index].iter().find(same) {
            let what = format!("the name `{}`", registrar.certified_as.value);
            let problem = Problem::Duplicate { what, first: format!("the Registrar `{}`", first.name) };
            reader.faults.push(registrar.certified_as.fault(problem));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, read};

    const GOOD: &str = r#"
[server]
listen = ["127.0.0.1:5684"]
certificate = "server.pem"
key = "file:server.key"
[ca.main]
certificate = "issuing.pem"
key = "file:issuing.key"
[[profile]]
name = "meters"
ca = "main"
manufacturers = ["factory.pem"]
registrars = ["site"]
[ledger]
url = "memory:"
[https]
listen = "127.0.0.1:8443"
[registrar.site]
trust = ["ra.pem"]
name = "ra.example.net"
"#;

    fn sources(text: &str) -> Sources {
        Sources::new("/etc/muster.toml".into(), text.into(), Vec::new())
    }

    #[track_caller]
    fn says(from: &str, to: &str, words: &[&str]) {
        assert!(GOOD.contains(from), "{from} is not in the example");
        let said = read(&sources(&GOOD.replacen(from, to, 1))).unwrap_err().to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    }

    #[test]
    fn the_sections_are_read() {
        let config = read(&sources(GOOD)).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(config.https.unwrap().identity.is_none(), "the certificate of [server]");
        assert_eq!(config.registrars[0].certified_as.value, "ra.example.net");
        assert_eq!(*config.profiles[0].spec.profile.registrars, ["site".into()]);
    }

    #[test]
    fn faults_of_the_front_say_what_to_do() {
        says("[\"site\"]", "[\"sight\"]", &["profile[0].registrars", "no registrar is named `sight`", "known: site"]);
        let without = "[https]\nlisten = \"127.0.0.1:8443\"\n";
        says(without, "", &["profile[0].registrars", "there is no section [https]", "add [https] with `listen`"]);
        says("listen = \"127.0.0.1:8443\"", "lisen = \"127.0.0.1:8443\"", &["https.lisen", "listen"]);
        let half = "listen = \"127.0.0.1:8443\"\ncertificate = \"a.pem\"";
        says("listen = \"127.0.0.1:8443\"", half, &["https.certificate", "`https.key` is absent"]);
        let half = "listen = \"127.0.0.1:8443\"\nkey = \"file:a.key\"";
        says("listen = \"127.0.0.1:8443\"", half, &["https.key", "`https.certificate` is absent"]);
        says("trust = [\"ra.pem\"]", "trust = []", &["registrar.site.trust", "add at least one CA file"]);
        says("trust = [\"ra.pem\"]\n", "", &["registrar.site.trust", "trust = [\"registrar/root.pem\"]"]);
        let twice = "name = \"ra.example.net\"\n[registrar.two]\ntrust = [\"b.pem\"]\nname = \"ra.example.net\"";
        says("name = \"ra.example.net\"", twice, &["registrar.two.name", "already used by the Registrar `site`"]);
    }
}
