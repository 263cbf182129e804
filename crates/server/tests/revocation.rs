//! E36: an operator revokes over the admin socket of a running server, and the client is refused: in the session that it has open, and in a new one.

#![allow(clippy::unwrap_used, reason = "a test: a failure is a panic")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use authority::Ledger;
use est::{Answer, Failure, Operation};
use ledger::SqliteLedger;
use ledger::sqlite::Fresh;
use net::blocking_client::{BlockingClient, ConnectionFault};
use server::admin::protocol::{
    AdminAnswer, AdminFaultCode, AdminRequest, CertificateRow, ListFilter, RevocationOutcome, RowName, RowStateName,
};
use server::admin::{AdminClient, actor_of};
use server::{StartOptions, StartupFault};

use support::{Identity, PATIENCE, Pki, loopbacks};

/// A server with an admin socket, and what is asked over it.
struct Operator {
    client: AdminClient,
}

impl Operator {
    fn of(pki: &Pki) -> Self {
        Self { client: AdminClient::connect(&pki.path("admin.sock")).unwrap() }
    }

    fn ask(&self, request: &AdminRequest) -> Vec<AdminAnswer> {
        self.client.ask(request, &|| false).unwrap_or_else(|fault| panic!("{fault}"))
    }

    fn list(&self, filter: ListFilter) -> Vec<CertificateRow> {
        let answers = self.ask(&AdminRequest::CertificateList { filter, after: None, rows_max: None });
        answers
            .into_iter()
            .filter_map(|answer| if let AdminAnswer::Row(row) = answer { Some(*row) } else { None })
            .collect()
    }

    fn revoke(&self, row: RowName) -> Vec<AdminAnswer> {
        let reason = "keyCompromise".to_owned();
        self.ask(&AdminRequest::CertificateRevoke { rows: vec![row], reason, dry_run: false })
    }
}

fn configuration(pki: &Pki) -> String {
    pki.configuration(&loopbacks()) + "[admin]\nsocket = \"admin.sock\"\n"
}

fn serial(of: &Identity) -> RowName {
    RowName::Serial(hex::encode(of.certificate.serial()))
}

/// What becomes of a request of this client: its certificate, or the code and diagnostic of the refusal.
fn ask(client: &mut BlockingClient, operation: Operation) -> Result<(), (coap::Code, String)> {
    match client.ask(operation, PATIENCE) {
        Ok(Answer::Certificate(_)) => Ok(()),
        Err(ConnectionFault::Failed(Failure::Refused(refused))) => Err((refused.code, format!("{refused:?}"))),
        other => panic!("{other:?}"),
    }
}

fn renewal(of: &Identity) -> Operation {
    Operation::Reenroll { csr: support::csr(of, &support::new_key()) }
}

#[track_caller]
fn assert_revoked(answer: Result<(), (coap::Code, String)>) {
    let (code, said) = answer.unwrap_err();
    assert_eq!(code, coap::Code::FORBIDDEN, "{said}");
    assert!(said.contains("est.client.revoked"), "{said}");
}

#[test]
fn e36_a_client_that_is_revoked_is_refused_in_its_open_session_and_in_a_new_one() {
    a_revoked_client_is_refused(|_| support::memory_ledger());
}

#[test]
fn e36_the_same_with_a_ledger_on_disk() {
    a_revoked_client_is_refused(|pki| {
        let fresh = Fresh { serial_key: [7; 16] };
        Arc::new(SqliteLedger::open(&pki.path("ledger.db"), fresh, support::now()).unwrap())
    });
}

fn a_revoked_client_is_refused(ledger: impl Fn(&Pki) -> Arc<dyn Ledger>) {
    let pki = Pki::new();
    let loaded = server::load(&pki.sources(&configuration(&pki))).unwrap();
    let server = server::start(loaded, ledger(&pki), StartOptions::default()).unwrap();
    let operator = Operator::of(&pki);
    for (number, address) in (1..).zip(server.addresses().to_vec()) {
        let factory = pki.device(number);
        let mut first = pki.connect(&factory, address);
        let [one, other] = [support::enrol(&mut first, &factory), support::enrol(&mut first, &factory)];
        let mut sessions = [&one, &other].map(|identity| pki.connect(identity, address));
        for (session, identity) in sessions.iter_mut().zip([&one, &other]) {
            assert_eq!(ask(session, renewal(identity)), Ok(()));
        }

        let answers = operator.revoke(serial(&one));
        let [AdminAnswer::Revocation(revoked), AdminAnswer::Done { .. }] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(revoked.outcome, RevocationOutcome::Revoked);
        // The user of this process, as the kernel told the server.
        let user = actor_of(rustix::process::geteuid().as_raw());
        let revocation = revoked.row.revocation.as_ref().unwrap();
        assert_eq!((revocation.actor.as_str(), revocation.reason.as_str()), (user.as_str(), "keyCompromise"));

        let [session, of_other] = &mut sessions;
        assert_revoked(ask(session, renewal(&one)));
        assert_revoked(ask(session, Operation::Enroll { csr: support::csr(&one, &support::new_key()) }));
        let mut again = pki.connect(&one, address);
        assert_revoked(ask(&mut again, renewal(&one)));
        assert_eq!(ask(of_other, renewal(&other)), Ok(()), "another certificate of the same device is good");
        assert_eq!(ask(&mut first, Operation::Enroll { csr: support::csr(&factory, &support::new_key()) }), Ok(()));
    }
    let revoked = operator.list(ListFilter { state: Some(RowStateName::Revoked), ..ListFilter::default() });
    assert_eq!(revoked.iter().map(|row| row.device.as_str()).collect::<Vec<_>>(), ["000001", "000002"]);
    let of_one = operator.list(ListFilter { device: Some("000001".into()), ..ListFilter::default() });
    assert_eq!(of_one.len(), 6, "three enrolments and three renewals");
    server.drain();
    server.join().unwrap();
    assert!(!pki.path("admin.sock").exists());
}

#[test]
fn e36_a_certificate_is_revoked_once_and_one_of_the_factory_is_not_ours_to_revoke() {
    let pki = Pki::new();
    let server = pki.start(&configuration(&pki));
    let operator = Operator::of(&pki);
    let factory = pki.device(1);
    let enrolled = support::enrol(&mut pki.connect(&factory, server.addresses()[0]), &factory);
    let by_certificate = |identity: &Identity| {
        use base64::Engine as _;
        RowName::Certificate(base64::engine::general_purpose::STANDARD.encode(identity.certificate.der()))
    };
    let outcome = |answers: Vec<AdminAnswer>| match answers.into_iter().next() {
        Some(AdminAnswer::Revocation(answer)) => (answer.outcome, answer.row.revocation.unwrap()),
        other => panic!("{other:?}"),
    };
    let (first, stands) = outcome(operator.revoke(by_certificate(&enrolled)));
    assert_eq!(first, RevocationOutcome::Revoked);
    assert_eq!(outcome(operator.revoke(serial(&enrolled))), (RevocationOutcome::RevokedBefore, stands));
    for unknown in [by_certificate(&factory), serial(&factory)] {
        let answers = operator.revoke(unknown);
        let [AdminAnswer::Error(fault)] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(fault.code, AdminFaultCode::UnknownRow, "{fault}");
    }
}

#[test]
fn the_socket_is_for_one_server_and_its_user() {
    let pki = Pki::new();
    let text = configuration(&pki);
    let server = pki.start(&text);
    let mode = std::fs::metadata(pki.path("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = || {
        let loaded = server::load(&pki.sources(&text)).unwrap();
        server::start(loaded, support::memory_ledger(), StartOptions::default())
    };
    match second() {
        Err(StartupFault::Admin(fault)) => assert!(fault.to_string().contains("another server listens"), "{fault}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(Operator::of(&pki).list(ListFilter::default()).len(), 0, "the first one still answers");
    drop(server);
    let server = second().unwrap();
    Operator::of(&pki).list(ListFilter::default());
    drop(server);
    assert!(AdminClient::connect(&pki.path("admin.sock")).is_err());
}
