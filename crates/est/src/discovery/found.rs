//! What a client takes from a discovery answer: the paths of the functions, and where they are (RFC 9148 §4.1).
//!
//! What it is not: a reason to trust anybody. The answer comes from a server that was authenticated, and is the text of a peer nevertheless:
//! its size is bounded, its scheme is coaps or it is passed over, and if it leads to another port or host, the client connects there and
//! demands what it demanded here.

use std::fmt;

use coap::uri::{UriSegment, decode_segment};

use super::{LinkBase, parse_links};
use crate::resources::Resource;

/// Bytes of a path. A Uri-Path option has at most as many (RFC 7252 §5.10).
const PATH_BYTES_MAX: usize = 255;

/// Segments of a path: a root of several segments, a label and a function.
const SEGMENTS_MAX: usize = 8;

/// The functions of one profile, as a server lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundResources {
    base: Option<LinkBase>,
    root: Vec<String>,
    paths: Vec<(Resource, Vec<String>)>,
}

/// Why a discovery answer leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveryFailure {
    /// It lists no place of enrolment, or none with this label.
    Nothing {
        /// The label that was looked for.
        label: Option<String>,
    },
    /// It lists several places, and nothing says which of them is meant.
    Several {
        /// Their roots, at most a few.
        roots: Vec<String>,
    },
}

impl fmt::Display for DiscoveryFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing { label: None } => out.write_str("it lists no place of enrolment that could be used"),
            Self::Nothing { label: Some(label) } => {
                write!(out, "it lists no place of enrolment with the label {label}")
            }
            Self::Several { roots } => write!(out, "it lists several places of enrolment: {}", roots.join(", ")),
        }
    }
}

impl std::error::Error for DiscoveryFailure {}

/// Roots that a failure names.
const ROOTS_SHOWN_MAX: usize = 4;

impl FoundResources {
    /// Selects from the answer of the server at `at`: the root that ends with the label, or the shortest one without a label. Functions at the
    /// same server come before those elsewhere.
    ///
    /// # Errors
    /// [`DiscoveryFailure`].
    pub fn choose(text: &str, at: &LinkBase, label: Option<&str>) -> Result<Self, DiscoveryFailure> {
        let mut places: Vec<Self> = Vec::new();
        for link in parse_links(text) {
            let of_type = |kind: &str| Resource::ALL.into_iter().find(|resource| resource.resource_type() == kind);
            let Some(resource) = link.resource_type.split(' ').find_map(of_type) else { continue };
            let Some((base, path)) = target(link.target, at) else { continue };
            let root = &path[..path.len() - 1];
            match places.iter_mut().find(|place| place.base == base && place.root == root) {
                // The first link of a type counts.
                Some(place) if place.paths.iter().any(|(known, _)| *known == resource) => {}
                Some(place) => place.paths.push((resource, path)),
                None => places.push(Self { base, root: root.to_vec(), paths: vec![(resource, path)] }),
            }
        }
        let enrols = |place: &Self| place.paths.iter().any(|(resource, _)| *resource == Resource::SimpleEnroll);
        let is_meant = |place: &Self| label.is_none_or(|label| place.root.last().is_some_and(|last| last == label));
        places.retain(|place| enrols(place) && is_meant(place));
        let rank = |place: &Self| (place.base.is_some(), place.root.len());
        let Some(best) = places.iter().map(rank).min() else {
            return Err(DiscoveryFailure::Nothing { label: label.map(str::to_owned) });
        };
        places.retain(|place| rank(place) == best);
        match <[Self; 1]>::try_from(places) {
            Ok([place]) => Ok(place),
            Err(places) => {
                let roots = places.iter().take(ROOTS_SHOWN_MAX).map(Self::to_string).collect();
                Err(DiscoveryFailure::Several { roots })
            }
        }
    }

    /// Where the functions are, if not where they were asked for.
    #[must_use]
    pub const fn base(&self) -> Option<&LinkBase> {
        self.base.as_ref()
    }

    /// The path of a function. One that is not listed is below the root, where the server says that it is not there: `ren` is listed only to
    /// those who ask for it.
    #[must_use]
    pub fn path(&self, resource: Resource) -> Vec<String> {
        let listed = self.paths.iter().find(|(known, _)| *known == resource);
        listed.map_or_else(
            || self.root.iter().cloned().chain([resource.segment().to_owned()]).collect(),
            |(_, path)| path.clone(),
        )
    }
}

impl fmt::Display for FoundResources {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.base.as_ref().map_or("", LinkBase::as_str))?;
        if self.root.is_empty() {
            return out.write_str("/");
        }
        self.root.iter().try_for_each(|segment| write!(out, "/{}", UriSegment(segment)))
    }
}

/// The target of a link: the base, unless it is the one that was asked, and the path. `None` for another scheme and for what no request
/// of ours can name.
fn target(target: &str, at: &LinkBase) -> Option<(Option<LinkBase>, Vec<String>)> {
    if let Some(path) = target.strip_prefix('/') {
        return Some((None, segments(path)?));
    }
    let (authority, path) = target.strip_prefix("coaps://")?.split_once('/')?;
    let base = LinkBase::parse(&format!("coaps://{authority}")).ok()?;
    // Names are compared without case (RFC 3986 §3.2.2).
    Some((Some(base).filter(|base| !base.as_str().eq_ignore_ascii_case(at.as_str())), segments(path)?))
}

fn segments(path: &str) -> Option<Vec<String>> {
    let plain =
        path.len() <= PATH_BYTES_MAX && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
    let segments = path.split('/').take(SEGMENTS_MAX + 1).map(|segment| decode_segment(segment).ok());
    let segments: Vec<String> = segments.collect::<Option<_>>()?;
    let usable = segments.iter().all(|segment| !matches!(segment.as_str(), "" | "." | ".."));
    (plain && usable && segments.len() <= SEGMENTS_MAX).then_some(segments)
}

/// For the fuzz target `discovery_filter`: whatever a server lists, a path has few segments, none of which is empty or a step up, and a base
/// is another one than that of the server that was asked.
pub(super) fn fuzz_found_resources(text: &str) {
    let Some(at) = LinkBase::of_name("h", 5684) else { return };
    for label in [None, Some("m")] {
        let Ok(found) = FoundResources::choose(text, &at, label) else { continue };
        assert!(found.base() != Some(&at));
        for resource in Resource::ALL {
            let path = found.path(resource);
            assert!((1..=SEGMENTS_MAX).contains(&path.len()));
            assert!(
                path.iter().all(|segment| !segment.is_empty() && segment != ".." && !segment.contains(['/', '\0']))
            );
            assert!(path.iter().map(|segment| segment.len() + 1).sum::<usize>() <= PATH_BYTES_MAX + 5);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> LinkBase {
        LinkBase::parse("coaps://est.example.net").unwrap()
    }

    fn choose(text: &str, label: Option<&str>) -> Result<(Option<String>, String), DiscoveryFailure> {
        let found = FoundResources::choose(text, &at(), label)?;
        Ok((found.base().map(LinkBase::to_string), found.path(Resource::SimpleEnroll).join("/")))
    }

    fn sen(target: &str) -> String {
        format!("<{target}>;rt=\"ace.est.sen\";ct=\"281 287\"")
    }

    #[test]
    fn paths_are_those_of_the_answer_and_a_function_is_known_by_its_type() {
        let text =
            "</root/of/certs>;rt=\"ace.est.crts\",</root/of/new>;rt=\"x ace.est.sen\",</root/of/again>;rt=ace.est.sren";
        let found = FoundResources::choose(text, &at(), None).unwrap();
        let path = |resource| found.path(resource).join("/");
        assert_eq!(path(Resource::CaCertificates), "root/of/certs");
        assert_eq!(path(Resource::SimpleEnroll), "root/of/new");
        assert_eq!(path(Resource::SimpleReenroll), "root/of/again");
        assert_eq!(path(Resource::CsrAttributes), "root/of/att", "where a server that does not list it says so");
        assert_eq!(found.base(), None);
    }

    #[test]
    fn a_label_selects_a_root_and_without_one_the_shortest_is_meant() {
        let both = [sen("/est/meters/sen"), sen("/est/sen"), sen("/est/valves/sen")].join(",");
        assert_eq!(choose(&both, None).unwrap().1, "est/sen");
        assert_eq!(choose(&both, Some("valves")).unwrap().1, "est/valves/sen");
        assert_eq!(choose(&both, Some("pumps")), Err(DiscoveryFailure::Nothing { label: Some("pumps".to_owned()) }));
        let labels = [sen("/est/meters/sen"), sen("/est/valves/sen")].join(",");
        let several = choose(&labels, None).unwrap_err();
        assert_eq!(
            several,
            DiscoveryFailure::Several { roots: vec!["/est/meters".to_owned(), "/est/valves".to_owned()] }
        );
    }

    #[test]
    fn links_to_another_port_or_host_are_followed_only_if_there_is_none_here() {
        let elsewhere = sen("coaps://est.example.net:61617/est/sen");
        let here = sen("coaps://est.example.net:5684/e/sen");
        assert_eq!(
            choose(&elsewhere, None).unwrap(),
            (Some("coaps://est.example.net:61617".to_owned()), "est/sen".to_owned())
        );
        assert_eq!(choose(&format!("{elsewhere},{here}"), None).unwrap(), (None, "e/sen".to_owned()));
    }

    /// RFC 7252 §6.4: a Uri-Path option has the segment "after converting each percent-encoding" to its octet.
    #[test]
    fn the_escapes_of_a_link_are_decoded() {
        for (target, path) in [
            ("/%65st/s%65n", "est/sen"),
            ("/est/m%20%c3%a9/sen", "est/m \u{e9}/sen"),
            ("/est/50%25/sen", "est/50%/sen"),
        ] {
            assert_eq!(choose(&sen(target), None).map(|(_, path)| path), Ok(path.to_owned()), "{target}");
        }
        assert_eq!(choose(&sen("/est/m%65ters/sen"), Some("meters")).unwrap().1, "est/meters/sen");
        for wrong in ["/est%2fx/sen", "/est/%00/sen", "/est/%/sen", "/est/%6/sen", "/est/%zz/sen", "/est/%ff/sen"] {
            assert_eq!(choose(&sen(wrong), None), Err(DiscoveryFailure::Nothing { label: None }), "{wrong}");
        }
        let several = [sen("/est/a%20b/sen"), sen("/est/c/sen")].join(",");
        let roots = vec!["/est/a%20b".to_owned(), "/est/c".to_owned()];
        assert_eq!(choose(&several, None), Err(DiscoveryFailure::Several { roots }), "a root is written as in a URI");
    }

    #[test]
    fn another_scheme_and_what_no_request_can_name_is_passed_over() {
        let long = format!("/{}/sen", "x".repeat(PATH_BYTES_MAX));
        let deep = format!("{}/sen", "/x".repeat(SEGMENTS_MAX));
        for wrong in [
            "coap://est.example.net/est/sen",
            "http://est.example.net/est/sen",
            "coaps+tcp://est.example.net/est/sen",
            "est/sen",
            "//evil.example/est/sen",
            "/",
            "/est//sen",
            "/est/../sen",
            "/est/%2e%2e/sen",
            "/est/sen?x",
            "/est/s en",
            "coaps://est.example.net",
            "coaps://a@evil.example/est/sen",
            &long,
            &deep,
        ] {
            assert_eq!(choose(&sen(wrong), None), Err(DiscoveryFailure::Nothing { label: None }), "{wrong}");
        }
        assert!(choose("</est/crts>;rt=ace.est.crts", None).is_err(), "nothing to enrol with");
        for text in ["", "<", "</a>;rt=ace.est.sen", "</m/sen>;rt=ace.est.sen,<coaps://h/x>;rt=ace.est.sen"] {
            fuzz_found_resources(text);
        }
    }
}
