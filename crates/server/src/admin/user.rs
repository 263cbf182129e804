//! The user behind a process or a connection, as the actor of what it does.

use std::path::Path;

use authority::Actor;

use crate::files::read_file;

/// A larger file is not a list of the users of one machine.
const PASSWD_BYTES_MAX: u64 = 1 << 20;

/// The user with this number: its name in `/etc/passwd`, else `uid` and the number. Users of a directory service have no line in that file; the
/// number identifies them as well.
#[must_use]
pub fn actor_of(uid: u32) -> Actor {
    let passwd = read_file(Path::new("/etc/passwd"), PASSWD_BYTES_MAX).unwrap_or_default();
    let name = name_in(&String::from_utf8_lossy(&passwd), uid).and_then(Actor::new);
    name.or_else(|| Actor::new(&format!("uid {uid}"))).unwrap_or_else(Actor::server)
}

/// The name of the first line with this number (passwd(5)).
fn name_in(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_its_name_or_its_number() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nbroken\n:x:7::\nada:x:1000:1000::/home/ada:/bin/sh\neve:x:1000:1::/:\n";
        assert_eq!(name_in(passwd, 0), Some("root"));
        assert_eq!(name_in(passwd, 1000), Some("ada"));
        assert_eq!(name_in(passwd, 7), Some(""));
        assert_eq!(name_in(passwd, 8), None);
        assert_eq!(actor_of(4_000_000_001).as_str(), "uid 4000000001");
    }
}
