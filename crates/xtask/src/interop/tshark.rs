//! tshark reads a capture of one enrolment: with the secrets inside the capture, and with the key log alone.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::capture::Capture;
use super::libcoap;
use super::world::InteropWorld;
use crate::process::Program;

const BLOCK_BYTES: usize = 64;
// CoAP codes as tshark prints them: class * 32 + detail.
const POST: &str = "2";
const CHANGED_2_04: &str = "68";
const CONTINUE_2_31: &str = "95";

pub(super) fn tshark_reads_it(world: &InteropWorld) -> Result<String> {
    let device = world.device("captured")?;
    let server = world.serve("captured", &[])?;
    let secrets = server.secrets.clone();
    let request = libcoap::enrol(world, &device, server.v4)?;
    let capture = server.stop()?;

    let handshake = capture.fields("dtls.handshake", &["dtls.handshake.ciphersuite", "dtls.handshake.type"])?;
    ensure!(handshake.iter().any(|row| row[0] == "0xc0ae"), "no ServerHello with CCM_8 (0xc0ae): {handshake:?}");
    // Finished (20) is decrypted: tshark has checked its record's tag with the secrets inside the capture.
    let finished = handshake.iter().filter(|row| row[1].split(',').any(|kind| kind == "20")).count();
    ensure!(finished >= 2, "a Finished is not decrypted: {handshake:?}");

    let coap = capture.fields("coap", &["coap.code", "coap.opt.uri_path", "coap.opt.block_number"])?;
    let posts: Vec<&Vec<String>> = coap.iter().filter(|row| row[0] == POST).collect();
    let blocks = std::fs::metadata(request)?.len().div_ceil(BLOCK_BYTES as u64);
    ensure!(posts.len() as u64 >= blocks, "{} POSTs for {blocks} blocks: {coap:?}", posts.len());
    ensure!(posts.iter().all(|row| row[1] == ".well-known,est,sen"), "a POST to another path: {coap:?}");
    // A client that waits too long sends a block again, and gets the same answer.
    let continued = coap.iter().filter(|row| row[0] == CONTINUE_2_31).map(|row| row[2].as_str());
    let continued = continued.collect::<BTreeSet<_>>().len() as u64;
    ensure!(continued == blocks - 1, "answers 2.31 to {continued} blocks of {blocks}: {coap:?}");
    ensure!(coap.iter().any(|row| row[0] == CHANGED_2_04), "no 2.04: {coap:?}");
    the_key_log_alone_serves_too(&capture, &secrets, coap.len())?;
    Ok(format!("{} messages decrypted", coap.len()))
}

/// The key log beside the capture must decrypt it like the secrets inside do: some tools accept only one of the two.
fn the_key_log_alone_serves_too(capture: &Capture, secrets: &Path, messages: usize) -> Result<()> {
    let bare = Capture { file: capture.file.with_extension("bare.pcapng"), ports: capture.ports };
    Program::new("editcap").arg("--discard-all-secrets").arg(&capture.file).arg(&bare.file).expect_success()?;
    ensure!(bare.fields("coap", &["coap.code"])?.is_empty(), "the bare capture can be decrypted without a key");
    let secrets = secrets.to_str().with_context(|| format!("{} is not UTF-8", secrets.display()))?;
    let keyed = bare.reader("coap", &["coap.code"]).arg("-o").arg(format!("tls.keylog_file:{secrets}"));
    let opened = keyed.expect_success()?.stdout.lines().count();
    ensure!(opened == messages, "the key log decrypts {opened} of {messages} messages");
    Ok(())
}
