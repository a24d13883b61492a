//! The journal of reads, when the machine or somebody has damaged it.

use std::fs;

use bastide_core::{RepoKind, RepoPath};
use bastide_hub::Hub;
use bastide_testkit::TestHub;

use crate::{commit, create, put};

/// How many deliveries of `ann/m` are in the database.
pub async fn recorded(test: &TestHub, hub: &Hub) -> usize {
    let context = test.operator();
    let path = RepoPath::parse(RepoKind::Model, "ann/m").unwrap();
    let access = hub.access(&context).repo(&path).await.unwrap();
    hub.reads_of(&access, 1000).await.unwrap().len()
}

#[tokio::test]
async fn a_damaged_journal_does_not_stop_a_server_from_starting() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a", "hello")]).await.expect(200);
    ann.get("/ann/m/resolve/main/a").await.expect(200);
    let journal = hub.data().join("journal");
    fs::write(journal.join("123.reads"), b"\xff\xfe\x00garbage\n").unwrap();
    // One that cannot be read at all.
    fs::create_dir(journal.join("124.reads")).unwrap();
    hub.hub.start().await.unwrap();
    assert_eq!(recorded(&hub, &hub.hub).await, 1, "the good ones are moved all the same");
    assert!(!journal.join("123.reads").exists());
    assert_eq!(fs::read(journal.join("123.damaged")).unwrap(), b"\xff\xfe\x00garbage\n");
    // And work goes on.
    ann.get("/ann/m/resolve/main/a").await.expect(200);
    let _ = hub.hub.flush_reads().await;
    assert_eq!(recorded(&hub, &hub.hub).await, 2);
}

#[tokio::test]
async fn a_database_that_takes_nothing_does_not_stop_a_server_from_starting() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a", "hello")]).await.expect(200);
    ann.get("/ann/m/resolve/main/a").await.expect(200);
    let trigger = "CREATE TRIGGER full BEFORE INSERT ON read_record \
        BEGIN SELECT RAISE(ABORT, 'as on a full disk'); END";
    hub.tamper(trigger);
    hub.hub.start().await.unwrap();
    assert_eq!(ann.get("/ann/m/resolve/main/a").await.expect(200).text(), "hello");
    hub.tamper("DROP TRIGGER full");
    hub.hub.flush_reads().await.unwrap();
    assert_eq!(recorded(&hub, &hub.hub).await, 2, "nothing was lost meanwhile");
}
