//! `tests/stories/issue.rs` tests a whole certificate; these tests make the lint fail, which needs access to private
//! parts.

use ring::rand::SystemRandom;

use super::values::CertificateValues;
use super::*;
use crate::general_name::GeneralNames;
use crate::key::SigningKey;
use crate::make::{AuthorityCertificateSpec, root};
use crate::name::NameBuilder;
use crate::{Curve, PrivateKey, oid};

#[allow(clippy::disallowed_methods, reason = "a test plays the shell that owns the randomness")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn issuer() -> (Arc<IssuerCertificate>, SigningKey) {
    let key = PrivateKey::generate(Curve::P256, &random()).unwrap();
    let key = SigningKey::from_pkcs8(key.pkcs8(), &random()).unwrap();
    let spec = AuthorityCertificateSpec {
        common_name: "Issuing",
        organization: None,
        serial: Serial::new(NodePrefix::new(0), [1; 16]),
        validity: Validity { not_before: at(1_000_000), not_after: at(2_000_000_000) },
        path_len: Some(0),
    };
    (Arc::new(IssuerCertificate::new(Arc::new(root(&spec, &key, &random()).unwrap())).unwrap()), key)
}

/// E34: the lint finds bytes that differ from the requested values, in any field.
#[test]
fn e34_the_lint_finds_each_field_that_differs() {
    let (issuer, key) = issuer();
    let spec =
        TemplateSpec { client_auth: true, crl_url: Some("http://a.example/crl".into()), ..TemplateSpec::default() };
    let template = Template::new(Arc::clone(&issuer), &spec).unwrap();
    let plain = Template::new(Arc::clone(&issuer), &TemplateSpec::default()).unwrap();
    let (name, other) = (name("a"), name("b"));
    let san = GeneralNames::new([crate::GeneralName::Dns("a.example")]).unwrap();
    let (serial, validity) =
        (Serial::new(NodePrefix::new(1), [2; 16]), Validity { not_before: at(1_000_000), not_after: at(1_000_001) });
    let key_id = key.public_key().key_identifier();
    let values =
        || CertificateValues { subject: &name, san: &san, spki: key.spki(), key_id, serial: &serial, validity };
    let der = template.fill(&name, &san, key.spki(), &serial, validity).unwrap().der;
    let fault =
        |template: &Template, values: CertificateValues<'_>| lint::check(&template.fixed(), &values, &der).err();

    assert_eq!(fault(&template, values()), None);
    assert_eq!(fault(&template, CertificateValues { subject: &other, ..values() }), Some(LintFlaw::Subject));
    assert_eq!(
        fault(&template, CertificateValues { san: &GeneralNames::empty(), ..values() }),
        Some(LintFlaw::Extension)
    );
    let elsewhere = GeneralNames::new([crate::GeneralName::Dns("b.example")]).unwrap();
    assert_eq!(fault(&template, CertificateValues { san: &elsewhere, ..values() }), Some(LintFlaw::Extension));
    let second = Serial::new(NodePrefix::new(1), [3; 16]);
    assert_eq!(fault(&template, CertificateValues { serial: &second, ..values() }), Some(LintFlaw::Serial));
    let longer = Validity { not_after: at(1_000_002), ..validity };
    assert_eq!(fault(&template, CertificateValues { validity: longer, ..values() }), Some(LintFlaw::Validity));
    assert_eq!(
        fault(&template, CertificateValues { spki: issuer.certificate().spki().get(1..).unwrap(), ..values() }),
        Some(LintFlaw::PublicKey)
    );
    assert_eq!(fault(&template, CertificateValues { key_id: [0; 20], ..values() }), Some(LintFlaw::Extension));
    assert_eq!(fault(&plain, values()), Some(LintFlaw::Extension), "extensions that this template does not have");
    let elsewhere = TemplateSpec { crl_url: Some("http://b.example/crl".into()), ..spec };
    assert_eq!(fault(&Template::new(Arc::clone(&issuer), &elsewhere).unwrap(), values()), Some(LintFlaw::Extension));
    let stranger = Template::new(self::issuer().0, &TemplateSpec::default()).unwrap();
    assert_eq!(
        lint::check(&stranger.fixed(), &values(), &der).err(),
        Some(LintFlaw::Extension),
        "the key identifier is another's"
    );
    let mut trailing = der.clone();
    trailing.push(0);
    assert!(matches!(lint::check(&template.fixed(), &values(), &trailing), Err(LintFlaw::Certificate(_))));
}

fn name(text: &str) -> crate::Name {
    NameBuilder::new().push(oid::COMMON_NAME, text).unwrap().finish().unwrap()
}
