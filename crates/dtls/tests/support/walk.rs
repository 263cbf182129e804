//! Client authentication, walked: every word of a few letters in the middle of a handshake, and nothing but the honest path completes.
//!
//! ```text
//!   the legal path       H   C   K   V   S   F         ClientHello, Certificate, ClientKeyExchange, CertificateVerify,
//!                                                      [ChangeCipherSpec], Finished
//!   one walk             H   C │ O   K   U   S │ F     a prefix of it, a word, the rest of it
//! ```
//!
//! A letter is what a client may send next ([`letter`]); the client ([`client`]) writes each one as a peer would that keeps its state:
//! message numbers and record numbers go on, its transcript holds what it sent, its keys come from that. A substitute (another's
//! Certificate, a CertificateVerify by a stray key) stands for the letter whose place it takes, so the rest of the path is what an
//! impostor would go on with. What must come of a walk says [`oracle`], from the letters alone. The server is the real engine, with real
//! keys and real signatures; client and server draw derived randomness, so that a walk is the same bytes each time, and what the
//! client computes is computed once.

pub mod client;
pub mod letter;
pub mod oracle;
pub mod scene;

use std::fmt;
use std::ops::Range;

use client::Walker;
use letter::{Letter, PATH, spell};
use scene::Scene;

/// Walks that share a prefix: all words of `depth` letters, numbered as numbers are in base `letters.len()`, first letter first.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    pub prefix: &'a [Letter],
    pub letters: &'a [Letter],
    pub depth: u32,
}

/// What was walked, and how many of it was the honest path with harmless detours.
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
    /// How many words there are.
    pub fn words(&self) -> u64 {
        u64::try_from(self.letters.len()).unwrap().pow(self.depth)
    }

    /// The letters of a word, by its number.
    pub fn word(&self, number: u64) -> impl Iterator<Item = Letter> + '_ {
        let base = u64::try_from(self.letters.len()).unwrap();
        (0..self.depth).rev().map(move |place| self.letters[usize::try_from(number / base.pow(place) % base).unwrap()])
    }

    /// Walks the words of a range, each to its end; stops at the first one on which engine and oracle differ.
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

/// One walk: the letters, and then the rest of the legal path. Gives back whether it completed, which was right.
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
