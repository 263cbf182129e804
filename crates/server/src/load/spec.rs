//! Builds the specification for `est`, and finds the key that one of its faults is about.

use std::sync::Arc;

use authority::Profile;
use est::resources::TreeFault;
use est::{ConfigFault, NameAuthorities, ServerSpec};

use super::memory;
use crate::config::{Configuration, ConfigurationFault, Location, Problem};

/// One per core, unless configured.
pub(super) fn shard_count(configured: u32) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = if configured == 0 { cores } else { usize::try_from(configured).unwrap_or(1) };
    u16::try_from(count).unwrap_or(u16::MAX)
}

pub(super) fn server_spec(
    config: &Configuration,
    shards: u16,
    identity: Arc<dtls::Identity>,
    cookie: dtls::CookieKeys,
    profiles: Vec<Arc<Profile>>,
) -> ServerSpec {
    // Peers spread evenly over the shards; each shard gets one more, so that the total reaches the configured number.
    let share = |total: u32| usize::try_from(total.div_ceil(u32::from(shards))).unwrap_or(usize::MAX);
    let limits = &config.limits;
    let mut spec = ServerSpec::new(identity, cookie, profiles);
    spec.suites.clone_from(&config.dtls.suites);
    spec.extended_master_secret = config.dtls.extended_master_secret;
    spec.public_key_steps = config.dtls.public_key_steps;
    spec.name_authorities =
        if config.dtls.certificate_authorities { NameAuthorities::List } else { NameAuthorities::LeaveEmpty };
    spec.short_root = Some(config.est.short_root.value.clone()).filter(|root| !root.is_empty());
    spec.public = config.est.public.as_ref().map(|public| public.value.clone());
    spec.dtls.mtu = usize::try_from(config.dtls.mtu).unwrap_or(dtls::MTU_DEFAULT);
    spec.dtls.idle_timeout = config.server.idle_timeout;
    spec.dtls.handshake_deadline = config.dtls.handshake_timeout;
    spec.dtls.sessions_max = share(memory::sessions_max(limits.sessions_max));
    spec.dtls.half_open_max = share(limits.half_open_max);
    spec.limits.pending_max = share(limits.enrolments_in_flight_max);
    spec
}

/// The key that a fault of the whole specification is about.
pub(super) fn place_of(fault: &ConfigFault, config: &Configuration) -> ConfigurationFault {
    let value = |found: &str| Problem::Value { found: found.to_owned(), wanted: fault.to_string() };
    match fault {
        ConfigFault::Tree(TreeFault::Root(root) | TreeFault::RootOverlaps(root)) => {
            config.est.short_root.fault(value(root))
        }
        ConfigFault::Tree(TreeFault::Label(label) | TreeFault::LabelTwice(label)) => {
            let with = config.profiles.iter().find(|profile| profile.spec.profile.labels.contains(label));
            match with {
                Some(profile) => profile.labels.fault(value(label)),
                None => whole(config, fault),
            }
        }
        ConfigFault::Nested(nested) => {
            let Some(profile) = config.profiles.iter().find(|profile| *profile.spec.profile.name == *nested.other)
            else {
                return whole(config, fault);
            };
            let remedy = "list the upper CA in both profiles, or the lower one in both";
            profile.manufacturers.fault(Problem::Conflict { what: fault.to_string(), remedy })
        }
        _ => whole(config, fault),
    }
}

fn whole(config: &Configuration, fault: &ConfigFault) -> ConfigurationFault {
    let problem = Problem::Conflict { what: fault.to_string(), remedy: "correct what the message above describes" };
    ConfigurationFault { place: Location::File(config.file.clone()), key: String::new(), problem }
}
