//! E57: each certificate has one line in the log, and a repeated request adds none. A separate test program, because a log belongs to the whole
//! process.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, which waits for the clock")]

mod support;

use support::{Log, PATIENCE, Pki, loopbacks};

#[test]
fn e57_a_repeated_request_has_one_line() {
    let mut log = Log::of_this_process();
    let pki = Pki::new();
    let server = pki.start(&pki.configuration(&loopbacks()));
    let addresses = server.addresses().to_vec();
    let mut serials = Vec::new();
    for (number, address) in (1..).zip(&addresses) {
        let identity = pki.device(number);
        let csr = support::csr(&identity, &support::new_key());
        // The repeats follow at once, within the same second, and later.
        for again in 0..4 {
            if again == 3 {
                std::thread::sleep(std::time::Duration::from_millis(1_100));
            }
            let mut device = pki.connect(&identity, *address);
            let answer = device.ask(est::Operation::Enroll { csr: csr.clone() }, PATIENCE).unwrap();
            let est::Answer::Certificate(der) = answer else { panic!("{answer:?}") };
            serials.push(pki::Certificate::parse(&der).unwrap().digest().to_string());
            device.close();
        }
    }
    serials.dedup();
    assert_eq!(server.issued(), 2);
    server.drain();
    server.join().unwrap();
    let lines = log.lines_with("certificate issued");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for (line, serial) in lines.iter().zip(&serials) {
        assert!(line.contains(serial), "{line}");
    }
}
