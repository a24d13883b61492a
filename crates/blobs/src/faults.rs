//! Failures on demand, so that tests can show what a full disk or a lost bucket does.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a failure can strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    Stage,
    Write,
    Sync,
    Link,
    Read,
    /// A read that finds less than was stored.
    ShortRead,
    Delete,
}

/// A plan of failures that tests can change while it is in use. Empty by default: costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Faults(Option<Arc<Mutex<HashMap<Point, Plan>>>>);

#[derive(Debug, Clone, Copy)]
struct Plan {
    after: u32,
    times: u32,
    kind: io::ErrorKind,
}

impl Faults {
    /// A plan that can be filled.
    pub fn armed() -> Self {
        Self(Some(Arc::default()))
    }

    /// Lets `after` operations pass at a point, then fails `times`.
    pub fn fail(&self, point: Point, after: u32, times: u32, kind: io::ErrorKind) {
        if let Some(plans) = &self.0 {
            plans.lock().unwrap_or_else(PoisonError::into_inner).insert(point, Plan { after, times, kind });
        }
    }

    pub(crate) fn check(&self, point: Point) -> io::Result<()> {
        let Some(plans) = &self.0 else { return Ok(()) };
        let mut plans = plans.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(plan) = plans.get_mut(&point) else { return Ok(()) };
        if plan.after > 0 {
            plan.after -= 1;
            return Ok(());
        }
        if plan.times == 0 {
            return Ok(());
        }
        plan.times -= 1;
        Err(plan.kind.into())
    }
}
