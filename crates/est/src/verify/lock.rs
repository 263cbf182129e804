//! The one way in which this module locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data is a cache: what a thread left when it panicked is at worst an entry short.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
