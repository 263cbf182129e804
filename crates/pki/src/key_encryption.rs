//! Key-encryption keys that a server shares with devices, read from a file: to encrypt the private keys that it makes for them (RFC 7030
//! §4.4.1.1). How both ends get the file "is outside the scope of this document" there.
//!
//! ```text
//! # one key a line: DecryptKeyIdentifier and AES key, in hex
//! 6b656b2d31 000102030405060708090a0b0c0d0e0f
//! ```

use std::fmt;

use zeroize::Zeroizing;

use crate::csr::KEY_ID_MAX;
use crate::digest::Digest;
use crate::enveloped_key::AesStrength;

/// The longest key, AES-256.
const KEY_MAX: usize = 32;

/// Key-encryption keys by their identifiers. The keys are wiped when they are dropped, and never shown.
#[derive(Default)]
pub struct KeyEncryptionKeys(Vec<KeyEncryptionKey>);

/// A key-encryption key.
pub struct KeyEncryptionKey {
    id: Vec<u8>,
    octets: Zeroizing<[u8; KEY_MAX]>,
    strength: AesStrength,
}

impl KeyEncryptionKey {
    /// The value of DecryptKeyIdentifier that names it.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// 16 or 32 octets.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.octets[..self.strength.key_len()]
    }
}

impl KeyEncryptionKeys {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`KeyEncryptionKeysError`] names the line.
    pub fn parse(text: &[u8]) -> Result<Self, KeyEncryptionKeysError> {
        let mut keys: Vec<KeyEncryptionKey> = Vec::new();
        for (index, line) in text.split(|&octet| octet == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let error = |flaw| KeyEncryptionKeysError { line: index + 1, flaw };
            let key = parse_line(line).map_err(error)?;
            match keys.binary_search_by(|known| known.id.cmp(&key.id)) {
                Ok(_) => return Err(error(KeyEncryptionKeysFlaw::Repeated)),
                Err(place) => keys.insert(place, key),
            }
        }
        if keys.is_empty() {
            return Err(KeyEncryptionKeysError { line: 1, flaw: KeyEncryptionKeysFlaw::Empty });
        }
        Ok(Self(keys))
    }

    /// The key with this identifier.
    #[must_use]
    pub fn find(&self, id: &[u8]) -> Option<&KeyEncryptionKey> {
        self.0.binary_search_by(|known| known.id.as_slice().cmp(id)).ok().map(|place| &self.0[place])
    }

    /// The only key; `None` if there are several.
    #[must_use]
    pub fn only(&self) -> Option<&KeyEncryptionKey> {
        if let [key] = self.0.as_slice() { Some(key) } else { None }
    }
}

fn parse_line(line: &[u8]) -> Result<KeyEncryptionKey, KeyEncryptionKeysFlaw> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (Some(id), Some(key), None) = (words.next(), words.next(), words.next()) else {
        return Err(KeyEncryptionKeysFlaw::Form);
    };
    let mut id_octets = [0; KEY_ID_MAX];
    let id = read_hex(id, &mut id_octets).ok_or(KeyEncryptionKeysFlaw::Identifier)?;
    let mut octets = Zeroizing::new([0; KEY_MAX]);
    let len = read_hex(key, &mut octets[..]).ok_or(KeyEncryptionKeysFlaw::Key)?.len();
    let strength = AesStrength::of_key(len).ok_or(KeyEncryptionKeysFlaw::Key)?;
    Ok(KeyEncryptionKey { id: id.to_vec(), octets, strength })
}

/// Decodes into `out`, so that no other buffer holds a key; `None` if the text is not hex, empty, or too long.
fn read_hex<'o>(text: &[u8], out: &'o mut [u8]) -> Option<&'o [u8]> {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() || pairs.len() > out.len() {
        return None;
    }
    for (octet, [high, low]) in out.iter_mut().zip(pairs) {
        let digit = |text: u8| char::from(text).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *octet = digit(*high)? << 4 | digit(*low)?;
    }
    Some(&out[..pairs.len()])
}

/// Shows the identifiers, and a digest of each key: whoever compares two configurations sees that a key has changed.
impl fmt::Debug for KeyEncryptionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 128 random bits have no second image that anybody could look for.
        f.debug_tuple("KeyEncryptionKey").field(&Digest::of(&self.id)).field(&Digest::of(self.key())).finish()
    }
}

/// Why a file of key-encryption keys cannot be used. It never contains a part of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyEncryptionKeysError {
    /// From 1.
    pub line: usize,
    /// What is wrong there.
    pub flaw: KeyEncryptionKeysFlaw,
}

/// What is wrong with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyEncryptionKeysFlaw {
    /// Not two words.
    Form,
    /// The identifier is not hex, or too long.
    Identifier,
    /// The key is not hex of 16 or 32 octets.
    Key,
    /// A second key with this identifier.
    Repeated,
    /// There is no key.
    Empty,
}

impl fmt::Display for KeyEncryptionKeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match self.flaw {
            KeyEncryptionKeysFlaw::Form => f.write_str("not an identifier and a key, in hex, with a space between"),
            KeyEncryptionKeysFlaw::Identifier => write!(f, "the identifier is not hex of 1 to {KEY_ID_MAX} octets"),
            KeyEncryptionKeysFlaw::Key => f.write_str("the key is not hex of 16 or 32 octets (AES-128, AES-256)"),
            KeyEncryptionKeysFlaw::Repeated => f.write_str("a second key with this identifier"),
            KeyEncryptionKeysFlaw::Empty => f.write_str("there is no key"),
        }
    }
}

impl std::error::Error for KeyEncryptionKeysError {}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: &str = "000102030405060708090a0b0c0d0e0f";
    const LONG: &str = "000102030405060708090A0B0C0D0E0F101112131415161718191a1b1c1d1e1f";

    #[test]
    fn keys_are_found_by_their_identifiers() {
        let text = format!("# keys\n\n  6b32\t{LONG} \r\n6b31 {SHORT}");
        let keys = KeyEncryptionKeys::parse(text.as_bytes()).unwrap();
        assert_eq!(keys.find(b"k1").unwrap().key(), (0..16).collect::<Vec<u8>>());
        assert_eq!(keys.find(b"k2").unwrap().key(), (0..32).collect::<Vec<u8>>());
        assert!(keys.find(b"k").is_none() && keys.only().is_none());
        let one = KeyEncryptionKeys::parse(&text.as_bytes()[text.len() - 37..]).unwrap();
        assert_eq!(one.only().unwrap().id(), b"k1");
    }

    #[test]
    fn what_is_not_a_list_of_keys_is_refused_by_line_and_never_shown() {
        for (text, line, flaw) in [
            (String::new(), 1, KeyEncryptionKeysFlaw::Empty),
            ("# none\n".into(), 1, KeyEncryptionKeysFlaw::Empty),
            (format!("\n{SHORT}"), 2, KeyEncryptionKeysFlaw::Form),
            (format!("6b31 {SHORT} 00"), 1, KeyEncryptionKeysFlaw::Form),
            (format!("6b3 {SHORT}"), 1, KeyEncryptionKeysFlaw::Identifier),
            (format!("key1 {SHORT}"), 1, KeyEncryptionKeysFlaw::Identifier),
            (format!("{} {SHORT}", "00".repeat(65)), 1, KeyEncryptionKeysFlaw::Identifier),
            (format!("6b31 {}", &SHORT[2..]), 1, KeyEncryptionKeysFlaw::Key),
            (format!("6b31 {LONG}00"), 1, KeyEncryptionKeysFlaw::Key),
            (format!("6b31 {SHORT}\n6b31 {LONG}"), 2, KeyEncryptionKeysFlaw::Repeated),
        ] {
            let error = KeyEncryptionKeys::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error, KeyEncryptionKeysError { line, flaw }, "{text}");
        }
        let keys = KeyEncryptionKeys::parse(format!("6b31 {SHORT}").as_bytes()).unwrap();
        let other = KeyEncryptionKeys::parse(format!("6b31 {}", &LONG[32..]).as_bytes()).unwrap();
        let shown = format!("{keys:?}");
        assert!(!shown.contains("0001") && !shown.contains("[0, 1"), "{shown}");
        assert_ne!(shown, format!("{other:?}"));
    }
}
