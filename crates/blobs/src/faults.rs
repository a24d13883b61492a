//! Faults on demand: a shared plan of what has to go wrong, for tests of everything above.
//!
//! A store without a plan pays one comparison per step; with one, every step counts.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where a fault can be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The beginning of `store`, `put` and `adopt`.
    Put,
    /// Bytes on their way into a temporary file.
    Write,
    /// The sync of a file or of a folder (the folder store only).
    Fsync,
    /// The moment at which the blob becomes visible: the rename, or the upload's last request.
    Rename,
    Read,
    Delete,
}

#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The disk is full (ENOSPC). A write first puts down half of its bytes, as disks do.
    Full,
    Error(io::ErrorKind),
    /// A read finds only so many bytes; at other steps the same as an early end of file.
    Truncate(usize),
    Delay(Duration),
}

/// A plan that tests share with a store; an empty one changes nothing.
#[derive(Debug, Clone, Default)]
pub struct Faults(Option<Arc<Mutex<Plan>>>);

#[derive(Debug, Default)]
struct Plan {
    entries: Vec<Entry>,
    seen: Vec<Step>,
}

#[derive(Debug)]
struct Entry {
    step: Step,
    /// Steps that still pass before this one strikes.
    passes: u64,
    fault: Fault,
    forever: bool,
}

impl Faults {
    /// A live plan. (`Faults::default()` is no plan at all.)
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// The `nth` such step from now on fails, once; 1 is the next.
    pub fn fail_nth(&self, step: Step, nth: u64, fault: Fault) {
        self.add(Entry { step, passes: nth.saturating_sub(1), fault, forever: false });
    }

    pub fn fail_next(&self, step: Step, fault: Fault) {
        self.fail_nth(step, 1, fault);
    }

    /// Every such step fails until `clear`.
    pub fn fail_all(&self, step: Step, fault: Fault) {
        self.add(Entry { step, passes: 0, fault, forever: true });
    }

    pub fn clear(&self) {
        if let Some(mut plan) = self.plan() {
            plan.entries.clear();
        }
    }

    /// How often a step was reached, so that a test can strike at each in turn.
    pub fn seen(&self, step: Step) -> u64 {
        self.plan().map_or(0, |plan| plan.seen.iter().filter(|seen| **seen == step).count() as u64)
    }

    fn add(&self, entry: Entry) {
        if let Some(mut plan) = self.plan() {
            plan.entries.push(entry);
        }
    }

    fn plan(&self) -> Option<MutexGuard<'_, Plan>> {
        self.0.as_ref().map(|plan| plan.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) const fn active(&self) -> bool {
        self.0.is_some()
    }

    fn draw(&self, step: Step) -> Option<Fault> {
        let mut plan = self.plan()?;
        plan.seen.push(step);
        let mut struck = None;
        plan.entries.retain_mut(|entry| {
            if entry.step != step || struck.is_some() {
                return true;
            }
            if entry.passes > 0 {
                entry.passes -= 1;
                return true;
            }
            struck = Some(entry.fault);
            entry.forever
        });
        struck
    }

    /// Counts a step and does what the plan says. Sleeps for a delay: blocking threads only.
    /// `Some(n)` means that only `n` bytes can be had.
    pub(crate) fn hit(&self, step: Step) -> io::Result<Option<usize>> {
        match self.draw(step) {
            None => Ok(None),
            Some(Fault::Truncate(bytes)) => Ok(Some(bytes)),
            Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Delay(time)) => {
                std::thread::sleep(time);
                Ok(None)
            }
        }
    }

    /// For a step that has no bytes to cut short.
    pub(crate) fn check(&self, step: Step) -> io::Result<()> {
        match self.hit(step)? {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The same from async code.
    pub(crate) async fn hit_async(&self, step: Step) -> crate::Result<Option<usize>> {
        if !self.active() {
            return Ok(None);
        }
        let faults = self.clone();
        crate::blocking(move || Ok(faults.hit(step)?)).await
    }

    pub(crate) async fn check_async(&self, step: Step) -> crate::Result<()> {
        match self.hit_async(step).await? {
            None => Ok(()),
            Some(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_step_fails_once_and_others_are_untouched() {
        let faults = Faults::new();
        faults.fail_nth(Step::Fsync, 2, Fault::Full);
        assert!(faults.hit(Step::Fsync).is_ok());
        assert!(faults.hit(Step::Rename).is_ok());
        assert_eq!(faults.hit(Step::Fsync).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(faults.hit(Step::Fsync).is_ok());
        assert_eq!((faults.seen(Step::Fsync), faults.seen(Step::Rename)), (3, 1));
    }

    #[test]
    fn a_lasting_fault_ends_with_clear() {
        let faults = Faults::new();
        faults.fail_all(Step::Read, Fault::Truncate(3));
        assert_eq!(faults.hit(Step::Read).unwrap(), Some(3));
        assert_eq!(faults.hit(Step::Read).unwrap(), Some(3));
        faults.clear();
        assert_eq!(faults.hit(Step::Read).unwrap(), None);
    }
}
