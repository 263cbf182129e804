//! Which devices a machine and a thread play.

use std::fmt;
use std::str::FromStr;

/// The devices of one thread: those whose number leaves `index` when it is divided by `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) index: usize,
    pub(crate) of: usize,
}

impl Part {
    /// All devices.
    pub(crate) const ALL: Self = Self { index: 0, of: 1 };

    pub(crate) fn owns(self, device: usize) -> bool {
        device % self.of == self.index
    }

    /// How many of `devices` it has.
    pub(crate) fn count(self, devices: usize) -> usize {
        devices.saturating_sub(self.index).div_ceil(self.of)
    }

    /// The place of a device among them.
    pub(crate) fn slot(self, device: usize) -> usize {
        device / self.of
    }

    /// The device at a place.
    pub(crate) fn device(self, slot: usize) -> usize {
        slot * self.of + self.index
    }
}

/// One of several machines that play one fleet together: written `1/3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    number: usize,
    of: usize,
}

/// Machines that play one fleet.
pub(crate) const SEGMENTS_MAX: usize = 1_000;

impl Segment {
    /// The whole fleet.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// Its number, from 1.
    #[must_use]
    pub fn number(self) -> usize {
        self.number
    }

    /// How many there are.
    #[must_use]
    pub fn of(self) -> usize {
        self.of
    }

    /// The devices of the whole segment.
    pub(crate) fn part(self) -> Part {
        Part { index: self.number - 1, of: self.of }
    }

    /// The devices of one of its threads.
    pub(crate) fn thread(self, thread: usize, threads: usize) -> Part {
        Part { index: self.number - 1 + thread * self.of, of: self.of * threads }
    }
}

impl FromStr for Segment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((number, of)) if (1..=of).contains(&number) && of <= SEGMENTS_MAX => Ok(Self { number, of }),
            _ => Err(format!(
                "`{text}` is not a segment: write 1/3 on the first of three machines (at most {SEGMENTS_MAX})"
            )),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_threads_divide_the_devices() {
        let mut owners = vec![0; 100];
        for number in 1..=3 {
            let segment: Segment = format!("{number}/3").parse().unwrap();
            assert_eq!(segment.to_string(), format!("{number}/3"));
            for thread in 0..4 {
                let part = segment.thread(thread, 4);
                for (device, owners) in owners.iter_mut().enumerate() {
                    *owners += usize::from(part.owns(device));
                    assert!(!part.owns(device) || segment.part().owns(device));
                }
            }
        }
        assert!(owners.iter().all(|owners| *owners == 1), "{owners:?}");
        assert_eq!(Segment::WHOLE.part(), Part::ALL);
        for wrong in ["0/3", "4/3", "1/0", "1", "a/b", "1/1001", "-1/3"] {
            assert!(wrong.parse::<Segment>().unwrap_err().contains("1/3"), "{wrong}");
        }
    }
}
