//! Whether new handshakes are begun.

use crate::drops::Drop;
use crate::limits::DATAGRAMS_PER_BEGIN_BEHIND;

/// Whether new handshakes are let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// They are.
    #[default]
    Open,
    /// Few are: there is more to do than time to do it. One is begun for each 64 datagrams that are taken. Cookies are given out, and
    /// handshakes in progress and sessions go on; the client of a hello that was dropped repeats it, and asks so again.
    Behind,
    /// They are not: handshakes in progress and sessions go on until they end.
    Draining,
}

/// What the endpoint was told, and what it has done since.
///
/// While the server is behind, the datagrams it takes pay for the handshakes it begins. To begin and finish one costs as much as some
/// hundred datagrams that lead to nothing, on a fast machine and on a slow one. So the share of the time that goes to new handshakes is
/// bounded where handshakes make the server late, and where a flood of other datagrams does, new handshakes are begun all the same. The
/// hello that is let in is the first that comes when one is due: more hellos are more chances. What one address or certificate may buy
/// with its hellos the meter and the limits of half-open handshakes decide, as they do at other times.
#[derive(Debug, Default)]
pub(super) struct Door {
    admission: Admission,
    /// Datagrams since a handshake was begun, while the server is behind. It saturates: what has not been used is not saved up.
    datagrams: u32,
}

impl Door {
    pub(super) fn admission(&self) -> Admission {
        self.admission
    }

    pub(super) fn set(&mut self, admission: Admission) {
        *self = Door { admission, datagrams: 0 };
    }

    pub(super) fn note_datagram(&mut self) {
        if self.admission == Admission::Behind {
            self.datagrams = self.datagrams.saturating_add(1);
        }
    }

    /// Whether a handshake may be begun now.
    pub(super) fn admits(&self) -> Result<(), Drop> {
        match self.admission {
            Admission::Open => Ok(()),
            Admission::Behind if self.datagrams >= DATAGRAMS_PER_BEGIN_BEHIND => Ok(()),
            Admission::Behind => Err(Drop::Behind),
            Admission::Draining => Err(Drop::Draining),
        }
    }

    pub(super) fn note_begun(&mut self) {
        self.datagrams = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c47_while_behind_one_handshake_is_begun_for_so_many_datagrams() {
        let mut door = Door::default();
        assert_eq!(door.admits(), Ok(()));
        door.set(Admission::Behind);
        let mut begun = 0;
        for _ in 0..DATAGRAMS_PER_BEGIN_BEHIND * 10 {
            door.note_datagram();
            if door.admits().is_ok() {
                door.note_begun();
                begun += 1;
            }
        }
        assert_eq!(begun, 10);
        for _ in 0..DATAGRAMS_PER_BEGIN_BEHIND * 10 {
            door.note_datagram();
        }
        door.note_begun();
        assert_eq!(door.admits(), Err(Drop::Behind), "nothing is saved up");
        door.set(Admission::Open);
        assert_eq!(door.admits(), Ok(()));
        door.set(Admission::Draining);
        assert_eq!(door.admits(), Err(Drop::Draining));
    }
}
