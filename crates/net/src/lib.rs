//! What every shell shares: UDP batches, the clock, system randomness, captures.
