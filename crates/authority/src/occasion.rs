//! The time and the context of a decision.

use pki::Certificate;
use pki::issue::{NodePrefix, Serial};
use rustls_pki_types::UnixTime;

use crate::ca_profile::CaProfile;
use crate::key_protection::{KeyDeliveryTerms, KeyPackageSigner};
use crate::ledger::Ledger;
use crate::random::Random;
use crate::standing::GapTreatment;

/// The time and the context of a decision.
#[derive(Clone, Copy)]
pub(crate) struct Occasion<'l> {
    pub(crate) utc: UnixTime,
    pub(crate) node: NodePrefix,
    /// See [`crate::Ledger::complete_since`].
    pub(crate) ledger_complete_since: Option<UnixTime>,
    /// The ledger, which is asked about lost rows: see [`crate::Ledger::gap`].
    pub(crate) ledger: &'l dyn Ledger,
    /// The source of the keys that the server makes.
    pub(crate) random: &'l dyn Random,
    /// Who signs them, if the device wants its key in an envelope.
    pub(crate) package_signer: Option<&'l KeyPackageSigner>,
}

impl Occasion<'_> {
    /// The circumstances of a request for a key: the certificate of its device, the rules of its profile and the strength of its session's cipher.
    pub(crate) fn key_delivery<'a>(
        &'a self,
        client: Option<&'a Certificate>,
        rules: &'a CaProfile,
        cipher_bits: u16,
    ) -> KeyDeliveryTerms<'a> {
        KeyDeliveryTerms { client, rules, cipher_bits, random: self.random, signer: self.package_signer }
    }

    /// What becomes of a certificate whose row this node lost, now.
    pub(crate) fn lost(&self, client: &Certificate) -> Option<GapTreatment> {
        let serial = Serial::from_bytes(client.serial()).ok().filter(|serial| serial.node() == self.node)?;
        let gap = self.ledger.gap(&serial, client.validity().not_before)?;
        (self.utc < gap.until).then_some(gap.treatment)
    }

    /// Whether a certificate that the ledger does not know cannot have been forgotten: it says that this node made it when the ledger already
    /// held everything that this node had made. notBefore is [`crate::BACKDATE`] before the moment of issuance, or at the beginning of the
    /// CA's validity, and never after that moment. So a certificate that an earlier process issued with a clock ahead by less than that does
    /// not count as a forgery.
    pub(crate) fn was_never_issued(&self, client: &Certificate) -> bool {
        let of_this_node = Serial::from_bytes(client.serial()).is_ok_and(|serial| serial.node() == self.node);
        of_this_node && self.ledger_complete_since.is_some_and(|since| client.validity().not_before > since)
    }
}
