//! What `muster serve --pcap` writes, read by Wireshark's engine: an independent view of our records and of our CoAP.

use super::libcoap;
use super::world::World;
use crate::process::Program;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::Duration;

const BLOCK_BYTES: usize = 64;
// CoAP codes as tshark prints them: class * 32 + detail.
const POST: &str = "2";
const CHANGED_2_04: &str = "68";
const CONTINUE_2_31: &str = "95";

pub(super) fn tshark_reads_it(world: &World) -> Result<()> {
    let device = world.device("captured")?;
    let (capture, secrets) = (device.file("capture.pcapng"), device.file("secrets.txt"));
    let flags = ["--insecure-keylog", "--pcap", text(&capture)?, "--keylog", text(&secrets)?];
    let (server, port) = world.another_server("captured.log", &flags)?;
    libcoap::enrol(world, "coap-client-openssl", &device, port)?;
    let (status, words) = server.stop()?;
    ensure!(status.success(), "muster serve --pcap ended with {status}:\n{words}");

    let handshake = Reader { capture: &capture, port }
        .fields("dtls.handshake", &["dtls.handshake.ciphersuite", "dtls.handshake.type"])?;
    ensure!(handshake.iter().any(|row| row[0] == "0xc0ae"), "no ServerHello with CCM_8 (0xc0ae): {handshake:?}");
    // Finished (20) in the clear: tshark has checked its record's tag with the secrets inside the capture.
    let finished = handshake.iter().filter(|row| row[1].split(',').any(|kind| kind == "20")).count();
    ensure!(finished >= 2, "not both Finished decrypted: {handshake:?}");

    let coap = Reader { capture: &capture, port }
        .fields("coap", &["coap.code", "coap.opt.uri_path", "coap.opt.block_number"])?;
    let posts: Vec<&Vec<String>> = coap.iter().filter(|row| row[0] == POST).collect();
    let blocks = std::fs::metadata(device.file("device.csr"))?.len().div_ceil(BLOCK_BYTES as u64);
    ensure!(posts.len() as u64 >= blocks, "{} POSTs for {blocks} blocks: {coap:?}", posts.len());
    ensure!(posts.iter().all(|row| row[1] == ".well-known,est,sen"), "a POST to another path: {coap:?}");
    let answers = |code: &str| coap.iter().filter(|row| row[0] == code).count() as u64;
    ensure!(
        answers(CONTINUE_2_31) == blocks - 1,
        "{} answers 2.31 for {blocks} blocks: {coap:?}",
        answers(CONTINUE_2_31)
    );
    ensure!(answers(CHANGED_2_04) >= 1, "no 2.04: {coap:?}");
    the_key_log_alone_serves_too(&capture, &secrets, port, coap.len())
}

/// The key log beside the capture must open it as the secrets inside do: some readers take only one of the two.
fn the_key_log_alone_serves_too(capture: &Path, secrets: &Path, port: u16, messages: usize) -> Result<()> {
    let bare = capture.with_extension("bare.pcapng");
    Program::new("editcap").arg("--discard-all-secrets").arg(capture).arg(&bare).expect_success()?;
    let reader = Reader { capture: &bare, port };
    ensure!(reader.fields("coap", &["coap.code"])?.is_empty(), "the bare capture opens without a key");
    let keyed = reader
        .program("coap", &["coap.code"])
        .arg("-o")
        .arg(format!("tls.keylog_file:{}", text(secrets)?))
        .expect_success()?;
    ensure!(
        keyed.stdout.lines().count() == messages,
        "the key log opens {} of {messages} messages",
        keyed.stdout.lines().count()
    );
    Ok(())
}

struct Reader<'a> {
    capture: &'a Path,
    port: u16,
}

impl Reader<'_> {
    fn program(&self, filter: &str, fields: &[&str]) -> Program {
        let tshark = Program::new("tshark").arg("-r").arg(self.capture).args([
            "-T",
            "fields",
            "-E",
            "separator=|",
            "-Y",
            filter,
        ]);
        // CoAP is expected on 5684 only.
        let tshark = tshark.arg("-d").arg(format!("dtls.port=={},coap", self.port)).timeout(Duration::from_secs(60));
        fields.iter().fold(tshark, |tshark, field| tshark.args(["-e", field]))
    }

    fn fields(&self, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
        let ended = self.program(filter, fields).expect_success()?;
        Ok(ended.stdout.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
