//! Bodies of the fuzz targets: properties that must hold for any bytes. A fuzzer calls them in a loop, tests call them with mutated seeds. Each
//! returns normally unless it has found a bug.

use crate::line::{RowEvent, RowLine, push_abandoned, push_issued, push_revoked};
use crate::relay_line::{RelayEvent, push_relay_closed, push_relay_request};

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

/// Whether it is a line of a certificate or of a relayed request: so that a test can tell that its seeds reach what they are for.
#[must_use]
pub fn is_line(text: &str) -> bool {
    RowLine::read(text).is_ok() || RelayEvent::read(text).is_ok()
}

/// The same for a line about a relayed request. What its certificate is stands in it, and whose in the line of its request.
fn relay_line(text: &str) {
    let Ok(read) = RelayEvent::read(text) else { return };
    let mut out = String::new();
    match &read {
        RelayEvent::Request(row) => push_relay_request(&mut out, row),
        // It is written with its request, which is not here.
        RelayEvent::Certificate(_) => return,
        RelayEvent::Closed(id) => push_relay_closed(&mut out, *id),
    }
    let again = RelayEvent::read(out.trim_end()).unwrap_or_else(|fault| panic!("{fault}: {out}"));
    assert_eq!(format!("{again:?}"), format!("{read:?}"), "a line is read as it was written");
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
