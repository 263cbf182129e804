//! The request of `enroll` and `reenroll`: its names, its key, what the server's CSR attributes ask for, and its link to the session.

use std::sync::Arc;

use dtls::SessionFacts;
use pki::csr_attributes::{CsrAttributes, KeyRequirement, LinkingAttribute, SignatureRequirement};
use pki::linking::LinkingText;
use pki::make::{self, CsrAdditions, CsrSpec};
use pki::{Certificate, Curve, GeneralNames, Name, NameBuilder, Oid, PrivateKey, SignatureAlgorithm, SigningKey, oid};
use ring::rand::SystemRandom;

use crate::key_decryption::KeyDecryption;
use crate::outcome::{CommandFault, CommandResult, say};

/// The EST function that is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestedFunction {
    /// `/sen`, with any identity that the profile accepts; the request contains these alternative names if the user chose them.
    Enroll(Option<AlternativeNames>),
    /// `/sren`, with a certificate that this CA has issued.
    Reenroll,
    /// `/skg` or `/skc`, with either.
    GenerateKey(Option<AlternativeNames>),
}

/// The subjectAltName of a first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AlternativeNames {
    /// The subjectAltName of the identity.
    Identity,
    /// No subjectAltName.
    None,
}

/// Everything in a request but the session that it belongs to: a new session gets a new request of the same key.
pub(crate) struct RequestPlan {
    private: PrivateKey,
    key: SigningKey,
    subject: Name,
    san: GeneralNames,
    /// The CSR attributes of the server, DER.
    asked: Option<Vec<u8>>,
    linking: Option<LinkingAttribute>,
    /// The key to which a server-generated key is encrypted.
    decryption: Option<Arc<KeyDecryption>>,
}

/// The names that a request asks for unless the server says otherwise.
pub(crate) struct RequestNames {
    subject: Name,
    san: GeneralNames,
    /// A renewal keeps the subject, whatever the server's attributes say.
    fixed_subject: bool,
    /// The alternative names of the identity, to fill a template.
    own_san: GeneralNames,
}

fn cannot(why: impl std::fmt::Display) -> CommandFault {
    CommandFault::failed(format!("cannot make a request: {why}"))
}

impl RequestNames {
    /// The names of the device's certificate.
    pub(crate) fn of(own: &Certificate, function: RequestedFunction) -> CommandResult<Self> {
        let san = match function {
            RequestedFunction::Enroll(which) | RequestedFunction::GenerateKey(which)
                if which == Some(AlternativeNames::Identity) && own.san().is_empty() =>
            {
                return Err(cannot("the identity has no subjectAltName").remedy("omit --san"));
            }
            RequestedFunction::Enroll(Some(AlternativeNames::Identity))
            | RequestedFunction::GenerateKey(Some(AlternativeNames::Identity)) => own.san().clone(),
            // Without a subject, the alternative names are all that the request says about the device (RFC 5280 §4.1.2.6). With a subject they are
            // left to the profile, which by default lists no kind of name and refuses a request for others.
            RequestedFunction::Enroll(None) | RequestedFunction::GenerateKey(None) if own.subject().is_empty() => {
                own.san().clone()
            }
            RequestedFunction::Enroll(_) | RequestedFunction::GenerateKey(_) => GeneralNames::empty(),
            // "the Subject field and SubjectAltName extension MUST be identical to the corresponding fields in the certificate being
            // renewed/rekeyed" (RFC 7030 §4.2.2).
            RequestedFunction::Reenroll => own.san().clone(),
        };
        let fixed_subject = function == RequestedFunction::Reenroll;
        Ok(Self { subject: own.subject().clone(), san, fixed_subject, own_san: own.san().clone() })
    }
}

impl RequestPlan {
    /// A new key, and the contents of a request; `asked` is what the server answered to `/att`.
    pub(crate) fn new(names: RequestNames, asked: Option<Vec<u8>>, links: bool) -> CommandResult<Self> {
        let wanted = asked.as_deref().map(CsrAttributes::parse).transpose().map_err(cannot)?.unwrap_or_default();
        let RequestNames { mut subject, mut san, fixed_subject, own_san } = names;
        if !fixed_subject && !wanted.subject.is_empty() {
            subject = fill(&wanted, &subject)?;
        }
        // An incomplete subjectAltName is a form for the names of the device (RFC 9908 §3.4).
        if wanted.extensions.iter().any(|extension| extension.id == oid::SUBJECT_ALT_NAME) && san.is_empty() {
            san = own_san;
        }
        let linking = wanted.linking.or(links.then_some(LinkingAttribute::ChallengePassword));
        let random = SystemRandom::new();
        let private = PrivateKey::generate(curve(&wanted)?, &random).map_err(cannot)?;
        let key = SigningKey::from_pkcs8(private.pkcs8(), &random).map_err(cannot)?;
        Ok(Self { private, key, subject, san, asked, linking, decryption: None })
    }

    /// The same with a key to which a server-generated key is encrypted.
    pub(crate) fn protecting(self, decryption: Option<Arc<KeyDecryption>>) -> Self {
        Self { decryption, ..self }
    }

    /// The request for this session.
    pub(crate) fn request(&self, session: &SessionFacts) -> CommandResult<Vec<u8>> {
        let link = match self.linking {
            Some(_) if !session.extended_master_secret => {
                // RFC 7627 §5.4: tls-unique does not identify one session then.
                return Err(cannot("the session has no extended master secret, so a request cannot be linked to it")
                    .remedy("turn extended master secret on at the server"));
            }
            Some(_) => Some(LinkingText::of(&session.tls_unique)),
            None => None,
        };
        let link = link.as_ref().map(LinkingText::as_str);
        let (challenge_password, identity_linking) = match self.linking {
            Some(LinkingAttribute::EstIdentityLinking) => (None, link),
            _ => (link, None),
        };
        let wanted = self.asked.as_deref().map(CsrAttributes::parse).transpose().map_err(cannot)?.unwrap_or_default();
        let extensions = further_extensions(&wanted)?;
        // "the client MUST ignore any OID or attribute it does not recognize" (RFC 8951 §4): none of the others has a meaning here, with a value or
        // without one, and a value that this device does not understand is not one that it can vouch for.
        for other in &wanted.others {
            say!("muster: the server's attribute {} is ignored: it has no meaning for this device", other.id);
        }
        let spec = CsrSpec { subject: &self.subject, san: &self.san, challenge_password };
        let protection = self.decryption.as_deref().map(KeyDecryption::protection);
        let additions = CsrAdditions {
            extensions: &extensions,
            identity_linking,
            key_protection: protection.as_ref(),
            ..CsrAdditions::default()
        };
        make::csr_with(&spec, &additions, &self.key, &SystemRandom::new()).map_err(cannot)
    }

    /// The private key of the requests.
    pub(crate) fn key(&self) -> &PrivateKey {
        &self.private
    }

    /// The private key of the requests.
    pub(crate) fn into_key(self) -> PrivateKey {
        self.private
    }
}

/// The subject that the server asks for, with values of the identity where it gives none.
fn fill(wanted: &CsrAttributes<'_>, own: &Name) -> CommandResult<Name> {
    let mut subject = NameBuilder::new();
    for attribute in &wanted.subject {
        let value = attribute.value.or_else(|| own.attribute(attribute.kind)).ok_or_else(|| {
            let name = oid::attribute_name(attribute.kind).map_or(attribute.kind.to_string(), str::to_owned);
            cannot(format!("the server asks for {name} in the subject, and the identity does not have it once"))
        })?;
        subject = subject.push(attribute.kind, value).map_err(cannot)?;
    }
    subject.finish().map_err(cannot)
}

/// The curve of the new key: P-256 unless the server asks for another one.
fn curve(wanted: &CsrAttributes<'_>) -> CommandResult<Curve> {
    let by_signature = match wanted.signature {
        None | Some(SignatureRequirement::Supported(SignatureAlgorithm::EcdsaWithSha256)) => Curve::P256,
        // This client signs with SHA-384 only on P-384.
        Some(SignatureRequirement::Supported(SignatureAlgorithm::EcdsaWithSha384)) => Curve::P384,
        Some(SignatureRequirement::Unsupported(id)) => {
            return Err(cannot(format!("the server asks for a signature with {id}, which this client cannot make")));
        }
    };
    let curve = match wanted.key {
        None | Some(KeyRequirement::Ec(None)) => by_signature,
        Some(KeyRequirement::Ec(Some(curve))) => curve,
        Some(KeyRequirement::Unsupported { algorithm, .. }) => {
            return Err(cannot(format!(
                "the server asks for a key of kind {algorithm}, which this client cannot make"
            )));
        }
    };
    if wanted.signature.is_some() && curve != by_signature {
        return Err(cannot(format!(
            "the server asks for a {curve} key and a hash that this client does not use with it"
        )));
    }
    Ok(curve)
}

/// The extensions with a value. Alternative names are in the request by themselves.
fn further_extensions<'a>(wanted: &CsrAttributes<'a>) -> CommandResult<Vec<(Oid<'a>, bool, &'a [u8])>> {
    let others = wanted.extensions.iter().filter(|extension| extension.id != oid::SUBJECT_ALT_NAME);
    let valued = others.map(|extension| match extension.value {
        Some(value) => Ok((extension.id, extension.critical, value)),
        None => Err(cannot(format!("the server asks for the extension {} and gives no value", extension.id))),
    });
    valued.collect()
}

#[cfg(test)]
mod tests {
    use pki::csr_attributes::{CsrAttributesForm, RequiredAttribute, RequiredExtension};
    use pki::linking::SessionLink;
    use pki::{Csr, UnixTime};

    use super::*;
    use crate::init::Material;

    fn facts(extended_master_secret: bool) -> SessionFacts {
        SessionFacts { suite: dtls::Suite::EcdheEcdsaAes128Ccm8, extended_master_secret, tls_unique: *b"twelve bytes" }
    }

    fn plan(wanted: &CsrAttributes<'_>, function: RequestedFunction, links: bool) -> CommandResult<RequestPlan> {
        let names = [pki::ServerName::try_from("localhost").unwrap()];
        let device = Material::make(&names, UnixTime::now()).unwrap().device.certificate;
        let asked = wanted.encode(CsrAttributesForm::Both).unwrap();
        RequestPlan::new(RequestNames::of(&device, function)?, Some(asked), links)
    }

    #[test]
    fn a_request_has_what_the_server_asks_for() {
        const USAGE: &[u8] = &[3, 2, 7, 0x80];
        let first = RequestedFunction::Enroll(None);
        for (curve, linking) in [
            (Curve::P256, None),
            (Curve::P384, Some(LinkingAttribute::ChallengePassword)),
            (Curve::P256, Some(LinkingAttribute::EstIdentityLinking)),
        ] {
            let wanted = CsrAttributes {
                key: Some(KeyRequirement::Ec(Some(curve))),
                subject: vec![
                    RequiredAttribute { kind: oid::ORGANIZATION, value: Some("Example") },
                    RequiredAttribute { kind: oid::SERIAL_NUMBER, value: None },
                ],
                extensions: vec![RequiredExtension { id: oid::KEY_USAGE, critical: true, value: Some(USAGE) }],
                linking,
                ..CsrAttributes::default()
            };
            let request = plan(&wanted, first, false).unwrap().request(&facts(true)).unwrap();
            let request = Csr::parse(request).and_then(Csr::verify).unwrap();
            assert_eq!(wanted.unmet_by(&request), None);
            assert_eq!(request.subject().to_string().matches('=').count(), 2, "{}", request.subject());
            let linked = if linking.is_some() { SessionLink::Matches } else { SessionLink::Absent };
            assert_eq!(request.link(b"twelve bytes"), linked);
            assert_eq!(request.identity_linking().is_some(), linking == Some(LinkingAttribute::EstIdentityLinking));
        }
    }

    #[test]
    fn what_this_client_cannot_do_makes_no_request() {
        let first = RequestedFunction::Enroll(None);
        let asks = |subject, extensions| CsrAttributes { subject, extensions, ..CsrAttributes::default() };
        let title = vec![RequiredAttribute { kind: oid::TITLE, value: None }];
        assert!(plan(&asks(title.clone(), vec![]), first, false).err().unwrap().to_string().contains("title"));
        assert!(plan(&asks(title, vec![]), RequestedFunction::Reenroll, false).is_ok(), "a renewal keeps its subject");
        let usage = vec![RequiredExtension { id: oid::KEY_USAGE, critical: false, value: None }];
        assert!(plan(&asks(vec![], usage), first, false).unwrap().request(&facts(true)).is_err());
        let linked = plan(&asks(vec![], vec![]), first, true).unwrap();
        let fault = linked.request(&facts(false)).unwrap_err().to_string();
        assert!(fault.contains("extended master secret"), "{fault}");
        let request = Csr::parse(linked.request(&facts(true)).unwrap()).and_then(Csr::verify).unwrap();
        assert_eq!(request.link(b"twelve bytes"), SessionLink::Matches);
    }
}
