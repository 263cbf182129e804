//! The enrolment daemon as a library: shards, sockets, pool, configuration, metrics.
