//! The laws, attacked: by the compiler where it keeps them, by hand where it does not.

use bastide_testkit::TestHub;

use crate::{commit, create, put};

/// A handler has this crate's dependencies: what does not compile here, no handler can do.
#[test]
fn a_handler_cannot_go_round_the_laws() {
    trybuild::TestCases::new().compile_fail("tests/laws/*.rs");
}

const COLUMNS: &[&str] = &[
    "time_ms",
    "actor_kind",
    "actor_id",
    "actor_name",
    "credential_kind",
    "credential_id",
    "action",
    "subject_kind",
    "subject_id",
    "subject_name",
    "address",
    "user_agent",
    "request_id",
    "facts",
    "leaf",
    "seq",
];

/// A hub with some history, signed twice and gone on since.
async fn with_history() -> (TestHub, bastide_testkit::Client) {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    hub.hub.checkpoint().await.unwrap();
    commit(&ann, "ann/m", &[put("a", "1")]).await.expect(200);
    hub.hub.checkpoint().await.unwrap();
    commit(&ann, "ann/m", &[put("a", "2")]).await.expect(200);
    (hub, ann)
}

#[tokio::test]
async fn a_changed_or_removed_event_is_found_and_named() {
    let (hub, _) = with_history().await;
    let clean = hub.verify_ledger().await;
    assert!(clean.problems.is_empty() && clean.events == clean.vouched + 1, "{clean:?}");
    for seq in 0..clean.events {
        for column in COLUMNS {
            let undo =
                hub.tamper(&format!("UPDATE event SET {column} = {} WHERE seq = {seq}", forged(column)));
            let report = hub.verify_ledger().await;
            assert!(
                report.problems.iter().any(|problem| problem.seq == seq),
                "{column} of {seq}: {report:?}"
            );
            undo.undo();
        }
        let undo = hub.tamper(&format!("DELETE FROM event WHERE seq = {seq}"));
        let report = hub.verify_ledger().await;
        assert!(report.problems.iter().any(|problem| problem.seq == seq), "removal of {seq}: {report:?}");
        undo.undo();
    }
    hub.finish().await;
}

#[tokio::test]
async fn a_changed_tree_or_checkpoint_is_found() {
    let (hub, _) = with_history().await;
    for sql in [
        "UPDATE checkpoint SET root = x'00' WHERE size = (SELECT MAX(size) FROM checkpoint)",
        "UPDATE checkpoint SET note = note || 'x' WHERE size = (SELECT MIN(size) FROM checkpoint)",
        "UPDATE checkpoint SET size = size + 1 WHERE size = (SELECT MAX(size) FROM checkpoint)",
        "DELETE FROM checkpoint WHERE size = (SELECT MAX(size) FROM checkpoint)",
        "DELETE FROM checkpoint",
        "DELETE FROM ledger_node WHERE level = 1",
        "DELETE FROM ledger_node WHERE level = 0 AND position = 0",
        "UPDATE ledger_node SET hash = x'00' WHERE level = 0 AND position = 2",
        "UPDATE ledger_node SET position = 1000 WHERE level = 0 AND position = 2",
        "UPDATE ledger_node SET level = 9 WHERE level = 1 AND position = 0",
        "INSERT INTO ledger_node (level, position, hash) VALUES (0, 1000, x'00')",
        "DELETE FROM event; DELETE FROM ledger_node; DELETE FROM checkpoint",
    ] {
        let undo = hub.tamper(sql);
        assert!(!hub.verify_ledger().await.problems.is_empty(), "{sql}");
        undo.undo();
    }
    hub.finish().await;
}

/// Whoever can write to the database can make events, tree and checkpoints agree with each other
/// again, but not with what was signed.
#[tokio::test]
async fn a_history_that_was_rewritten_whole_is_found_and_not_signed() {
    let (hub, _) = with_history().await;
    for sql in [
        "UPDATE event SET actor_name = 'eve' WHERE seq = 1",
        "UPDATE event SET actor_name = 'eve' WHERE seq = 1; DELETE FROM checkpoint",
        "DELETE FROM event WHERE seq > 2; DELETE FROM checkpoint WHERE size > 2",
        "DELETE FROM event WHERE seq > 2; DELETE FROM checkpoint",
    ] {
        let undo = hub.forge(sql).await;
        assert!(!hub.verify_ledger().await.problems.is_empty(), "{sql}");
        assert!(hub.hub.checkpoint().await.is_err(), "signed: {sql}");
        undo.undo();
    }
    hub.finish().await;
}

/// A note that was kept elsewhere finds what nothing on the machine can tell any more.
#[tokio::test]
async fn a_kept_checkpoint_finds_a_ledger_that_was_rolled_back() {
    let (hub, _) = with_history().await;
    let kept = hub.hub.checkpoint().await.unwrap().note;
    let notes = std::fs::read_to_string(hub.data().join("checkpoints.txt")).unwrap();
    let undo = hub.forge("DELETE FROM event WHERE seq > 2; DELETE FROM checkpoint WHERE size > 2").await;
    std::fs::write(hub.data().join("checkpoints.txt"), "").unwrap();
    let verify = |kept: Vec<String>| {
        let (hub, operator) = (hub.hub.clone(), hub.operator());
        async move { hub.verify_ledger(&operator, &kept, |_, _| {}).await.unwrap().problems.len() }
    };
    assert_eq!(verify(vec![]).await, 0, "nothing here can tell");
    assert_eq!(verify(vec![kept]).await, 1);
    undo.undo();
    std::fs::write(hub.data().join("checkpoints.txt"), notes).unwrap();
    hub.finish().await;
}

/// Verifying beside a hub that writes is no false alarm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_goes_on_writing_verifies() {
    let (hub, ann) = with_history().await;
    let writer = tokio::spawn(async move {
        for number in 0..60 {
            commit(&ann, "ann/m", &[put("b", number.to_string())]).await.expect(200);
        }
    });
    while !writer.is_finished() {
        let report = hub.verify_ledger().await;
        assert!(report.problems.is_empty(), "{report:?}");
        hub.hub.checkpoint().await.unwrap();
    }
    writer.await.unwrap();
    hub.finish().await;
}

#[tokio::test]
async fn a_hub_does_not_start_with_other_keys_than_its_own() {
    let (hub, _) = with_history().await;
    for key in ["token.key", "link.key", "ledger.key"] {
        let path = hub.data().join("keys").join(key);
        let saved = std::fs::read(&path).unwrap();
        std::fs::write(&path, [7; 32]).unwrap();
        let error = hub.try_reopen().await.unwrap_err().to_string();
        assert!(error.contains("other keys"), "{key}: {error}");
        std::fs::write(&path, saved).unwrap();
    }
    hub.try_reopen().await.unwrap();
    hub.finish().await;
}

/// Another value of a column's type.
fn forged(column: &str) -> &'static str {
    match column {
        "time_ms" => "time_ms + 1",
        "seq" => "seq + 1000",
        "leaf" => "x'00'",
        "request_id" => "x'ff'",
        "actor_id" | "credential_id" | "subject_id" => "424242",
        "address" | "user_agent" => "'forged'",
        _ => "'forged ' || facts",
    }
}

/// A commit that fails anywhere leaves neither a ref, nor a row, nor an event.
#[tokio::test]
async fn no_change_without_an_event_and_no_event_without_a_change() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let before = hub.verify_ledger().await.events;
    commit(&ann, "ann/m", &[put("../x", "1")]).await.expect(422);
    commit(&ann, "ann/m", &[put("README.md", "---\nlicense: x\n---\n")]).await.expect(400);
    assert_eq!(hub.verify_ledger().await.events, before);
    commit(&ann, "ann/m", &[put("x", "1")]).await.expect(200);
    assert_eq!(hub.verify_ledger().await.events, before + 1);
    hub.finish().await;
}
