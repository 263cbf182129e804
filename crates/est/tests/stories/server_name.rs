//! The name that a client asks for (RFC 6066 §3): there is one certificate, a client with an unknown name gets it too,
//! and the operator gets a notice.

use est::{ClientConfig, ClientEvent, Notice, Operation};

use crate::support;
use crate::support::{Key, World, csr, life, server_of};

/// A server as `muster init` configures it: the name of the site, and always `localhost`.
fn world() -> World {
    World::with(|pki, spec| {
        spec.identity = server_of(&pki.root, &[support::SERVER_NAME, "localhost"], life(365)).identity();
    })
}

/// Enrols a device that asks for `name`; returns the notices of its handshake.
fn notices_of(world: &mut World, port: u16, name: Option<&str>) -> Vec<Notice> {
    let holder = world.pki.device(port.into());
    let mut dtls = world.dtls_config(&holder);
    dtls.server_name = name.map(str::to_owned);
    let mut device = world.dial(port, dtls, ClientConfig::default());
    world.run(&mut device);
    let ClientEvent::Connected { server, .. } = device.event() else { panic!("{name:?} is not served") };
    let names: Vec<String> = server.san().iter().map(|name| format!("{name:?}")).collect();
    assert_eq!(names.len(), 2, "the only certificate: {names:?}");
    let attempt = world.attempts.last().unwrap();
    assert!(attempt.outcome.is_ok());
    let notices = attempt.notices.clone();
    world.ask(&mut device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
    device.certificate();
    assert!(world.attempts.last().unwrap().notices.is_empty(), "the notice belongs to the handshake, once");
    notices
}

#[test]
fn a_name_of_the_certificate_is_nothing_to_notice() {
    let mut world = world();
    let names = [None, Some(support::SERVER_NAME), Some("localhost"), Some("LocalHost"), Some("EST.Example.NET.")];
    for (port, name) in (1..).zip(names) {
        assert_eq!(notices_of(&mut world, port, name), [], "{name:?}");
    }
}

#[test]
fn an_unknown_name_is_served_with_the_default_certificate_and_noticed() {
    let mut world = world();
    for (port, name) in
        (1..).zip(["nowhere.example", "example.net", "a.localhost", "est-example.net", "192.0.2.1.example"])
    {
        let notices = notices_of(&mut world, port, Some(name));
        assert_eq!(notices, [Notice::UnknownServerName(name.into())]);
        let told = notices[0].to_string();
        assert_eq!(told, format!("asked for the server name `{name}`, which our certificate does not contain"));
    }
    assert_eq!(world.server.counters().handshakes_refused, 0);
}

/// RFC 6066 §3 allows no literal addresses in server_name; libcoap and others send the host of the URI unchanged.
#[test]
fn e82_an_address_in_server_name_is_named_as_that() {
    let mut world = world();
    for (port, (name, shown)) in
        (1..).zip([("192.0.2.1", "192.0.2.1"), ("2001:db8::7", "2001:db8::7"), ("[2001:db8::7]", "2001:db8::7")])
    {
        let notices = notices_of(&mut world, port, Some(name));
        assert_eq!(notices, [Notice::AddressAsServerName(shown.parse().unwrap())], "{name}");
        let told = notices[0].to_string();
        assert!(told.contains("a literal address in SNI") && told.contains(shown), "{told}");
    }
}
