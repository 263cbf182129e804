//! The one way in which this module takes a lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data is a cache: at worst, a thread that panicked has left out an entry.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
