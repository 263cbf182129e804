//! Passes every input of libFuzzer to the target that `MUSTER_FUZZ_TARGET` names.
//!
//! It contains no checks. Those are in the bodies of the targets, which are functions of the libraries, so that `cargo xtask check`
//! can run them over the committed seeds without this program. `cargo xtask fuzz` builds and drives it; README.md describes how.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static BODY: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("MUSTER_FUZZ_TARGET").unwrap_or_default();
    if name == "ledger_line" {
        return ledger::fuzz::line;
    }
    if name == "registrar_http_answer" {
        return registrar::fuzz::http_answer;
    }
    if name == "net_capture" {
        return net::fuzz::capture;
    }
    if name == "registrar_front" {
        return registrar::fuzz::front_request;
    }
    if name == "load_scenario" {
        return loadgen::fuzz::scenario;
    }
    if name == "load_identities" {
        return loadgen::fuzz::identities;
    }
    if name == "load_report" {
        return loadgen::fuzz::report;
    }
    let target = sim::fuzz::target(&name);
    target.unwrap_or_else(|| panic!("MUSTER_FUZZ_TARGET has to be the name of a folder of fuzz/seeds, not `{name}`")).body
});

fuzz_target!(|data: &[u8]| BODY(data));
