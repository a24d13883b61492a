//! The laws, attacked: by the compiler where it keeps them, by hand where it does not.

use bastide_testkit::TestHub;

use crate::{commit, create, put};

/// A handler has this crate's dependencies: what does not compile here, no handler can do.
#[test]
fn a_handler_cannot_go_round_the_laws() {
    trybuild::TestCases::new().compile_fail("tests/laws/*.rs");
}

#[tokio::test]
async fn a_changed_or_removed_event_is_found_and_named() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a", "1")]).await.expect(200);
    hub.hub.checkpoint().await.unwrap();
    commit(&ann, "ann/m", &[put("a", "2")]).await.expect(200);
    let clean = hub.hub.verify_ledger().await.unwrap();
    assert!(clean.problems.is_empty() && clean.events == 6, "{clean:?}");
    let columns = [
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
    for seq in 0..clean.events {
        for column in columns {
            let undo =
                hub.tamper(&format!("UPDATE event SET {column} = {} WHERE seq = {seq}", forged(column)));
            let report = hub.hub.verify_ledger().await.unwrap();
            assert!(
                report.problems.iter().any(|problem| problem.seq == seq),
                "{column} of {seq}: {report:?}"
            );
            undo.undo();
        }
        let undo = hub.tamper(&format!("DELETE FROM event WHERE seq = {seq}"));
        let report = hub.hub.verify_ledger().await.unwrap();
        assert!(report.problems.iter().any(|problem| problem.seq == seq), "removal of {seq}: {report:?}");
        undo.undo();
    }
    for sql in [
        "UPDATE checkpoint SET root = leaf FROM event",
        "UPDATE checkpoint SET note = 'x'",
        "DELETE FROM ledger_node WHERE level = 1",
    ] {
        let undo = hub.tamper(sql);
        assert!(!hub.hub.verify_ledger().await.unwrap().problems.is_empty(), "{sql}");
        undo.undo();
    }
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
    let before = hub.hub.verify_ledger().await.unwrap().events;
    commit(&ann, "ann/m", &[put("../x", "1")]).await.expect(422);
    commit(&ann, "ann/m", &[put("README.md", "---\nlicense: x\n---\n")]).await.expect(400);
    assert_eq!(hub.hub.verify_ledger().await.unwrap().events, before);
    commit(&ann, "ann/m", &[put("x", "1")]).await.expect(200);
    assert_eq!(hub.hub.verify_ledger().await.unwrap().events, before + 1);
    hub.finish().await;
}
