//! Ids that never change: 63-bit integers inside, 24 hex digits on the wire.
//!
//! An id holds the millisecond of its making and 21 random bits, so ids sort by age, are close
//! together in an index, and tell nobody how many there are.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use serde::{Serialize, Serializer};

use crate::{Invalid, Timestamp};

/// Milliseconds from 1970 to 2020: ids count from there, so that 42 bits last until 2159.
const ID_EPOCH_MS: i64 = 1_577_836_800_000;
const RANDOM_BITS: u32 = 21;
/// Ids that are remembered: far fewer than one millisecond can have.
const MAX_GIVEN: usize = 1 << 16;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// A new id made at `now`.
            pub fn new(now: Timestamp) -> Self {
                Self(fresh(now))
            }

            /// The id as the database holds it.
            pub const fn from_i64(id: i64) -> Self {
                Self(id)
            }

            pub const fn as_i64(self) -> i64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(f, self.0)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                parse_id(text).map(Self).ok_or_else(|| Invalid::new("an id is 24 hex digits"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

id_type!(
    /// A repository, whatever its path is today.
    RepoId
);
id_type!(
    /// A user or an organisation.
    NamespaceId
);
id_type!(
    /// An access token.
    TokenId
);
id_type!(
    /// A collection, whatever its title and its owner's name are today.
    CollectionId
);
id_type!(
    /// Anything else that has an identity: a job, an upload, an event's request.
    RowId
);

fn fresh(now: Timestamp) -> i64 {
    let high = (now.as_millis() - ID_EPOCH_MS).clamp(0, (1 << 42) - 1) << RANDOM_BITS;
    let mut low = random_bits();
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    while !given.take(high | low) {
        low = (low + 1) % (1 << RANDOM_BITS);
    }
    high | low
}

/// What this process has given out last: a clash of two servers is as good as impossible, one within a burst of
/// many ids in one millisecond is not.
static GIVEN: Mutex<Given> = Mutex::new(Given { ids: BTreeSet::new(), order: VecDeque::new() });

struct Given {
    ids: BTreeSet<i64>,
    order: VecDeque<i64>,
}

impl Given {
    /// False when this id was given out before.
    fn take(&mut self, id: i64) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > MAX_GIVEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

fn random_bits() -> i64 {
    let mut random = [0; 4];
    // Without randomness from the system nothing here is safe; zero bits still keep ids valid.
    let _ = getrandom::fill(&mut random);
    i64::from(u32::from_le_bytes(random) >> (32 - RANDOM_BITS))
}

/// Seconds of the making first, as other hubs' ids have them, then the id itself.
fn write_id(f: &mut fmt::Formatter<'_>, id: i64) -> fmt::Result {
    write!(f, "{:08x}{id:016x}", seconds(id))
}

fn seconds(id: i64) -> u32 {
    u32::try_from(((id >> RANDOM_BITS) + ID_EPOCH_MS) / 1000).unwrap_or(u32::MAX)
}

fn parse_id(text: &str) -> Option<i64> {
    if text.len() != 24 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let id = i64::from_str_radix(text.get(8..)?, 16).ok()?;
    (format!("{:08x}", seconds(id)) == text.get(..8)?).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_the_wire_and_sort_by_age() {
        let old = RepoId::new(Timestamp::from_millis(1_700_000_000_000));
        let new = RepoId::new(Timestamp::from_millis(1_700_000_000_001));
        assert!(old < new);
        assert_eq!(old.to_string().len(), 24);
        assert_eq!(old.to_string().parse(), Ok(old));
        assert!("00000000ffffffffffffffff".parse::<RepoId>().is_err());
        assert!("zz".parse::<RepoId>().is_err());
    }

    #[test]
    fn a_burst_of_ids_in_one_millisecond_has_no_two_alike() {
        let now = Timestamp::from_millis(1_700_000_000_002);
        let ids: BTreeSet<RowId> = (0..20_000).map(|_| RowId::new(now)).collect();
        assert_eq!(ids.len(), 20_000);
    }
}
