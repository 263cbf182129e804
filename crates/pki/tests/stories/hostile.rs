//! Hostile bytes: the fuzz bodies over mutated vectors. Nothing may panic, and an accepted value has to keep the promises of its
//! type.

use pki::fuzz;
use proptest::prelude::*;

use crate::common::*;

fn all(bytes: &[u8]) {
    fuzz::der(bytes);
    fuzz::certificate(bytes);
    fuzz::csr(bytes);
    fuzz::cms(bytes);
}

fn seeds() -> Vec<Vec<u8>> {
    let root = Authority::root("Root");
    let mut seeds: Vec<Vec<u8>> =
        [CRTS_RESPONSE, SEN_REQUEST, SEN_RESPONSE, SKG_REQUEST, ATT_RESPONSE].map(vector).into();
    for message in [CRTS_RESPONSE, SEN_RESPONSE] {
        seeds.push(pki::cms::parse_certs_only(&vector(message)).unwrap()[0].to_vec());
    }
    seeds.push(root.certificate.der().to_vec());
    seeds.push(root.idevid("7").der().to_vec());
    seeds
}

#[test]
fn e20_every_prefix_and_every_changed_octet_of_a_vector_is_survived() {
    for seed in seeds() {
        all(&seed);
        for len in 0..seed.len() {
            all(&seed[..len]);
        }
        for at in 0..seed.len() {
            for value in [0x00, 0x01, 0x7f, 0x80, 0x81, 0x84, 0xff, seed[at] ^ 0x20] {
                let mut changed = seed.clone();
                changed[at] = value;
                fuzz::der(&changed);
                fuzz::certificate(&changed);
                fuzz::cms(&changed);
                // A changed request costs a signature check: one value per octet is enough.
                if value == 0xff {
                    fuzz::csr(&changed);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn e20_any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        all(&bytes);
    }

    /// Bytes that resemble DER more often than random ones do.
    #[test]
    fn e20_anything_like_der_is_survived(parts in proptest::collection::vec((prop::sample::select(vec![0x02u8, 0x03, 0x04, 0x05, 0x06, 0x0c, 0x13, 0x17, 0x30, 0x31, 0xa0, 0x80]), 0u8..6, any::<[u8; 5]>()), 0..40)) {
        let mut bytes = Vec::new();
        for (tag, len, contents) in parts {
            bytes.extend([tag, len]);
            bytes.extend(contents.iter().take(usize::from(len)));
        }
        let mut whole = pki::der::Writer::default();
        whole.element(pki::der::Tag::SEQUENCE, &bytes);
        all(&whole.into_vec());
    }

    #[test]
    fn e20_spliced_vectors_are_survived(one in 0usize..6, two in 0usize..6, cut in any::<prop::sample::Index>(), join in any::<prop::sample::Index>()) {
        let vectors = [CRTS_RESPONSE, SEN_REQUEST, SEN_RESPONSE, SKG_REQUEST, SKG_RESPONSE, ATT_RESPONSE].map(vector);
        let (one, two) = (&vectors[one], &vectors[two]);
        all(&[&one[..cut.index(one.len())], &two[join.index(two.len())..]].concat());
    }
}
