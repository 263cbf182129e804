//! An enrolment server for fleets of constrained devices: EST-coaps (RFC 9148).

fn main() {}
