//! The operations of EST over HTTPS and their paths (RFC 7030 §3.2.2).

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
    pub(super) fn find(path: &str) -> Result<(&str, Self), Reason> {
        let below = path.strip_prefix(ROOT).ok_or(Reason::HttpNoSuchResource)?;
        match below.split_once('/') {
            None => Ok(("", Self::of(below)?)),
            Some((label, segment)) if !label.is_empty() => Ok((label, Self::of(segment)?)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_none_of_rfc_7030_are_not_found() {
        assert_eq!(FrontOperation::find("/.well-known/est/cacerts"), Ok(("", FrontOperation::CaCertificates)));
        let enrol = FrontOperation::Enrolment(Function::SimpleEnroll);
        assert_eq!(FrontOperation::find("/.well-known/est/meters/simpleenroll"), Ok(("meters", enrol)));
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
