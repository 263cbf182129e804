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
    let spec = TemplateSpec { client_auth: true, crl_url: crl_url("http://a.example/crl"), ..TemplateSpec::default() };
    let template = Template::new(Arc::clone(&issuer), &spec).unwrap();
    let plain = Template::new(Arc::clone(&issuer), &TemplateSpec::default()).unwrap();
    let (name, other) = (name("a"), name("b"));
    let san = GeneralNames::new([crate::GeneralName::Dns("a.example")]).unwrap();
    let (serial, validity) =
        (Serial::new(NodePrefix::new(1), [2; 16]), Validity { not_before: at(1_000_000), not_after: at(1_000_001) });
    let key_id = key.public_key().key_identifier();
    let values = || CertificateValues {
        subject: &name,
        san: &san,
        spki: key.spki(),
        key_id,
        serial: &serial,
        shard: None,
        validity,
    };
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
    let elsewhere = TemplateSpec { crl_url: crl_url("http://b.example/crl"), ..spec };
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

/// E35: the lint finds the URL of another shard, and its absence.
#[test]
fn e35_the_lint_finds_another_shard() {
    let (issuer, key) = issuer();
    let spec = TemplateSpec { crl_url: crl_url("http://a.example/{shard}.crl"), ..TemplateSpec::default() };
    let template = Template::new(Arc::clone(&issuer), &spec).unwrap();
    let (subject, serial) = (name("a"), Serial::new(NodePrefix::new(1), [2; 16]));
    let validity = Validity { not_before: at(1_000_000), not_after: at(1_000_001) };
    let san = &GeneralNames::empty();
    let der = template.fill(&subject, san, key.spki(), &serial, validity).unwrap().der;
    let key_id = key.public_key().key_identifier();
    let check = |template: &Template, shard: Option<crl::CrlShard>| {
        let shard = shard.map(crl::CrlShard::digits);
        let values =
            CertificateValues { subject: &subject, san, spki: key.spki(), key_id, serial: &serial, shard, validity };
        lint::check(&template.fixed(), &values, &der)
    };
    let own = crl::shard_of(&serial, crl::CrlShards::DEFAULT);
    for shard in crl::CrlShards::DEFAULT.all() {
        let expected = if shard == own { Ok(()) } else { Err(LintFlaw::Extension) };
        assert_eq!(check(&template, Some(shard)), expected);
    }
    let elsewhere = TemplateSpec { crl_url: crl_url("http://a.example/{shard}.crt"), ..TemplateSpec::default() };
    let elsewhere = Template::new(Arc::clone(&issuer), &elsewhere).unwrap();
    assert_eq!(check(&elsewhere, Some(own)), Err(LintFlaw::Extension));
    let none = Template::new(issuer, &TemplateSpec::default()).unwrap();
    assert_eq!(check(&none, None), Err(LintFlaw::Extension));
}

/// E35: what a certificate contains is the URL of its shard, as if that were the only URL of its CA.
#[test]
fn e35_a_certificate_has_the_url_of_its_shard() {
    let (issuer, key) = issuer();
    let subject = name("a");
    let validity = Validity { not_before: at(1_000_000), not_after: at(1_000_001) };
    let fill = |crl_url: Option<crl::CrlUrl>, serial: &Serial| {
        let spec = TemplateSpec {
            client_auth: true,
            basic_constraints: true,
            crl_url,
            ca_issuers_url: Some("http://a.example/ca.cer".into()),
            ocsp_url: None,
        };
        let template = Template::new(Arc::clone(&issuer), &spec).unwrap();
        template.fill(&subject, &GeneralNames::empty(), key.spki(), serial, validity).unwrap().der
    };
    // The second URL is long enough for lengths of two octets.
    for text in ["http://{shard}.a.example/crl", &format!("http://a.example/{}/{{shard}}", "x".repeat(150))] {
        for count in [1, 10, 128, 65_536] {
            let sharded = crl::CrlUrl::new(text, crl::CrlShards::new(count).unwrap()).unwrap();
            for number in 0..50 {
                let serial = Serial::new(NodePrefix::new(1), [number; 16]);
                let only = sharded.of(&serial);
                assert_eq!(only, text.replace("{shard}", &sharded.scope_of(&serial).shard().unwrap().to_string()));
                assert_eq!(fill(Some(sharded.clone()), &serial), fill(crl_url(&only), &serial), "{only}");
            }
        }
    }
}

fn crl_url(text: &str) -> Option<crl::CrlUrl> {
    Some(crl::CrlUrl::new(text, crl::CrlShards::DEFAULT).unwrap())
}

fn name(text: &str) -> crate::Name {
    NameBuilder::new().push(oid::COMMON_NAME, text).unwrap().finish().unwrap()
}
