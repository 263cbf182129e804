//! The handle of a session.

/// Handle of one session: a slot and its generation, so that a stale handle never reaches a later session in the
/// same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    /// Place in the endpoint's slab.
    pub slot: u32,
    /// How many entries the slot had before.
    pub generation: u32,
}
