//! A device that has its operational certificate.

use est::{ClientConfig, Operation};
use pki::Certificate;

use super::{Holder, Key, World, csr};

/// Device 1 of the factory enrols from port 1; what it holds then.
pub(crate) fn enrolled(world: &mut World) -> Holder {
    let idevid = world.pki.device(1);
    let mut device = world.connect(1, &idevid, ClientConfig::default());
    let key = Key::new();
    world.ask(&mut device, Operation::Enroll { csr: csr(idevid.certificate.subject(), &key) });
    let der = device.certificate();
    Holder { certificate: Certificate::parse(&der).unwrap().into(), chain: vec![der], key }
}
