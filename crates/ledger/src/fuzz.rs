//! Bodies of the fuzz targets: properties that must hold for any bytes. A fuzzer calls them in a loop, tests call them with mutated seeds. Each
//! returns normally unless it has found a bug.

use authority::{Device, DeviceId, Function, NewRow, Origin, RelayRequest, RelayedCertificate};
use pki::{AnchorId, Digest};

use crate::line::{RowEvent, RowLine, push_abandoned, push_issued, push_revoked};
use crate::relay_line::{
    RelayEvent, ReplayedCertificate, push_relay_certificate, push_relay_closed, push_relay_request,
};

/// A line of a journal or an export: one that can be read is written in one way, whatever it was, and that is read again.
pub fn line(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    relay_line(text);
    let Ok(read) = RowLine::read(text) else { return };
    if let Some(written) = written(&read.event) {
        let again = RowLine::read(written.trim_end()).unwrap_or_else(|fault| panic!("{fault}: {written}"));
        assert_eq!(self::written(&again.event).as_ref(), Some(&written), "a row has one line");
        assert_eq!(again.event.serial(), read.event.serial());
    }
}

/// Whether these bytes are a line of either kind: a seed that is none tests nothing.
#[must_use]
pub fn is_line(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim_end();
    RowLine::read(text).is_ok() || RelayEvent::read(text).is_ok()
}

/// The same for a line about a relayed request. What its certificate is stands in it, and whose in the line of its request.
fn relay_line(text: &str) {
    let Ok(read) = RelayEvent::read(text) else { return };
    let mut out = String::new();
    match &read {
        RelayEvent::Request(row) => push_relay_request(&mut out, None, row),
        RelayEvent::Certificate(of) => push_relay_certificate(&mut out, None, &certificate(of)),
        RelayEvent::Closed(id) => push_relay_closed(&mut out, None, *id),
    }
    let again = RelayEvent::read(out.trim_end()).unwrap_or_else(|fault| panic!("{fault}: {out}"));
    assert_eq!(format!("{again:?}"), format!("{read:?}"), "a line is read as it was written");
}

/// The certificate in a row of somebody.
fn certificate(of: &ReplayedCertificate) -> RelayedCertificate {
    let request = RelayRequest {
        function: Function::SimpleEnroll,
        profile: "p".into(),
        device: Device { manufacturer: AnchorId::from_bytes([1; 32]), id: DeviceId::new("d").expect("a name") },
        anchor: AnchorId::from_bytes([1; 32]),
        vouched_by: Origin::Manufacturer,
        client: Digest::of(b"client"),
        csr: Digest::of(b"csr"),
        spki: None,
        names: Digest::of(b"names"),
        upstream: "u".into(),
        peer: ([192, 0, 2, 1], 1).into(),
        at: of.at,
        window: of.window,
        new_row: NewRow::Allowed,
        certificates_max: 1,
    };
    RelayedCertificate { record: of.record(&request), revocation: of.revocation.clone() }
}

/// The line of an event; a reservation is written with its row alone.
fn written(event: &RowEvent) -> Option<String> {
    let mut out = String::new();
    match event {
        RowEvent::Issued(intent, record) => push_issued(&mut out, intent, record),
        RowEvent::Abandoned(intent) => push_abandoned(&mut out, intent),
        RowEvent::Revoked(serial, revocation) => push_revoked(&mut out, serial, revocation),
        RowEvent::Reserved(_) => return None,
    }
    Some(out)
}
