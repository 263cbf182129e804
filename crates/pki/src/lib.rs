//! Bytes in, DER out: strict DER, chains, CSRs, certificates, CMS.
