//! `[discovery]` and `est.public`: how devices find the server.

use std::net::IpAddr;
use std::time::Duration;

use est::discovery::{COAP_PORT, DirectoryUri, LinkBase, NetworkPrefix};

use super::fault::Problem;
use super::model::{DiscoverySection, EstSection};
use super::reader::{Read, Section, SectionReader, number, span};
use super::value::{FromText, unknown};

/// RFC 7252 §8.2: DEFAULT_LEISURE.
const LEISURE: Duration = Duration::from_secs(5);
/// A device that waits longer has asked again.
const LEISURE_MAX: Duration = Duration::from_secs(60);
/// RFC 9176 §5: the default of `lt`, 25 hours.
const LIFETIME: Duration = Duration::from_secs(90_000);
/// Shorter, refreshes would be most of what the directory does.
const LIFETIME_MIN: Duration = Duration::from_secs(60);
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 86_400);
/// RFC 9176 §9.3.1 has endpoint names of up to 63 bytes.
const ENDPOINT_BYTES_MAX: usize = 63;
/// IFNAMSIZ of Linux without its zero.
const INTERFACE_BYTES_MAX: usize = 15;
/// Each is a socket on each interface.
const GROUPS_MAX: usize = 8;
const INTERFACES_MAX: usize = 16;

impl FromText for LinkBase {
    const WANTED: &'static str = "a scheme, a host and a port, such as `coaps://est.example.net:5690`";

    fn from_text(text: &str) -> Result<Self, Problem> {
        Self::parse(text).map_err(|flaw| unknown(text, &format!("{}; {flaw}", <Self as FromText>::WANTED)))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromText for DirectoryUri {
    const WANTED: &'static str = "the URI of a resource directory, such as `coap://rd.example.net`";

    fn from_text(text: &str) -> Result<Self, Problem> {
        Self::parse(text).ok_or_else(|| unknown(text, Self::WANTED))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromText for NetworkPrefix {
    const WANTED: &'static str = "a network, such as `192.0.2.0/24` or `2001:db8::/64`";

    fn from_text(text: &str) -> Result<Self, Problem> {
        Self::parse(text).ok_or_else(|| unknown(text, Self::WANTED))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromText for IpAddr {
    const WANTED: &'static str = "a multicast address, such as `ff02::fd` or `224.0.1.187`";

    fn from_text(text: &str) -> Result<Self, Problem> {
        text.parse().ok().filter(Self::is_multicast).ok_or_else(|| unknown(text, Self::WANTED))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

pub(super) fn discovery(
    reader: &mut SectionReader,
    root: &mut Section<'_>,
    est: &EstSection,
) -> Option<DiscoverySection> {
    let mut section = reader.section(root, "discovery");
    if !section.is_present() {
        return None;
    }
    let multicast: Read<Vec<IpAddr>> = reader.or(&mut section, "multicast", Vec::new());
    let resource_directory: Option<Read<DirectoryUri>> = reader.optional(&mut section, "resource_directory");
    let joins = !multicast.value.is_empty();
    if !joins {
        let remedy = "remove it, or list the groups to answer: `multicast = [\"ff02::fd\", \"224.0.1.187\"]`";
        for key in ["interfaces", "port", "leisure", "on_link"] {
            without_effect(reader, &section, key, "no multicast group is answered", remedy);
        }
    }
    if resource_directory.is_none() {
        let remedy = "remove it, or name the directory: `resource_directory = \"coap://rd.example.net\"`";
        for key in ["endpoint", "lifetime"] {
            without_effect(reader, &section, key, "there is no resource directory", remedy);
        }
    }
    let interfaces: Read<Vec<String>> = reader.or(&mut section, "interfaces", Vec::new());
    let port = number(reader, &mut section, "port", u32::from(COAP_PORT), (1, u32::from(u16::MAX)));
    let leisure = span(reader, &mut section, "leisure", LEISURE, (Duration::ZERO, LEISURE_MAX));
    let on_link: Read<Vec<NetworkPrefix>> = reader.or(&mut section, "on_link", Vec::new());
    let endpoint: Option<Read<String>> = reader.optional(&mut section, "endpoint");
    let lifetime = span(reader, &mut section, "lifetime", LIFETIME, (LIFETIME_MIN, LIFETIME_MAX));
    reader.finish(&section);
    if !joins && resource_directory.is_none() {
        let remedy = "write `multicast` or `resource_directory`, or remove [discovery]";
        reader.faults.push(multicast.fault(Problem::Conflict { what: "[discovery] has no effect".into(), remedy }));
    } else if est.public.is_none() {
        let key = resource_directory.as_ref().map_or_else(|| multicast.fault(nameless()), |uri| uri.fault(nameless()));
        reader.faults.push(key);
    }
    if joins {
        check_interfaces(reader, &interfaces);
    }
    if multicast.value.len() > GROUPS_MAX {
        let (found, max) = (multicast.value.len().to_string(), GROUPS_MAX.to_string());
        reader.faults.push(multicast.fault(Problem::Range { found, min: "0".into(), max }));
    }
    if let Some(endpoint) = endpoint.as_ref().filter(|it| it.value.is_empty() || it.value.len() > ENDPOINT_BYTES_MAX) {
        let wanted = format!("a name of 1 to {ENDPOINT_BYTES_MAX} bytes");
        reader.faults.push(endpoint.fault(Problem::Value { found: endpoint.value.clone(), wanted }));
    }
    // A value out of bounds is already reported.
    let port = u16::try_from(port).unwrap_or(COAP_PORT);
    Some(DiscoverySection { multicast, interfaces, port, leisure, on_link, resource_directory, endpoint, lifetime })
}

fn nameless() -> Problem {
    Problem::Conflict {
        what: "devices that find this server elsewhere have to be told where it is, and `est.public` is not set".into(),
        remedy: "write where devices reach it: `public = \"coaps://est.example.net\"` in [est]",
    }
}

fn check_interfaces(reader: &mut SectionReader, interfaces: &Read<Vec<String>>) {
    if interfaces.value.is_empty() || interfaces.value.len() > INTERFACES_MAX {
        let what = format!("a group is joined on named interfaces, 1 to {INTERFACES_MAX} of them");
        let remedy = "list them, such as `interfaces = [\"eth0\"]`; `ip link` shows their names";
        reader.faults.push(interfaces.fault(Problem::Conflict { what, remedy }));
    }
    let unfit = |name: &&String| name.is_empty() || name.len() > INTERFACE_BYTES_MAX || name.contains(['/', ' ']);
    for name in interfaces.value.iter().filter(unfit) {
        let wanted = "the name of an interface, such as `eth0`".into();
        reader.faults.push(interfaces.fault(Problem::Value { found: name.clone(), wanted }));
    }
}

fn without_effect(
    reader: &mut SectionReader,
    section: &Section<'_>,
    key: &'static str,
    what: &str,
    remedy: &'static str,
) {
    if section.has(key) {
        let problem = Problem::Conflict { what: format!("`{key}` has no effect: {what}"), remedy };
        let place = section.place.clone();
        reader.fault(&place, section.dotted(key), problem);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{ConfigurationFaults, Sources, read};

    const REST: &str = r#"
[server]
listen = ["127.0.0.1:5684"]
certificate = "server.pem"
key = "file:server.key"
[ca.main]
certificate = "ca.pem"
key = "file:ca.key"
[[profile]]
name = "meters"
ca = "main"
manufacturers = ["factory.pem"]
[ledger]
url = "memory:"
"#;

    fn faults(sections: &str) -> String {
        let sources = Sources::new("muster.toml".into(), format!("{REST}{sections}"), Vec::new());
        read(&sources).map_or_else(|ConfigurationFaults(faults)| format!("{faults:?}"), |_| String::new())
    }

    const PUBLIC: &str = "[est]\npublic = \"coaps://est.example.net:5690\"\n";

    #[test]
    fn both_ways_of_being_found_are_read() {
        let multicast =
            "multicast = [\"ff02::fd\", \"224.0.1.187\"]\ninterfaces = [\"eth0\"]\non_link = [\"192.0.2.0/24\"]\n";
        let directory = "resource_directory = \"coap://rd.example.net\"\nendpoint = \"est\"\nlifetime = \"2h\"\n";
        for discovery in [multicast, directory, &format!("{multicast}{directory}")] {
            assert_eq!(faults(&format!("{PUBLIC}[discovery]\n{discovery}")), "");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key_and_a_remedy() {
        let group = "multicast = [\"ff02::fd\"]\n";
        let joined = format!("{group}interfaces = [\"eth0\"]\n");
        let directory = "resource_directory = \"coap://rd.example.net\"\n";
        for (sections, told) in [
            ("[discovery]\n".to_owned(), "[discovery] has no effect"),
            (format!("[discovery]\n{joined}"), "`est.public` is not set"),
            (format!("[discovery]\n{directory}"), "`est.public` is not set"),
            (format!("{PUBLIC}[discovery]\n{group}"), "a group is joined on named interfaces"),
            (format!("{PUBLIC}[discovery]\nmulticast = [\"192.0.2.1\"]\ninterfaces = [\"eth0\"]\n"), "192.0.2.1"),
            (format!("{PUBLIC}[discovery]\n{group}interfaces = [\"an interface\"]\n"), "an interface"),
            (format!("{PUBLIC}[discovery]\n{directory}leisure = \"5s\"\n"), "`leisure` has no effect"),
            (format!("{PUBLIC}[discovery]\n{joined}lifetime = \"5h\"\n"), "`lifetime` has no effect"),
            (format!("{PUBLIC}[discovery]\n{joined}leisure = \"5h\"\n"), "5h"),
            (format!("{PUBLIC}[discovery]\n{joined}on_link = [\"192.0.2.7/24\"]\n"), "192.0.2.7/24"),
            (format!("{PUBLIC}[discovery]\nresource_directory = \"coaps://rd\"\n"), "coaps://rd"),
            (format!("{PUBLIC}[discovery]\n{directory}endpoint = \"\"\n"), "a name of 1 to 63 bytes"),
            ("[est]\npublic = \"coaps://h/est\"\n".to_owned(), "more than a scheme, a host and a port"),
        ] {
            let found = faults(&sections);
            assert!(found.contains(told), "{sections}\n{found}");
        }
    }
}
