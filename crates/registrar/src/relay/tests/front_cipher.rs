//! A device that comes over HTTPS instead: the cipher of its connection decides as that of a session of DTLS does.

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::*;
use crate::front::{Front, FrontEnrolment, FrontSession, HeadVerdict};

/// The front of the scene's profile, and the head of a request for a key.
fn front(scene: &Scene) -> (Arc<Front>, FrontEnrolment) {
    let random = SystemRandom::new();
    let key = with_random(|random| PrivateKey::generate(Curve::P256, random).unwrap());
    let pair = with_random(|random| SigningKey::from_pkcs8(key.pkcs8(), random).unwrap());
    let certificate = scene.issuing.device(&pair, years());
    let identity = est::identity(vec![certificate.der().to_vec()], key.pkcs8(), &random).unwrap();
    let spec = est::ServerSpec::new(identity, dtls::CookieKeys::from_random(&random), vec![Arc::clone(&scene.profile)]);
    let front = Arc::new(Front::new(Arc::new(est::ServerConfig::new(spec).unwrap()), Vec::new()));
    let client = front.authenticate(&[scene.client.der()], at(NOW)).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/pkcs10"));
    let path = "/.well-known/est/serverkeygen";
    let Ok(HeadVerdict::Enrolment(enrolment)) = front.judge(&Method::POST, path, &headers, Some(&client)) else {
        panic!("the head is in order")
    };
    (front, enrolment)
}

#[test]
fn a_key_leaves_the_https_front_only_under_a_cipher_that_is_as_strong() {
    let p384 = KeyTypes { p256: false, p384: true };
    let scene = Scene::with(|spec| (spec.server_keys, spec.key_types) = (RelayedKeys::Here, p384));
    let (front, enrolment) = front(&scene);
    let body = encode_body(&scene.csr(&scene.key, None));
    for (cipher_bits, sent) in [(128, 0), (256, 1)] {
        let session = FrontSession { peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), cipher_bits };
        scene.submit(NOW, front.job(&enrolment, body.as_bytes(), session).unwrap());
        assert_eq!(scene.sent().len(), sent);
        if sent == 0 {
            assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::KeyCipher(Curve::P384))));
        }
    }
}
