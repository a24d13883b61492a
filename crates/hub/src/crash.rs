//! Named points at which a test makes the process die, to show that nothing is lost there.

/// Every point, for the tests that visit them all.
pub const POINTS: &[&str] = &[
    "commit.stored",
    "commit.before",
    "commit.after",
    "push.stored",
    "push.before",
    "push.after",
    "xorb.stored",
    "xorb.before",
    "shard.before",
    "lfs.part",
    "lfs.complete",
    "share.before",
    "gc.removed",
    "merge.stored",
    "merge.before",
    "prune.stored",
    "prune.before",
    "prune.after",
    "pull.stored",
    "pull.before",
    "pull.after",
    "pull.reached",
    "pull.ended",
];

/// Dies here when `BASTIDE_CRASH_AT` names this point. Costs one look at a variable otherwise.
pub(crate) fn point(name: &'static str) {
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    debug_assert!(POINTS.contains(&name));
    let chosen = CHOSEN.get_or_init(|| std::env::var("BASTIDE_CRASH_AT").ok());
    if chosen.as_deref() == Some(name) {
        // Like a power cut: no destructors, no flushing.
        std::process::abort();
    }
}
