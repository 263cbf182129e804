//! The content of `/.well-known/core`: the links to the EST resources (RFC 9148 §4.1) in the link format of RFC 6690,
//! and the filter of a query.
//!
//! A link is a path as long as it leads to where it was asked for. "Discoverable port numbers can be returned in the
//! response payload" (RFC 9148 §4.1): on another port than that of coaps, and for a server that devices reach under another
//! name, links are absolute.
//!
//! The links are rendered once, when the configuration is built. A request without a filter, or with the one that RFC
//! 9148 shows (`rt=ace.est*`), is answered with exactly these bytes, unless its links are absolute.
//!
//! This is not a general link-format parser: a client reads a discovery answer with [`parse_links`], which implements
//! just enough of the grammar to find the targets and their `rt` and `ct`.

mod found;
mod group;
mod link_base;
mod registration;

use std::borrow::Cow;

pub use found::{DiscoveryFailure, FoundResources};
pub use group::{GroupAnswer, GroupLinks, GroupResponder, NetworkPrefix, Silence};
pub use link_base::{COAPS_PORT, LinkBase, LinkBaseFlaw};
pub use registration::{COAP_PORT, DirectoryUri, Registrant, RegistrationEvent, RegistrationFailure, RegistrationSpec};

/// A longer query cannot be a filter that matches any link here; CoAP itself allows 255 bytes per option.
const QUERY_BYTES_MAX: usize = 255;

/// More filters than this in one request are refused: RFC 6690 §4.1 defines one, and each costs a pass over the links.
pub const FILTERS_MAX: usize = 4;

/// Links that [`parse_links`] reads from one answer. For a server with more labels than this, use a filter.
pub const PARSED_LINKS_MAX: usize = 256;

/// One link of the directory: the path of a function, its type and its formats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceLink {
    /// The target, as a path from the root: `/est/sen`.
    pub href: String,
    /// The resource type (RFC 9148 §8.2).
    pub resource_type: &'static str,
    /// "These are the values that would be sent in the client request with an Accept Option" (RFC 9148 §4.1).
    pub content_formats: &'static str,
}

impl ResourceLink {
    fn render(&self, base: &str) -> String {
        let Self { href, resource_type, content_formats } = self;
        // RFC 9148 §4.1 writes a list of formats as a quoted string, and a single format without quotes.
        if content_formats.contains(' ') {
            format!("<{base}{href}>;rt=\"{resource_type}\";ct=\"{content_formats}\"")
        } else {
            format!("<{base}{href}>;rt=\"{resource_type}\";ct={content_formats}")
        }
    }
}

/// The prepared answer to discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    links: Vec<(ResourceLink, String)>,
    whole: Vec<u8>,
}

impl Directory {
    /// Renders `links`, in the order given.
    #[must_use]
    pub fn new(links: Vec<ResourceLink>) -> Self {
        let links: Vec<(ResourceLink, String)> = links.into_iter().map(rendered).collect();
        let whole = join(links.iter().map(|(_, text)| text.as_str()));
        Self { links, whole }
    }

    /// All links, without a filter.
    #[must_use]
    pub fn whole(&self) -> &[u8] {
        &self.whole
    }

    /// The links that match every filter of `queries`, absolute below `base` if there is one. RFC 6690 does not define
    /// the answer to a filter without a match; an empty list is valid, and tells the client that discovery works.
    ///
    /// # Errors
    /// [`TooManyFilters`] beyond [`FILTERS_MAX`].
    pub fn select<'q>(
        &self,
        queries: impl Iterator<Item = &'q str>,
        base: Option<&LinkBase>,
    ) -> Result<Cow<'_, [u8]>, TooManyFilters> {
        let mut filters = [None; FILTERS_MAX];
        for (place, query) in queries.enumerate() {
            *filters.get_mut(place).ok_or(TooManyFilters)? = Some(Filter::parse(query));
        }
        let base = base.map_or("", LinkBase::as_str);
        let passes = |link: &ResourceLink| filters.iter().flatten().all(|filter| filter.matches(link, base));
        let kept = || self.links.iter().filter(|(link, _)| passes(link));
        if !base.is_empty() {
            let texts: Vec<String> = kept().map(|(link, _)| link.render(base)).collect();
            return Ok(Cow::Owned(join(texts.iter().map(String::as_str))));
        }
        if self.links.iter().all(|(link, _)| passes(link)) {
            return Ok(Cow::Borrowed(&self.whole));
        }
        Ok(Cow::Owned(join(kept().map(|(_, text)| text.as_str()))))
    }
}

/// A request with more filters than [`FILTERS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyFilters;

fn rendered(link: ResourceLink) -> (ResourceLink, String) {
    let text = link.render("");
    (link, text)
}

fn join<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(text.as_bytes());
    }
    out
}

/// `resource-param "=" query-pattern` (RFC 6690 §4.1).
#[derive(Debug, Clone, Copy)]
struct Filter<'q> {
    attribute: &'q str,
    pattern: Pattern<'q>,
}

#[derive(Debug, Clone, Copy)]
enum Pattern<'q> {
    /// The whole value must match.
    Exact(&'q str),
    /// The text before a trailing `*`.
    Prefix(&'q str),
    /// The query is not a filter: it matches no link.
    Nothing,
}

impl<'q> Filter<'q> {
    fn parse(query: &'q str) -> Self {
        let Some((attribute, value)) = query.split_once('=').filter(|_| query.len() <= QUERY_BYTES_MAX) else {
            return Filter { attribute: query, pattern: Pattern::Nothing };
        };
        let pattern = match value.strip_suffix('*') {
            Some(prefix) => Pattern::Prefix(prefix),
            None => Pattern::Exact(value),
        };
        Filter { attribute, pattern }
    }

    /// `rt`, `if` and `rel` are lists separated by spaces, of which one value has to match (RFC 6690 §4.1); `ct` is
    /// such a list since RFC 7252 §7.2.1. An attribute that no link carries matches no link. An absolute link is found
    /// by its path too: a client that asks for a path does not know yet that the answer is absolute.
    fn matches(&self, link: &ResourceLink, base: &str) -> bool {
        match self.attribute {
            "href" if self.pattern.admits(&link.href) => true,
            "href" => !base.is_empty() && self.pattern.admits(&format!("{base}{}", link.href)),
            "rt" => link.resource_type.split(' ').any(|value| self.pattern.admits(value)),
            "ct" => link.content_formats.split(' ').any(|value| self.pattern.admits(value)),
            _ => false,
        }
    }
}

impl Pattern<'_> {
    fn admits(self, value: &str) -> bool {
        match self {
            Pattern::Exact(text) => value == text,
            Pattern::Prefix(text) => value.starts_with(text),
            Pattern::Nothing => false,
        }
    }
}

/// A link of a discovery answer, borrowed from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedLink<'a> {
    /// The text between the angle brackets.
    pub target: &'a str,
    /// The value of `rt`, without quotes; empty if there is none.
    pub resource_type: &'a str,
    /// The value of `ct`, without quotes; empty if there is none.
    pub content_formats: &'a str,
}

/// Reads the links of a discovery answer (RFC 6690 §2), at most [`PARSED_LINKS_MAX`]. Everything after a syntax error
/// is left out: a client uses what it can read.
#[must_use]
pub fn parse_links(text: &str) -> Vec<ParsedLink<'_>> {
    let mut links = Vec::new();
    let mut rest = text.trim_start();
    while links.len() < PARSED_LINKS_MAX {
        let Some((target, after)) = rest.strip_prefix('<').and_then(|inner| inner.split_once('>')) else {
            return links;
        };
        let (attributes, next) = split_outside_quotes(after, ',');
        let mut link = ParsedLink { target, resource_type: "", content_formats: "" };
        let mut attributes = attributes;
        while !attributes.is_empty() {
            let (attribute, following) = split_outside_quotes(attributes, ';');
            match attribute.trim().split_once('=') {
                Some(("rt", value)) => link.resource_type = value.trim_matches('"'),
                Some(("ct", value)) => link.content_formats = value.trim_matches('"'),
                _ => {}
            }
            attributes = following;
        }
        links.push(link);
        rest = next.trim_start();
    }
    links
}

/// Splits at the first `at` outside a quoted string; the second half is empty if there is none. In a quoted string a backslash takes the character
/// after it out of the syntax: `quoted-pair = "\\" CHAR` (RFC 2616 §2.2, which RFC 6690 §2 refers to).
fn split_outside_quotes(text: &str, at: char) -> (&str, &str) {
    let mut quoted = false;
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '\\' if quoted => drop(characters.next()),
            _ if character == at && !quoted => return (&text[..index], &text[index + at.len_utf8()..]),
            _ => {}
        }
    }
    (text, "")
}

/// The body of the fuzz target `discovery_filter`: applies any query to a small directory, then parses the answer with
/// our own reader. Checks that a filter only ever removes links, and that what a client takes from any answer can be asked for.
pub fn fuzz_filter(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let directory = Directory::new(vec![
        ResourceLink { href: "/est/crts".into(), resource_type: "ace.est.crts", content_formats: "281 287" },
        ResourceLink { href: "/est/m/sen".into(), resource_type: "ace.est.sen", content_formats: "281 287" },
    ]);
    if let Ok(answer) = directory.select(text.split('&'), None) {
        assert!(answer.len() <= directory.whole().len(), "a filter adds nothing");
        let read = parse_links(std::str::from_utf8(&answer).unwrap_or_default());
        assert!(read.len() <= directory.links.len(), "what we write we read");
    }
    let _ = parse_links(text);
    found::fuzz_found_resources(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Directory {
        let link =
            |href: &str, resource_type| ResourceLink { href: href.into(), resource_type, content_formats: "281 287" };
        Directory::new(vec![
            link("/est/crts", "ace.est.crts"),
            link("/est/sen", "ace.est.sen"),
            link("/est/sren", "ace.est.sren"),
            link("/est/meters/sen", "ace.est.sen"),
        ])
    }

    fn hrefs(query: &[&str]) -> Vec<String> {
        let directory = directory();
        let answer = directory.select(query.iter().copied(), None).unwrap();
        let text = std::str::from_utf8(&answer).unwrap().to_owned();
        parse_links(&text).iter().map(|link| link.target.to_owned()).collect()
    }

    #[test]
    fn the_answer_is_the_one_of_rfc_9148() {
        let three = Directory::new(vec![
            ResourceLink { href: "/est/crts".into(), resource_type: "ace.est.crts", content_formats: "281 287" },
            ResourceLink { href: "/est/sen".into(), resource_type: "ace.est.sen", content_formats: "281 287" },
            ResourceLink { href: "/est/sren".into(), resource_type: "ace.est.sren", content_formats: "281 287" },
        ]);
        let expected = concat!(
            r#"</est/crts>;rt="ace.est.crts";ct="281 287","#,
            r#"</est/sen>;rt="ace.est.sen";ct="281 287","#,
            r#"</est/sren>;rt="ace.est.sren";ct="281 287""#
        );
        assert_eq!(std::str::from_utf8(three.whole()).unwrap(), expected);
    }

    #[test]
    fn the_usual_question_is_answered_without_rendering() {
        let directory = directory();
        assert!(matches!(directory.select(["rt=ace.est*"].into_iter(), None).unwrap(), Cow::Borrowed(_)));
        assert!(matches!(directory.select(std::iter::empty(), None).unwrap(), Cow::Borrowed(_)));
    }

    #[test]
    fn filters_by_resource_type_target_and_format() {
        assert_eq!(hrefs(&["rt=ace.est.sen"]), ["/est/sen", "/est/meters/sen"]);
        assert_eq!(hrefs(&["rt=ace.est.s*"]).len(), 3);
        assert_eq!(hrefs(&["rt=ace.est"]).len(), 0, "no prefix without the wildcard");
        assert_eq!(hrefs(&["rt=*"]).len(), 4);
        assert_eq!(hrefs(&["href=/est/meters*"]), ["/est/meters/sen"]);
        assert_eq!(hrefs(&["href=/est/crts"]), ["/est/crts"]);
        assert_eq!(hrefs(&["ct=287"]).len(), 4);
        assert_eq!(hrefs(&["ct=40"]).len(), 0);
        assert_eq!(hrefs(&["rt=ace.est.sen", "href=/est/m*"]), ["/est/meters/sen"]);
    }

    #[test]
    fn an_escaped_quote_in_a_title_ends_no_string() {
        let listed = r#"</a>;title="3\" pipe, \\";rt="ace.est.crts",</b>;title="\"";rt="ace.est.sen";ct=281,</c>;rt="ace.est.sren""#;
        let links = parse_links(listed);
        let seen: Vec<_> = links.iter().map(|link| (link.target, link.resource_type, link.content_formats)).collect();
        assert_eq!(seen, [("/a", "ace.est.crts", ""), ("/b", "ace.est.sen", "281"), ("/c", "ace.est.sren", "")]);
        // A backslash at the end of the text escapes nothing.
        assert_eq!(parse_links(r#"</a>;title="\"#).len(), 1);
    }

    #[test]
    fn what_is_no_filter_matches_nothing() {
        assert_eq!(hrefs(&["sz=1"]).len(), 0);
        assert_eq!(hrefs(&["rt"]).len(), 0);
        assert_eq!(hrefs(&["RT=ace.est.sen"]).len(), 0);
        assert_eq!(directory().select(["rt=*"; FILTERS_MAX + 1].into_iter(), None), Err(TooManyFilters));
    }

    #[test]
    fn absolute_links_are_those_of_rfc_9148_and_filtered_alike() {
        let directory = Directory::new(vec![
            ResourceLink { href: "/est/crts".into(), resource_type: "ace.est.crts", content_formats: "281 287" },
            ResourceLink { href: "/est/att".into(), resource_type: "ace.est.att", content_formats: "285" },
        ]);
        let base = LinkBase::parse("coaps://[2001:db8:3::123]:61617").unwrap();
        let links = |query: &str| {
            let answer = directory.select([query].into_iter(), Some(&base)).unwrap();
            String::from_utf8(answer.into_owned()).unwrap()
        };
        let crts = r#"<coaps://[2001:db8:3::123]:61617/est/crts>;rt="ace.est.crts";ct="281 287""#;
        let att = r#"<coaps://[2001:db8:3::123]:61617/est/att>;rt="ace.est.att";ct=285"#;
        assert_eq!(links("rt=ace.est*"), format!("{crts},{att}"));
        assert_eq!(links("rt=ace.est.crts"), crts);
        assert_eq!(links("href=/est/att"), att);
        assert_eq!(links("href=coaps://[2001:db8:3::123]:61617/*"), format!("{crts},{att}"));
        assert_eq!(links("href=coaps://[2001:db8:3::124]*"), "");
        assert_eq!(links("if=*"), "", "no link has an interface description");
    }

    #[test]
    fn reads_the_example_with_a_port() {
        let text = r#"<coaps://[2001:db8:3::123]:61617/est/crts>;rt="ace.est.crts";ct="281 287", </est/att>;rt="ace.est.att";ct=285"#;
        let links = parse_links(text);
        assert_eq!(links[0].target, "coaps://[2001:db8:3::123]:61617/est/crts");
        assert_eq!(links[0].content_formats, "281 287");
        assert_eq!(links[1].resource_type, "ace.est.att");
        assert_eq!(links[1].content_formats, "285");
    }

    #[test]
    fn hostile_text_ends_the_reading() {
        for text in ["<", "<a", "<a>;rt=\"", "<a>,,", "\u{e9}<a>", "<a>;rt=\"\u{e9},"] {
            fuzz_filter(text.as_bytes());
        }
    }
}
