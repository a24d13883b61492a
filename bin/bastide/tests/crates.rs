//! Which crate may use which: what is not listed here is not allowed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};

const ALLOWED: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("ledger", &["core"]),
    ("vault", &[]),
    ("blobs", &[]),
    ("xet", &["core"]),
    ("git", &["core"]),
    ("inspect", &["core"]),
    ("outbound", &["core"]),
    // The ledger's hashing: events are appended in the transaction that they belong to.
    ("store", &["core", "ledger"]),
    ("hub", &["core", "store", "ledger", "vault", "blobs", "xet", "git", "inspect", "outbound"]),
    ("api", &["core", "hub"]),
    ("web", &["hub"]),
    ("testkit", &["core", "hub", "api", "store", "ledger", "vault", "blobs", "git"]),
    ("bastide", &["core", "hub", "api", "web", "store", "ledger", "vault", "blobs", "git"]),
];

#[test]
fn dependencies_point_in_the_allowed_directions() {
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().exec().unwrap();
    let short = |name: &str| name.trim_start_matches("bastide-").to_owned();
    let ours: BTreeSet<String> = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    for package in &metadata.packages {
        let name = short(&package.name);
        let may = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not in the list"));
        let normal =
            package.dependencies.iter().filter(|used| used.kind == cargo_metadata::DependencyKind::Normal);
        for used in normal.filter(|used| ours.contains(&used.name)) {
            assert!(may.contains(&short(&used.name).as_str()), "{name} must not use {}", used.name);
        }
    }
}
