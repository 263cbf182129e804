//! Server-generated keys in CMS: OpenSSL takes ours apart, we open OpenSSL's, and what is changed or foreign is refused.

use pki::der::{DerError, Tag, Writer};
use pki::enveloped_key::{
    self, AesStrength, DecryptionKey, EnvelopeAlgorithms, EnvelopeSecrets, EnvelopedKeyError, KeyPackage, KeyRecipient,
    SignedKey, open,
};
use pki::pem::{Label, encode};
use pki::{Certificate, Curve, GeneratedKey, KeyError, PrivateKey, SigningKey, oid};
use proptest::prelude::*;

use crate::common::*;
use crate::openssl::{OpenSsl, assert_contains};

const ID: &[u8] = b"kek 1";
const ALGORITHMS: [EnvelopeAlgorithms; 4] = [
    EnvelopeAlgorithms { content: AesStrength::Aes128, wrap: AesStrength::Aes128 },
    EnvelopeAlgorithms { content: AesStrength::Aes128, wrap: AesStrength::Aes256 },
    EnvelopeAlgorithms { content: AesStrength::Aes256, wrap: AesStrength::Aes128 },
    EnvelopeAlgorithms { content: AesStrength::Aes256, wrap: AesStrength::Aes256 },
];

fn generated(curve: Curve) -> GeneratedKey {
    GeneratedKey::generate(curve, &random()).unwrap()
}

fn signed(key: &GeneratedKey, signer: &Authority) -> SignedKey {
    let package = KeyPackage::prepare(key, &signer.certificate);
    package.assemble(&signer.key.sign(&random(), package.to_be_signed()).unwrap())
}

fn seal(
    signed: &SignedKey,
    recipient: &KeyRecipient<'_>,
    algorithms: EnvelopeAlgorithms,
    random: &dyn ring::rand::SecureRandom,
) -> Result<Vec<u8>, EnvelopedKeyError> {
    enveloped_key::seal(signed, recipient, algorithms, EnvelopeSecrets::draw(recipient, random)?)
}

fn kek(wrap: AesStrength) -> Vec<u8> {
    let length = if wrap == AesStrength::Aes128 { 16 } else { 32 };
    (0..length).collect()
}

/// A device's key pair for decryption, its identifier, and a certificate with that identifier.
struct Recipient {
    key: GeneratedKey,
    private: PrivateKey,
    id: [u8; 20],
    certificate: Certificate,
}

impl Recipient {
    fn new(curve: Curve, root: &Authority) -> Self {
        let key = generated(curve);
        let private = PrivateKey::read(key.pkcs8()).unwrap();
        let signing = SigningKey::from_pkcs8(key.pkcs8(), &random()).unwrap();
        let id = signing.public_key().key_identifier();
        let mut raw = Raw::device(&signing);
        raw.extensions.push((oid::SUBJECT_KEY_IDENTIFIER, false, [&[4, 20], &id[..]].concat()));
        let certificate = Certificate::parse(&raw.signed_by(root)).unwrap();
        Self { key, private, id, certificate }
    }

    fn spki(&self) -> &[u8] {
        self.key.spki()
    }
}

/// Verifies a SignedData with OpenSSL and returns the package in it.
fn verified_by_openssl(openssl: &OpenSsl, signed_data: &[u8]) -> Vec<u8> {
    let mut content_info = Writer::default();
    content_info.sequence(|out| {
        out.oid(oid::PKCS7_SIGNED_DATA);
        out.nested(Tag::context_constructed(0), |out| out.raw(signed_data));
    });
    openssl.write("signed.der", content_info.into_vec());
    let shown = openssl.run("cms -cmsout -print -inform DER -in signed.der");
    assert_contains(&shown, &["2.16.840.1.101.2.1.2.78.5"]);
    openssl.run(
        "cms -verify -binary -inform DER -in signed.der -CAfile root.pem -purpose any -no_check_time -out package.der",
    );
    openssl.read("package.der")
}

#[test]
fn openssl_takes_a_symmetric_envelope_apart() {
    for (curve, root) in
        [(Curve::P256, Authority::root("Root")), (Curve::P384, Authority::root_on("Root", Curve::P384))]
    {
        for algorithms in ALGORITHMS {
            let (key, kek) = (generated(curve), kek(algorithms.wrap));
            let recipient = KeyRecipient::Kek { id: ID, key: &kek };
            let message = seal(&signed(&key, &root), &recipient, algorithms, &random()).unwrap();

            let openssl = OpenSsl::new();
            openssl.write("message.der", &message).write_certificate("root.pem", &root.certificate);
            let (secret, id) = (hex::encode(&kek), hex::encode(ID));
            openssl.run(&format!(
                "cms -decrypt -binary -inform DER -in message.der -secretkey {secret} -secretkeyid {id} -out content.der"
            ));
            let package = verified_by_openssl(&openssl, &openssl.read("content.der"));
            assert!(package.ends_with(key.pkcs8()), "SEQUENCE OF one PKCS #8");

            let opened = open(&message, &DecryptionKey::Kek { id: ID, key: &kek }, &[]).unwrap();
            assert_eq!(opened.key.pkcs8(), key.pkcs8());
            assert_eq!(opened.signer.unwrap().der(), root.certificate.der());
        }
    }
}

#[test]
fn openssl_takes_an_envelope_with_key_agreement_apart() {
    let root = Authority::root("Root");
    for curve in [Curve::P256, Curve::P384] {
        for algorithms in ALGORITHMS {
            let (key, device) = (generated(Curve::P256), Recipient::new(curve, &root));
            let public_key = pki::PublicKey::from_spki(device.spki()).unwrap();
            let recipient = KeyRecipient::KeyAgreement { id: &device.id, public_key };
            let message = seal(&signed(&key, &root), &recipient, algorithms, &random()).unwrap();

            let openssl = OpenSsl::new();
            openssl.write("message.der", &message).write_certificate("root.pem", &root.certificate);
            openssl.write("key.pem", encode(Label::PrivateKey, device.key.pkcs8()));
            openssl.write_certificate("device.pem", &device.certificate);
            openssl.run(
                "cms -decrypt -binary -inform DER -in message.der -recip device.pem -inkey key.pem -out content.der",
            );
            let package = verified_by_openssl(&openssl, &openssl.read("content.der"));
            assert!(package.ends_with(key.pkcs8()));

            let decryption = DecryptionKey::KeyAgreement { id: &device.id, key: &device.private };
            let opened = open(&message, &decryption, &[]).unwrap();
            assert_eq!(opened.key.pkcs8(), key.pkcs8());
        }
    }
}

/// RFC 9148 §4.8 read the other way: the PKCS #8 itself is encrypted. And OpenSSL's way of nesting: a ContentInfo in id-data.
#[test]
fn what_openssl_encrypts_is_opened() {
    let root = Authority::root("Root");
    let device = Recipient::new(Curve::P256, &root);
    let key = generated(Curve::P384);
    let openssl = OpenSsl::new();
    openssl.write("key.der", key.pkcs8()).write_certificate("device.pem", &device.certificate);
    let signer = PrivateKey::generate(Curve::P256, &random()).unwrap();
    let signing = SigningKey::from_pkcs8(signer.pkcs8(), &random()).unwrap();
    let certificate = Certificate::parse(&Raw::authority("Server", &signing).signed_by(&root)).unwrap();
    openssl
        .write("signer.key", encode(Label::PrivateKey, signer.pkcs8()))
        .write_certificate("signer.pem", &certificate);
    let package = [&[0x30, 0x81, 0xb9][..], key.pkcs8()].concat();
    assert_eq!(key.pkcs8().len(), 0xb9);
    openssl.write("package.der", package);
    openssl.run(
        "cms -sign -binary -nodetach -md sha256 -econtent_type 2.16.840.1.101.2.1.2.78.5 -signer signer.pem -inkey signer.key \
         -in package.der -outform DER -out signed.der",
    );
    for (file, is_signed) in [("key.der", false), ("package.der", false), ("signed.der", true)] {
        for cipher in ["aes-128-cbc", "aes-256-cbc"] {
            let secret = hex::encode(kek(AesStrength::Aes256));
            openssl.run(&format!(
                "cms -encrypt -binary -{cipher} -secretkey {secret} -secretkeyid {} -in {file} -outform DER -out one.der",
                hex::encode(ID)
            ));
            let kek = kek(AesStrength::Aes256);
            let opened = open(&openssl.read("one.der"), &DecryptionKey::Kek { id: ID, key: &kek }, &[]).unwrap();
            assert_eq!((opened.key.pkcs8(), opened.signer.is_some()), (key.pkcs8(), is_signed), "{file} {cipher}");

            openssl.run(&format!(
                "cms -encrypt -binary -{cipher} -in {file} -outform DER -out two.der -keyid -recip device.pem -keyopt \
                 ecdh_kdf_md:sha256"
            ));
            let decryption = DecryptionKey::KeyAgreement { id: &device.id, key: &device.private };
            let opened = open(&openssl.read("two.der"), &decryption, &[]).unwrap();
            assert_eq!((opened.key.pkcs8(), opened.signer.is_some()), (key.pkcs8(), is_signed), "{file} {cipher}");
        }
    }
    // OpenSSL's default is SHA-1; GCM is another content type.
    openssl.run("cms -encrypt -binary -aes-128-cbc -in key.der -outform DER -out sha1.der -keyid -recip device.pem");
    let decryption = DecryptionKey::KeyAgreement { id: &device.id, key: &device.private };
    assert_eq!(open(&openssl.read("sha1.der"), &decryption, &[]).err(), Some(EnvelopedKeyError::Algorithm));
    openssl.run("cms -encrypt -binary -aes-128-gcm -in key.der -outform DER -out gcm.der -keyid -recip device.pem");
    assert_eq!(open(&openssl.read("gcm.der"), &decryption, &[]).err(), Some(EnvelopedKeyError::NotEnveloped));
}

fn sealed() -> (Vec<u8>, GeneratedKey) {
    let (root, key, kek) = (Authority::root("Root"), generated(Curve::P256), kek(AesStrength::Aes128));
    let recipient = KeyRecipient::Kek { id: ID, key: &kek };
    (seal(&signed(&key, &root), &recipient, ALGORITHMS[0], &random()).unwrap(), key)
}

#[test]
fn only_the_named_key_opens_it() {
    let (message, _) = sealed();
    let kek = kek(AesStrength::Aes128);
    let refusal = |id: &[u8], key: &[u8]| open(&message, &DecryptionKey::Kek { id, key }, &[]).err();
    assert_eq!(refusal(ID, &kek), None);
    assert_eq!(refusal(b"kek 2", &kek), Some(EnvelopedKeyError::NoRecipient));
    assert_eq!(refusal(ID, &[9; 16]), Some(EnvelopedKeyError::Decryption));
    assert_eq!(refusal(ID, &[9; 32]), Some(EnvelopedKeyError::RecipientKey));
    let device = PrivateKey::generate(Curve::P256, &random()).unwrap();
    let other_kind = DecryptionKey::KeyAgreement { id: ID, key: &device };
    assert_eq!(open(&message, &other_kind, &[]).err(), Some(EnvelopedKeyError::NoRecipient));

    let recipient = KeyRecipient::Kek { id: ID, key: &[9; 24] };
    let root = Authority::root("Root");
    let sealed = seal(&signed(&generated(Curve::P256), &root), &recipient, ALGORITHMS[0], &random());
    assert_eq!(sealed.err(), Some(EnvelopedKeyError::RecipientKey), "AES-192 is not offered");
}

#[test]
fn a_signature_by_another_key_is_refused() {
    let (root, other, kek) = (Authority::root("Root"), Authority::root("Root"), kek(AesStrength::Aes128));
    let key = generated(Curve::P256);
    let package = KeyPackage::prepare(&key, &root.certificate);
    let forged = package.assemble(&other.key.sign(&random(), package.to_be_signed()).unwrap());
    let message = seal(&forged, &KeyRecipient::Kek { id: ID, key: &kek }, ALGORITHMS[0], &random()).unwrap();
    let opened = open(&message, &DecryptionKey::Kek { id: ID, key: &kek }, &[]);
    assert_eq!(opened.err(), Some(EnvelopedKeyError::Signature));

    // A signature over another key: its digest is another one.
    let swapped = KeyPackage::prepare(&generated(Curve::P256), &root.certificate);
    let moved = package.assemble(&root.key.sign(&random(), swapped.to_be_signed()).unwrap());
    let message = seal(&moved, &KeyRecipient::Kek { id: ID, key: &kek }, ALGORITHMS[0], &random()).unwrap();
    let opened = open(&message, &DecryptionKey::Kek { id: ID, key: &kek }, &[]);
    assert_eq!(opened.err(), Some(EnvelopedKeyError::Signature));
}

/// A flipped bit is found by the key wrap, the padding or the signature; one that CBC moves into the key cannot pass the signature.
#[test]
fn no_changed_octet_gives_another_key() {
    let (message, key) = sealed();
    let kek = kek(AesStrength::Aes128);
    let mut refused = 0;
    for at in 0..message.len() {
        let mut changed = message.clone();
        changed[at] ^= 1;
        match open(&changed, &DecryptionKey::Kek { id: ID, key: &kek }, &[]) {
            Ok(opened) => assert_eq!(opened.key.pkcs8(), key.pkcs8(), "octet {at}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > message.len() * 9 / 10, "{refused} of {}", message.len());
    for len in 0..message.len() {
        let opened = open(&message[..len], &DecryptionKey::Kek { id: ID, key: &kek }, &[]);
        assert!(matches!(opened, Err(EnvelopedKeyError::Der(DerError::Truncated))), "{len}");
    }
}

#[test]
fn algorithms_are_those_of_the_client_or_none() {
    let curve_key = SigningKey::from_pkcs8(generated(Curve::P256).pkcs8(), &random()).unwrap();
    let public_key = curve_key.public_key();
    let agreement = KeyRecipient::KeyAgreement { id: ID, public_key };
    let (short, long) = (KeyRecipient::Kek { id: ID, key: &[1; 16] }, KeyRecipient::Kek { id: ID, key: &[1; 32] });
    let of = |content, wrap| Some(EnvelopeAlgorithms { content, wrap });
    let (small, large) = (AesStrength::Aes128, AesStrength::Aes256);
    let aes192 = pki::Oid::from_contents(&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 22]).unwrap();
    let sha1_kdf = pki::Oid::from_contents(&[0x2b, 0x81, 0x05, 0x10, 0x86, 0x48, 0x3f, 0, 2]).unwrap();
    let sha512_kdf = pki::Oid::from_contents(&[0x2b, 0x81, 0x04, 1, 11, 3]).unwrap();
    for (recipient, capabilities, chosen) in [
        (&short, &[][..], of(small, small)),
        (&long, &[], of(large, large)),
        (&agreement, &[], of(small, small)),
        (&short, &[oid::AES256_CBC, oid::AES128_CBC], of(large, small)),
        (&short, &[oid::AES256_CBC, oid::AES128_WRAP], of(large, small)),
        (&short, &[oid::AES256_WRAP], None),
        (&short, &[aes192], None),
        (&short, &[aes192, oid::AES128_CBC], of(small, small)),
        (&agreement, &[oid::ECDH_SHA256_KDF, oid::AES256_WRAP, oid::AES128_CBC], of(small, large)),
        (&agreement, &[sha1_kdf, oid::AES128_CBC], of(small, small)),
        (&agreement, &[sha512_kdf], None),
        (&KeyRecipient::Kek { id: ID, key: &[1; 24] }, &[], None),
    ] {
        let of = EnvelopeAlgorithms::choose(recipient, capabilities, Curve::P256);
        assert_eq!(of, chosen, "{recipient:?} {capabilities:?}");
    }

    // RFC 7030 §4.4: nothing weaker than the key that it protects.
    let strong = SigningKey::from_pkcs8(generated(Curve::P384).pkcs8(), &random()).unwrap();
    let strong = KeyRecipient::KeyAgreement { id: ID, public_key: strong.public_key() };
    for (recipient, capabilities, chosen) in [
        (&short, &[][..], None),
        (&short, &[oid::AES256_CBC], None),
        (&long, &[], of(large, large)),
        (&long, &[oid::AES128_CBC], None),
        (&long, &[oid::AES128_CBC, oid::AES256_CBC], of(large, large)),
        (&agreement, &[oid::AES256_CBC, oid::AES256_WRAP], None),
        (&strong, &[], of(large, large)),
        (&strong, &[oid::AES128_WRAP], None),
    ] {
        let of = EnvelopeAlgorithms::choose(recipient, capabilities, Curve::P384);
        assert_eq!(of, chosen, "{recipient:?} {capabilities:?}");
    }
}

#[test]
fn a_key_is_never_shown() {
    let (message, key) = sealed();
    let root = Authority::root("Root");
    let kek = kek(AesStrength::Aes128);
    let decryption = DecryptionKey::Kek { id: ID, key: &kek };
    let shown = format!(
        "{:?} {:?} {decryption:?} {:?}",
        KeyPackage::prepare(&key, &root.certificate),
        signed(&key, &root),
        KeyRecipient::Kek { id: ID, key: &kek },
    );
    assert_eq!(shown, "KeyPackage { algorithm: EcdsaWithSha256, .. } SignedKey(..) Kek(..) Kek(..)");
    let opened = format!("{:?}", open(&message, &decryption, &[]).unwrap());
    assert!(opened.starts_with("OpenedKey { key: PrivateKey(..)"), "{opened}");
}

proptest! {
    #[test]
    fn any_content_is_survived(which in 0u8..4, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        pki::fuzz::enveloped_key(&[&[which], &bytes[..]].concat());
    }
}

/// A content that is not a key of ours.
#[test]
fn what_is_encrypted_has_to_be_one_key() {
    let openssl = OpenSsl::new();
    let kek = kek(AesStrength::Aes128);
    let key = generated(Curve::P256);
    let two = [key.pkcs8(), key.pkcs8()].concat();
    let mut package = Writer::default();
    package.element(Tag::SEQUENCE, &two);
    openssl.run("genpkey -algorithm ed25519 -outform DER -out ed25519.der");
    let ed25519 = openssl.read("ed25519.der");
    for (content, error) in [
        (package.into_vec(), EnvelopedKeyError::Several),
        (b"text".to_vec(), EnvelopedKeyError::Content),
        (vec![0x30, 0], EnvelopedKeyError::Content),
        (ed25519, EnvelopedKeyError::Key(KeyError::Algorithm(pki::AlgorithmError::UnsupportedKey { kind: "Ed25519" }))),
    ] {
        openssl.write("content", &content);
        let (secret, id) = (hex::encode(&kek), hex::encode(ID));
        openssl.run(&format!(
            "cms -encrypt -binary -aes-128-cbc -secretkey {secret} -secretkeyid {id} -in content -outform DER -out one.der"
        ));
        let opened = open(&openssl.read("one.der"), &DecryptionKey::Kek { id: ID, key: &kek }, &[]);
        assert_eq!(opened.err(), Some(error), "{content:02x?}");
    }
}
