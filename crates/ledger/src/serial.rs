//! Serial numbers that lead back to their row.
//!
//! A serial number has 16 octets that look random: one block of AES-128 under a key of the ledger, over the row's number and 64 random bits.
//! The ledger finds a row by decrypting its serial number, without an index. Two rows have different numbers and a block cipher is a
//! permutation, so two serial numbers of one ledger are never equal; who does not have the key can neither tell them from random octets nor read
//! from them how many certificates were issued. The key protects nothing else: with the key known, 64 random bits are left, as many as the
//! Baseline Requirements ask for (§7.1).

use aes::Aes128;
use aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use pki::issue::{NodePrefix, Serial};

/// Octets of the key.
pub const SERIAL_KEY_BYTES: usize = 16;

/// Makes serial numbers of row numbers, and row numbers of serial numbers.
pub struct SerialCipher(Aes128);

impl SerialCipher {
    /// The cipher of a ledger with this key.
    #[must_use]
    pub fn new(key: &[u8; SERIAL_KEY_BYTES]) -> Self {
        Self(Aes128::new(&(*key).into()))
    }

    /// The serial number of row `number`. The first eight octets of `random` are used.
    #[must_use]
    pub fn serial(&self, node: NodePrefix, number: u64, random: [u8; 16]) -> Serial {
        let mut block = Block::<Aes128>::default();
        block[..8].copy_from_slice(&number.to_be_bytes());
        block[8..].copy_from_slice(&random[..8]);
        self.0.encrypt_block(&mut block);
        Serial::new(node, block.into())
    }

    /// The number of the row that the serial number leads to, if it was made with this key. Any other serial number leads to a number too: the row
    /// says whether it is its own.
    #[must_use]
    pub fn number(&self, serial: &Serial) -> u64 {
        let mut block = Block::<Aes128>::from(serial.block());
        self.0.decrypt_block(&mut block);
        let mut number = [0; 8];
        number.copy_from_slice(&block[..8]);
        u64::from_be_bytes(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_serial_number_leads_back_to_its_row(key: [u8; 16], node: u16, number: u64, random: [u8; 16]) {
            let cipher = SerialCipher::new(&key);
            let serial = cipher.serial(NodePrefix::new(node), number, random);
            prop_assert_eq!(serial.node(), NodePrefix::new(node));
            prop_assert_eq!(cipher.number(&serial), number);
        }

        /// E24: whatever the randomness is, as in a copied machine: another number is another serial.
        #[test]
        fn e24_no_two_numbers_have_one_serial(key: [u8; 16], numbers: [u64; 2], random: [u8; 16]) {
            prop_assume!(numbers[0] != numbers[1]);
            let cipher = SerialCipher::new(&key);
            let [first, second] = numbers.map(|number| cipher.serial(NodePrefix::new(1), number, random));
            prop_assert_ne!(first, second);
        }
    }

    #[test]
    fn e24_neighbours_have_nothing_in_common() {
        let cipher = SerialCipher::new(&[7; 16]);
        let of = |number| cipher.serial(NodePrefix::new(1), number, [0; 16]);
        for number in 1..1_000 {
            let (one, next) = (of(number), of(number + 1));
            let same_bits: u32 = one.block().iter().zip(next.block()).map(|(a, b)| (!(a ^ b)).count_ones()).sum();
            assert!((30..98).contains(&same_bits), "{same_bits} of 128 bits are equal in {one} and {next}");
        }
    }
}
