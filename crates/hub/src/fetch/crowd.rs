//! Who is slow while others wait for a place. Only the time counts in which we wait for the client.

use std::time::Duration;

/// While others wait: what passes between a client and us on the average of so long a wait for it.
pub(crate) const CROWDED_BYTES_PER_SECOND: u64 = 64 * 1024;
pub(crate) const CROWDED_WINDOW: Duration = Duration::from_secs(300);
/// How often it is looked whether others wait.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// How long we have waited for a client of late, against what passed: what was fast an hour ago is no reason to keep a place that others need.
pub(crate) struct Window {
    length: Duration,
    waited: Duration,
    bytes: u64,
    /// Was the last one too slow?
    slow: bool,
}

impl Window {
    pub(crate) const fn new(length: Duration) -> Self {
        Self { length, waited: Duration::ZERO, bytes: 0, slow: false }
    }

    /// Was it too slow for a place that others wait for?
    pub(crate) const fn is_slow(&self) -> bool {
        self.slow
    }

    pub(crate) fn add(&mut self, waited: Duration, bytes: u64) {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited >= self.length {
            let least = u128::from(CROWDED_BYTES_PER_SECOND) * self.waited.as_millis();
            self.slow = u128::from(self.bytes) * 1000 < least;
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_fast_enough_in_a_crowd_stays() {
        let second = Duration::from_secs(1);
        let mut window = Window::new(second);
        window.add(Duration::ZERO, CROWDED_BYTES_PER_SECOND);
        window.add(second, 0);
        assert!(!window.slow && window.bytes == 0);
        window.add(second, CROWDED_BYTES_PER_SECOND - 1);
        assert!(window.slow);
    }
}
