//! Encodes a description in one form or in both.

use super::{
    CSR_ATTRIBUTES_LIMITS, CsrAttributes, CsrAttributesError, CsrAttributesForm, ITEMS_MAX, KeyRequirement,
    LinkingAttribute, OtherAttribute, RequiredAttribute, RequiredExtension, SignatureRequirement,
};
use crate::algorithm::{Curve, SignatureAlgorithm};
use crate::der::{Tag, Writer, check_within};
use crate::extension::EXTENSIONS_MAX;
use crate::name::{NAME_ATTRIBUTES_MAX, NameError, string_type};
use crate::oid::{self, Oid};

impl CsrAttributes<'_> {
    /// The DER of the CsrAttrs. A description that asks for nothing is an empty SEQUENCE, which RFC 8951 §4 allows.
    ///
    /// # Errors
    /// It asks for a key or a signature algorithm that is not supported, a value does not fit the string type of its attribute, an
    /// extension occurs twice, or there is more than [`Self::parse`] reads.
    pub fn encode(&self, form: CsrAttributesForm) -> Result<Vec<u8>, CsrAttributesError> {
        self.check()?;
        let mut out = Writer::with_capacity(512);
        out.sequence(|out| {
            if form != CsrAttributesForm::Template {
                self.write_unstructured(out);
            }
            // A client must ignore everything beside a template, so one that says nothing is left out.
            let says_something = self.key.is_some() || !self.is_without_template();
            if form != CsrAttributesForm::Unstructured && says_something {
                write_attribute(out, oid::CSR_TEMPLATE, |set| self.write_template(set));
            }
        });
        let der = out.into_vec();
        check_within(&der, CSR_ATTRIBUTES_LIMITS)?;
        Ok(der)
    }

    fn check(&self) -> Result<(), CsrAttributesError> {
        if matches!(self.key, Some(KeyRequirement::Unsupported { .. })) {
            return Err(CsrAttributesError::Key);
        }
        if matches!(self.signature, Some(SignatureRequirement::Unsupported(_))) {
            return Err(CsrAttributesError::Signature);
        }
        if self.subject.len() > NAME_ATTRIBUTES_MAX {
            return Err(NameError::TooManyAttributes.into());
        }
        for RequiredAttribute { kind, value } in &self.subject {
            value.map(|text| string_type(*kind, text)).transpose()?;
        }
        if self.extensions.len() > EXTENSIONS_MAX {
            return Err(CsrAttributesError::Extension);
        }
        let repeated = |(index, extension): (usize, &RequiredExtension<'_>)| {
            self.extensions[..index].iter().any(|earlier| earlier.id == extension.id)
        };
        if self.extensions.iter().enumerate().any(repeated) {
            return Err(CsrAttributesError::RepeatedExtension);
        }
        if !self.others.iter().all(|other| self.is_other(other)) {
            return Err(CsrAttributesError::Other);
        }
        // Two for linking, one each for key, signature, extensions and template.
        let items = self.subject.len() + self.extensions.len() + self.others.len() + 6;
        if items > ITEMS_MAX { Err(CsrAttributesError::TooManyItems) } else { Ok(()) }
    }

    /// RFC 7030 §4.5.2: "If an EST server requires the linking of identity and POP information (see Section 3.5), it MUST include the
    /// challengePassword OID in the CSR Attributes Response."
    fn write_unstructured(&self, out: &mut Writer) {
        for &id in self.linking.map_or(&[][..], linking_identifiers) {
            out.oid(id);
        }
        if let Some(KeyRequirement::Ec(curve)) = self.key {
            write_attribute(out, oid::EC_PUBLIC_KEY, |set| curve.into_iter().for_each(|curve| set.oid(curve.oid())));
        }
        for RequiredAttribute { kind, value } in &self.subject {
            match value {
                Some(text) => write_attribute(out, *kind, |set| write_text(set, *kind, text)),
                None => out.oid(*kind),
            }
        }
        let valued = || self.extensions.iter().filter(|extension| extension.value.is_some());
        if valued().next().is_some() {
            write_attribute(out, oid::EXTENSION_REQUEST, |set| {
                set.sequence(|list| valued().for_each(|one| one.write(list)));
            });
        }
        self.extensions.iter().filter(|extension| extension.value.is_none()).for_each(|one| out.oid(one.id));
        if let Some(SignatureRequirement::Supported(algorithm)) = self.signature {
            out.oid(signature_identifier(algorithm));
        }
        for OtherAttribute { id, values } in &self.others {
            if values.is_empty() {
                out.oid(*id);
            } else {
                write_attribute(out, *id, |set| set.raw(values));
            }
        }
    }

    /// `SEQUENCE { version, subject OPTIONAL, subjectPKInfo [0] OPTIONAL, attributes [1] }`, with IMPLICIT tags.
    fn write_template(&self, out: &mut Writer) {
        out.sequence(|out| {
            out.unsigned(&[0]);
            if !self.subject.is_empty() {
                out.sequence(|rdns| self.subject.iter().for_each(|attribute| attribute.write(rdns)));
            }
            if let Some(KeyRequirement::Ec(curve)) = self.key {
                out.nested(Tag::context_constructed(0), |out| {
                    out.sequence(|algorithm| {
                        algorithm.oid(oid::EC_PUBLIC_KEY);
                        curve.into_iter().for_each(|curve: Curve| algorithm.oid(curve.oid()));
                    });
                });
            }
            let attributes = self.template_attributes();
            let mut attributes: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
            out.set_of(Tag::context_constructed(1), &mut attributes);
        });
    }

    fn template_attributes(&self) -> Vec<Vec<u8>> {
        let attribute = |id: Oid<'_>, values: &dyn Fn(&mut Writer)| {
            let mut out = Writer::default();
            write_attribute(&mut out, id, values);
            out.into_vec()
        };
        let mut attributes = Vec::with_capacity(self.others.len() + 2);
        if !self.extensions.is_empty() {
            // RFC 9908 §3.4: the template "is only needed to enable specifying partial extensions with values to be filled in by the client;
            // otherwise the id-ExtensionReq OID and the respective value of type ExtensionReq MUST be used".
            let partial = self.extensions.iter().any(|extension| extension.value.is_none());
            let id = if partial { oid::EXTENSION_REQUEST_TEMPLATE } else { oid::EXTENSION_REQUEST };
            attributes.push(attribute(id, &|set| {
                set.sequence(|list| self.extensions.iter().for_each(|one| one.write(list)));
            }));
        }
        for &id in self.linking.map_or(&[][..], linking_identifiers) {
            attributes.push(attribute(id, &|_| {}));
        }
        attributes.extend(self.others.iter().map(|other| attribute(other.id, &|set| set.raw(other.values))));
        attributes
    }
}

impl RequiredAttribute<'_> {
    /// One relative name: "RDNs in the 'subject' fields are allowed to have no value" (RFC 9908 §3.4).
    fn write(&self, rdns: &mut Writer) {
        rdns.nested(Tag::SET, |set| {
            set.sequence(|out| {
                out.oid(self.kind);
                self.value.into_iter().for_each(|text| write_text(out, self.kind, text));
            });
        });
    }
}

impl RequiredExtension<'_> {
    fn write(&self, list: &mut Writer) {
        list.sequence(|out| {
            out.oid(self.id);
            if self.critical {
                out.true_value();
            }
            self.value.into_iter().for_each(|value| out.element(Tag::OCTET_STRING, value));
        });
    }
}

fn write_attribute(out: &mut Writer, id: Oid<'_>, values: impl FnOnce(&mut Writer)) {
    out.sequence(|out| {
        out.oid(id);
        out.nested(Tag::SET, values);
    });
}

fn write_text(out: &mut Writer, kind: Oid<'_>, text: &str) {
    let tag = string_type(kind, text).expect("`check` has tried each value of the subject");
    out.element(tag, text.as_bytes());
}

const fn linking_identifiers(attribute: LinkingAttribute) -> &'static [Oid<'static>] {
    match attribute {
        LinkingAttribute::ChallengePassword => &[oid::CHALLENGE_PASSWORD],
        LinkingAttribute::EstIdentityLinking => &[oid::CHALLENGE_PASSWORD, oid::EST_IDENTITY_LINKING],
    }
}

pub(super) const fn signature_identifier(algorithm: SignatureAlgorithm) -> Oid<'static> {
    match algorithm {
        SignatureAlgorithm::EcdsaWithSha256 => oid::ECDSA_WITH_SHA256,
        SignatureAlgorithm::EcdsaWithSha384 => oid::ECDSA_WITH_SHA384,
    }
}
