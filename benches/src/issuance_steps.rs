//! The steps of one issuance, each alone.

use std::sync::Arc;
use std::time::Duration;

use pki::chain::Anchors;
use pki::issue::{NodePrefix, Serial, Template, TemplateSpec, ToBeSigned, validity};
use pki::{Certificate, Csr, Name, Signature, SigningKey, UnixTime, Validity, VerifiedCsr};
use sim::{DerivedRandom, TestCa, VirtualClock};

const SEED: u64 = 9148;
const LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// What the steps need, prepared.
pub struct IssuanceSteps {
    csr: Vec<u8>,
    template: Template,
    subject: Name,
    verified: VerifiedCsr,
    validity: Validity,
    key: SigningKey,
    random: DerivedRandom,
    to_be_signed: ToBeSigned,
    anchors: Anchors,
    device: Arc<Certificate>,
    utc: UnixTime,
}

impl IssuanceSteps {
    /// A request of a device, and the CA of [`TestCa`].
    ///
    /// # Panics
    /// If the PKI of the simulator does not issue.
    #[must_use]
    pub fn new() -> Self {
        let (ca, random, utc) = (TestCa::new(SEED), DerivedRandom::new(SEED, "steps"), VirtualClock::start().now().utc);
        let identity = ca.device(1);
        let subject = identity.certificate.subject().clone();
        let csr = ca.request(&subject).csr;
        let issuer = Arc::clone(ca.ca().issuer());
        let validity = validity(&issuer, utc, LIFETIME, Duration::ZERO).expect("the CA is valid");
        let spec = TemplateSpec {
            client_auth: true,
            basic_constraints: false,
            crl_url: None,
            ca_issuers_url: None,
            ocsp_url: None,
        };
        let template = Template::new(issuer, &spec).expect("a template");
        let verified = Csr::parse(csr.clone()).and_then(Csr::verify).expect("a CSR of ours");
        let to_be_signed = fill(&template, &subject, &verified, validity);
        // Any key of this curve signs as fast as that of the CA.
        let key = random.secure(|random| SigningKey::from_pkcs8(identity.key.pkcs8(), random)).expect("a key");
        let anchors = Anchors::new(vec![Arc::clone(ca.manufacturer())]).expect("an anchor");
        let device = identity.certificate;
        Self { csr, template, subject, verified, validity, key, random, to_be_signed, anchors, device, utc }
    }

    /// The request, DER.
    #[must_use]
    pub fn csr(&self) -> &[u8] {
        &self.csr
    }

    /// Reads the request.
    ///
    /// # Panics
    /// If it is not the one that this made.
    #[must_use]
    pub fn read(&self, csr: Vec<u8>) -> Csr {
        Csr::parse(csr).expect("a CSR of ours")
    }

    /// Checks the proof of possession.
    ///
    /// # Panics
    /// If the request is not signed by its key.
    #[must_use]
    pub fn verify(&self, csr: Csr) -> VerifiedCsr {
        csr.verify().expect("a CSR of ours")
    }

    /// Fills the template.
    #[must_use]
    pub fn fill(&self) -> ToBeSigned {
        fill(&self.template, &self.subject, &self.verified, self.validity)
    }

    /// Signs what is to be signed.
    ///
    /// # Panics
    /// If the key does not sign.
    #[must_use]
    pub fn sign(&self) -> Signature {
        self.random.secure(|random| self.key.sign(random, self.to_be_signed.der())).expect("a key of ours signs")
    }

    /// Assembles the certificate and reads it back.
    ///
    /// # Panics
    /// If it cannot be read back.
    #[must_use]
    pub fn assemble(&self, signature: &Signature) -> Certificate {
        self.to_be_signed.assemble(signature).expect("a certificate")
    }

    /// Verifies the chain of the device.
    ///
    /// # Panics
    /// If the chain is refused.
    pub fn verify_chain(&self) {
        let chain = [self.device.der()];
        let verified = pki::chain::verify_device(&self.anchors, &chain, self.utc);
        assert!(verified.is_ok(), "the device's chain is refused");
    }
}

impl Default for IssuanceSteps {
    fn default() -> Self {
        Self::new()
    }
}

fn fill(template: &Template, subject: &Name, csr: &VerifiedCsr, validity: Validity) -> ToBeSigned {
    let serial = Serial::new(NodePrefix::new(1), [0x33; 16]);
    template.fill(subject, csr.san(), csr.spki(), &serial, validity).expect("the template takes the request")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_make_a_certificate_for_the_key_of_the_request() {
        let steps = IssuanceSteps::new();
        let verified = steps.verify(steps.read(steps.csr().to_vec()));
        let certificate = steps.assemble(&steps.sign());
        assert_eq!(certificate.spki(), verified.spki());
        assert_eq!(steps.fill().der(), certificate.to_be_signed());
        steps.verify_chain();
    }
}
