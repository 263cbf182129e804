//! The request of `enroll` and `reenroll`: its names, its key, what the server's CSR attributes ask for, and its link to the session.

use std::cell::OnceCell;
use std::sync::Arc;

use dtls::SessionFacts;
use pki::csr_attributes::{CsrAttributes, KeyRequirement, LinkingAttribute, SignatureRequirement};
use pki::linking::LinkingText;
use pki::make::{self, CsrAdditions, CsrSpec};
use pki::{
    Certificate, CsrContents, Curve, Encoding, GeneralNames, Name, NameBuilder, Oid, PrivateKey, SignatureAlgorithm,
    SigningKey, oid,
};
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

/// Everything in a request but the session that it belongs to. A request that is linked to its session is made anew for another one, with the same
/// key; one that is not linked stays as it is.
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
    /// The request that is linked to no session. A signature is random, and servers recognise the repetition of a request by its bytes.
    unlinked: OnceCell<Vec<u8>>,
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
        Self::with_key(names, asked, links, None)
    }

    /// The same for the key of an earlier request, if it is of the curve that the server asks for.
    pub(crate) fn with_key(
        names: RequestNames,
        asked: Option<Vec<u8>>,
        links: bool,
        earlier: Option<PrivateKey>,
    ) -> CommandResult<Self> {
        let wanted = asked.as_deref().map(CsrAttributes::parse).transpose().map_err(cannot)?.unwrap_or_default();
        let RequestNames { mut subject, mut san, fixed_subject, own_san } = names;
        let own_subject = subject.clone();
        if !fixed_subject && !wanted.subject.is_empty() {
            subject = fill(&wanted, &subject)?;
        }
        let asked_names = wanted.extensions.iter().find(|extension| extension.id == oid::SUBJECT_ALT_NAME);
        // A renewal keeps its names, as it keeps its subject.
        if let Some(extension) =
            asked_names.filter(|extension| !fixed_subject && (san.is_empty() || extension.value.is_some()))
        {
            san = extension.alternative_names(&own_san, &own_subject).map_err(cannot)?;
        }
        let linking = wanted.linking.or(links.then_some(LinkingAttribute::ChallengePassword));
        let random = SystemRandom::new();
        let curve = curve(&wanted)?;
        let earlier = earlier.map(|private| signing(private, &random)).transpose()?;
        let (private, key) = match earlier.filter(|(_, key)| key.public_key().curve() == curve) {
            Some(pair) => pair,
            None => signing(PrivateKey::generate(curve, &random).map_err(cannot)?, &random)?,
        };
        Ok(Self { private, key, subject, san, asked, linking, decryption: None, unlinked: OnceCell::new() })
    }

    /// A request of an earlier run as it is, and its key.
    pub(crate) fn again(private: PrivateKey, csr: Vec<u8>) -> CommandResult<Self> {
        let (private, key) = signing(private, &SystemRandom::new())?;
        let contents = CsrContents::parse_as(csr.clone(), Encoding::AsIssued).map_err(cannot)?;
        let (subject, san) = (contents.subject().clone(), contents.san().clone());
        let unlinked = OnceCell::from(csr);
        Ok(Self { private, key, subject, san, asked: None, linking: None, decryption: None, unlinked })
    }

    /// The same with a key to which a server-generated key is encrypted.
    pub(crate) fn protecting(self, decryption: Option<Arc<KeyDecryption>>) -> Self {
        Self { decryption, ..self }
    }

    /// The request for this session. After "later" the identical CSR is sent again (RFC 9148 §4.7), also in a session that replaces the first one,
    /// unless it is linked to that one.
    pub(crate) fn request(&self, session: &SessionFacts) -> CommandResult<Vec<u8>> {
        if let Some(made) = self.unlinked.get() {
            return Ok(made.clone());
        }
        let csr = self.sign(session)?;
        Ok(if self.linking.is_some() { csr } else { self.unlinked.get_or_init(|| csr).clone() })
    }

    fn sign(&self, session: &SessionFacts) -> CommandResult<Vec<u8>> {
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
        let extensions = further_extensions(&wanted);
        // "The client MUST ignore any OID or attribute it does not recognize" (RFC 8951 §4): none of the others has a meaning here, with a value or without
        // one, and a value that this device does not understand is not one that it can vouch for.
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

    /// The request, if it was made and is linked to no session.
    pub(crate) fn unlinked(&self) -> Option<&[u8]> {
        self.unlinked.get().map(Vec::as_slice)
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

fn signing(private: PrivateKey, random: &SystemRandom) -> CommandResult<(PrivateKey, SigningKey)> {
    let key = SigningKey::from_pkcs8(private.pkcs8(), random).map_err(cannot)?;
    Ok((private, key))
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

/// The extensions, with the values of the server or, where it leaves them to the client, with ours (RFC 9908 §3.4). Alternative names are in the request by
/// themselves.
fn further_extensions<'a>(wanted: &CsrAttributes<'a>) -> Vec<(Oid<'a>, bool, &'a [u8])> {
    let others = wanted.extensions.iter().filter(|extension| extension.id != oid::SUBJECT_ALT_NAME);
    let valued = others.filter_map(|extension| match extension.value.or_else(|| own_value(extension.id)) {
        Some(value) => Some((extension.id, extension.critical, value)),
        None => {
            say!("muster: the extension {} is not requested: this device has no value for it", extension.id);
            None
        }
    });
    valued.collect()
}

/// What a device asks for by itself: a key that signs in handshakes, of a client that is not an authority.
fn own_value(extension: Oid<'_>) -> Option<&'static [u8]> {
    const DIGITAL_SIGNATURE: &[u8] = &[0x03, 2, 7, 0x80];
    const CLIENT_AUTH: &[u8] = &[0x30, 10, 0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];
    const NOT_AN_AUTHORITY: &[u8] = &[0x30, 0];
    [
        (oid::KEY_USAGE, DIGITAL_SIGNATURE),
        (oid::EXTENDED_KEY_USAGE, CLIENT_AUTH),
        (oid::BASIC_CONSTRAINTS, NOT_AN_AUTHORITY),
    ]
    .into_iter()
    .find_map(|(id, value)| (id == extension).then_some(value))
}

#[cfg(test)]
mod tests {
    use pki::csr_attributes::{CsrAttributesForm, OtherAttribute, RequiredAttribute, RequiredExtension};
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
        let linked = plan(&asks(vec![], vec![]), first, true).unwrap();
        let fault = linked.request(&facts(false)).unwrap_err().to_string();
        assert!(fault.contains("extended master secret"), "{fault}");
        let request = Csr::parse(linked.request(&facts(true)).unwrap()).and_then(Csr::verify).unwrap();
        assert_eq!(request.link(b"twelve bytes"), SessionLink::Matches);
    }

    #[test]
    fn a_repeated_request_has_the_same_bytes_unless_it_is_linked_to_its_session() {
        let (first, second) = (facts(true), SessionFacts { tls_unique: *b"another one!", ..facts(true) });
        for links in [false, true] {
            let plan = plan(&CsrAttributes::default(), RequestedFunction::Reenroll, links).unwrap();
            let [request, repeated] = [&first, &second].map(|session| plan.request(session).unwrap());
            assert_eq!(request == repeated, !links, "linked: {links}");
        }
    }

    #[test]
    fn an_attribute_without_a_meaning_here_stays_out_of_the_request_with_and_without_a_value() {
        // The MAC address in the example of RFC 7030 §4.5.2, and an identifier that nobody knows.
        let [mac, unknown] = [&[0x2b, 6, 1, 1, 1, 1, 22][..], &[0x2a, 3, 4, 5, 6, 7, 8]];
        let others = [(mac, &[][..]), (unknown, &[0x0c, 2, b'h', b'i'])];
        let others = others.map(|(id, values)| OtherAttribute { id: Oid::from_contents(id).unwrap(), values }).to_vec();
        let wanted = CsrAttributes { others, ..CsrAttributes::default() };
        let request = plan(&wanted, RequestedFunction::Enroll(None), false).unwrap().request(&facts(true)).unwrap();
        for id in [mac, unknown] {
            assert!(!request.windows(id.len()).any(|window| window == id), "{id:02x?}");
        }
        Csr::parse(request).and_then(Csr::verify).unwrap();
    }

    /// "the 'iPAddress' choice with an empty OCTET STRING" and "the NULL-DN" (RFC 9908 §3.4), beside a name that the server gives.
    #[test]
    fn names_that_are_given_in_part_are_filled_in_and_given_ones_are_taken_over() {
        const GIVEN: &[u8] = b"\x82\x10www.myServer.com";
        let names = [pki::ServerName::try_from("localhost").unwrap(), pki::ServerName::try_from("192.0.2.7").unwrap()];
        let own = Material::make(&names, UnixTime::now()).unwrap().server.certificate;
        assert!(own.san().iter().any(|name| matches!(name, pki::GeneralName::Ip(_))), "{:?}", own.san());
        let request = |value: &[u8], function| {
            let extension = RequiredExtension { id: oid::SUBJECT_ALT_NAME, critical: false, value: Some(value) };
            let wanted = CsrAttributes { extensions: vec![extension], ..CsrAttributes::default() };
            let asked = wanted.encode(CsrAttributesForm::Both).unwrap();
            let plan = RequestPlan::new(RequestNames::of(&own, function).unwrap(), Some(asked), false).unwrap();
            Csr::parse(plan.request(&facts(true)).unwrap()).and_then(Csr::verify).unwrap()
        };
        let list = |contents: &[&[u8]]| {
            let contents = contents.concat();
            [&[0x30, u8::try_from(contents.len()).unwrap()][..], &contents].concat()
        };
        let first = RequestedFunction::Enroll(None);
        let filled = request(&list(&[GIVEN, &[0x87, 0], &[0xa4, 2, 0x30, 0]]), first);
        let shown: Vec<_> = filled.san().iter().collect();
        assert!(
            matches!(&shown[..], [
            pki::GeneralName::Dns("www.myServer.com"),
            pki::GeneralName::Ip(address),
            pki::GeneralName::Directory(name),
        ] if *address == std::net::IpAddr::from([192, 0, 2, 7]) && *name == own.subject().der()),
            "{shown:?}"
        );
        // A whole name is taken as it is, and a renewal keeps the names of its certificate.
        let taken = request(&list(&[GIVEN]), first);
        assert_eq!(taken.san().iter().collect::<Vec<_>>(), [pki::GeneralName::Dns("www.myServer.com")]);
        assert!(request(&list(&[GIVEN]), RequestedFunction::Reenroll).san().matches(own.san()));
    }

    #[test]
    fn values_that_a_template_leaves_to_the_client_are_filled_in() {
        let extension = |id| RequiredExtension { id, critical: true, value: None };
        let known = [oid::KEY_USAGE, oid::EXTENDED_KEY_USAGE, oid::BASIC_CONSTRAINTS];
        let wanted = CsrAttributes { extensions: known.map(extension).to_vec(), ..CsrAttributes::default() };
        let request = plan(&wanted, RequestedFunction::Enroll(None), false).unwrap().request(&facts(true)).unwrap();
        let request = Csr::parse(request).and_then(Csr::verify).unwrap();
        assert_eq!(wanted.unmet_by(&request), None);
        // One that the client has no value for is left out, and the rest is requested.
        let more = [known.map(extension).to_vec(), vec![extension(oid::NAME_CONSTRAINTS)]].concat();
        let wanted = CsrAttributes { extensions: more, ..CsrAttributes::default() };
        let request = plan(&wanted, RequestedFunction::Enroll(None), false).unwrap().request(&facts(true)).unwrap();
        let request = Csr::parse(request).and_then(Csr::verify).unwrap();
        assert!(wanted.unmet_by(&request).is_some());
    }
}
