//! What the plaintext of a DTLS datagram says: record headers, the handshake messages that are not encrypted, plaintext alerts. It decrypts nothing.

use dtls::{AlertDescription, HandshakeType};

/// type, version, epoch, sequence_number, length (RFC 6347 §4.1).
const RECORD_HEADER_BYTES: usize = 13;

/// type, length, message_seq, fragment_offset, fragment_length (RFC 6347 §4.2.2).
const HANDSHAKE_HEADER_BYTES: usize = 12;

/// One record of a datagram, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DissectedRecord {
    /// What it is, with epoch, sequence number and length.
    pub said: String,
    /// The fatal alert that it is, if it is one in plaintext.
    pub fatal: Option<AlertDescription>,
    /// Its length leads past the end of the datagram: a receiver drops it.
    pub is_cut: bool,
}

impl DissectedRecord {
    /// The records of a datagram; empty if it does not begin with one.
    #[must_use]
    pub fn all(datagram: &[u8]) -> Vec<Self> {
        let mut records = Vec::new();
        let mut rest = datagram;
        while let Some((header, after)) = rest.split_first_chunk::<RECORD_HEADER_BYTES>() {
            let (content_type, version) = (header[0], u16::from_be_bytes([header[1], header[2]]));
            if !(20..=25).contains(&content_type) || header[1] != 0xfe {
                break;
            }
            let epoch = u16::from_be_bytes([header[3], header[4]]);
            let sequence = header[5..11].iter().fold(0_u64, |number, octet| number << 8 | u64::from(*octet));
            let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
            let is_cut = length > after.len();
            let (body, next) = after.split_at(length.min(after.len()));
            let (what, fatal) = contents(content_type, epoch, body);
            let version = match version {
                0xfeff => " (DTLS 1.0 in the header)",
                0xfefd => "",
                _ => " (unknown version)",
            };
            let cut = if is_cut { ", cut" } else { "" };
            let said = format!("{what} [epoch {epoch}, sequence_number {sequence}, {length} bytes{cut}]{version}");
            records.push(Self { said, fatal, is_cut });
            rest = next;
        }
        records
    }
}

fn contents(content_type: u8, epoch: u16, body: &[u8]) -> (String, Option<AlertDescription>) {
    match (content_type, epoch) {
        (20, _) => ("ChangeCipherSpec".to_owned(), None),
        (21, 0) => match body {
            [level, description] => {
                let alert = AlertDescription(*description);
                let (level, fatal) = match level {
                    1 => ("warning", None),
                    2 => ("fatal", Some(alert)),
                    _ => ("of unknown level", None),
                };
                (format!("Alert {level} {} ({description})", alert.name()), fatal)
            }
            _ => ("Alert, malformed".to_owned(), None),
        },
        (22, 0) => (handshake(body), None),
        (21, _) => ("Alert, encrypted".to_owned(), None),
        (22, _) => ("Handshake, encrypted".to_owned(), None),
        (23, _) => ("ApplicationData, encrypted".to_owned(), None),
        (25, _) => ("record with connection ID (RFC 9146), which Muster does not negotiate".to_owned(), None),
        _ => (format!("record of type {content_type}"), None),
    }
}

/// The handshake messages of a plaintext record.
fn handshake(body: &[u8]) -> String {
    let u24 = |octets: &[u8]| octets.iter().fold(0_usize, |number, octet| number << 8 | usize::from(*octet));
    let mut names = Vec::new();
    let mut rest = body;
    while let Some((header, after)) = rest.split_first_chunk::<HANDSHAKE_HEADER_BYTES>() {
        let (kind, length) = (HandshakeType(header[0]), u24(&header[1..4]));
        let (offset, fragment) = (u24(&header[6..9]), u24(&header[9..12]));
        let name = match kind.name() {
            "unknown" => format!("handshake message {}", header[0]),
            name => name.to_owned(),
        };
        names.push(if fragment == length {
            name
        } else {
            format!("{name} (bytes {offset} to {} of {length})", offset + fragment)
        });
        rest = after.get(fragment..).unwrap_or_default();
    }
    if names.is_empty() { "Handshake, malformed".to_owned() } else { names.join(", ") }
}
