//! Who acts, how they proved it, and what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Name, NamespaceId, Timestamp, TokenId, TokenRole};

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    Anonymous,
    User {
        id: NamespaceId,
        name: Name,
    },
    /// A background job, by its name.
    System(&'static str),
    /// A person at the machine itself, through the command line.
    Operator,
}

/// How they proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    None,
    Token {
        id: TokenId,
        role: TokenRole,
    },
    /// The command line on the hub's own machine, or a job.
    Local,
}

/// The time, as the system or as a test has it.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    #[default]
    System,
    Test(Arc<AtomicI64>),
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => system_now(),
            Self::Test(millis) => Timestamp::from_millis(millis.load(Ordering::SeqCst)),
        }
    }
}

/// The one place that reads the system's clock.
#[expect(clippy::disallowed_methods, reason = "the home of the clock")]
fn system_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
