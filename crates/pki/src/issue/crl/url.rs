//! `crl_url` of a CA: where its revocation list is, or its lists, one for each shard.

use std::fmt;

use super::shard::{CrlShard, CrlShards, shard_of};
use crate::der::{Tag, Writer};
use crate::general_name::GeneralName;
use crate::issue::Serial;

/// Stands for the shard in a `crl_url`.
const PLACEHOLDER: &str = "{shard}";

/// Where the revocation lists of a CA are: one list at one URL, or one for each shard if the URL contains `{shard}`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CrlUrl {
    /// As the operator wrote it.
    text: Box<str>,
    sharded: Option<Sharded>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sharded {
    /// Where the placeholder begins.
    placeholder: usize,
    shards: CrlShards,
}

impl CrlUrl {
    /// Whether the text names a URL for each shard. It may still be refused.
    #[must_use]
    pub fn is_sharded(text: &str) -> bool {
        text.contains(PLACEHOLDER)
    }

    /// The URL `text`, which may contain `{shard}` once. `shards` has no effect if it does not.
    ///
    /// # Errors
    /// [`CrlUrlError`]: the text contains other placeholders, or is not an absolute URL.
    pub fn new(text: &str, shards: CrlShards) -> Result<Self, CrlUrlError> {
        let placeholder = text.find(PLACEHOLDER);
        let sharded = placeholder.map(|placeholder| Sharded { placeholder, shards });
        let url = Self { text: text.into(), sharded };
        let (before, after) = url.around();
        if after.contains(PLACEHOLDER) {
            return Err(CrlUrlError::Repeated);
        }
        for part in [before, after] {
            if let Some(start) = part.find(['{', '}']) {
                let end = part[start..].find('}').map_or(part.len(), |length| start + length + 1);
                return Err(CrlUrlError::Placeholder(part[start..end].into()));
            }
        }
        let shard = if sharded.is_some() { "0" } else { "" };
        GeneralName::Uri(&format!("{before}{shard}{after}")).check().map_err(|_| CrlUrlError::Url)?;
        Ok(url)
    }

    /// How many shards there are; `None` if there is only one list, which is not a shard.
    #[must_use]
    pub fn shards(&self) -> Option<CrlShards> {
        self.sharded.map(|sharded| sharded.shards)
    }

    /// What each list of the CA covers: every shard in the order of the indices, or once the whole CA.
    pub fn scopes(&self) -> impl Iterator<Item = CrlScope<'_>> {
        let whole = if self.sharded.is_none() { Some(CrlScope::Whole) } else { None };
        let shards = self.shards().into_iter().flat_map(CrlShards::all);
        whole.into_iter().chain(shards.map(|shard| CrlScope::Shard(ShardScope { url: self, shard })))
    }

    /// What the list with this index covers: that of a shard, or 0 for the whole CA. `None` if there is none.
    #[must_use]
    pub fn scope(&self, list: u32) -> Option<CrlScope<'_>> {
        match self.shards() {
            None => (list == 0).then_some(CrlScope::Whole),
            Some(shards) => shards.shard(list).map(|shard| CrlScope::Shard(ShardScope { url: self, shard })),
        }
    }

    /// What the list with the certificate of this serial number covers.
    #[must_use]
    pub fn scope_of(&self, serial: &Serial) -> CrlScope<'_> {
        match self.shards() {
            None => CrlScope::Whole,
            Some(shards) => CrlScope::Shard(ShardScope { url: self, shard: shard_of(serial, shards) }),
        }
    }

    /// The URL in the certificate of this serial number.
    #[must_use]
    pub fn of(&self, serial: &Serial) -> String {
        match self.scope_of(serial) {
            CrlScope::Whole => self.text.to_string(),
            CrlScope::Shard(scope) => scope.url(),
        }
    }

    /// What the requests for its lists have in common: the path and query of an `http` URL before the shard, and behind it. `None` for another scheme,
    /// and for a `{shard}` in the host, where requests for different lists have the same path.
    #[must_use]
    pub fn http_target(&self) -> Option<(&str, &str)> {
        let rest = self.text.strip_prefix("http://")?;
        let path = self.text.len() - rest.len() + rest.find(['/', '?', '#'])?;
        let whole = self.text.find('#').unwrap_or(self.text.len());
        match self.sharded {
            None => Some((&self.text[path..whole], "")),
            Some(Sharded { placeholder, .. }) if path <= placeholder && placeholder < whole => {
                Some((&self.text[path..placeholder], &self.text[placeholder + PLACEHOLDER.len()..whole]))
            }
            Some(_) => None,
        }
    }

    /// What the list covers that is at this path and query of an HTTP request; `None` if no list is there.
    #[must_use]
    pub fn scope_at(&self, target: &str) -> Option<CrlScope<'_>> {
        let (before, after) = self.http_target()?;
        match self.shards() {
            None => (target == before).then_some(CrlScope::Whole),
            Some(shards) => {
                let digits = target.strip_prefix(before)?.strip_suffix(after)?;
                let is_written_so = |shard: &CrlShard| digits.as_bytes() == shard.digits().as_bytes();
                let shard = digits.parse().ok().and_then(|index| shards.shard(index)).filter(is_written_so)?;
                Some(CrlScope::Shard(ShardScope { url: self, shard }))
            }
        }
    }

    /// The texts before and after the shard; all of it is before if there is none.
    pub(in crate::issue) fn around(&self) -> (&str, &str) {
        match self.sharded {
            None => (&self.text, ""),
            Some(Sharded { placeholder, .. }) => {
                (&self.text[..placeholder], &self.text[placeholder + PLACEHOLDER.len()..])
            }
        }
    }
}

/// The text that the operator wrote.
impl fmt::Display for CrlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The certificates of a CA that one of its revocation lists covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrlScope<'u> {
    /// All of them.
    Whole,
    /// Those of one shard.
    Shard(ShardScope<'u>),
}

impl CrlScope<'_> {
    /// The shard; `None` if the list covers all certificates.
    #[must_use]
    pub const fn shard(&self) -> Option<CrlShard> {
        match self {
            Self::Whole => None,
            Self::Shard(scope) => Some(scope.shard),
        }
    }
}

/// One shard, with the URL of its list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardScope<'u> {
    url: &'u CrlUrl,
    shard: CrlShard,
}

impl ShardScope<'_> {
    /// The URL of its list, as the certificates of the shard contain it.
    #[must_use]
    pub fn url(&self) -> String {
        let (before, after) = self.url.around();
        format!("{before}{}{after}", self.shard)
    }

    /// The shard.
    #[must_use]
    pub const fn shard(&self) -> CrlShard {
        self.shard
    }
}

/// The DistributionPoint (RFC 5280 §4.2.1.13) with a fullName of one URI. The IssuingDistributionPoint of the list at that URL (§5.2.5) has
/// the same octets, because both structures begin with `distributionPoint [0]` and have nothing else here.
pub(in crate::issue) fn distribution_point(url: &str) -> Vec<u8> {
    let mut out = Writer::default();
    out.sequence(|point| {
        point.nested(Tag::context_constructed(0), |name| {
            name.nested(Tag::context_constructed(0), |full| full.element(Tag::context(6), url.as_bytes()));
        });
    });
    out.into_vec()
}

/// Why a text is not the URL of revocation lists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CrlUrlError {
    /// A placeholder that is not `{shard}`, or a single brace.
    Placeholder(Box<str>),
    /// `{shard}` more than once.
    Repeated,
    /// Not an absolute URL.
    Url,
}

impl fmt::Display for CrlUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placeholder(found) => {
                write!(f, "`{found}` is not a placeholder of a CRL's URL; the only one is `{PLACEHOLDER}`")
            }
            Self::Repeated => write!(f, "the URL contains `{PLACEHOLDER}` more than once"),
            Self::Url => f.write_str("the URL is not absolute"),
        }
    }
}

impl std::error::Error for CrlUrlError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::NodePrefix;

    fn parse(text: &str) -> Result<CrlUrl, CrlUrlError> {
        CrlUrl::new(text, CrlShards::DEFAULT)
    }

    #[test]
    fn a_url_has_one_list_or_one_for_each_shard() {
        let serial = Serial::new(NodePrefix::new(7), [9; 16]);
        let whole = parse("http://pki.example.net/main.crl").unwrap();
        assert_eq!((whole.shards(), whole.scopes().collect::<Vec<_>>()), (None, vec![CrlScope::Whole]));
        assert_eq!(whole.of(&serial), "http://pki.example.net/main.crl");
        assert_eq!(whole.scope_of(&serial).shard(), None);

        let sharded = parse("http://pki.example.net/main/{shard}.crl").unwrap();
        assert_eq!(sharded.to_string(), "http://pki.example.net/main/{shard}.crl");
        let urls: Vec<String> = sharded
            .scopes()
            .map(|scope| match scope {
                CrlScope::Whole => panic!("it is sharded"),
                CrlScope::Shard(scope) => scope.url(),
            })
            .collect();
        assert_eq!(urls.len(), 128);
        assert_eq!(urls[0], "http://pki.example.net/main/000.crl");
        assert_eq!(urls[127], "http://pki.example.net/main/127.crl");
        let shard = shard_of(&serial, CrlShards::DEFAULT);
        assert_eq!(sharded.scope_of(&serial).shard(), Some(shard));
        assert_eq!(sharded.of(&serial), urls[usize::try_from(shard.index()).unwrap()]);
    }

    #[test]
    fn the_list_of_a_request_is_found_by_its_path_alone() {
        let whole = parse("http://pki.example.net:8080/main.crl?of=main#top").unwrap();
        assert_eq!(whole.scope_at("/main.crl?of=main"), Some(CrlScope::Whole));
        for other in ["/main.crl", "/main.crl?of=main#top", "/", "", "//main.crl?of=main", "/../main.crl?of=main"] {
            assert_eq!(whole.scope_at(other), None, "{other}");
        }
        let sharded = parse("http://pki.example.net/a/{shard}.crl").unwrap();
        let shard = sharded.scope_at("/a/007.crl").and_then(|scope| scope.shard());
        assert_eq!(shard, CrlShards::DEFAULT.shard(7));
        for other in
            ["/a/7.crl", "/a/128.crl", "/a/+07.crl", "/a/{shard}.crl", "/a/.crl", "/a/0007.crl", "/a/007", "007"]
        {
            assert_eq!(sharded.scope_at(other), None, "{other}");
        }
        for unserved in ["http://{shard}.example/crl", "ldap://pki.example.net/{shard}", "http://pki.example.net"] {
            assert_eq!(parse(unserved).unwrap().http_target(), None, "{unserved}");
        }
    }

    #[test]
    fn other_placeholders_and_relative_urls_are_refused() {
        let placeholder = |found: &str| Err(CrlUrlError::Placeholder(found.into()));
        for (text, expected) in [
            ("http://a.example/{region}/{shard}.crl", placeholder("{region}")),
            ("http://a.example/{shard}/{Shard}.crl", placeholder("{Shard}")),
            ("http://a.example/{}.crl", placeholder("{}")),
            ("http://a.example/{shard.crl", placeholder("{shard.crl")),
            ("http://a.example/{{shard}}.crl", placeholder("{")),
            ("http://a.example/{shard}}.crl", placeholder("}")),
            ("http://{shard}.example/{shard}.crl", Err(CrlUrlError::Repeated)),
            ("{shard}", Err(CrlUrlError::Url)),
            ("main.crl", Err(CrlUrlError::Url)),
            ("", Err(CrlUrlError::Url)),
            ("http://a b/{shard}", Err(CrlUrlError::Url)),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert!(parse("http://a.example/%7Bshard%7D.crl").unwrap().shards().is_none());
        assert!(parse("http://{shard}.a.example/crl").unwrap().shards().is_some());
    }
}
