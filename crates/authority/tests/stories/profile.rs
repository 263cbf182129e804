//! Contradictions are reported when a profile is compiled, not when a device asks.

use std::sync::Arc;
use std::time::Duration;

use authority::{
    Busy, Ca, CaFault, CaProfile, CaProfileFault, CaProfileSpec, ChainRule, IssuedNames, KeyTypes, Origin, Outcome,
    Profile, ProfileFault, ProfileSpec, Published, SanKind, Urls, VALIDITY_MIN, VerifySignatures,
};

use crate::support::{START, World, run_one};

fn fault(world: &World, change: impl FnOnce(&mut CaProfileSpec)) -> CaProfileFault {
    let mut spec = CaProfileSpec::new("meters", Arc::clone(&world.ca), vec![Arc::clone(&world.manufacturer)]);
    change(&mut spec);
    CaProfile::compile(spec).unwrap_err()
}

#[test]
fn a_profile_that_could_not_issue_is_not_compiled() {
    let world = World::new();
    assert_eq!(fault(&world, |spec| spec.profile.name.clear()), CaProfileFault::Profile(ProfileFault::NoName));
    assert_eq!(
        fault(&world, |spec| spec.profile.manufacturers.clear()),
        CaProfileFault::Profile(ProfileFault::NoManufacturer)
    );
    let short = VALIDITY_MIN - Duration::from_secs(1);
    assert_eq!(fault(&world, |spec| spec.validity = short), CaProfileFault::ValidityShort);
    let none = KeyTypes { p256: false, p384: false };
    assert_eq!(fault(&world, |spec| spec.key_types = none), CaProfileFault::NoKeyType);
    let urls = Urls { ca_issuers: Some("main.cer".into()), ..Urls::default() };
    let ca = Ca::new("main", world.ca.chain().to_vec(), urls, VerifySignatures::External).unwrap();
    assert!(matches!(fault(&world, |spec| spec.ca = Arc::new(ca)), CaProfileFault::Template(_)));
}

#[test]
fn e46_e51_neither_the_ca_nor_one_above_it_is_a_manufacturer() {
    let world = World::new();
    for certificate in world.ca.chain() {
        let own = Arc::clone(certificate);
        assert_eq!(
            fault(&world, |spec| spec.profile.manufacturers.push(own)),
            CaProfileFault::Profile(ProfileFault::ManufacturerIsCa)
        );
    }
    let respelt = world.ca_spelt_otherwise();
    assert_ne!(respelt.subject(), world.ca.certificate().subject());
    assert_eq!(
        fault(&world, |spec| spec.profile.manufacturers.push(respelt)),
        CaProfileFault::Profile(ProfileFault::ManufacturerIsCa)
    );
    // The configuration need not name the root.
    let issuing = vec![Arc::clone(world.ca.certificate())];
    let rootless = Arc::new(Ca::new("main", issuing, Urls::default(), VerifySignatures::External).unwrap());
    let with_root = |spec: &mut CaProfileSpec| {
        spec.ca = rootless;
        spec.profile.manufacturers.push(Arc::clone(&world.root));
    };
    assert_eq!(fault(&world, with_root), CaProfileFault::Profile(ProfileFault::ManufacturerIsCa));
}

#[test]
fn the_certificates_of_a_ca_are_a_chain_of_cas() {
    let world = World::new();
    let ca = |chain| Ca::new("main", chain, Urls::default(), VerifySignatures::External).map(|_| ()).unwrap_err();
    let [issuing, root] = world.ca.chain() else { panic!("issuing CA and root") };
    assert_eq!(ca(Vec::new()), CaFault::Empty);
    let swapped = ca(vec![Arc::clone(root), Arc::clone(issuing)]);
    assert!(matches!(swapped, CaFault::Certificate { index: 0, rule: ChainRule::NotIssuedByNext { .. } }), "{swapped}");
    let device = ca(vec![world.device(1).idevid, Arc::clone(root)]);
    assert_eq!(device, CaFault::Certificate { index: 0, rule: ChainRule::NotACa });
}

#[test]
fn a_profile_knows_its_anchors_and_not_the_root() {
    let world = World::new();
    let profile = world.profile();
    assert_eq!(profile.origin(&world.manufacturer.anchor_id()), Some(Origin::Manufacturer));
    assert_eq!(profile.origin(&world.ca.certificate().anchor_id()), Some(Origin::ThisCa));
    assert_eq!(profile.origin(&world.root.anchor_id()), None, "the server's own certificate is below it");
    assert_eq!(profile.anchors().count(), 2);
}

#[test]
fn kinds_of_names_are_a_closed_set() {
    assert_eq!("dns".parse(), Ok(SanKind::Dns));
    for text in ["other", "DNS", "hardware"] {
        let fault = text.parse::<SanKind>().unwrap_err();
        assert!(fault.to_string().contains(&format!("`{text}`")), "{fault}");
        assert!(fault.to_string().contains("dns, ip, uri, email"));
    }
}

/// A program combined a profile with the wrong authority: nothing is issued, the answer names that fault, and the device may try again.
#[test]
fn a_job_of_another_authoritys_profile_is_answered_with_later() {
    let world = World::new();
    let (authority, ledger) = world.plain();
    let published = Published {
        ca_certificates: Vec::new(),
        issuers: Vec::new(),
        names: IssuedNames::Other,
        csr_attributes: None,
        server_keys: false,
    };
    let spec = ProfileSpec::new("meters", vec![Arc::clone(&world.manufacturer)]);
    let profile = Arc::new(Profile::new(spec, published, Arc::new(())).unwrap());
    assert!(CaProfile::of(&profile).is_none() && profile.own::<()>().is_some());
    let device = world.device(1);
    let outcome = run_one(&authority, START, world.enroll(&profile, &device, device.csr()));
    let Outcome::Later { max_age, why } = outcome else { panic!("{outcome:?}") };
    assert_eq!((max_age, why), (Duration::from_secs(300), Busy::WrongAuthority));
    assert_eq!(why.to_string(), "the profile was made for another authority");
    assert_eq!(ledger.issued_count(), 0);
}
