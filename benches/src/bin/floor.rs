//! The arithmetic that one full enrolment cannot avoid on the server's side, measured with the primitives that Muster uses.
//!
//! A full enrolment is a DTLS 1.2 handshake with certificates on both sides (P-256, the device's certificate directly under its anchor), GET /crts and
//! POST /sen with one request. If all protocol work were free, these operations would remain: two signatures, three verifications, one ephemeral key
//! agreement, and the symmetric work over the transmitted bytes. Each operation is timed in CPU time of this process, as the minimum over many
//! batches, so that other work on the machine has little effect. The ratios of one run are the result; the microseconds depend on the machine.
//!
//! It also measures the engines: the server's side of whole enrolments replayed in memory, with protocol, CoAP and issuing, but without sockets, threads
//! or kernel. A running server's additional time is spent in those three.
//!
//! Prints one JSON object; `cargo xtask bench floor` runs it and makes a table, `cargo xtask bench e2e` runs it between its own runs.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::error::Error;
use std::hint::black_box;

use aes::Aes128;
use benches::{Case, Recording, Replay};
use ccm::aead::AeadInOut;
use ccm::consts::{U8, U12};
use ccm::{Ccm, KeyInit};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use ring::{aead, digest, hmac, signature};
use rustix::time::{ClockId, clock_gettime};

/// Batches of each operation; the minimum over them counts. The slowest operation makes this 40 ms.
const BATCHES: usize = 40;
const RUNS_PER_BATCH: usize = 10;
/// A request or an answer of an enrolment, between a 20-byte acknowledgement and a full block.
const RECORD_BYTES: usize = 100;
/// Handshake messages that the transcript covers, with an IDevID and a server certificate of about 450 bytes each.
const TRANSCRIPT_BYTES: usize = 1700;
/// The input of a cookie: address and hello.
const COOKIE_INPUT_BYTES: usize = 120;

fn main() -> Result<(), Box<dyn Error>> {
    #[allow(clippy::disallowed_methods, reason = "a measurement of its own: no engine runs here")]
    let random = SystemRandom::new();
    let public_key = PublicKeyTimes::measure(&random)?;
    let symmetric = SymmetricTimes::measure()?;
    let mut engine = serde_json::Map::new();
    for (name, case) in Case::ALL {
        engine.insert(name.to_owned(), engine_time(case)?.into());
    }
    let floor = serde_json::json!({
        "sign_us": public_key.sign,
        "verify_us": public_key.verify,
        "agreement_us": public_key.agreement,
        "handshake_symmetric_us": symmetric.handshake,
        "ccm8_record_us": symmetric.ccm8_record,
        "gcm_record_us": symmetric.gcm_record,
        "engine_us": engine,
    });
    println!("{floor}");
    Ok(())
}

/// The lowest CPU time of a whole enrolment replayed in memory.
fn engine_time(case: Case) -> Result<f64, Box<dyn Error>> {
    let recording = Recording::new(case);
    let mut least = f64::INFINITY;
    for _ in 0..BATCHES {
        let replays: Vec<Replay> = (0..RUNS_PER_BATCH).map(|_| recording.enrolment()).collect();
        let before = cpu_microseconds();
        let played: Vec<Replay> = replays.into_iter().map(Replay::run).collect();
        least = least.min(cpu_microseconds() - before);
        drop(black_box(played));
    }
    Ok(least / f64::from(u32::try_from(RUNS_PER_BATCH)?))
}

/// Microseconds of CPU.
struct PublicKeyTimes {
    sign: f64,
    verify: f64,
    /// Generating an ephemeral key and the key agreement.
    agreement: f64,
}

impl PublicKeyTimes {
    fn measure(random: &SystemRandom) -> Result<Self, Box<dyn Error>> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, random).map_err(|_| "no key")?;
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), random).map_err(|_| "no key")?;
        let message = [7_u8; 300];
        let made = key.sign(random, &message).map_err(|_| "no signature")?;
        let public = signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
        let peer = EphemeralPrivateKey::generate(&ECDH_P256, random).map_err(|_| "no key")?;
        let peer = peer.compute_public_key().map_err(|_| "no key")?;
        let agree = || -> Result<(), Box<dyn Error>> {
            let mine = EphemeralPrivateKey::generate(&ECDH_P256, random).map_err(|_| "no key")?;
            black_box(mine.compute_public_key().map_err(|_| "no key")?);
            agree_ephemeral(mine, &UnparsedPublicKey::new(&ECDH_P256, peer.as_ref()), |secret| {
                black_box(secret[0]);
            })
            .map_err(|_| "no agreement".into())
        };
        Ok(Self {
            sign: least(|| {
                let _signature = black_box(key.sign(random, black_box(&message)).map_err(|_| "no signature")?);
                Ok(())
            })?,
            verify: least(|| {
                public.verify(black_box(&message), made.as_ref()).map_err(|_| "a good signature was refused".into())
            })?,
            agreement: least(agree)?,
        })
    }
}

/// Microseconds of CPU.
struct SymmetricTimes {
    /// Two cookies, the transcript, and the five expansions of the PRF (master secret, key block, both Finished).
    handshake: f64,
    ccm8_record: f64,
    gcm_record: f64,
}

impl SymmetricTimes {
    fn measure() -> Result<Self, Box<dyn Error>> {
        Ok(Self { handshake: handshake_symmetric()?, ccm8_record: ccm8_record()?, gcm_record: gcm_record()? })
    }
}

fn handshake_symmetric() -> Result<f64, Box<dyn Error>> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
    let (cookie, transcript, seed) = ([2; COOKIE_INPUT_BYTES], [3; TRANSCRIPT_BYTES], [4; 77]);
    least(|| {
        for _ in 0..2 {
            black_box(hmac::sign(&key, black_box(&cookie)));
        }
        black_box(digest::digest(&digest::SHA256, black_box(&transcript)));
        // RFC 5246 §5: each 32 bytes of P_SHA256 cost A(i) and one more HMAC. 48 bytes of master secret, 40 of keys, 12 and 12 of Finished.
        for _expansion in 0..6 {
            let a = hmac::sign(&key, black_box(&seed));
            let mut context = hmac::Context::with_key(&key);
            context.update(a.as_ref());
            context.update(&seed);
            black_box(context.sign());
        }
        Ok(())
    })
}

fn ccm8_record() -> Result<f64, Box<dyn Error>> {
    let mut record = [5_u8; RECORD_BYTES];
    let (nonce, associated) = ([6_u8; 12], [8_u8; 13]);
    // The key is expanded for each record: sessions keep raw keys.
    least(|| {
        let cipher = Ccm::<Aes128, U8, U12>::new(black_box(&[9_u8; 16].into()));
        let tag = cipher
            .encrypt_inout_detached(&nonce.into(), &associated, record.as_mut_slice().into())
            .map_err(|_| "not sealed")?;
        black_box(tag);
        Ok(())
    })
}

fn gcm_record() -> Result<f64, Box<dyn Error>> {
    let mut record = [5_u8; RECORD_BYTES];
    least(|| {
        let key = aead::UnboundKey::new(&aead::AES_128_GCM, black_box(&[9; 16])).map_err(|_| "no key")?;
        let nonce = aead::Nonce::assume_unique_for_key([6; 12]);
        let tag = aead::LessSafeKey::new(key).seal_in_place_separate_tag(nonce, aead::Aad::from([8; 13]), &mut record);
        let _tag = black_box(tag.map_err(|_| "not sealed")?);
        Ok(())
    })
}

/// The lowest CPU time of one run, over all batches.
fn least(mut run: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let mut least = f64::INFINITY;
    for _ in 0..BATCHES {
        let before = cpu_microseconds();
        for _ in 0..RUNS_PER_BATCH {
            run()?;
        }
        least = least.min(cpu_microseconds() - before);
    }
    Ok(least / f64::from(u32::try_from(RUNS_PER_BATCH)?))
}

#[allow(clippy::cast_precision_loss, reason = "seconds and nanoseconds of one process are far below 2^52")]
fn cpu_microseconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}
