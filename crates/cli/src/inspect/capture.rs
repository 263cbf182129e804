//! Captures and single DTLS datagrams, as `net::capture` reads them. It decrypts nothing: `--trace` of a verb shows the messages inside.

use est::Reason;
use est::reason::Wire;
use net::capture::{CaptureFile, CapturedDatagram, CapturedPacket, DissectedRecord};
use pki::UnixTime;

use super::input::InspectionTerms;
use super::inspection::Inspection;
use super::message;
use crate::describe::rfc3339;

/// Codes that may belong to one alert are named up to this many.
const CODES_NAMED_MAX: usize = 8;

/// A whole capture file; `None` if it is none.
pub(super) fn file(bytes: &[u8], terms: InspectionTerms) -> Option<Inspection> {
    let CaptureFile { format, packets } = CaptureFile::read(bytes)?;
    let total = packets.len();
    let shown = Inspection::new(format!("capture ({format})")).field("packets", total).field("bytes", bytes.len());
    let shown = match total.checked_sub(terms.packets_max) {
        Some(more @ 1..) => shown.noted(format!("{more} more packets are not shown"), None, Some("--limit shows more")),
        _ => shown,
    };
    let lines =
        packets.iter().take(terms.packets_max).enumerate().map(|(index, packet)| line(index, packet, terms.utc));
    Some(shown.parts(lines))
}

/// One packet on one line.
fn line(index: usize, packet: &CapturedPacket<'_>, utc: UnixTime) -> Inspection {
    let at = rfc3339(UnixTime::since_unix_epoch(packet.time));
    let at = format!("{}.{:03}Z", at.trim_end_matches('Z'), packet.time.subsec_millis());
    let shown = Inspection::new(format!("packet {}", index + 1)).field("time", at.as_str());
    let Some(CapturedDatagram { from, to, payload: datagram }) = packet.udp() else {
        let line = format!("{:>4} {at} {} bytes, not UDP", index + 1, packet.bytes.len());
        return shown.field("bytes", packet.bytes.len()).line(line);
    };
    let records = DissectedRecord::all(datagram);
    let said = match &records[..] {
        [] => String::new(),
        records => records.iter().map(|record| record.said.as_str()).collect::<Vec<_>>().join("; "),
    };
    let line = format!("{:>4} {at} {from} > {to} {} bytes: {said}", index + 1, datagram.len());
    let shown = shown
        .field("from", from.to_string())
        .field("to", to.to_string())
        .field("bytes", datagram.len())
        .field("records", records.iter().map(|record| record.said.clone()).collect::<Vec<_>>());
    if records.is_empty() {
        let line = format!("{:>4} {at} {from} > {to} {} bytes, not DTLS", index + 1, datagram.len());
        let shown = shown.line(line);
        return if datagram.first().is_some_and(|first| first >> 6 == 1) {
            shown.part(message::message(datagram, utc))
        } else {
            shown
        };
    }
    alerts(shown.line(line), &records)
}

/// One DTLS datagram.
pub(super) fn datagram(bytes: &[u8]) -> Inspection {
    let records = DissectedRecord::all(bytes);
    let said: Vec<_> = records.iter().map(|record| record.said.clone()).collect();
    let shown = Inspection::new("DTLS datagram").field("records", said).field("bytes", bytes.len());
    let shown = match records.last() {
        Some(last) if last.is_cut => shown.noted(
            "the last record is longer than the datagram: a receiver drops it",
            None,
            Some("the datagram was cut, on the path or while it was copied"),
        ),
        _ => shown,
    };
    alerts(shown, &records)
}

/// Names the reasons that may stand behind each fatal alert.
fn alerts(shown: Inspection, records: &[DissectedRecord]) -> Inspection {
    let fatal = records.iter().filter_map(|record| record.fatal);
    fatal.fold(shown, |shown, alert| {
        let behind: Vec<_> = Reason::ALL
            .iter()
            .filter(|reason| reason.entry().wire == Wire::Alert(alert))
            .take(CODES_NAMED_MAX)
            .map(|reason| reason.code())
            .collect();
        let text = format!(
            "fatal alert {} ends the association; from a server of Muster it means one of: {}",
            alert.name(),
            behind.join(", ")
        );
        shown.noted(text, None, Some("`muster explain CODE`; the server's log has the code and the detail"))
    })
}
