//! `--trace`: renders the engine's event stream as text for a person, as hex for a diff, as JSON for a program.
//!
//! One line per message, decrypted, with its size; application data is shown as the CoAP message in it. The last lines
//! are the totals, in datagrams and in bytes, as UDP payload and with IP and UDP headers.
//!
//! ```text
//!     0.000 > 192.0.2.7:5684  ClientHello 97 B
//!     0.001 < 192.0.2.7:5684  HelloVerifyRequest 35 B
//!     0.134 > 192.0.2.7:5684  CON POST mid=4d2 token=01 Uri-Path=est Uri-Path=sen Block1=0/more/64 payload 64 B
//!     0.135 < 192.0.2.7:5684  ACK 2.31 mid=4d2 token=01 Block1=0/more/64
//! ```
//!
//! The formatter is pure: it receives events with their times and writes to any [`fmt::Write`]. Secrets are never
//! written to a line; `net` writes key logs.

mod json;
mod totals;

use std::fmt::{self, Write as _};
use std::time::Instant;

use coap::{Block, Code, ContentFormat, Message, Method, Number};
use dtls::{AlertDescription, AlertLevel, Direction, Now, Path, TraceEvent};

pub use totals::{IPV4_UDP_HEADER_BYTES, IPV6_UDP_HEADER_BYTES, Totals, Traffic};

/// Bytes of an option's value that a line shows; a Uri-Path of 255 bytes would take several lines.
const VALUE_SHOWN_BYTES_MAX: usize = 40;

/// Options of one message that a line shows.
const OPTIONS_SHOWN_MAX: usize = 32;

/// How events are rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// One line per message.
    #[default]
    Text,
    /// The text, with the wire bytes under each datagram and the bytes of each plaintext under it, but for private keys.
    Hex,
    /// One JSON object per message.
    Json,
}

/// Renders the events of one run.
#[derive(Debug, Clone)]
pub struct Formatter {
    style: Style,
    start: Option<Instant>,
    totals: Totals,
    /// Whether a private key has been among the payloads: later blocks that do not name their format may belong to it.
    key_seen: bool,
}

impl Formatter {
    /// A formatter whose clock starts with the first event.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self { style, start: None, totals: Totals::default(), key_seen: false }
    }

    /// Writes `event`: whole lines or nothing.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn event(
        &mut self,
        at: Now,
        path: Option<Path>,
        event: &TraceEvent<'_>,
        out: &mut dyn fmt::Write,
    ) -> fmt::Result {
        let start = *self.start.get_or_insert(at.mono);
        self.totals.count(event);
        let line = Line { since: at.mono.saturating_duration_since(start), path, event };
        match self.style {
            Style::Json => json::write(&line, out),
            Style::Text => line.text(out),
            Style::Hex => {
                line.text(out)?;
                line.hex(&mut self.key_seen, out)
            }
        }
    }

    /// The totals so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Writes the totals: the last lines of a trace.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        match self.style {
            Style::Json => json::write_totals(&self.totals, out),
            Style::Text | Style::Hex => write!(out, "{}", self.totals),
        }
    }
}

/// One event with the data that every style shows.
struct Line<'l, 'e> {
    since: std::time::Duration,
    path: Option<Path>,
    event: &'l TraceEvent<'e>,
}

impl Line<'_, '_> {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        match self.event {
            // Datagrams are only counted; the messages in them have their own lines.
            TraceEvent::Datagram { .. } | TraceEvent::Secrets { .. } => Ok(()),
            TraceEvent::Handshake { direction, message, length, fragments } => {
                self.head(out, Some(*direction))?;
                write!(out, "{} {length} B", message.name())?;
                if *fragments > 1 {
                    write!(out, " in {fragments} fragments")?;
                }
                writeln!(out)
            }
            TraceEvent::ChangeCipherSpec { direction } => {
                self.head(out, Some(*direction))?;
                writeln!(out, "ChangeCipherSpec")
            }
            TraceEvent::Alert { direction, level, description } => {
                self.head(out, Some(*direction))?;
                writeln!(out, "Alert {} {}", level_name(*level), AlertText(*description))
            }
            TraceEvent::ApplicationData { direction, plaintext } => {
                self.head(out, Some(*direction))?;
                writeln!(out, "{}", CoapLine(plaintext))
            }
            TraceEvent::Dropped { reason } => {
                self.head(out, None)?;
                writeln!(out, "dropped: {}", reason.name())
            }
            TraceEvent::Retransmission { flight } => {
                self.head(out, None)?;
                writeln!(out, "retransmission of flight {flight}")
            }
            TraceEvent::Narrowing { bytes } => {
                self.head(out, None)?;
                writeln!(out, "narrowing to {bytes} bytes per datagram: the path seems to drop longer ones")
            }
            TraceEvent::Probing { bytes } => {
                self.head(out, None)?;
                writeln!(out, "probing the path with a datagram of {bytes} bytes")
            }
            TraceEvent::Failed { reason, detail } => {
                self.head(out, None)?;
                write!(out, "failed: {reason}")?;
                if let Some(detail) = detail {
                    write!(out, ": {}", pki::Shown(detail))?;
                }
                writeln!(out)
            }
        }
    }

    fn head(&self, out: &mut dyn fmt::Write, direction: Option<Direction>) -> fmt::Result {
        let arrow = match direction {
            Some(Direction::Sent) => '>',
            Some(Direction::Received) => '<',
            None => '-',
        };
        write!(out, "{:>9.3} {arrow} ", self.since.as_secs_f64())?;
        match self.path {
            Some(path) => write!(out, "{}  ", path.peer),
            None => Ok(()),
        }
    }

    fn hex(&self, key_seen: &mut bool, out: &mut dyn fmt::Write) -> fmt::Result {
        match self.event {
            TraceEvent::Datagram { direction, bytes } => {
                self.head(out, Some(*direction))?;
                writeln!(out, "datagram {} B", bytes.len())?;
                dump(bytes, out)
            }
            TraceEvent::ApplicationData { plaintext, .. } => {
                let withheld = private_key_bytes(plaintext, key_seen);
                dump(&plaintext[..plaintext.len() - withheld], out)?;
                if withheld > 0 {
                    writeln!(out, "          {withheld} octets withheld: private key")?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The length of a payload that is, or may be, a part of a private key (RFC 9148 §4.8); 0 for any other. A trace is pasted into reports, and a key of a
/// device must not be in one. RFC 7959 does not say that the later blocks of a body repeat its Content-Format; a success whose first block has none that
/// can be read may be anything.
fn private_key_bytes(plaintext: &[u8], key_seen: &mut bool) -> usize {
    let Ok(message) = Message::parse(plaintext) else { return 0 };
    let is_later_block = || matches!(message.block(Number::BLOCK2), Ok(Some(block)) if block.num > 0);
    let format = message.uint(Number::CONTENT_FORMAT).and_then(|number| u16::try_from(number).ok());
    let is_key = match format.map(ContentFormat) {
        Some(ContentFormat::MULTIPART_CORE | ContentFormat::PKCS7_SERVER_GENERATED_KEY | ContentFormat::PKCS8) => true,
        Some(_) => false,
        None if is_later_block() && message.option(Number::CONTENT_FORMAT).is_none() => *key_seen,
        None => message.code().is_success(),
    };
    *key_seen |= is_key;
    if is_key { message.payload().len() } else { 0 }
}

/// Sixteen bytes per line after their offset, in the format of `xxd` and `text2pcap`.
fn dump(bytes: &[u8], out: &mut dyn fmt::Write) -> fmt::Result {
    for (index, row) in bytes.chunks(16).enumerate() {
        write!(out, "          {:04x} ", index * 16)?;
        for byte in row {
            write!(out, " {byte:02x}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A CoAP message on one line; a message that does not parse is shown as such, with its size.
struct CoapLine<'a>(&'a [u8]);

impl fmt::Display for CoapLine<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(message) = Message::parse(self.0) else {
            return write!(out, "application data {} B, not CoAP", self.0.len());
        };
        write!(out, "{} {} mid={:04x}", message.kind().name(), CodeText(message.code()), message.message_id().0)?;
        let token = message.token();
        if !token.as_bytes().is_empty() {
            write!(out, " token={}", hex::encode(token.as_bytes()))?;
        }
        for option in message.options().take(OPTIONS_SHOWN_MAX) {
            write!(out, " {}={}", option.number, OptionValue { number: option.number, value: option.value })?;
        }
        if !message.payload().is_empty() {
            write!(out, " payload {} B", message.payload().len())?;
        }
        Ok(())
    }
}

fn level_name(level: AlertLevel) -> &'static str {
    match level {
        AlertLevel::Warning => "warning",
        AlertLevel::Fatal => "fatal",
    }
}

/// The registered name of an alert, or its code.
struct AlertText(AlertDescription);

impl fmt::Display for AlertText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.name() {
            "unknown" => write!(out, "{}", self.0.0),
            name => out.write_str(name),
        }
    }
}

/// A method by name, a response by class and detail.
struct CodeText(Code);

impl fmt::Display for CodeText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Method::from_code(self.0) {
            Some(method) => out.write_str(method.name()),
            None if self.0 == Code::EMPTY => out.write_str("empty"),
            None => write!(out, "{}", self.0),
        }
    }
}

/// An option's value in the form that its number defines: text, number, block or bytes (RFC 7252 §5.10, RFC 7959 §2.2).
#[derive(Clone, Copy, Debug)]
pub struct OptionValue<'a> {
    /// The option's number.
    pub number: Number,
    /// Its value as on the wire.
    pub value: &'a [u8],
}

impl fmt::Display for OptionValue<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Number::URI_HOST
            | Number::URI_PATH
            | Number::URI_QUERY
            | Number::LOCATION_PATH
            | Number::LOCATION_QUERY
            | Number::PROXY_URI
            | Number::PROXY_SCHEME => text(self.value, out),
            Number::URI_PORT
            | Number::CONTENT_FORMAT
            | Number::ACCEPT
            | Number::MAX_AGE
            | Number::OBSERVE
            | Number::SIZE1
            | Number::SIZE2
                if self.value.len() <= 4 =>
            {
                write!(out, "{}", self.value.iter().fold(0_u32, |sum, &byte| sum << 8 | u32::from(byte)))
            }
            Number::BLOCK1 | Number::BLOCK2 => match Block::parse(self.value) {
                Ok(block) => {
                    let more = if block.more { "more" } else { "last" };
                    write!(out, "{}/{more}/{}", block.num, block.size.bytes())
                }
                Err(_) => write!(out, "malformed:{}", hex::encode(shown(self.value))),
            },
            _ => write!(out, "{}", hex::encode(shown(self.value))),
        }
    }
}

fn shown(value: &[u8]) -> &[u8] {
    &value[..value.len().min(VALUE_SHOWN_BYTES_MAX)]
}

/// A peer's text for our terminal: everything except printable ASCII is escaped.
fn text(value: &[u8], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for &byte in shown(value) {
        match byte {
            b' '..=b'~' => out.write_char(char::from(byte))?,
            _ => write!(out, "\\x{byte:02x}")?,
        }
    }
    if value.len() > VALUE_SHOWN_BYTES_MAX { out.write_str("...") } else { Ok(()) }
}

#[cfg(test)]
mod tests;
