//! Tests that need access to private parts: no room outside the shard, a deadline that has passed.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use authority::{Completion, Finding, Inquiry, Intended, Ledger, LedgerFault, LedgerOver, Record, Recorded, Reserve};
use est::{Failure, Operation};
use net::Clock;
use net::blocking_client::ConnectionFault;
use net::udp::{Batch, Socket};

use super::{Drained, LastWords, StartOptions, assemble, start};
use support::{PATIENCE, Pki, csr, loopbacks, new_key};

#[test]
fn without_room_an_enrolment_is_answered_with_later_and_the_rest_is_served() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let mut loaded = crate::load(&pki.sources(&pki.configuration(&[listen]))).unwrap();
        loaded.outside_max = 0;
        let server = start(loaded, support::memory_ledger(), StartOptions::default()).unwrap();
        let identity = pki.device(1);
        let mut device = pki.connect(&identity, server.addresses()[0]);
        let fault = device.ask(Operation::Enroll { csr: csr(&identity, &new_key()) }, PATIENCE).unwrap_err();
        let ConnectionFault::Failed(Failure::Later { refused, max_age }) = fault else { panic!("{fault}") };
        assert_eq!(refused.code, coap::Code::SERVICE_UNAVAILABLE);
        assert!(max_age > 0);
        assert!(device.ask(Operation::CaCertificates, PATIENCE).is_ok());
        assert_eq!(server.issued(), 0);
    }
}

#[test]
fn without_room_the_steps_of_a_handshake_run_on_the_shard() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let text = format!("{}[dtls]\npublic_key_steps = \"pool\"\n", pki.configuration(&[listen]));
        let mut loaded = crate::load(&pki.sources(&text)).unwrap();
        loaded.outside_max = 0;
        let server = start(loaded, support::memory_ledger(), StartOptions::default()).unwrap();
        pki.connect(&pki.device(1), server.addresses()[0]).close();
    }
}

/// A device that a test drives step by step; it can stop in the middle of an upload and continue later.
struct Uploading {
    client: est::Client,
    socket: Socket,
    server: SocketAddr,
    poll: mio::Poll,
    batch: Batch,
}

impl Uploading {
    /// Connects and sends the first of several blocks.
    fn begin(pki: &Pki, server: SocketAddr) -> Self {
        let identity = pki.device(1);
        let setup = pki.setup(&identity, server);
        let asking = est::ClientConfig { block: coap::BlockSize::B64, ..est::ClientConfig::default() };
        let client = est::Client::new(Arc::new(asking), setup.dtls, setup.random, Clock.now());
        let mut socket = Socket::connect(server, None, &net::udp::SocketOptions::default()).unwrap();
        let poll = mio::Poll::new().unwrap();
        socket.register(poll.registry(), mio::Token(0)).unwrap();
        let mut device = Self { client, socket, server, poll, batch: Batch::new() };
        while !matches!(device.next(), est::ClientEvent::Connected { .. }) {}
        device.client.start(Clock.now(), Operation::Enroll { csr: csr(&identity, &new_key()) }).unwrap();
        device.send();
        // The first block is acknowledged: the server has begun to reassemble the body.
        device.receive();
        device
    }

    fn send(&mut self) {
        while let Some(datagram) = self.client.poll_transmit() {
            self.socket.send(self.server, None, datagram);
        }
        self.socket.flush();
    }

    /// Waits for datagrams and passes them to the client. Its timers run: a busy server may drop a hello.
    fn receive(&mut self) {
        let mut events = mio::Events::with_capacity(4);
        let deadline = Instant::now() + PATIENCE;
        while self.socket.receive(&mut self.batch).is_err() {
            assert!(Instant::now() < deadline, "the server says nothing");
            let timer = self.client.poll_timeout().map(|at| at.saturating_duration_since(Clock.now().mono));
            self.poll.poll(&mut events, Some(timer.map_or(PATIENCE, |timer| timer.min(PATIENCE)))).unwrap();
            if events.is_empty() {
                self.client.handle_timeout(Clock.now());
                self.send();
            }
        }
        for received in self.batch.datagrams() {
            self.client.handle_datagram(Clock.now(), received.bytes);
        }
    }

    fn next(&mut self) -> est::ClientEvent {
        loop {
            if let Some(event) = self.client.poll_event() {
                return event;
            }
            self.send();
            self.receive();
        }
    }
}

#[test]
fn an_upload_that_has_begun_is_finished_while_draining() {
    let pki = Pki::new();
    let server = pki.start(&pki.configuration(&loopbacks()));
    let mut devices: Vec<_> = server.addresses().iter().map(|address| Uploading::begin(&pki, *address)).collect();
    server.drain();
    for device in &mut devices {
        assert!(matches!(device.next(), est::ClientEvent::Done(est::Answer::Certificate(_))));
    }
    assert_eq!(server.issued(), 2);
    assert_eq!(server.join().unwrap(), Drained::default());
}

#[test]
fn an_upload_that_goes_no_further_is_closed_when_the_time_to_drain_is_over() {
    let pki = Pki::new();
    let text = pki.configuration(&loopbacks()).replace("drain_timeout = \"20s\"", "drain_timeout = \"200ms\"");
    let server = pki.start(&text);
    let mut devices: Vec<_> = server.addresses().iter().map(|address| Uploading::begin(&pki, *address)).collect();
    server.drain();
    let drained = server.join().unwrap();
    assert_eq!(drained.enrolments_cut_off, 0);
    // The kernel chooses the shard of a peer: it may have given both peers to one shard.
    assert!((1..=devices.len()).contains(&drained.shards_cut_off), "{drained:?}");
    // Each device receives close_notify.
    for device in &mut devices {
        device.receive();
        assert!(matches!(device.client.poll_event(), Some(est::ClientEvent::Failed(Failure::Closed(_)))));
    }
}

/// A shard may end while the others are being started; the last step of the start must not undo that.
#[test]
fn a_server_whose_shard_ended_during_the_start_is_never_ready() {
    let pki = Pki::new();
    let text = pki.configuration(&["127.0.0.1:0"]) + "[metrics]\nlisten = \"127.0.0.1:0\"\n";
    let loaded = crate::load(&pki.sources(&text)).unwrap();
    let server = assemble(loaded, support::memory_ledger(), StartOptions::default()).unwrap();
    assert!(!server.control.is_admitting() && !server.stopper().is_stopping(), "still starting");
    let metrics = server.metrics_address().unwrap();
    assert_eq!(support::http(metrics, "/readyz/issue"), (503, "the server is starting\n".into()));
    drop(LastWords(Arc::clone(&server.control)));
    server.control.admit();
    assert!(!server.control.is_admitting() && server.stopper().is_stopping());
    assert_eq!(server.join().unwrap(), Drained::default());
}

/// A ledger that panics in its first step, while it holds its state.
struct PanicsInside {
    inner: Arc<dyn Ledger>,
    state: Mutex<()>,
}

impl LedgerOver for PanicsInside {
    fn inner(&self) -> &dyn Ledger {
        &*self.inner
    }

    fn intend(&self, _: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        match self.state.lock() {
            Ok(_held) => panic!("half way"),
            Err(_) => done(Err(LedgerFault::Broken)),
        }
    }
}

#[test]
fn e56_a_server_whose_ledger_panics_inside_ends_and_says_why() {
    let pki = Pki::new();
    let loaded = crate::load(&pki.sources(&pki.configuration(&["127.0.0.1:0"]))).unwrap();
    let ledger = Arc::new(PanicsInside { inner: support::memory_ledger(), state: Mutex::default() });
    let server = assemble(loaded, ledger, StartOptions::default()).unwrap();
    server.control.admit();
    assert!(server.control.is_admitting());
    let identity = pki.device(1);
    let mut device = pki.connect(&identity, server.addresses()[0]);
    let fault = device.ask(Operation::Enroll { csr: csr(&identity, &new_key()) }, PATIENCE).unwrap_err();
    assert!(matches!(fault, ConnectionFault::Failed(Failure::Later { .. } | Failure::Closed(_))), "{fault}");
    // The job is answered while the panic unwinds out of the ledger.
    let deadline = Instant::now() + PATIENCE;
    while !server.stopper().is_stopping() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!server.control.is_admitting() && server.stopper().is_stopping());
    let ended = server.join().unwrap_err();
    assert!(ended.to_string().contains("the ledger is broken"), "{ended}");
}

type Call = Box<dyn FnOnce(&dyn Ledger) + Send>;

/// A ledger that completes on a separate thread and records the threads on which it is called.
struct OnItsOwnThread {
    inner: Arc<dyn Ledger>,
    calls: std::sync::mpsc::Sender<Call>,
    asked_on: Arc<Mutex<Vec<(&'static str, String)>>>,
}

impl OnItsOwnThread {
    fn new(inner: Arc<dyn Ledger>, asked_on: Arc<Mutex<Vec<(&'static str, String)>>>) -> Self {
        let (calls, queue) = std::sync::mpsc::channel::<Call>();
        let of_thread = Arc::clone(&inner);
        std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || queue.into_iter().for_each(|call| call(&*of_thread)))
            .unwrap();
        Self { inner, calls, asked_on }
    }

    fn call(&self, what: &'static str, call: impl FnOnce(&dyn Ledger) + Send + 'static) {
        let asking = std::thread::current().name().unwrap_or_default().to_owned();
        self.asked_on.lock().unwrap().push((what, asking));
        self.calls.send(Box::new(call)).unwrap();
    }
}

impl LedgerOver for OnItsOwnThread {
    fn inner(&self) -> &dyn Ledger {
        &*self.inner
    }

    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        self.call("standing", move |inner| inner.standing(of, done));
    }

    fn intend(&self, rows: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        self.call("intend", move |inner| inner.intend(rows, done));
    }

    fn record(&self, rows: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        self.call("record", move |inner| inner.record(rows, done));
    }
}

#[test]
fn what_a_ledger_completes_on_its_own_thread_goes_on_in_the_pool() {
    let pki = Pki::new();
    let loaded = crate::load(&pki.sources(&pki.configuration(&["127.0.0.1:0"]))).unwrap();
    let asked_on = Arc::new(Mutex::default());
    let noted = Arc::clone(&asked_on);
    let ledger = Arc::new(OnItsOwnThread::new(support::memory_ledger(), noted));
    let server = assemble(loaded, ledger, StartOptions::default()).unwrap();
    server.control.admit();
    let identity = pki.device(1);
    let mut device = pki.connect(&identity, server.addresses()[0]);
    device.ask(Operation::Enroll { csr: csr(&identity, &new_key()) }, PATIENCE).unwrap();
    assert_eq!(server.issued(), 1);
    drop(server);
    let asked_on = asked_on.lock().unwrap();
    // The signature happens between the two calls: the thread that asks to record has signed.
    assert!(["intend", "record"].iter().all(|step| asked_on.iter().any(|(what, _)| what == step)), "{asked_on:?}");
    // The shard itself verifies the request of a device that comes alone.
    let thread_of = |step| if step == "standing" { "muster-shard-" } else { "muster-pool-" };
    assert!(asked_on.iter().all(|(step, thread)| thread.starts_with(thread_of(*step))), "{asked_on:?}");
}
