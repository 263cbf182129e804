//! Rows with certificates that a CA has signed, for tests that verify every row.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use authority::{
    Actor, Begun, Completion, Device, DeviceId, FactoryKeys, Function, Intended, Intent, Issued, Ledger, LedgerFault,
    Locator, NewRow, Origin, ProfileVersion, Record, Recorded, RelayId, RelayLedger, RelayRecord, RelayRequest,
    Relayed, RepeatWindow, Reserve, Revocation, Revoke, Revoked, RingSigner, Signer, ToSign,
};
use pki::issue::{NodePrefix, RevocationReason, Serial, Template, TemplateSpec};
use pki::{AnchorId, Certificate, Digest, GeneralNames, NameBuilder, UnixTime, Validity};
use sim::{DerivedRandom, TestCa};

/// When the first row is asked for.
pub(crate) const START: u64 = 1_800_000_000;

/// A CA, and what it issues.
pub(crate) struct Maker {
    ca: TestCa,
    template: Template,
    signer: RingSigner,
}

impl Maker {
    pub(crate) fn new() -> Self {
        let ca = TestCa::new(7);
        let template = Template::new(Arc::clone(ca.ca().issuer()), &TemplateSpec::default()).unwrap();
        let signer = ca.signer(Arc::new(DerivedRandom::new(7, "signer")));
        Self { ca, template, signer }
    }

    /// What checks the signatures.
    pub(crate) fn issuers(&self) -> Vec<Arc<Certificate>> {
        vec![Arc::clone(self.ca.ca().certificate())]
    }

    /// The request and the certificate of the device with this number, at this time, under this serial number. Each device has a key of its own.
    pub(crate) fn row(&self, number: u64, serial: Serial, at: u64) -> (Reserve, Record) {
        let digest = |what: &str| Digest::of(format!("{what} {number}").as_bytes());
        let id = DeviceId::new(&format!("device-{number}")).unwrap();
        let manufacturer = AnchorId::from_bytes([1; 32]);
        let subject = NameBuilder::new().push(pki::oid::COMMON_NAME, &format!("device-{number}")).unwrap();
        let subject = subject.finish().unwrap();
        let request = self.ca.request(&subject);
        let validity = Validity { not_before: utc(at), not_after: utc(at + 900_000) };
        let filled = self.template.fill(&subject, &GeneralNames::empty(), &request.spki, &serial, validity).unwrap();
        let intent = Intent {
            serial,
            ca: self.ca.ca().certificate().anchor_id(),
            to_be_signed: filled.digest(),
            function: Function::SimpleEnroll,
            profile: "meters".into(),
            profile_version: ProfileVersion::from_bytes([3; 8]),
            device: Device { manufacturer, id },
            anchor: manufacturer,
            vouched_by: Origin::Manufacturer,
            client: digest("client"),
            factory_key: None,
            csr: digest("csr"),
            spki: Digest::of(&request.spki),
            names: Digest::of(b"no names"),
            subject,
            validity,
            peer: ([192, 0, 2, 1], 40_000).into(),
            at: utc(at),
        };
        let (sender, signed) = mpsc::channel();
        let to_sign = ToSign { ca: self.ca.ca().certificate().digest(), to_be_signed: Arc::new(filled.clone()) };
        self.signer.sign(vec![to_sign], Box::new(move |answers| sender.send(answers).unwrap()));
        let signature = signed.recv().unwrap().remove(0).unwrap();
        let certificate = filled.assemble(&signature).unwrap();
        let issued = Issued {
            device: intent.device.clone(),
            profile: Arc::clone(&intent.profile),
            digest: certificate.digest(),
            certificate: certificate.der().to_vec(),
            validity,
            at: utc(at),
        };
        let window = RepeatWindow::new(utc(at), Duration::from_secs(86_400), &validity);
        let reserve =
            Reserve { intent, factory_keys: FactoryKeys::Refused, new_row: NewRow::Allowed, certificates_max: 8 };
        (reserve, Record { serial, issued: Arc::new(issued), window })
    }

    /// Issues the certificate of this device through the ledger, and says its serial number.
    pub(crate) fn issue(&self, ledger: &dyn Ledger, number: u64, at: u64) -> Serial {
        self.issue_row(ledger, number, at).1.serial
    }

    /// The same, and what was asked and recorded.
    pub(crate) fn issue_row(&self, ledger: &dyn Ledger, number: u64, at: u64) -> (Reserve, Record) {
        let serial = ledger.draw(NodePrefix::new(0), [5; 16]);
        let (reserve, record) = self.row(number, serial, at);
        let answers = ask(|done| ledger.intend(vec![reserve.clone()], done));
        assert!(matches!(answers[..], [Intended::Reserved]), "{answers:?}");
        assert_eq!(ask(|done| ledger.record(vec![record.clone()], done)), [Recorded::Durable]);
        (reserve, record)
    }
}

/// A request that this row's device could have relayed to an upstream.
pub(crate) fn relay_request(of: &Intent) -> RelayRequest {
    RelayRequest {
        function: of.function,
        profile: Arc::clone(&of.profile),
        device: of.device.clone(),
        anchor: of.anchor,
        vouched_by: of.vouched_by,
        client: of.client,
        csr: of.csr,
        spki: Some(of.spki),
        names: of.names,
        upstream: "upstream".into(),
        peer: of.peer,
        at: of.at,
        window: RepeatWindow { until: utc(of.at.as_secs() + 1_000) },
        new_row: NewRow::Allowed,
        certificates_max: 8,
    }
}

/// The certificate of this row as an upstream's.
pub(crate) fn relay_record(id: RelayId, of: &Record) -> RelayRecord {
    let certificate = Certificate::parse(&of.issued.certificate).unwrap();
    let (serial, spki) = (certificate.serial().into(), Digest::of(certificate.spki()));
    RelayRecord { id, issued: Arc::clone(&of.issued), serial, spki, window: of.window }
}

/// Relays a request, and records its certificate if it has one.
pub(crate) fn relay(ledger: &dyn RelayLedger, of: &Intent, record: Option<&Record>) -> RelayId {
    let begun = ask(|done| ledger.begin(vec![relay_request(of)], done));
    let [Begun::New(id)] = begun[..] else { panic!("{begun:?}") };
    if let Some(record) = record {
        assert_eq!(ask(|done| ledger.record(vec![relay_record(id, record)], done)), [Relayed::First]);
    }
    id
}

/// Marks a relayed certificate as revoked.
pub(crate) fn mark(ledger: &dyn RelayLedger, certificate: Digest, at: u64) {
    let marks = vec![(certificate, revocation(at))];
    assert_eq!(ask(|done| ledger.mark_revoked(marks, done)), [Revoked::Now]);
}

pub(crate) fn revocation(at: u64) -> Revocation {
    Revocation { reason: RevocationReason::KeyCompromise, at: utc(at), actor: Actor::new("alice").unwrap() }
}

/// Revokes the row of this serial number.
pub(crate) fn revoke(ledger: &dyn Ledger, serial: Serial, at: u64) {
    let revoke = Revoke { row: Locator::Serial(serial), revocation: revocation(at) };
    assert_eq!(ask(|done| ledger.revoke(vec![revoke], done)), [Revoked::Now]);
}

/// The same for this reason.
pub(crate) fn revoke_for(ledger: &dyn Ledger, serial: Serial, reason: RevocationReason, at: u64) {
    let revocation = Revocation { reason, ..revocation(at) };
    let revoke = Revoke { row: Locator::Serial(serial), revocation };
    assert_eq!(ask(|done| ledger.revoke(vec![revoke], done)), [Revoked::Now]);
}

/// Waits for the answer of a ledger that can read and write.
#[track_caller]
pub(crate) fn ask<T: Send + 'static>(question: impl FnOnce(Completion<Result<T, LedgerFault>>)) -> T {
    let (sender, answer) = mpsc::channel();
    question(Box::new(move |answer| sender.send(answer).unwrap()));
    answer.recv().unwrap().unwrap()
}

pub(crate) fn utc(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}
