//! The operations of EST over HTTPS and their paths (RFC 7030 §3.2.2).

use std::borrow::Cow;

use authority::Function;
use est::{Reason, Resource};
use hyper::Method;

/// The path below which operations are (RFC 7030 §3.2.2).
pub(super) const ROOT: &str = "/.well-known/est/";

/// An operation that the front serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontOperation {
    /// `cacerts` (RFC 7030 §4.1).
    CaCertificates,
    /// `csrattrs` (RFC 7030 §4.5).
    CsrAttributes,
    /// `simpleenroll`, `simplereenroll` (RFC 7030 §4.2) or `serverkeygen` (§4.4).
    Enrolment(Function),
}

impl FrontOperation {
    /// The operation of a path segment. Segments are case-sensitive, as those of EST-coaps are.
    fn of(segment: &str) -> Result<Self, Reason> {
        Ok(match segment {
            "cacerts" => Self::CaCertificates,
            "csrattrs" => Self::CsrAttributes,
            "simpleenroll" => Self::Enrolment(Function::SimpleEnroll),
            "simplereenroll" => Self::Enrolment(Function::SimpleReenroll),
            "serverkeygen" => Self::Enrolment(Function::ServerKeygen),
            "fullcmc" => return Err(Reason::EstFunctionNotServed),
            _ => return Err(Reason::HttpNoSuchResource),
        })
    }

    /// The operation and the label of a path; "" is the path without a label.
    pub(super) fn find(path: &str) -> Result<(String, Self), Reason> {
        let path = without_escapes(path).ok_or(Reason::HttpNoSuchResource)?;
        let below = path.strip_prefix(ROOT).ok_or(Reason::HttpNoSuchResource)?;
        match below.split_once('/') {
            None => Ok((String::new(), Self::of(below)?)),
            Some((label, segment)) if !label.is_empty() => Ok((label.to_owned(), Self::of(segment)?)),
            Some(_) => Err(Reason::HttpNoSuchResource),
        }
    }

    /// Whether it takes the method.
    pub(super) fn takes(self, method: &Method) -> bool {
        match self {
            // RFC 9110 §9.1: "All general-purpose servers MUST support the methods GET and HEAD."
            Self::CaCertificates | Self::CsrAttributes => matches!(*method, Method::GET | Method::HEAD),
            Self::Enrolment(_) => *method == Method::POST,
        }
    }

    /// The methods that it takes, for the header Allow.
    pub(super) const fn methods(self) -> &'static str {
        match self {
            Self::CaCertificates | Self::CsrAttributes => "GET, HEAD",
            Self::Enrolment(_) => "POST",
        }
    }

    /// The function of EST-coaps that does the same: logs and metrics have one name for both.
    #[must_use]
    pub const fn resource(self) -> Resource {
        match self {
            Self::CaCertificates => Resource::CaCertificates,
            Self::CsrAttributes => Resource::CsrAttributes,
            Self::Enrolment(Function::SimpleEnroll) => Resource::SimpleEnroll,
            Self::Enrolment(Function::SimpleReenroll) => Resource::SimpleReenroll,
            Self::Enrolment(Function::ServerKeygen) => Resource::ServerKeygen,
        }
    }
}

/// RFC 9110 §4.2.3 and RFC 3986 §6.2.2.2: an escaped octet that "corresponds to an unreserved character" is that character. They are decoded once. No
/// segment or label of ours has another character, so nothing is found below any other escape: `%2F` parts no segments, `%00` ends no text.
pub(super) fn without_escapes(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let mut parts = path.split('%');
    let mut plain = String::with_capacity(path.len());
    plain.push_str(parts.next()?);
    for part in parts {
        let (digits, rest) =
            part.split_at_checked(2).filter(|(digits, _)| digits.bytes().all(|it| it.is_ascii_hexdigit()))?;
        let octet = u8::from_str_radix(digits, 16).ok()?;
        if !octet.is_ascii_alphanumeric() && !b"-._~".contains(&octet) {
            return None;
        }
        plain.push(octet.into());
        plain.push_str(rest);
    }
    Some(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_none_of_rfc_7030_are_not_found() {
        assert_eq!(
            FrontOperation::find("/.well-known/est/cacerts"),
            Ok((String::new(), FrontOperation::CaCertificates))
        );
        let enrol = FrontOperation::Enrolment(Function::SimpleEnroll);
        assert_eq!(FrontOperation::find("/.well-known/est/meters/simpleenroll"), Ok(("meters".to_owned(), enrol)));
        assert_eq!(FrontOperation::find("/.well-known/est/fullcmc"), Err(Reason::EstFunctionNotServed));
        for path in [
            "",
            "/",
            "/.well-known/est",
            "/.well-known/est/",
            "/.well-known/est//cacerts",
            "/.well-known/est/cacerts/",
            "/.well-known/est/CACERTS",
            "/.well-known/est/a/b/cacerts",
            "/.well-known/est/crts",
            "/est/cacerts",
            "cacerts",
        ] {
            assert_eq!(FrontOperation::find(path), Err(Reason::HttpNoSuchResource), "{path:?}");
        }
    }

    /// RFC 3986 §6.2.2.2: URIs that differ in the escapes of unreserved characters "are equivalent".
    #[test]
    fn an_escaped_letter_of_a_path_is_that_letter_and_no_escape_parts_segments() {
        let root = "/.well-known/est";
        for (path, label) in [
            ("/.well-known/est/%63acerts", ""),
            ("/%2ewell%2Dknown/e%73t/cacert%73", ""),
            ("/.well-known/est/a%7Eb/cacerts", "a~b"),
            ("/.well-known/est/a%7eb/%63%61certs", "a~b"),
        ] {
            let found = FrontOperation::find(path);
            assert_eq!(found, Ok((label.to_owned(), FrontOperation::CaCertificates)), "{path}");
        }
        for below in [
            "%2Fcacerts",
            "meters%2fcacerts",
            "cacerts%00",
            "%2563acerts",
            "cacerts%",
            "cacert%7",
            "%+63acerts",
            "%c3%a9/cacerts",
            "%6é/cacerts",
        ] {
            let path = format!("{root}/{below}");
            assert_eq!(FrontOperation::find(&path), Err(Reason::HttpNoSuchResource), "{path}");
        }
    }

    #[test]
    fn each_operation_takes_its_methods_and_names_them() {
        for (operation, methods) in [
            (FrontOperation::CaCertificates, [true, true, false, false]),
            (FrontOperation::CsrAttributes, [true, true, false, false]),
            (FrontOperation::Enrolment(Function::ServerKeygen), [false, false, true, false]),
        ] {
            for (method, takes) in [Method::GET, Method::HEAD, Method::POST, Method::PUT].iter().zip(methods) {
                assert_eq!(operation.takes(method), takes, "{operation:?} {method}");
                assert_eq!(operation.methods().split(", ").any(|one| one == method.as_str()), takes);
            }
        }
    }
}
