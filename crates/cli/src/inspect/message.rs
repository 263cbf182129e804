//! A CoAP message: its options by name, and its payload by its Content-Format.

use coap::{Block, Code, ContentFormat, Message, Method, Number};
use est::trace::OptionValue;
use pki::UnixTime;
use serde_json::{Value, json};

use super::content;
use super::inspection::Inspection;

/// Options of one message that are shown.
const OPTIONS_SHOWN_MAX: usize = 64;

/// A datagram that looks like CoAP.
pub(super) fn message(datagram: &[u8], utc: UnixTime) -> Inspection {
    let message = match Message::parse(datagram) {
        Ok(message) => message,
        Err(error) => {
            return Inspection::new("CoAP message, malformed").field("bytes", datagram.len()).refused(
                error.to_string(),
                None,
                "a receiver answers it with a reset or ignores it (RFC 7252 §4.2): check the encoder, or whether the bytes are whole",
            );
        }
    };
    let options: Vec<Value> = message
        .options()
        .take(OPTIONS_SHOWN_MAX)
        .map(|option| {
            let value = OptionValue { number: option.number, value: option.value };
            json!(format!("{}={value}", option.number))
        })
        .collect();
    let shown = Inspection::new(format!("CoAP message {} {}", message.kind().name(), code(message.code())))
        .field("messageId", format!("{:04x}", message.message_id().0))
        .field("token", hex::encode(message.token().as_bytes()))
        .field("options", options)
        .field("payloadBytes", message.payload().len())
        .field("bytes", datagram.len());
    payload(blocks(shown, &message), &message, utc)
}

/// A method by name, a response by class, detail and name.
fn code(code: Code) -> String {
    match (Method::from_code(code), code.name()) {
        (Some(method), _) => method.name().to_owned(),
        (None, Some(name)) => format!("{code} {name}"),
        (None, None) => code.to_string(),
    }
}

fn blocks(mut shown: Inspection, message: &Message<'_>) -> Inspection {
    for (number, name) in [(Number::BLOCK1, "block1"), (Number::BLOCK2, "block2")] {
        match message.block(number) {
            Ok(Some(Block { num, more, size })) => {
                let more_follow = if more { "more follow" } else { "last" };
                shown = shown.field(name, format!("block {num} of {} bytes, {more_follow}", size.bytes()));
            }
            Ok(None) => {}
            Err(error) => {
                shown = shown.refused(
                    format!("{number}: {error}"),
                    est::Reason::from_code("coap.block.malformed"),
                    "a block option has at most 3 bytes, and its size exponent is 0 to 6 (RFC 7959 §2.2)",
                );
            }
        }
    }
    shown
}

/// The block that the payload is cut into: Block1 of a request, Block2 of a response.
fn own_block(message: &Message<'_>) -> Option<Block> {
    let number = if message.code().is_request() { Number::BLOCK1 } else { Number::BLOCK2 };
    message.block(number).ok().flatten()
}

fn payload(shown: Inspection, message: &Message<'_>, utc: UnixTime) -> Inspection {
    let bytes = message.payload();
    if bytes.is_empty() {
        return shown;
    }
    if own_block(message).is_some_and(|block| block.more || block.num > 0) {
        return shown.noted(
            "the payload is one block of a body: join the payloads of all blocks to inspect it",
            None,
            None,
        );
    }
    let format = message.uint(Number::CONTENT_FORMAT).and_then(|format| u16::try_from(format).ok());
    match format {
        Some(format) => shown.part(content::of_format(ContentFormat(format), bytes, utc)),
        // RFC 7252 §5.5.2: the diagnostic payload of an error is text without a Content-Format.
        None if message.code().is_error() => shown.part(content::text(bytes)),
        None => shown.noted(
            format!("{} bytes of payload without Content-Format", bytes.len()),
            None,
            Some("a request to /sen or /sren has Content-Format 286 (RFC 9148 §4.3)"),
        ),
    }
}
