//! The letters: what a client may send next.

use std::fmt;

use Letter::*;

/// One step that a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Letter {
    /// ClientHello with its cookie; during a handshake, a repetition of that handshake's hello.
    Hello,
    /// Certificate with the client's certificate.
    Certificate,
    /// Certificate with an empty list.
    EmptyCertificate,
    /// Certificate with the certificate of another device, which the server trusts too and whose key the client does not have.
    OthersCertificate,
    /// ClientKeyExchange; master secret and keys come from the transcript so far.
    KeyExchange,
    /// CertificateVerify over the transcript so far.
    Verify,
    /// CertificateVerify by an unrelated key.
    StraysVerify,
    /// CertificateVerify by the right key over a transcript that lacks its last message.
    WrongTranscriptVerify,
    /// ChangeCipherSpec.
    ChangeCipherSpec,
    /// Finished over the transcript so far, under the keys; without a key exchange, under those of an empty secret (CVE-2014-0224).
    Finished,
    /// Finished with one wrong bit in its verify_data.
    WrongFinished,
    /// The right Finished in plaintext. It does not use up a message number, so that a protected one may follow.
    ClearFinished,
    /// Application data in plaintext.
    ClearData,
    /// Application data under the keys.
    Data,
    /// A warning alert in plaintext.
    Warning,
    /// HelloRequest, which only servers send.
    HelloRequest,
    /// The last handshake record, repeated under a new record number.
    Repeat,
    /// A Certificate with the number after the next one. It does not use up a message number.
    Ahead,
    /// Sends nothing: the datagram after the next one will overtake the next one. A first ClientHello cannot be overtaken: everything later
    /// depends on the answer to it.
    Late,
}

/// The legal path.
pub const PATH: [Letter; 6] = [Hello, Certificate, KeyExchange, Verify, ChangeCipherSpec, Finished];

/// The legal path, and the substitutes for its letters.
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

/// All letters, including those for noise and reordering.
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
    /// The letter of the legal path that it is, or replaces.
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

    /// Its symbol.
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

    /// The letter with this symbol.
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

/// The word that a text spells; `None` if a symbol is unknown.
pub fn read(text: &str) -> Option<Vec<Letter>> {
    text.chars().map(Letter::of_symbol).collect()
}
