//! Who vouches for a client.

/// Where a client's certificate comes from, seen from one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From one of the profile's manufacturers.
    Manufacturer,
    /// From what issues for the profile: the CA of its authority, ours or another.
    ThisCa,
    /// It is that of a Registrar, which vouches for a device that it has authenticated.
    Registrar,
}
