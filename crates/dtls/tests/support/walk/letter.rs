//! The letters: what a client may send next.

use std::fmt;

use Letter::*;

/// One thing that a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Letter {
    /// ClientHello with its cookie; while a handshake is under way it is that handshake's hello, repeated.
    Hello,
    /// Certificate with the client's own one.
    Certificate,
    /// Certificate without any.
    EmptyCertificate,
    /// Certificate with that of another device, which the server trusts as well and whose key the client does not have.
    OthersCertificate,
    /// ClientKeyExchange; master secret and keys come from the transcript so far.
    KeyExchange,
    /// CertificateVerify over the transcript so far.
    Verify,
    /// The same by a key that belongs to nobody.
    StraysVerify,
    /// CertificateVerify by the right key over a transcript that lacks its last message.
    WrongTranscriptVerify,
    /// ChangeCipherSpec.
    ChangeCipherSpec,
    /// Finished over the transcript so far, under the keys; without a key exchange, under those of an empty secret (CVE-2014-0224).
    Finished,
    /// The same with one wrong bit in its verify_data.
    WrongFinished,
    /// The right Finished in the clear. It takes no message number of its own, so that a right one may follow.
    ClearFinished,
    /// Application data in the clear.
    ClearData,
    /// Application data under the keys.
    Data,
    /// A warning alert in the clear.
    Warning,
    /// HelloRequest, which only servers send.
    HelloRequest,
    /// What was sent last of the handshake, once more under a new record number.
    Repeat,
    /// A Certificate with the number after the next one. It takes no number of its own.
    Ahead,
    /// Nothing yet: the next datagram is overtaken by the one after it. A first ClientHello cannot be overtaken by what answers its answer.
    Late,
}

/// The legal path.
pub const PATH: [Letter; 6] = [Hello, Certificate, KeyExchange, Verify, ChangeCipherSpec, Finished];

/// The legal path and all that may stand in the place of one of its letters.
pub const IMPOSTORS: [Letter; 12] = [
    Hello,
    Certificate,
    EmptyCertificate,
    OthersCertificate,
    KeyExchange,
    Verify,
    StraysVerify,
    WrongTranscriptVerify,
    ChangeCipherSpec,
    Finished,
    WrongFinished,
    ClearFinished,
];

/// All letters, those that are noise and reordering among them.
pub const ALL: [Letter; 19] = [
    Hello,
    Certificate,
    EmptyCertificate,
    OthersCertificate,
    KeyExchange,
    Verify,
    StraysVerify,
    WrongTranscriptVerify,
    ChangeCipherSpec,
    Finished,
    WrongFinished,
    ClearFinished,
    ClearData,
    Data,
    Warning,
    HelloRequest,
    Repeat,
    Ahead,
    Late,
];

impl Letter {
    /// Which letter of the legal path it is, or stands for.
    pub const fn stage(self) -> Option<usize> {
        match self {
            Hello => Some(0),
            Certificate | EmptyCertificate | OthersCertificate => Some(1),
            KeyExchange => Some(2),
            Verify | StraysVerify | WrongTranscriptVerify => Some(3),
            ChangeCipherSpec => Some(4),
            Finished | WrongFinished | ClearFinished => Some(5),
            ClearData | Data | Warning | HelloRequest | Repeat | Ahead | Late => None,
        }
    }

    /// How it is written down.
    pub const fn symbol(self) -> char {
        match self {
            Hello => 'H',
            Certificate => 'C',
            EmptyCertificate => 'E',
            OthersCertificate => 'O',
            KeyExchange => 'K',
            Verify => 'V',
            StraysVerify => 'U',
            WrongTranscriptVerify => 'T',
            ChangeCipherSpec => 'S',
            Finished => 'F',
            WrongFinished => 'X',
            ClearFinished => 'Z',
            ClearData => 'd',
            Data => 'D',
            Warning => 'w',
            HelloRequest => 'Q',
            Repeat => 'R',
            Ahead => 'A',
            Late => 'L',
        }
    }

    /// The letter that is written so.
    pub fn of_symbol(symbol: char) -> Option<Self> {
        ALL.into_iter().find(|letter| letter.symbol() == symbol)
    }
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self:?}", self.symbol())
    }
}

/// A word as text.
pub fn spell(letters: &[Letter]) -> String {
    letters.iter().map(|letter| letter.symbol()).collect()
}

/// The word that a text spells; `None` if a letter of it is none.
pub fn read(text: &str) -> Option<Vec<Letter>> {
    text.chars().map(Letter::of_symbol).collect()
}
