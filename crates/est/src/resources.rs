//! The resource table of EST-coaps: the functions, the formats of each, and what each path refers to.
//!
//! ```text
//! /.well-known/core                      discovery                     GET   -> 40
//! /<root>[/<label>]/crts                 CA certificates               GET   -> 281 | 287
//! /<root>[/<label>]/sen                  enrol             286         POST  -> 281 | 287
//! /<root>[/<label>]/sren                 re-enrol          286         POST  -> 281 | 287
//! /<root>[/<label>]/att                  CSR attributes                GET   -> 285
//! /<root>[/<label>]/skg                  key and certificate  286      POST  -> 62 (284, 281)
//! /<root>[/<label>]/skc                  key and certificate  286      POST  -> 62 (284, 287)
//! /<root>[/<label>]/ren                  when to renew                 GET   -> 60
//! ```
//!
//! `<root>` is `.well-known/est`, which a server MUST support (RFC 9148 §4.1), or the short root of the configuration;
//! `<label>` chooses the profile. `/att`, `/skg` and `/skc` are optional (RFC 9148 §4.2). A profile without anything to
//! say at `/att` does not serve it, and only a profile that makes keys serves the other two. What is not served answers
//! 4.04, and discovery does not list it. `/ren` is an extension of ours ([`crate::RenewalInfo`]): its resource type is none of
//! `ace.est`, so that a device that asks for `rt=ace.est*` (RFC 9148 §4.1) sees the functions of the RFC alone.
//!
//! This module answers no requests: `server` does, based on this table.

use std::collections::BTreeMap;

use coap::{ContentFormat, Method};

use crate::reason::Reason;

/// The root that every server serves (RFC 9148 §4.1).
pub const WELL_KNOWN_ROOT: [&str; 2] = [".well-known", "est"];

/// The path of discovery (RFC 6690 §4).
pub const DISCOVERY_PATH: [&str; 2] = [".well-known", "core"];

/// The most segments of a path of ours: a root of up to four, a label and a function. A longer path is not looked up at
/// all.
const SEGMENTS_MAX: usize = ROOT_SEGMENTS_MAX + 2;

/// The most segments of the short root. A longer root would not be shorter than the well-known one.
pub const ROOT_SEGMENTS_MAX: usize = 4;

/// "Implementers should consider using short labels" (RFC 9148 §4.1); every block of an upload repeats it.
pub const LABEL_BYTES_MAX: usize = 64;

/// An EST function that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// `/crts`: the CA certificates (RFC 7030 §4.1).
    CaCertificates,
    /// `/sen`: simple enrolment (RFC 7030 §4.2.1).
    SimpleEnroll,
    /// `/sren`: simple re-enrolment (RFC 7030 §4.2.2).
    SimpleReenroll,
    /// `/att`: the CSR attributes (RFC 7030 §4.5).
    CsrAttributes,
    /// `/skg`: a key made by the server, and its certificate in a certs-only message (RFC 7030 §4.4).
    ServerKeygen,
    /// `/skc`: the same with a bare certificate (RFC 9148 §4.8).
    ServerKeygenBare,
    /// `/ren`: when the device shall renew its certificate. An extension of ours.
    RenewalInfo,
}

impl Resource {
    /// Every function, in the order in which RFC 9148 §4.1 lists them, and our own.
    pub const ALL: [Self; 7] = [
        Self::CaCertificates,
        Self::SimpleEnroll,
        Self::SimpleReenroll,
        Self::CsrAttributes,
        Self::ServerKeygen,
        Self::ServerKeygenBare,
        Self::RenewalInfo,
    ];

    /// The last segment of its path (RFC 9148 §4.1, Table 1).
    #[must_use]
    pub const fn segment(self) -> &'static str {
        match self {
            Self::CaCertificates => "crts",
            Self::SimpleEnroll => "sen",
            Self::SimpleReenroll => "sren",
            Self::CsrAttributes => "att",
            Self::ServerKeygen => "skg",
            Self::ServerKeygenBare => "skc",
            Self::RenewalInfo => "ren",
        }
    }

    /// Its resource type (RFC 9148 §8.2); that of our own function begins otherwise.
    #[must_use]
    pub const fn resource_type(self) -> &'static str {
        match self {
            Self::CaCertificates => "ace.est.crts",
            Self::SimpleEnroll => "ace.est.sen",
            Self::SimpleReenroll => "ace.est.sren",
            Self::CsrAttributes => "ace.est.att",
            Self::ServerKeygen => "ace.est.skg",
            Self::ServerKeygenBare => "ace.est.skc",
            Self::RenewalInfo => "ace.muster.ren",
        }
    }

    /// The one method it takes (RFC 9148 §4.5).
    #[must_use]
    pub const fn method(self) -> Method {
        match self {
            Self::CaCertificates | Self::CsrAttributes | Self::RenewalInfo => Method::Get,
            Self::SimpleEnroll | Self::SimpleReenroll | Self::ServerKeygen | Self::ServerKeygenBare => Method::Post,
        }
    }

    /// The Content-Format of a request's payload; `None` if the function takes no payload.
    #[must_use]
    pub const fn request_format(self) -> Option<ContentFormat> {
        match self {
            Self::CaCertificates | Self::CsrAttributes | Self::RenewalInfo => None,
            Self::SimpleEnroll | Self::SimpleReenroll | Self::ServerKeygen | Self::ServerKeygenBare => {
                Some(ContentFormat::PKCS10)
            }
        }
    }

    /// The Content-Formats that its answers can have (RFC 9148 §4.3). Which of them a profile can send is the profile's affair.
    #[must_use]
    pub const fn answer_formats(self) -> &'static str {
        match self {
            Self::CaCertificates | Self::SimpleEnroll | Self::SimpleReenroll => "281 287",
            Self::CsrAttributes => "285",
            Self::ServerKeygen | Self::ServerKeygenBare => "62",
            Self::RenewalInfo => "60",
        }
    }
}

/// Path segments of EST functions: those served here, those that are not, and those of EST over HTTPS. "To avoid
/// conflict, the CA label MUST NOT be the same as any defined operation path segment" (RFC 7030 §3.2.2).
const RESERVED_SEGMENTS: [&str; 14] = [
    "crts",
    "sen",
    "sren",
    "att",
    "skg",
    "skc",
    "ren",
    "cacerts",
    "simpleenroll",
    "simplereenroll",
    "fullcmc",
    "serverkeygen",
    "csrattrs",
    "core",
];

/// The format of the certificates in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// 281, a certs-only CMS message.
    CertsOnly,
    /// 287, one bare certificate.
    Single,
}

impl Packing {
    /// "If an Accept Option is not included in the request, the client is not expressing any preference and the
    /// server SHOULD choose format 281" (RFC 9148 §4.3).
    ///
    /// # Errors
    /// [`Reason::CoapNotAcceptable`] for any other format.
    pub fn from_accept(accept: Option<ContentFormat>) -> Result<Self, Reason> {
        match accept {
            None => Ok(Self::CertsOnly),
            Some(format) if format == ContentFormat::PKCS7_CERTS_ONLY => Ok(Self::CertsOnly),
            Some(format) if format == ContentFormat::PKIX_CERT => Ok(Self::Single),
            Some(_) => Err(Reason::CoapNotAcceptable),
        }
    }

    /// The Content-Format of the answer.
    #[must_use]
    pub const fn content_format(self) -> ContentFormat {
        match self {
            Self::CertsOnly => ContentFormat::PKCS7_CERTS_ONLY,
            Self::Single => ContentFormat::PKIX_CERT,
        }
    }
}

/// What a path refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathTarget {
    /// `/.well-known/core`.
    Discovery,
    /// A function under a label; `profile` indexes the profiles of the configuration.
    Function {
        /// The requested function.
        resource: Resource,
        /// The profile that the label selects.
        profile: usize,
    },
}

/// The paths of one configuration.
#[derive(Debug, Clone)]
pub struct Tree {
    roots: Vec<Vec<String>>,
    labels: BTreeMap<String, usize>,
}

/// Why a set of roots and labels is not a valid tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeFault {
    /// A root is empty, has an empty segment, more than [`ROOT_SEGMENTS_MAX`], or is the path of discovery.
    Root(String),
    /// A root lies below `.well-known/est`, or above it: a path would have two meanings.
    RootOverlaps(String),
    /// A label has a `/`, is longer than [`LABEL_BYTES_MAX`], or is the name of a function.
    Label(String),
    /// Two profiles claim one label.
    LabelTwice(String),
}

impl Tree {
    /// A tree of the well-known root and `short_root`, with `labels` and the index of the profile that each label
    /// selects.
    ///
    /// # Errors
    /// What [`TreeFault`] names.
    pub fn new(short_root: Option<&str>, labels: impl IntoIterator<Item = (String, usize)>) -> Result<Self, TreeFault> {
        let mut roots = vec![WELL_KNOWN_ROOT.map(str::to_owned).to_vec()];
        if let Some(root) = short_root {
            let segments: Vec<String> = root.trim_matches('/').split('/').map(str::to_owned).collect();
            let plausible = segments.len() <= ROOT_SEGMENTS_MAX && segments.iter().all(|segment| is_plain(segment));
            if !plausible || segments == DISCOVERY_PATH {
                return Err(TreeFault::Root(root.to_owned()));
            }
            // `find` takes the first root that a path is below.
            if segments != roots[0] && (segments.starts_with(&roots[0]) || roots[0].starts_with(&segments)) {
                return Err(TreeFault::RootOverlaps(root.to_owned()));
            }
            if segments != roots[0] {
                roots.push(segments);
            }
        }
        let mut by_label = BTreeMap::new();
        for (label, profile) in labels {
            let plausible = label.is_empty()
                || (label.len() <= LABEL_BYTES_MAX && is_plain(&label) && !RESERVED_SEGMENTS.contains(&label.as_str()));
            if !plausible {
                return Err(TreeFault::Label(label));
            }
            if by_label.insert(label.clone(), profile).is_some() {
                return Err(TreeFault::LabelTwice(label));
            }
        }
        Ok(Self { roots, labels: by_label })
    }

    /// Finds the target of a path given by its segments (each the value of one Uri-Path option, RFC 7252 §5.10.1).
    ///
    /// # Errors
    /// [`Reason::CoapNoSuchResource`], [`Reason::EstUnknownLabel`] or [`Reason::EstFunctionNotServed`]: all 4.04.
    pub fn find<'s>(&self, path: impl Iterator<Item = &'s [u8]>) -> Result<PathTarget, Reason> {
        let mut segments: [&[u8]; SEGMENTS_MAX] = [&[]; SEGMENTS_MAX];
        let mut count = 0;
        for segment in path {
            *segments.get_mut(count).ok_or(Reason::CoapNoSuchResource)? = segment;
            count += 1;
        }
        let segments = &segments[..count];
        if are(segments, &DISCOVERY_PATH) {
            return Ok(PathTarget::Discovery);
        }
        let below = self.roots.iter().find_map(|root| below(segments, root)).ok_or(Reason::CoapNoSuchResource)?;
        let (label, function) = match below {
            [function] => (&[][..], *function),
            [label, function] if !label.is_empty() => (*label, *function),
            _ => return Err(Reason::CoapNoSuchResource),
        };
        let Some(resource) = Resource::ALL.into_iter().find(|resource| resource.segment().as_bytes() == function)
        else {
            let known = RESERVED_SEGMENTS.iter().any(|segment| segment.as_bytes() == function);
            return Err(if known { Reason::EstFunctionNotServed } else { Reason::CoapNoSuchResource });
        };
        let label = str::from_utf8(label).ok().and_then(|label| self.labels.get(label));
        let profile = *label.ok_or(Reason::EstUnknownLabel)?;
        Ok(PathTarget::Function { resource, profile })
    }

    /// The path of each function under each label, below the shortest root, and the index of the label's profile: the
    /// links of discovery are those that the profile serves.
    pub fn paths(&self) -> impl Iterator<Item = (String, Resource, usize)> + '_ {
        let shortest = self.roots.iter().min_by_key(|root| root.iter().map(|segment| segment.len() + 1).sum::<usize>());
        let root = shortest.map(|root| root.join("/")).unwrap_or_default();
        self.labels.iter().flat_map(move |(label, &profile)| {
            let prefix = if label.is_empty() { format!("/{root}") } else { format!("/{root}/{label}") };
            Resource::ALL.map(|resource| (format!("{prefix}/{}", resource.segment()), resource, profile))
        })
    }
}

/// Whether a link can carry the segment without escapes: it has only the unreserved characters of RFC 3986 §2.3.
fn is_plain(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

fn below<'p, 's>(path: &'p [&'s [u8]], root: &[String]) -> Option<&'p [&'s [u8]]> {
    let (head, rest) = path.split_at_checked(root.len())?;
    are(head, root).then_some(rest)
}

fn are(path: &[&[u8]], segments: &[impl AsRef<[u8]>]) -> bool {
    path.len() == segments.len() && path.iter().zip(segments).all(|(one, other)| *one == other.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree::new(Some("est"), [(String::new(), 0), ("meters".to_owned(), 1)]).unwrap()
    }

    fn find(path: &str) -> Result<PathTarget, Reason> {
        tree().find(path.split('/').map(str::as_bytes))
    }

    #[test]
    fn both_roots_and_labels_lead_to_a_profile() {
        let place = |resource, profile| Ok(PathTarget::Function { resource, profile });
        assert_eq!(find("est/sen"), place(Resource::SimpleEnroll, 0));
        assert_eq!(find(".well-known/est/crts"), place(Resource::CaCertificates, 0));
        assert_eq!(find(".well-known/est/meters/sren"), place(Resource::SimpleReenroll, 1));
        assert_eq!(find(".well-known/core"), Ok(PathTarget::Discovery));
    }

    #[test]
    fn c17_every_other_path_is_not_found() {
        assert_eq!(find("est/pumps/sen"), Err(Reason::EstUnknownLabel));
        assert_eq!(find("est/csrattrs"), Err(Reason::EstFunctionNotServed));
        assert_eq!(find("est/meters/serverkeygen"), Err(Reason::EstFunctionNotServed));
        for path in [
            "",
            "est",
            "est/",
            "est//sen",
            "est/sen/",
            "est/SEN",
            "est/../est/sen",
            "est/se\0n",
            "core",
            "a/b/c/d/e/f/g/h/i",
        ] {
            let found = find(path);
            assert!(matches!(found, Err(Reason::CoapNoSuchResource | Reason::EstUnknownLabel)), "{path:?}: {found:?}");
        }
        assert_eq!(find(&"x".repeat(10_000)), Err(Reason::CoapNoSuchResource));
    }

    #[test]
    fn the_empty_label_is_not_implied() {
        let tree = Tree::new(None, [("meters".to_owned(), 0)]).unwrap();
        assert_eq!(tree.find(".well-known/est/sen".split('/').map(str::as_bytes)), Err(Reason::EstUnknownLabel));
    }

    #[test]
    fn labels_and_roots_are_checked() {
        let labels = |labels: &[&str]| {
            Tree::new(None, labels.iter().enumerate().map(|(index, label)| ((*label).to_owned(), index))).err()
        };
        assert_eq!(labels(&["sen"]), Some(TreeFault::Label("sen".into())));
        assert_eq!(labels(&["ren"]), Some(TreeFault::Label("ren".into())), "our own function");
        assert_eq!(labels(&["a/b"]), Some(TreeFault::Label("a/b".into())));
        assert_eq!(labels(&["m", "m"]), Some(TreeFault::LabelTwice("m".into())));
        assert_eq!(Tree::new(Some(".well-known/core"), []).err(), Some(TreeFault::Root(".well-known/core".into())));
        // Its functions would be read as those of a label, or the other way round.
        for overlapping in [".well-known/est/x", "/.well-known/est/x/y", ".well-known"] {
            let fault = Tree::new(Some(overlapping), []).err();
            assert_eq!(fault, Some(TreeFault::RootOverlaps(overlapping.into())));
        }
        assert!(Tree::new(Some(".well-known/est"), []).is_ok(), "it is the same root");
        assert!(Tree::new(Some(""), []).is_err());
        assert!(Tree::new(Some("a/b/c/d/e"), []).is_err());
    }

    #[test]
    fn discovery_lists_the_shortest_root() {
        let paths: Vec<(String, usize)> = tree().paths().map(|(path, _, profile)| (path, profile)).collect();
        let functions = ["crts", "sen", "sren", "att", "skg", "skc", "ren"];
        let expected = functions.map(|it| (format!("/est/{it}"), 0)).into_iter();
        let expected: Vec<_> = expected.chain(functions.map(|it| (format!("/est/meters/{it}"), 1))).collect();
        assert_eq!(paths, expected);
    }
}
