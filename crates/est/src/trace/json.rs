//! The JSON form: one object per line, written by hand because nearly every value is a number, a hex string or a fixed
//! name.

use std::fmt::{self, Write as _};

use coap::Message;
use dtls::{Direction, TraceEvent};
use pki::JsonString;

use super::{AlertText, CodeText, Line, OPTIONS_SHOWN_MAX, OptionValue, Totals, Traffic, level_name};

/// Writes the object of one event; secrets are not written.
pub(super) fn write(line: &Line<'_, '_>, out: &mut dyn fmt::Write) -> fmt::Result {
    if matches!(line.event, TraceEvent::Secrets { .. }) {
        return Ok(());
    }
    write!(out, "{{\"t\":{:.6}", line.since.as_secs_f64())?;
    if let Some(path) = line.path {
        write!(out, ",\"peer\":\"{}\"", path.peer)?;
    }
    match line.event {
        TraceEvent::Datagram { direction, bytes } => {
            write!(out, ",\"dir\":\"{}\",\"type\":\"datagram\",\"bytes\":{}", way(*direction), bytes.len())?;
        }
        TraceEvent::Handshake { direction, message, length, fragments } => write!(
            out,
            ",\"dir\":\"{}\",\"type\":\"handshake\",\"message\":\"{}\",\"length\":{length},\"fragments\":{fragments}",
            way(*direction),
            message.name()
        )?,
        TraceEvent::ChangeCipherSpec { direction } => {
            write!(out, ",\"dir\":\"{}\",\"type\":\"change_cipher_spec\"", way(*direction))?;
        }
        TraceEvent::Alert { direction, level, description } => write!(
            out,
            ",\"dir\":\"{}\",\"type\":\"alert\",\"level\":\"{}\",\"description\":\"{}\"",
            way(*direction),
            level_name(*level),
            AlertText(*description)
        )?,
        TraceEvent::ApplicationData { direction, plaintext } => {
            write!(out, ",\"dir\":\"{}\",\"type\":\"coap\",\"bytes\":{}", way(*direction), plaintext.len())?;
            message(plaintext, out)?;
        }
        TraceEvent::Dropped { reason } => write!(out, ",\"type\":\"dropped\",\"reason\":\"{}\"", reason.name())?,
        TraceEvent::Retransmission { flight } => write!(out, ",\"type\":\"retransmission\",\"flight\":{flight}")?,
        TraceEvent::Narrowing { bytes } => write!(out, ",\"type\":\"narrowing\",\"bytes\":{bytes}")?,
        TraceEvent::Probing { bytes } => write!(out, ",\"type\":\"probing\",\"bytes\":{bytes}")?,
        TraceEvent::Failed { reason, detail } => {
            write!(out, ",\"type\":\"failed\",\"reason\":\"{reason}\"")?;
            if let Some(detail) = detail {
                out.write_str(",\"detail\":\"")?;
                JsonString(out).write_str(detail)?;
                out.write_char('"')?;
            }
        }
        TraceEvent::Secrets { .. } => {}
    }
    writeln!(out, "}}")
}

/// Writes the object of the totals.
pub(super) fn write_totals(totals: &Totals, out: &mut dyn fmt::Write) -> fmt::Result {
    out.write_str("{\"type\":\"totals\"")?;
    for (name, traffic) in [("sent", totals.sent), ("received", totals.received)] {
        let Traffic { datagrams, bytes } = traffic;
        write!(
            out,
            ",\"{name}\":{{\"datagrams\":{datagrams},\"bytes\":{bytes},\"ipv4_bytes\":{},\"ipv6_bytes\":{}}}",
            traffic.on_air_ipv4_bytes(),
            traffic.on_air_ipv6_bytes()
        )?;
    }
    writeln!(out, "}}")
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Sent => "out",
        Direction::Received => "in",
    }
}

fn message(plaintext: &[u8], out: &mut dyn fmt::Write) -> fmt::Result {
    let Ok(message) = Message::parse(plaintext) else {
        return out.write_str(",\"malformed\":true");
    };
    write!(
        out,
        ",\"kind\":\"{}\",\"code\":\"{}\",\"mid\":{},\"token\":\"{}\",\"options\":[",
        message.kind().name(),
        CodeText(message.code()),
        message.message_id().0,
        hex::encode(message.token().as_bytes())
    )?;
    for (index, option) in message.options().take(OPTIONS_SHOWN_MAX).enumerate() {
        if index > 0 {
            out.write_char(',')?;
        }
        let value = OptionValue { number: option.number, value: option.value };
        write!(out, "{{\"name\":\"{}\",\"value\":\"", option.number)?;
        write!(JsonString(out), "{value}")?;
        out.write_str("\"}")?;
    }
    write!(out, "],\"payload\":{}", message.payload().len())
}
