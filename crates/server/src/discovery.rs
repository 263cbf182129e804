//! How devices find the server: services of the daemon's runtime around the engines of `est::discovery`.
//!
//! Both are off unless `[discovery]` names them, and neither takes part in serving devices: they tell where coaps is, over plain CoAP, and
//! nobody has to believe them.

mod group;
mod registration;

pub(crate) use group::GroupListener;
pub(crate) use registration::{RegistrationParts, register};
