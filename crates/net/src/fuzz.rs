//! Body of the fuzz target of captures: properties that must hold for any bytes. A fuzzer calls it in a loop, a test calls it with mutated seeds. It
//! returns normally unless it has found a bug.

use crate::capture::{CaptureFile, DissectedRecord};

/// type, version, epoch, sequence_number, length (RFC 6347 §4.1): the fewest bytes of a record.
const RECORD_BYTES_MIN: usize = 13;

/// A capture of anybody, and the datagrams in it; without its magic number, the bytes are one datagram.
pub fn capture(bytes: &[u8]) {
    records(bytes);
    let Some(CaptureFile { packets, .. }) = CaptureFile::read(bytes) else { return };
    let inside = bytes.as_ptr_range();
    for packet in &packets {
        let part = packet.bytes.as_ptr_range();
        assert!(inside.start <= part.start && part.end <= inside.end, "a packet is a part of the file");
        if let Some(datagram) = packet.udp() {
            assert!(datagram.payload.len() + 8 <= packet.bytes.len(), "a datagram is shorter than its packet");
            records(datagram.payload);
        }
    }
    // Each packet has a header of at least 16 bytes in the file.
    assert!(packets.len() <= bytes.len() / 16, "{} packets in {} bytes", packets.len(), bytes.len());
}

fn records(datagram: &[u8]) {
    let records = DissectedRecord::all(datagram);
    assert!(records.len() <= datagram.len() / RECORD_BYTES_MIN, "{} records", records.len());
    let cut = records.iter().position(|record| record.is_cut);
    assert!(cut.is_none_or(|at| at + 1 == records.len()), "only the last record can be cut");
}
