//! Reads a CsrAttrs of any server: the template if there is one, otherwise the unstructured list.

use super::{
    CSR_ATTRIBUTES_LIMITS, CsrAttributes, CsrAttributesError, ITEMS_MAX, KeyRequirement, LinkingAttribute,
    OtherAttribute, RequiredAttribute, RequiredExtension, SignatureRequirement,
};
use crate::algorithm::{Curve, SignatureAlgorithm};
use crate::der::{Element, Reader, Tag, check_within};
use crate::extension::EXTENSIONS_MAX;
use crate::name::{Attribute, NAME_ATTRIBUTES_MAX, NameError};
use crate::oid::{self, Oid};

impl<'a> CsrAttributes<'a> {
    /// Reads a CsrAttrs. Of a message with a template it reads only the template: RFC 9908 §4, "Clients which understand both MUST use the
    /// template only, and ignore all other CSRattrs elements."
    ///
    /// # Errors
    /// The bytes are not strict DER of at most 4,096 bytes, or break a rule that [`CsrAttributesError`] names. Unknown identifiers are not
    /// errors: they are in [`Self::others`].
    pub fn parse(der: &'a [u8]) -> Result<Self, CsrAttributesError> {
        let items = items(der)?;
        let mut templates = items.iter().filter(|item| item.id == oid::CSR_TEMPLATE);
        match (templates.next(), templates.next()) {
            (None, _) => Self::read_items(&items),
            (Some(&Item { values: Some(mut values), .. }), None) => {
                let template = values.nested(Tag::SEQUENCE).map_err(|_| CsrAttributesError::Template)?;
                values.finish().map_err(|_| CsrAttributesError::Template)?;
                Self::read_template(template)
            }
            _ => Err(CsrAttributesError::Template),
        }
    }

    /// Reads a CsrAttrs as a client without support for RFC 9908 does: "Older clients will ignore the new CertificationRequestInfoTemplate
    /// element" (§4).
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_unstructured(der: &'a [u8]) -> Result<Self, CsrAttributesError> {
        let mut items = items(der)?;
        items.retain(|item| item.id != oid::CSR_TEMPLATE);
        Self::read_items(&items)
    }

    fn read_items(items: &[Item<'a>]) -> Result<Self, CsrAttributesError> {
        let mut out = Self::default();
        let mut has_extensions = false;
        for item in items {
            let Item { id, values, element } = *item;
            let other = OtherAttribute { id, values: values.map_or(&[], |values| values.rest()) };
            match (id, values) {
                (oid::CHALLENGE_PASSWORD | oid::EST_IDENTITY_LINKING, _) => out.link(id),
                (oid::EXTENSION_REQUEST, Some(values)) => {
                    if std::mem::replace(&mut has_extensions, true) {
                        return Err(CsrAttributesError::Extensions);
                    }
                    out.read_extension_request(values)?;
                }
                (oid::EC_PUBLIC_KEY | oid::RSA_ENCRYPTION, _) if out.key.is_none() => {
                    out.key = Some(key(id, values.unwrap_or(Reader::new(&[])))?);
                }
                (id, None) if out.key.is_none() && (curve(id).is_some() || oid::is_unsupported_curve(id)) => {
                    out.key = Some(on_curve(id, element.whole));
                }
                (id, None) if out.signature.is_none() && signature(id).is_some() => out.signature = signature(id),
                (id, None) if oid::is_extension(id) => {
                    if out.extensions.iter().all(|known| known.id != id) {
                        out.push_extension(RequiredExtension { id, critical: false, value: None })?;
                    }
                }
                (kind, None) if oid::attribute_name(kind).is_some() => {
                    out.push_subject(RequiredAttribute { kind, value: None })?;
                }
                (kind, Some(mut values)) if oid::attribute_name(kind).is_some() => {
                    if values.is_empty() {
                        out.push_subject(RequiredAttribute { kind, value: None })?;
                    }
                    while !values.is_empty() {
                        let value = Some(text(kind, values.element()?)?);
                        out.push_subject(RequiredAttribute { kind, value })?;
                    }
                }
                (oid::EXTENSION_REQUEST, None) => return Err(CsrAttributesError::Extensions),
                _ => out.others.push(other),
            }
        }
        Ok(out)
    }

    /// The value of `id-ExtensionReq`: one Extensions (RFC 9908 §3.2), or, as in the example of RFC 7030 §4.5.2, identifiers.
    fn read_extension_request(&mut self, mut values: Reader<'a>) -> Result<(), CsrAttributesError> {
        if values.peek() == Some(Tag::SEQUENCE) {
            let list = values.nested(Tag::SEQUENCE)?;
            values.finish().map_err(|_| CsrAttributesError::Extensions)?;
            return self.read_extensions(list, ExtensionValue::Required);
        }
        if values.is_empty() {
            return Err(CsrAttributesError::Extensions);
        }
        while !values.is_empty() {
            let id = values.oid()?;
            self.push_extension(RequiredExtension { id, critical: false, value: None })?;
        }
        Ok(())
    }

    fn read_template(mut template: Reader<'a>) -> Result<Self, CsrAttributesError> {
        let mut out = Self::default();
        // RFC 9908 §3.4: "The 'version' field of the CertificationRequestInfoTemplate MUST contain v1 (0)."
        if template.expect(Tag::INTEGER)? != [0] {
            return Err(CsrAttributesError::Version);
        }
        if let Some(rdns) = template.optional(Tag::SEQUENCE)? {
            out.read_subject(Reader::new(rdns))?;
        }
        if let Some(key) = template.optional(Tag::context_constructed(0))? {
            out.key = Some(key_template(Reader::new(key))?);
        }
        let mut attributes = template.nested(Tag::context_constructed(1))?;
        template.finish()?;
        let (mut has_extensions, mut count) = (false, 0);
        while !attributes.is_empty() {
            count += 1;
            if count > ITEMS_MAX {
                return Err(CsrAttributesError::TooManyItems);
            }
            let (id, mut values) = attribute(attributes.nested(Tag::SEQUENCE)?)?;
            match id {
                oid::CHALLENGE_PASSWORD | oid::EST_IDENTITY_LINKING => out.link(id),
                oid::EXTENSION_REQUEST | oid::EXTENSION_REQUEST_TEMPLATE => {
                    // "The 'attributes' field MUST NOT contain multiple id-aa-extensionReqTemplate attributes and MUST NOT contain both
                    // id-ExtensionReq and id-aa-extensionReqTemplate attributes."
                    if std::mem::replace(&mut has_extensions, true) {
                        return Err(CsrAttributesError::Extensions);
                    }
                    let list = values.nested(Tag::SEQUENCE).map_err(|_| CsrAttributesError::Extensions)?;
                    values.finish().map_err(|_| CsrAttributesError::Extensions)?;
                    let full = id == oid::EXTENSION_REQUEST;
                    out.read_extensions(list, if full { ExtensionValue::Required } else { ExtensionValue::Optional })?;
                }
                _ => out.others.push(OtherAttribute { id, values: values.rest() }),
            }
        }
        Ok(out)
    }

    /// NameTemplate: the attributes of all relative names, each with or without a value.
    fn read_subject(&mut self, mut rdns: Reader<'a>) -> Result<(), CsrAttributesError> {
        while !rdns.is_empty() {
            let mut relative = rdns.nested(Tag::SET)?;
            if relative.is_empty() {
                return Err(NameError::EmptyRelativeName.into());
            }
            while !relative.is_empty() {
                let mut attribute = relative.nested(Tag::SEQUENCE)?;
                let kind = attribute.oid()?;
                let value = if attribute.is_empty() { None } else { Some(text(kind, attribute.element()?)?) };
                attribute.finish()?;
                self.push_subject(RequiredAttribute { kind, value })?;
            }
        }
        Ok(())
    }

    fn read_extensions(&mut self, mut list: Reader<'a>, values: ExtensionValue) -> Result<(), CsrAttributesError> {
        // "SEQUENCE SIZE (1..MAX) OF"
        if list.is_empty() {
            return Err(CsrAttributesError::Extensions);
        }
        while !list.is_empty() {
            let mut extension = list.nested(Tag::SEQUENCE)?;
            let id = extension.oid()?;
            let critical = extension.default_false()?;
            let value = extension.optional(Tag::OCTET_STRING)?;
            extension.finish()?;
            if value.is_none() && values == ExtensionValue::Required {
                return Err(CsrAttributesError::Extension);
            }
            self.push_extension(RequiredExtension { id, critical, value })?;
        }
        Ok(())
    }

    /// A value replaces the bare identifier that the unstructured form may name as well.
    fn push_extension(&mut self, extension: RequiredExtension<'a>) -> Result<(), CsrAttributesError> {
        if let Some(known) = self.extensions.iter_mut().find(|known| known.id == extension.id) {
            if known.value.is_some() || extension.value.is_none() {
                return Err(CsrAttributesError::RepeatedExtension);
            }
            *known = extension;
            return Ok(());
        }
        if self.extensions.len() == EXTENSIONS_MAX {
            return Err(CsrAttributesError::Extension);
        }
        self.extensions.push(extension);
        Ok(())
    }

    fn push_subject(&mut self, attribute: RequiredAttribute<'a>) -> Result<(), CsrAttributesError> {
        if self.subject.len() == NAME_ATTRIBUTES_MAX {
            return Err(NameError::TooManyAttributes.into());
        }
        self.subject.push(attribute);
        Ok(())
    }

    /// Whether an entry means nothing else, so that it can be in [`Self::others`].
    pub(super) fn is_other(&self, other: &OtherAttribute<'_>) -> bool {
        let (id, bare) = (other.id, other.values.is_empty());
        let is_key = [oid::EC_PUBLIC_KEY, oid::RSA_ENCRYPTION].contains(&id);
        let is_curve = bare && (curve(id).is_some() || oid::is_unsupported_curve(id));
        ![
            oid::CHALLENGE_PASSWORD,
            oid::EST_IDENTITY_LINKING,
            oid::EXTENSION_REQUEST,
            oid::EXTENSION_REQUEST_TEMPLATE,
            oid::CSR_TEMPLATE,
        ]
        .contains(&id)
            && oid::attribute_name(id).is_none()
            && !(bare && oid::is_extension(id))
            // The first requirement on the key and on the signature counts; what follows it stays here.
            && (self.key.is_some() || !(is_key || is_curve))
            && (self.signature.is_some() || !(bare && signature(id).is_some()))
    }

    fn link(&mut self, id: Oid<'_>) {
        if id == oid::EST_IDENTITY_LINKING {
            self.linking = Some(LinkingAttribute::EstIdentityLinking);
        } else {
            self.linking.get_or_insert(LinkingAttribute::ChallengePassword);
        }
    }
}

/// Whether an extension needs a value: in `id-ExtensionReq` it does, in `id-aa-extensionReqTemplate` it does not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExtensionValue {
    Required,
    Optional,
}

/// AttrOrOID: `values` is `None` for a bare identifier.
#[derive(Clone, Copy)]
struct Item<'a> {
    id: Oid<'a>,
    values: Option<Reader<'a>>,
    element: Element<'a>,
}

fn items(der: &[u8]) -> Result<Vec<Item<'_>>, CsrAttributesError> {
    check_within(der, CSR_ATTRIBUTES_LIMITS)?;
    let mut list = Reader::sequence(der)?;
    let mut items = Vec::new();
    while !list.is_empty() {
        if items.len() == ITEMS_MAX {
            return Err(CsrAttributesError::TooManyItems);
        }
        let element = list.element()?;
        items.push(match element.tag {
            Tag::OID => Item { id: Oid::new(element.contents), values: None, element },
            Tag::SEQUENCE => {
                let (id, values) = attribute(Reader::new(element.contents))?;
                Item { id, values: Some(values), element }
            }
            _ => return Err(CsrAttributesError::Item),
        });
    }
    Ok(items)
}

fn attribute(mut contents: Reader<'_>) -> Result<(Oid<'_>, Reader<'_>), CsrAttributesError> {
    let id = contents.oid()?;
    let values = contents.nested(Tag::SET)?;
    contents.finish()?;
    Ok((id, values))
}

/// RFC 9908 §3.2: "The 'values' field MAY be empty to indicate no further requirements on the key. Otherwise, it MUST contain suitable
/// parameters for the given key type, such as a singleton set containing the OID of an EC curve [...] or containing an integer value for the
/// RSA key size".
fn key<'a>(algorithm: Oid<'a>, mut values: Reader<'a>) -> Result<KeyRequirement<'a>, CsrAttributesError> {
    let is_ec = algorithm == oid::EC_PUBLIC_KEY;
    if values.is_empty() {
        return Ok(if is_ec {
            KeyRequirement::Ec(None)
        } else {
            KeyRequirement::Unsupported { algorithm, parameter: None }
        });
    }
    let parameter = values.element()?;
    if !values.is_empty() || (is_ec && parameter.tag != Tag::OID) {
        return Err(CsrAttributesError::Key);
    }
    if is_ec {
        return Ok(on_curve(Oid::new(parameter.contents), parameter.whole));
    }
    Ok(KeyRequirement::Unsupported { algorithm, parameter: Some(parameter.whole) })
}

/// SubjectPublicKeyInfoTemplate: an AlgorithmIdentifier, and for RSA a placeholder of the wanted length.
fn key_template(mut info: Reader<'_>) -> Result<KeyRequirement<'_>, CsrAttributesError> {
    let mut identifier = info.nested(Tag::SEQUENCE)?;
    let algorithm = identifier.oid()?;
    let placeholder = info.optional(Tag::BIT_STRING)?;
    info.finish()?;
    // RFC 9908 §3.4: "In case the server requires use of an RSA key and needs to specify its size, the field MUST be present [...].
    // Otherwise, the subjectPublicKey MUST be absent."
    if placeholder.is_some() && algorithm != oid::RSA_ENCRYPTION {
        return Err(CsrAttributesError::Key);
    }
    key(algorithm, identifier)
}

fn on_curve<'a>(id: Oid<'a>, whole: &'a [u8]) -> KeyRequirement<'a> {
    match curve(id) {
        Some(curve) => KeyRequirement::Ec(Some(curve)),
        None => KeyRequirement::Unsupported { algorithm: oid::EC_PUBLIC_KEY, parameter: Some(whole) },
    }
}

fn curve(id: Oid<'_>) -> Option<Curve> {
    [Curve::P256, Curve::P384].into_iter().find(|curve| curve.oid() == id)
}

/// A signature algorithm by itself or by its hash: the key decides the rest.
fn signature(id: Oid<'_>) -> Option<SignatureRequirement<'_>> {
    match id {
        oid::ECDSA_WITH_SHA256 | oid::SHA256 => {
            Some(SignatureRequirement::Supported(SignatureAlgorithm::EcdsaWithSha256))
        }
        oid::ECDSA_WITH_SHA384 | oid::SHA384 => {
            Some(SignatureRequirement::Supported(SignatureAlgorithm::EcdsaWithSha384))
        }
        id if id == oid::SHA512 || oid::is_unsupported_signature(id) => Some(SignatureRequirement::Unsupported(id)),
        _ => None,
    }
}

fn text<'a>(kind: Oid<'a>, value: Element<'a>) -> Result<&'a str, CsrAttributesError> {
    let value = Attribute { kind, tag: value.tag, value: value.contents };
    match value.text() {
        Some(text) if text.chars().any(char::is_control) => Err(NameError::ControlCharacter.into()),
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(NameError::Text.into()),
    }
}
