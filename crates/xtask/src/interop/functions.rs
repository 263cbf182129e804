//! The life of a device without software of ours: `coap-client-openssl` asks for every function of EST-coaps, for discovery, and for `ren`; of a server,
//! and over a lossy link of a Registrar in front of a server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::cbor::CborItem;
use super::libcoap::{self, Files};
use super::link::BadLink;
use super::openssl;
use super::registrar::RegistrarPair;
use super::run::StoryRun;
use super::runs::{self, AT_ONCE};
use super::world::{CCM8, InteropDevice, InteropWorld};
use crate::process::Program;

/// Each life has nine sessions, and four certificates of the hundred that the profile allows one device.
const LIVES: usize = 20;
const SESSIONS: usize = 9;
/// application/multipart-core, and what is in it: application/pkcs8, certs-only, application/pkix-cert (RFC 9148 §8.1).
const MULTIPART_CORE: &str = "62";
const PKCS8: u64 = 284;
const CERTS_ONLY: u64 = 281;
const PKIX_CERT: u64 = 287;
/// application/link-format and application/cbor.
const LINK_FORMAT: &str = "40";
const CBOR: &str = "60";
/// The functions, by their resource types.
const FUNCTIONS: &[&str] =
    &["ace.est.crts", "ace.est.att", "ace.est.sen", "ace.est.sren", "ace.est.skg", "ace.est.skc"];
const REN: &str = "ace.muster.ren";

/// Lives through a Registrar, all at once: on the link of this story most of them wait for a timer.
const RELAYED_LIVES: usize = 8;

/// What becomes of a datagram, and whether there is anything but the functions of the RFC.
#[derive(Clone, Copy)]
struct Route {
    timeout: Duration,
    /// How often a step is begun at most: a client gives up when an exchange was lost five times (RFC 7252 §4.2). A user would start it again.
    tries: usize,
    /// A Registrar does not say when to renew.
    tells_renewal: bool,
}

const DIRECT: Route = Route { timeout: libcoap::TIMEOUT, tries: 1, tells_renewal: true };
const RELAYED: Route = Route { timeout: Duration::from_secs(90), tries: 10, tells_renewal: false };

pub(super) fn every_function(world: &InteropWorld) -> Result<String> {
    let (device, server) = world.begin("functions", &[])?;
    let life = |run| Life { world, device: &device, run, route: DIRECT }.play();
    runs::several(LIVES, [server.v4, server.v6], AT_ONCE, life)?;
    // The certificate that was issued has the serialNumber of the IDevID.
    server.saw(&device, CCM8.iana, LIVES * SESSIONS)?;
    server.stop()?;
    Ok(format!("{LIVES} of {LIVES}, {SESSIONS} sessions each"))
}

/// devices ── muster link, a twentieth lost ── Registrar, which makes the keys ── HTTPS ── server with the CA
pub(super) fn every_function_through_a_registrar(world: &InteropWorld) -> Result<String> {
    const STORY: &str = "relayed-functions";
    let pair = RegistrarPair::start(world, STORY, "here", &[])?;
    let link = BadLink::before(&pair.registrar, world, STORY, BadLink::UNSTEADY)?;
    let devices = (0..RELAYED_LIVES).map(|number| world.device(&format!("{STORY}-{number}")));
    let devices = devices.collect::<Result<Vec<InteropDevice>>>()?;
    runs::several(RELAYED_LIVES, link.doors(), RELAYED_LIVES, |run| {
        Life { world, device: &devices[run.number], run, route: RELAYED }.play()
    })?;
    let passed = link.stop()?.was_bad()?;
    // An answer that did not arrive was a certificate too.
    let certificates = pair.the_ledgers_agree(world)?;
    ensure!(certificates >= 4 * RELAYED_LIVES, "{certificates} certificates for {RELAYED_LIVES} lives");
    pair.stop()?;
    Ok(format!("{RELAYED_LIVES} of {RELAYED_LIVES}, {certificates} certificates in both ledgers; {passed}"))
}

struct Life<'a> {
    world: &'a InteropWorld,
    device: &'a InteropDevice,
    run: StoryRun,
    route: Route,
}

impl Life<'_> {
    fn play(&self) -> Result<()> {
        let (certificate, key) = (self.device.certificate(), self.device.key());
        let idevid = [certificate.as_path(), key.as_path()];
        let links = self.persists(|| self.discovers(idevid)).context("discovery")?;
        let link = |kind: &str| target(&links, kind).with_context(|| format!("no link of the type {kind}: {links}"));

        let (crts, att) = (link("ace.est.crts")?, link("ace.est.att")?);
        self.persists(|| self.fetches_ca_certificates(idevid, &crts)).context("/crts")?;
        self.persists(|| self.fetches_attributes(idevid, &att)).context("/att")?;
        let enrol = if self.route.tries > 1 { libcoap::enrol_on_a_lossy_link } else { libcoap::enrol_in };
        let enrolled = enrol(self.world, self.device, self.run).context("/sen")?;
        self.judge(&enrolled.certificate, &enrolled.key).context("/sen")?;
        let operational = [enrolled.certificate.as_path(), enrolled.key.as_path()];
        self.renews(operational, &link("ace.est.sren")?).context("/sren")?;
        match target(&links, REN) {
            Some(ren) if self.route.tells_renewal => self.asks_when_to_renew(operational, &ren).context("/ren")?,
            ren => ensure!(ren.is_none() && !self.route.tells_renewal, "{REN}: {ren:?}"),
        }
        for (kind, format) in [("ace.est.skg", CERTS_ONLY), ("ace.est.skc", PKIX_CERT)] {
            let uri = link(kind)?;
            self.persists(|| self.gets_a_key(&enrolled, idevid, &uri, format)).context(kind)?;
        }
        Ok(())
    }

    /// Does it until it succeeds, as often as the route allows.
    fn persists<T>(&self, step: impl Fn() -> Result<T>) -> Result<T> {
        let mut ended = step();
        for _ in 1..self.route.tries {
            if ended.is_ok() {
                break;
            }
            ended = step();
        }
        ended
    }

    fn fetches_ca_certificates(&self, idevid: [&Path; 2], uri: &str) -> Result<()> {
        let anchors = self.file("anchors.pem");
        openssl::certificates_of(&self.get(idevid, uri, "281")?, &anchors)?;
        openssl::same_certificates(&anchors, &[self.world.pki("ca/root.pem"), self.world.pki("ca/issuing.pem")])
    }

    fn fetches_attributes(&self, idevid: [&Path; 2], uri: &str) -> Result<()> {
        let attributes = self.get(idevid, uri, "285")?;
        let read = Program::line("openssl asn1parse -inform DER -in").arg(attributes).expect_success()?.words();
        ensure!(read.contains("id-ecPublicKey"), "no CsrAttrs with a kind of key: {read}");
        Ok(())
    }

    /// Lists the links with the query of RFC 9148 §4.1, and without one; returns all of them.
    fn discovers(&self, idevid: [&Path; 2]) -> Result<String> {
        let at = |query: &str| format!("coaps://{}/.well-known/core{query}", self.run.server);
        let list = |query: &str| anyhow::Ok(std::fs::read_to_string(self.get(idevid, &at(query), LINK_FORMAT)?)?);
        let (functions, all) = (list("?rt=ace.est*")?, list("")?);
        for links in [&functions, &all] {
            let missing = FUNCTIONS.iter().find(|kind| target(links, kind).is_none());
            ensure!(missing.is_none(), "{missing:?} is not among {links}");
        }
        ensure!(target(&functions, REN).is_none(), "an extension is listed as a function of EST: {functions}");
        Ok(all)
    }

    fn renews(&self, operational: [&Path; 2], uri: &str) -> Result<()> {
        let (key, request, renewed) = (self.file("renewed.key"), self.file("renewed.csr"), self.file("renewed.pem"));
        openssl::request(&key, &self.device.subject(), &request)?;
        self.persists(|| {
            let answer = self.post(operational, uri, "281", &request)?;
            ensure!(openssl::certificates_of(&answer, &renewed)? == 1, "the answer holds other certificates too");
            self.judge(&renewed, &key)
        })
    }

    /// `{0: start, 1: end, 2: seconds until it asks again, 3: 0 for scheduled}`, all in the life of the certificate.
    fn asks_when_to_renew(&self, operational: [&Path; 2], uri: &str) -> Result<()> {
        let answer = std::fs::read(self.get(operational, uri, CBOR)?)?;
        let CborItem::Map(map) = CborItem::read(&answer)? else { anyhow::bail!("no map: {answer:02x?}") };
        let numbers: Option<Vec<(u64, u64)>> =
            map.iter().map(|(key, value)| Some((number(key)?, number(value)?))).collect();
        match numbers.as_deref() {
            Some([(0, start), (1, end), (2, seconds), (3, 0)]) if start < end && *seconds > 0 => Ok(()),
            _ => anyhow::bail!("not a window: {map:?}"),
        }
    }

    /// A key and its certificate, which is in the format of the function.
    fn gets_a_key(&self, enrolled: &Files, idevid: [&Path; 2], uri: &str, format: u64) -> Result<()> {
        let answer = std::fs::read(self.post(idevid, uri, MULTIPART_CORE, &enrolled.request)?)?;
        let CborItem::Array(parts) = CborItem::read(&answer)? else { anyhow::bail!("no array: {answer:02x?}") };
        let [CborItem::Unsigned(PKCS8), CborItem::Bytes(key), CborItem::Unsigned(found), CborItem::Bytes(certificate)] =
            parts.as_slice()
        else {
            anyhow::bail!("not a key and a certificate: {parts:?}")
        };
        ensure!(*found == format, "the certificate is in the Content-Format {found}, not {format}");
        let file = |ending: &str| self.file(&format!("made-{format}.{ending}"));
        let (key_der, key_pem, der, pem) = (file("key.der"), file("key"), file("der"), file("pem"));
        std::fs::write(&key_der, key)?;
        std::fs::write(&der, certificate)?;
        openssl::key_pem(&key_der, &key_pem)?;
        match format {
            PKIX_CERT => openssl::certificate_pem(&der, &pem)?,
            _ => ensure!(openssl::certificates_of(&der, &pem)? == 1, "the answer holds other certificates too"),
        }
        self.judge(&pem, &key_pem)
    }

    fn judge(&self, certificate: &Path, key: &Path) -> Result<()> {
        let (root, issuing) = (self.world.pki("ca/root.pem"), self.world.pki("ca/issuing.pem"));
        openssl::judge(certificate, key, &self.device.certificate(), &root, &issuing)
    }

    fn get(&self, identity: [&Path; 2], uri: &str, accept: &str) -> Result<PathBuf> {
        self.ask(identity, uri, accept, &[])
    }

    fn post(&self, identity: [&Path; 2], uri: &str, accept: &str, request: &Path) -> Result<PathBuf> {
        let request = request.to_str().context("a path in UTF-8")?;
        self.ask(identity, uri, accept, &["-m", "post", "-t", libcoap::PKCS10, "-f", request])
    }

    /// The file with the body of the answer.
    fn ask(&self, identity: [&Path; 2], uri: &str, accept: &str, more: &[&str]) -> Result<PathBuf> {
        let answer = self.file("answer");
        drop(std::fs::remove_file(&answer));
        let client = libcoap::with_identity(self.world, libcoap::OPENSSL, identity, &answer, self.route.timeout);
        let ended = client.args(["-A", accept]).args(more).arg(uri).expect_success()?;
        ensure!(answer.is_file(), "no answer to {uri}: {}", ended.words());
        Ok(answer)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.device.file(&format!("run-{}.{name}", self.run.number))
    }
}

fn number(item: &CborItem) -> Option<u64> {
    if let CborItem::Unsigned(number) = item { Some(*number) } else { None }
}

/// The target of the link with this resource type.
fn target(links: &str, kind: &str) -> Option<String> {
    let wanted = format!(";rt=\"{kind}\"");
    let link = links.split(",<").find(|link| link.contains(&wanted))?;
    Some(link.trim_start_matches('<').split_once('>')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_found_by_its_type() {
        let links = "<coaps://[::1]:1/est/crts>;rt=\"ace.est.crts\";ct=\"281 287\",</est/sen>;rt=\"ace.est.sen\"";
        assert_eq!(target(links, "ace.est.crts").as_deref(), Some("coaps://[::1]:1/est/crts"));
        assert_eq!(target(links, "ace.est.sen").as_deref(), Some("/est/sen"));
        assert_eq!(target(links, "ace.est"), None);
    }
}
