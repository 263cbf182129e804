//! Serial numbers: the node that made them, and 128 random bits.

use std::fmt;

/// Content octets of every serial number that Muster makes: a first octet of 01, the node, 16 random octets. With the first octet
/// between 01 and 7F the INTEGER is positive and minimal, and no longer than the 20 octets of RFC 5280 §4.1.2.2.
pub const SERIAL_BYTES: usize = 19;

const _: () = assert!(SERIAL_BYTES <= 20);

/// The first octet of every serial number: a positive, nonzero octet, so that the INTEGER is minimal.
const FIRST_OCTET: u8 = 0x01;

const _: () = assert!(FIRST_OCTET > 0 && FIRST_OCTET < 0x80);

/// The issuing node: serial numbers of two nodes never collide as long as their configurations differ, even if one machine
/// is a copy of the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NodePrefix(u16);

impl NodePrefix {
    /// The prefix of node `node`.
    #[must_use]
    pub const fn new(node: u16) -> Self {
        Self(node)
    }

    /// The number of the node.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// A serial number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial([u8; SERIAL_BYTES]);

impl Serial {
    /// The serial number of one certificate, from random octets that are used only for this number: 128 bits, where the
    /// Baseline Requirements (§7.1) ask for 64.
    #[must_use]
    pub fn new(node: NodePrefix, random: [u8; 16]) -> Self {
        let mut octets = [0; SERIAL_BYTES];
        octets[0] = FIRST_OCTET;
        octets[1..3].copy_from_slice(&node.0.to_be_bytes());
        octets[3..].copy_from_slice(&random);
        Self(octets)
    }

    /// Parses the content octets of the INTEGER, from a certificate or a row of the ledger. Accepted octets are positive, minimal and no longer
    /// than the 20 octets of RFC 5280 §4.1.2.2.
    ///
    /// # Errors
    /// [`SerialError`] if [`Serial::new`] never makes these octets: another authority made them, or a row is damaged.
    pub fn from_bytes(octets: &[u8]) -> Result<Self, SerialError> {
        let octets: [u8; SERIAL_BYTES] = octets.try_into().map_err(|_| SerialError::Length(octets.len()))?;
        if octets[0] == FIRST_OCTET { Ok(Self(octets)) } else { Err(SerialError::FirstOctet(octets[0])) }
    }

    /// The node that made it.
    #[must_use]
    pub const fn node(&self) -> NodePrefix {
        NodePrefix(u16::from_be_bytes([self.0[1], self.0[2]]))
    }

    /// The 16 octets after the node: those that [`Serial::new`] was given.
    #[must_use]
    pub fn block(&self) -> [u8; 16] {
        let mut block = [0; 16];
        block.copy_from_slice(&self.0[3..]);
        block
    }

    /// The content octets of the INTEGER.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SERIAL_BYTES] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// Why octets are not a serial number of Muster's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SerialError {
    /// The length is this, not [`SERIAL_BYTES`].
    Length(usize),
    /// The first octet is this, not 01.
    FirstOctet(u8),
}

impl fmt::Display for SerialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(octets) => write!(f, "the serial number has {octets} octets; ours have {SERIAL_BYTES}"),
            Self::FirstOctet(octet) => {
                write!(f, "the serial number begins with {octet:02x}; ours begin with 01")
            }
        }
    }
}

impl std::error::Error for SerialError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn e54_a_serial_number_of_ours_names_its_node_and_no_other_number_is_read_as_one() {
        let serial = Serial::new(NodePrefix::new(0x0203), [0xff; 16]);
        assert_eq!(Serial::from_bytes(serial.as_bytes()), Ok(serial));
        assert_eq!(serial.node(), NodePrefix::new(0x0203));
        let mut octets = *serial.as_bytes();
        for first in (0x00..=0xff).filter(|&first| first != 0x01) {
            octets[0] = first;
            assert_eq!(Serial::from_bytes(&octets), Err(SerialError::FirstOctet(first)));
        }
        for length in (0..40).filter(|&length| length != SERIAL_BYTES) {
            assert_eq!(Serial::from_bytes(&vec![0x01; length]), Err(SerialError::Length(length)));
        }
    }

    proptest! {
        #[test]
        fn a_serial_number_is_read_back_from_its_bytes(node: u16, random: [u8; 16]) {
            let serial = Serial::new(NodePrefix::new(node), random);
            prop_assert_eq!(Serial::from_bytes(serial.as_bytes()), Ok(serial));
            prop_assert_eq!(serial.node(), NodePrefix::new(node));
        }

        /// Whatever is read as a serial number is one: the octets of a positive and minimal INTEGER, and it has the same octets again.
        #[test]
        fn no_octets_are_read_as_a_serial_number_but_its_own(octets in prop::collection::vec(any::<u8>(), 0..=24)) {
            let mut ours = octets.clone();
            ours.resize(SERIAL_BYTES, 0);
            ours[0] = 0x01;
            for octets in [octets, ours] {
                match Serial::from_bytes(&octets) {
                    Ok(serial) => {
                        prop_assert_eq!(serial.as_bytes().as_slice(), octets.as_slice());
                        prop_assert!((1..0x80).contains(&octets[0]) && octets.len() <= 20);
                    }
                    Err(_) => prop_assert!(octets.len() != SERIAL_BYTES || octets[0] != 0x01),
                }
            }
        }
    }
}
