//! Walks through client authentication: every word of a few letters in the middle of a handshake; only the honest path completes.
//!
//! ```text
//!   the legal path       H   C   K   V   S   F         ClientHello, Certificate, ClientKeyExchange, CertificateVerify,
//!                                                      [ChangeCipherSpec], Finished
//!   one walk             H   C │ O   K   U   S │ F     a prefix of it, a word, the rest of it
//! ```
//!
//! A letter is what a client may send next ([`letter`]). The client ([`client`]) writes each letter as a peer that keeps its state
//! would: message numbers and record numbers continue, its transcript contains what it sent, and its keys follow from that. A substitute
//! (the Certificate of another device, a CertificateVerify by a wrong key) counts as the letter that it replaces, so the rest of the
//! path is what an impostor would send next. [`oracle`] computes the required result of a walk from the letters alone. The server is the
//! real engine, with real keys and real signatures. Client and server use derived randomness, so that a walk has the same bytes each
//! time, and the client's computations are done once.

pub mod client;
pub mod letter;
pub mod oracle;
pub mod scene;

use std::fmt;
use std::ops::Range;

use client::Walker;
use letter::{Letter, PATH, spell};
use scene::Scene;

/// Walks that share a prefix: all words of `depth` letters. A word's number is written in base `letters.len()`, first letter first.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    pub prefix: &'a [Letter],
    pub letters: &'a [Letter],
    pub depth: u32,
}

/// The number of walks, and how many of them were the honest path with harmless detours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub walks: u64,
    pub completed: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.walks += other.walks;
        self.completed += other.completed;
    }
}

/// A walk on which engine and oracle differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub walk: Vec<Letter>,
    pub what: &'static str,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = spell(&self.walk);
        write!(f, "{}: {word}\nagain: cargo run -p dtls --example walk -- --word {word}", self.what)
    }
}

impl Plan<'_> {
    /// The number of words.
    pub fn words(&self) -> u64 {
        u64::try_from(self.letters.len()).unwrap().pow(self.depth)
    }

    /// The letters of the word with this number.
    pub fn word(&self, number: u64) -> impl Iterator<Item = Letter> + '_ {
        let base = u64::try_from(self.letters.len()).unwrap();
        (0..self.depth).rev().map(move |place| self.letters[usize::try_from(number / base.pow(place) % base).unwrap()])
    }

    /// Walks the words of a range, each to its end; stops at the first word on which engine and oracle differ.
    pub fn walk(&self, scene: &mut Scene, numbers: Range<u64>) -> Result<Tally, Found> {
        let mut tally = Tally::default();
        for number in numbers {
            let letters = self.prefix.iter().copied().chain(self.word(number));
            tally.completed += u64::from(run(scene, letters)?);
            tally.walks += 1;
        }
        Ok(tally)
    }

    /// Walks every word.
    pub fn walk_all(&self, scene: &mut Scene) -> Result<Tally, Found> {
        self.walk(scene, 0..self.words())
    }
}

/// One walk: the letters, and then the rest of the legal path. Returns whether the handshake completed, if that agrees with the oracle.
pub fn run(scene: &mut Scene, letters: impl Iterator<Item = Letter>) -> Result<bool, Found> {
    let mut walk = Vec::with_capacity(16);
    let mut walker = Walker::new(scene);
    for letter in letters {
        walk.push(letter);
        walker.send(letter);
    }
    while let Some(next) = PATH.get(walker.stage()) {
        walk.push(*next);
        walker.send(*next);
    }
    walker.end().map_err(|what| Found { walk, what })
}
