//! A CoAP message as a checked view of a datagram (RFC 7252 §3).
//!
//! [`Message::parse`] walks the datagram once; a `Message` needs no further check of its format. The server and the
//! client, not this module, judge what an option *means* (whether it is known, how long it may be).

use std::fmt;

use crate::block::{Block, BlockError};
use crate::{Code, Number};

/// The fixed header (RFC 7252 §3).
const HEADER_BYTES: usize = 4;
/// TKL 9 to 15 "are reserved [...] and MUST be processed as a message format error" (RFC 7252 §3).
const TOKEN_BYTES_MAX: usize = 8;
const PAYLOAD_MARKER: u8 = 0xff;

/// A datagram that is a well-formed message of version 1.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    kind: Kind,
    code: Code,
    message_id: MessageId,
    token: Token,
    options: &'a [u8],
    payload: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Checks a whole datagram.
    ///
    /// # Errors
    /// [`FormatError::NotCoap`] for what must be ignored in silence (too short for a header, version other than 1: RFC
    /// 7252 §3); every other format error carries what a rejection needs.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, FormatError> {
        let Some((&[first, code, id_high, id_low], rest)) = datagram.split_first_chunk::<HEADER_BYTES>() else {
            return Err(FormatError::NotCoap);
        };
        // "Messages with unknown version numbers MUST be silently ignored" (RFC 7252 §3).
        if first >> 6 != 1 {
            return Err(FormatError::NotCoap);
        }
        let kind = Kind::from_bits(first >> 4);
        let message_id = MessageId(u16::from_be_bytes([id_high, id_low]));
        let malformed = |why| FormatError::Malformed { kind, message_id, why };
        let code = Code::from_byte(code);
        let token_bytes = usize::from(first & 15);
        if token_bytes > TOKEN_BYTES_MAX {
            return Err(malformed(Malformed::TokenLength));
        }
        // "An Empty message has the Code field set to 0.00. The Token Length field MUST be set to 0 and bytes of data
        // MUST NOT be present after the Message ID field" (RFC 7252 §4.1).
        if code == Code::EMPTY && (token_bytes > 0 || !rest.is_empty()) {
            return Err(malformed(Malformed::EmptyWithContent));
        }
        let Some((token, after)) = rest.split_at_checked(token_bytes) else {
            return Err(malformed(Malformed::Truncated));
        };
        let token = Token::new(token).ok_or_else(|| malformed(Malformed::TokenLength))?;
        let options_bytes = check_options(after).map_err(malformed)?;
        let (options, payload) = after.split_at(options_bytes);
        // "The presence of a marker followed by a zero-length payload MUST be processed as a message format error"
        // (RFC 7252 §3).
        let payload = match payload.split_first() {
            None => &[],
            Some((_, [])) => return Err(malformed(Malformed::MarkerWithoutPayload)),
            Some((_, payload)) => payload,
        };
        Ok(Message { kind, code, message_id, token, options, payload, bytes: datagram })
    }

    /// Confirmable, non-confirmable, acknowledgement or reset.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The request or response code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The message id.
    #[must_use]
    pub const fn message_id(&self) -> MessageId {
        self.message_id
    }

    /// The token, 0 to 8 bytes.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }

    /// All options in the order of the wire, which is the order of their numbers.
    #[must_use]
    pub const fn options(&self) -> Options<'a> {
        Options { rest: self.options, number: 0 }
    }

    /// The value of the first option of this number.
    #[must_use]
    pub fn option(&self, number: Number) -> Option<&'a [u8]> {
        self.options().take_while(|option| option.number <= number).find(|o| o.number == number).map(|o| o.value)
    }

    /// The values of all options of this number.
    pub fn options_of(&self, number: Number) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.options().skip_while(move |o| o.number < number).take_while(move |o| o.number == number).map(|o| o.value)
    }

    /// The first option of this number as an unsigned integer; `None` also if it has more than 4 bytes.
    pub fn uint(&self, number: Number) -> Option<u32> {
        self.option(number).and_then(uint)
    }

    /// The first option of this number as a block.
    ///
    /// # Errors
    /// Those of [`Block::parse`].
    pub fn block(&self, number: Number) -> Result<Option<Block>, BlockError> {
        self.option(number).map(Block::parse).transpose()
    }

    /// The payload; empty if there is none.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The whole datagram.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {:?} token {:?}", self.kind, self.code, self.message_id, self.token)?;
        for option in self.options() {
            write!(f, " {}({} bytes)", option.number, option.value.len())?;
        }
        write!(f, " payload({} bytes)", self.payload.len())
    }
}

/// An option value as an unsigned integer in network byte order, 0 to 4 bytes (RFC 7252 §3.2).
pub(crate) fn uint(value: &[u8]) -> Option<u32> {
    (value.len() <= 4).then(|| value.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// Walks the options up to the payload marker or the end; returns the number of bytes they take.
fn check_options(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut rest = bytes;
    let mut number = 0;
    while let Some(first) = rest.first() {
        if *first == PAYLOAD_MARKER {
            break;
        }
        let (_, next_number, next) = split_option(rest, number)?;
        (rest, number) = (next, next_number);
    }
    Ok(bytes.len() - rest.len())
}

/// Splits off the first option: returns its value, its number and the remaining bytes.
fn split_option(bytes: &[u8], number: u16) -> Result<(&[u8], u16, &[u8]), Malformed> {
    let (first, rest) = bytes.split_first().ok_or(Malformed::Truncated)?;
    let (delta, rest) = extended(first >> 4, rest)?;
    let (length, rest) = extended(first & 15, rest)?;
    let number = u16::try_from(u32::from(number) + delta).map_err(|_| Malformed::OptionNumber)?;
    let length = usize::try_from(length).map_err(|_| Malformed::Truncated)?;
    let (value, rest) = rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
    Ok((value, number, rest))
}

/// The nibbles 13 and 14 announce one or two more bytes; 15 is reserved (RFC 7252 §3.1).
fn extended(nibble: u8, rest: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    match nibble {
        13 => rest.split_first().map(|(byte, rest)| (u32::from(*byte) + 13, rest)).ok_or(Malformed::Truncated),
        14 => rest
            .split_first_chunk()
            .map(|(bytes, rest)| (u32::from(u16::from_be_bytes(*bytes)) + 269, rest))
            .ok_or(Malformed::Truncated),
        15 => Err(Malformed::ReservedNibble),
        nibble => Ok((u32::from(nibble), rest)),
    }
}

/// One option of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opt<'a> {
    /// Its number.
    pub number: Number,
    /// Its value.
    pub value: &'a [u8],
}

/// The options of a message; see [`Message::options`].
#[derive(Clone, Copy)]
pub struct Options<'a> {
    rest: &'a [u8],
    number: u16,
}

impl<'a> Iterator for Options<'a> {
    type Item = Opt<'a>;

    fn next(&mut self) -> Option<Opt<'a>> {
        // `parse` has walked the same bytes: an error can only mean the end.
        let (value, number, rest) = split_option(self.rest, self.number).ok()?;
        (self.rest, self.number) = (rest, number);
        Some(Opt { number: Number(number), value })
    }
}

/// The type of a message (RFC 7252 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// CON
    Confirmable,
    /// NON
    NonConfirmable,
    /// ACK
    Acknowledgement,
    /// RST
    Reset,
}

impl Kind {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Confirmable,
            1 => Self::NonConfirmable,
            2 => Self::Acknowledgement,
            _ => Self::Reset,
        }
    }

    pub(crate) const fn bits(self) -> u8 {
        match self {
            Self::Confirmable => 0,
            Self::NonConfirmable => 1,
            Self::Acknowledgement => 2,
            Self::Reset => 3,
        }
    }

    /// As written in traces: `CON`, `NON`, `ACK`, `RST`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confirmable => "CON",
            Self::NonConfirmable => "NON",
            Self::Acknowledgement => "ACK",
            Self::Reset => "RST",
        }
    }
}

/// The id that matches an acknowledgement to its message and finds duplicates (RFC 7252 §4.4, §4.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId(pub u16);

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#06x}]", self.0)
    }
}

/// The message ids of one association, in sequence from a random start (RFC 7252 §4.4).
#[derive(Clone, Debug)]
pub struct MessageIds(u16);

impl MessageIds {
    /// `start` is random: "It is strongly recommended that the initial value of the variable [...] be randomized".
    #[must_use]
    pub const fn new(start: u16) -> Self {
        Self(start)
    }

    /// The next message id.
    pub fn next_id(&mut self) -> MessageId {
        let id = MessageId(self.0);
        self.0 = self.0.wrapping_add(1);
        id
    }
}

/// What matches a response to its request: 0 to 8 bytes chosen by the client (RFC 7252 §5.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    length: u8,
    bytes: [u8; TOKEN_BYTES_MAX],
}

impl Token {
    /// The empty token.
    pub const EMPTY: Self = Self { length: 0, bytes: [0; TOKEN_BYTES_MAX] };

    /// A token of these bytes; `None` above 8 bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut token = Self { length: u8::try_from(bytes.len()).ok()?, bytes: [0; TOKEN_BYTES_MAX] };
        token.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(token)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    pub(crate) const fn length(&self) -> u8 {
        self.length
    }

    /// The token after this one: the same length, its bytes incremented as one number.
    pub(crate) fn next(mut self) -> Self {
        for byte in self.bytes[..usize::from(self.length)].iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        self
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a datagram is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// Too short for a header, or another version: ignored silently.
    NotCoap,
    /// A message format error: a confirmable message is rejected with a reset, any other is ignored (RFC 7252 §4.2,
    /// §4.3).
    Malformed {
        /// The type, which decides whether a reset goes back.
        kind: Kind,
        /// The message id that the reset repeats.
        message_id: MessageId,
        /// What is wrong.
        why: Malformed,
    },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCoap => f.write_str("not a CoAP message of version 1"),
            Self::Malformed { message_id, why, .. } => write!(f, "malformed CoAP message {message_id:?}: {why}"),
        }
    }
}

impl std::error::Error for FormatError {}

/// What is wrong with a malformed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// TKL 9 to 15.
    TokenLength,
    /// Code 0.00 with a token, options or a payload.
    EmptyWithContent,
    /// A token or an option extends past the end.
    Truncated,
    /// Delta or length nibble 15 outside the payload marker.
    ReservedNibble,
    /// The option deltas add up to more than 65,535.
    OptionNumber,
    /// 0xFF without a payload after it.
    MarkerWithoutPayload,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TokenLength => "token length above 8",
            Self::EmptyWithContent => "an empty message with content",
            Self::Truncated => "a token or option goes past the end",
            Self::ReservedNibble => "reserved option delta or length 15",
            Self::OptionNumber => "option number above 65535",
            Self::MarkerWithoutPayload => "payload marker without payload",
        })
    }
}
