//! Bodies that have to be in memory whole: together they have a limit, so that many of them, sent
//! slowly, cannot take all of it.

use std::ops::Deref;
use std::sync::Arc;

use bastide_hub::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of all such bodies of this process.
const MAX_BUFFERED_BYTES: usize = 256 * 1024 * 1024;
/// The limit is counted in units, smaller bodies than one are free.
const UNIT: usize = 16 * 1024;
/// When somebody who found no room may ask again.
const RETRY_SECONDS: u32 = 5;

static UNITS: std::sync::LazyLock<Arc<Semaphore>> =
    std::sync::LazyLock::new(|| Arc::new(Semaphore::new(MAX_BUFFERED_BYTES / UNIT)));

/// The room that a body takes, for as long as this lives.
#[derive(Debug)]
pub struct Room {
    all: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Default for Room {
    fn default() -> Self {
        Self { all: Arc::clone(&UNITS), held: None }
    }
}

impl Room {
    /// Makes sure that there is room for so many bytes in all.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Problem> {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from((bytes / UNIT).saturating_sub(held)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let busy = |_| Problem::Busy { seconds: RETRY_SECONDS };
        let permit = Arc::clone(&self.all).try_acquire_many_owned(more).map_err(busy)?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        Ok(())
    }
}

/// A whole body, and its room.
#[derive(Debug, Default)]
pub struct Buffered {
    bytes: Vec<u8>,
    room: Room,
}

impl Buffered {
    /// Adds a part. Room is made for what is allocated, which is more than what has come.
    pub fn push(&mut self, part: &[u8], limit: usize) -> Result<(), Problem> {
        let len = self.bytes.len() + part.len();
        if len > limit {
            return Err(Problem::TooLarge(format!("the request has more than {limit} bytes")));
        }
        if len > self.bytes.capacity() {
            let capacity = (self.bytes.capacity() * 2).min(limit).max(len);
            self.room.hold(capacity)?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }
}

impl Deref for Buffered {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_takes_no_more_room_than_it_has() {
        let all = Arc::new(Semaphore::new(8));
        let mut body = Buffered { bytes: Vec::new(), room: Room { all: Arc::clone(&all), held: None } };
        for _ in 0..5 {
            body.push(&[7; UNIT], 6 * UNIT).unwrap();
        }
        assert_eq!((body.len(), body.bytes.capacity(), all.available_permits()), (5 * UNIT, 6 * UNIT, 2));
        assert!(matches!(body.push(&[7; UNIT + 1], 6 * UNIT), Err(Problem::TooLarge(_))));
        assert!(matches!(body.push(&[7; 4 * UNIT], 20 * UNIT), Err(Problem::Busy { .. })));
    }

    #[test]
    fn bodies_together_have_a_limit_and_who_is_too_many_may_come_again() {
        let all = Arc::new(Semaphore::new(10));
        let room = || Room { all: Arc::clone(&all), held: None };
        let (mut one, mut two) = (room(), room());
        one.hold(UNIT - 1).unwrap();
        assert_eq!(all.available_permits(), 10);
        for bytes in [UNIT, 2 * UNIT, 6 * UNIT, 6 * UNIT] {
            one.hold(bytes).unwrap();
        }
        two.hold(4 * UNIT).unwrap();
        assert!(matches!(two.hold(5 * UNIT), Err(Problem::Busy { .. })));
        drop(one);
        two.hold(10 * UNIT).unwrap();
        drop(two);
        assert_eq!(all.available_permits(), 10);
    }
}
