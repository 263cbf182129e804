//! Stories of certificates, requests and chains, one file per subject, and their shared support.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

mod allocations;
mod chain;
mod common;
mod crl;
mod csr;
mod csr_attributes;
mod enveloped_key;
mod foreign;
mod generated_key;
mod hostile;
mod issue;
mod make;
mod openssl;
mod paths;
mod remembered;
mod vectors;
