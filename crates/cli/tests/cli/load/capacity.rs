//! `muster load capacity`: the search for the highest rate that keeps a promise.

use serde_json::Value;

use super::{one_address, report, search};
use crate::common::{Pki, expect_status, stderr};

#[test]
fn a_search_ends_with_a_rate_and_its_curve() {
    let pki = Pki::new();
    let server = one_address(&pki);
    let html = pki.beside("capacity.html");
    let small = ["--slo", "failed < 1", "--from", "10", "--to", "20", "--trial", "500ms", "--json", "-", "--report"];
    let output = search(&pki, &server, &[&small[..], &[html.to_str().unwrap()]].concat());
    expect_status(&output, 0);
    let report = report(&output);
    assert_eq!(
        (&report["capacity"]["per_second"], &report["capacity"]["limited_by"]),
        (&20.0.into(), &"highest".into())
    );
    // A void one is tried again.
    let judged = report["trials"].as_array().unwrap().iter().filter(|row| row["verdict"] != "void").count();
    assert_eq!(judged, 2, "{report}");
    assert!(std::fs::read_to_string(&html).unwrap().contains("Latency by rate"));
    // A promise that no server keeps.
    let never = search(&pki, &server, &["--slo", "p50 < 1us", "--from", "10", "--trial", "100ms", "--seed", "2"]);
    expect_status(&never, 1);
    assert!(stderr(&never).contains("missed") && stderr(&never).contains("p50 < 1us (measured"), "{}", stderr(&never));
}

/// A server that refuses each device: the promise is broken by the number of devices alone, so the limit depends on no clock.
#[test]
fn a_search_bisects_to_an_interval() {
    let pki = Pki::new();
    pki.require_linking();
    let server = one_address(&pki);
    let twice = ["--slo", "failed < 9", "--from", "10", "--trial", "500ms", "--repeat", "2", "--resolution", "20%"];
    let output = search(&pki, &server, &[&twice[..], &["--json", "-"]].concat());
    expect_status(&output, 0);
    let report = report(&output);
    assert_eq!(report["schema"], "muster-load-capacity/1");
    let capacity = &report["capacity"];
    assert_eq!((&capacity["complete"], &capacity["limited_by"]), (&true.into(), &Value::Null), "{report}");
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{report}"));
    let rows = report["trials"].as_array().unwrap();
    let of =
        |verdict| rows.iter().filter(move |row| row["verdict"] == verdict).map(|row| number(&row["asked_per_second"]));
    let (lowest, highest) = (of("held").fold(f64::INFINITY, f64::min), of("missed").fold(0.0, f64::max));
    // Each bisection has arrivals of its own, and how many come in half a second differs: so do the estimates, and the interval says by how much.
    let estimates: Vec<f64> = capacity["estimates"].as_array().unwrap().iter().map(number).collect();
    assert!(estimates.len() == 2 && (estimates[0] - estimates[1]).abs() > 1e-6, "{report}");
    let interval = &capacity["interval"];
    for estimate in estimates {
        assert!(lowest < estimate && estimate < highest, "{report}");
        assert!(number(&interval["low"]) < estimate && estimate < number(&interval["high"]), "{report}");
    }
    assert!(
        stderr(&output).contains("bisection 2 of 2") && stderr(&output).contains("95 % interval"),
        "{}",
        stderr(&output)
    );
    // What did not hold says why, with the figure.
    let broken = rows.iter().filter(|row| row["verdict"] == "missed").map(|row| row["why"][0].as_str().unwrap());
    assert!(
        broken.clone().count() > 2 && broken.into_iter().all(|why| why.starts_with("failed < 9 (measured: ")),
        "{report}"
    );
}
