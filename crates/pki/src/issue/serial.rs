//! Serial numbers: which node made them, and 128 random bits.

use std::fmt;

/// Content octets of every serial number that Muster makes: a first octet of 01, the node, 16 random octets. With the first octet
/// between 01 and 7F the INTEGER is positive and minimal, and no longer than the 20 octets of RFC 5280 §4.1.2.2.
pub const SERIAL_BYTES: usize = 19;

const _: () = assert!(SERIAL_BYTES <= 20);

/// The node that issues: serial numbers of two nodes never collide, even where one is a copy of the other's machine, as long
/// as they are configured apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NodePrefix(u16);

impl NodePrefix {
    /// The prefix of node `node`.
    #[must_use]
    pub const fn new(node: u16) -> Self {
        Self(node)
    }
}

/// A serial number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial([u8; SERIAL_BYTES]);

impl Serial {
    /// The serial number of one certificate, from random octets that were drawn for it and for nothing else: 128 bits, where
    /// the Baseline Requirements (§7.1) ask for 64.
    #[must_use]
    pub fn new(node: NodePrefix, random: [u8; 16]) -> Self {
        let mut octets = [0; SERIAL_BYTES];
        octets[0] = 0x01;
        octets[1..3].copy_from_slice(&node.0.to_be_bytes());
        octets[3..].copy_from_slice(&random);
        Self(octets)
    }

    /// A serial number of ours in a certificate, from the content octets of its INTEGER; nothing for any other.
    #[must_use]
    pub fn read(octets: &[u8]) -> Option<Self> {
        let octets: [u8; SERIAL_BYTES] = octets.try_into().ok()?;
        (octets[0] == 0x01).then_some(Self(octets))
    }

    /// The node that made it.
    #[must_use]
    pub const fn node(&self) -> NodePrefix {
        NodePrefix(u16::from_be_bytes([self.0[1], self.0[2]]))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e54_a_serial_number_of_ours_names_its_node_and_no_other_number_is_read_as_one() {
        let serial = Serial::new(NodePrefix::new(0x0203), [0xff; 16]);
        assert_eq!(Serial::read(serial.as_bytes()), Some(serial));
        assert_eq!(serial.node(), NodePrefix::new(0x0203));
        for octets in [&[0x02; SERIAL_BYTES][..], &[0x01; SERIAL_BYTES - 1], &[0x01; SERIAL_BYTES + 1], &[]] {
            assert_eq!(Serial::read(octets), None, "{octets:02x?}");
        }
    }
}
