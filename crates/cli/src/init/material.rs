//! The certificates and keys of `muster init`: a PKI that works unchanged and is an example for a user's own.
//!
//! ```text
//! root (its key offline) ──► issuing CA ──► device certificates, by the server
//!        └─────────────────► server certificate, directly under the root: small, and no device certificate can stand in its place
//! manufacturer CA ─────────► IDevID of one device (IEEE 802.1AR)
//! ```

use std::time::Duration;

use pki::issue::{NodePrefix, Serial};
use pki::make::{self, AuthorityCertificateSpec, DeviceCertificateSpec, Parent, ServerCertificateSpec};
use pki::{Certificate, Curve, PrivateKey, ServerName, SigningKey, UnixTime, Validity};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::outcome::{CommandFault, CommandResult};

const DAY: Duration = Duration::from_secs(86_400);
/// A root outlives the devices that trust it: 30 years.
const ROOT_LIFE: Duration = DAY.saturating_mul(30 * 365);
/// An issuing CA is replaced once before its root.
const ISSUING_LIFE: Duration = DAY.saturating_mul(15 * 365);
/// The server's certificate has to come from the offline root: two years between visits to the safe.
const SERVER_LIFE: Duration = DAY.saturating_mul(2 * 365);
/// The clocks of new machines can be wrong by minutes.
const BACKDATE: Duration = Duration::from_secs(300);

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) certificate: Certificate,
    pub(crate) key: PrivateKey,
}

/// Everything that `init` writes.
pub(crate) struct Material {
    pub(crate) root: Pair,
    pub(crate) issuing: Pair,
    pub(crate) server: Pair,
    pub(crate) manufacturer: Pair,
    pub(crate) device: Pair,
}

impl Material {
    /// Makes all certificates and keys, valid from `now`.
    pub(crate) fn make(names: &[ServerName<'_>], now: UnixTime) -> CommandResult<Self> {
        let maker = Maker { random: SystemRandom::new(), now };
        let root = maker.self_signed("Muster root", Some(1), maker.validity(ROOT_LIFE))?;
        let root_key = maker.signing(&root.key)?;
        let root_parent = Parent { certificate: &root.certificate, key: &root_key };
        let issuing = maker.issued(|subject, serial| {
            let spec = AuthorityCertificateSpec {
                common_name: "Muster issuing CA",
                organization: None,
                serial,
                validity: maker.validity(ISSUING_LIFE),
                path_len: Some(0),
            };
            make::authority(&spec, subject.public_key(), root_parent, &maker.random)
        })?;
        let server = maker.issued(|subject, serial| {
            let spec = ServerCertificateSpec { names, serial, validity: maker.validity(SERVER_LIFE) };
            make::server(&spec, subject.public_key(), root_parent, &maker.random)
        })?;
        // IEEE 802.1AR §8.7: an IDevID does not expire.
        let forever = Validity { not_after: pki::NO_WELL_DEFINED_EXPIRATION, ..maker.validity(DAY) };
        let manufacturer = maker.self_signed("Example manufacturer CA", Some(0), forever)?;
        let manufacturer_key = maker.signing(&manufacturer.key)?;
        let device = maker.issued(|subject, serial| {
            let spec = DeviceCertificateSpec {
                common_name: "device-000001",
                serial_number: "000001",
                organization: None,
                serial,
                validity: forever,
            };
            let parent = Parent { certificate: &manufacturer.certificate, key: &manufacturer_key };
            make::idevid(&spec, subject.public_key(), parent, &maker.random)
        })?;
        Ok(Self { root, issuing, server, manufacturer, device })
    }
}

struct Maker {
    random: SystemRandom,
    now: UnixTime,
}

impl Maker {
    fn self_signed(&self, common_name: &str, path_len: Option<u8>, validity: Validity) -> CommandResult<Pair> {
        self.issued(|subject, serial| {
            let spec = AuthorityCertificateSpec { common_name, organization: None, serial, validity, path_len };
            make::root(&spec, subject, &self.random)
        })
    }

    /// Generates a key and the certificate that `make` makes for it.
    fn issued(
        &self,
        make: impl FnOnce(&SigningKey, Serial) -> Result<Certificate, make::MakeError>,
    ) -> CommandResult<Pair> {
        let key = PrivateKey::generate(Curve::P256, &self.random).map_err(|fault| cannot_make(&fault.to_string()))?;
        let signing = self.signing(&key)?;
        let certificate = make(&signing, self.serial()?).map_err(|fault| cannot_make(&fault.to_string()))?;
        Ok(Pair { certificate, key })
    }

    fn signing(&self, key: &PrivateKey) -> CommandResult<SigningKey> {
        SigningKey::from_pkcs8(key.pkcs8(), &self.random).map_err(|fault| cannot_make(&fault.to_string()))
    }

    fn serial(&self) -> CommandResult<Serial> {
        let mut random = [0; 16];
        self.random.fill(&mut random).map_err(|_| cannot_make("the system provides no randomness"))?;
        Ok(Serial::new(NodePrefix::new(0), random))
    }

    fn validity(&self, life: Duration) -> Validity {
        let now = self.now.as_secs();
        let at = |seconds: u64| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        Validity {
            not_before: at(now.saturating_sub(BACKDATE.as_secs())),
            not_after: at(now.saturating_add(life.as_secs())),
        }
    }
}

fn cannot_make(why: &str) -> CommandFault {
    CommandFault::failed(format!("cannot create the certificates: {why}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pki::chain;

    use super::*;

    fn now() -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000))
    }

    #[test]
    fn the_server_stands_under_the_root_and_is_compact() {
        let names = [ServerName::try_from("localhost").unwrap(), ServerName::try_from("::1").unwrap()];
        let material = Material::make(&names, now()).unwrap();
        let anchors = chain::Anchors::new(vec![Arc::new(material.root.certificate.clone())]).unwrap();
        for name in &names {
            chain::verify_server(&anchors, &[material.server.certificate.der()], now(), name).unwrap();
        }
        let size = material.server.certificate.der().len();
        assert!(size <= 480, "{size} bytes: device stacks reassemble into small buffers");
    }

    #[test]
    fn the_device_stands_under_its_manufacturer_for_ever() {
        let names = [ServerName::try_from("localhost").unwrap()];
        let material = Material::make(&names, now()).unwrap();
        let anchors = chain::Anchors::new(vec![Arc::new(material.manufacturer.certificate.clone())]).unwrap();
        let in_300_years = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000 + 300 * 365 * 86_400));
        chain::verify_device(&anchors, &[material.device.certificate.der()], in_300_years).unwrap();
        assert!(material.issuing.certificate.issuer().matches(material.root.certificate.subject()));
    }
}
