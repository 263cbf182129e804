//! The functions of a release build: nothing.

use super::Step;

/// A step was done.
#[inline]
pub const fn passed(_: Step) {}

/// A step is done when this thread next calls [`passed_if_begun`].
#[inline]
pub const fn begun(_: Step) {}

/// A step was done, if this thread has begun it.
#[inline]
pub const fn passed_if_begun(_: Step) {}
