//! What only a real PostgreSQL shows: waiting, being let go of, being cancelled.

use tokio_postgres::Client;

use super::*;

/// A database of its own, when there is a server to test with.
async fn database(name: &str) -> Option<String> {
    let Ok(base) = std::env::var("BASTIDE_TEST_POSTGRES") else {
        use std::io::Write;
        // Not by a macro of printing: those are silent in tests that pass.
        let _ = writeln!(std::io::stderr(), "PostgreSQL tests were skipped: set BASTIDE_TEST_POSTGRES");
        return None;
    };
    let client = connect(&base).await;
    let name = format!("bastide_{}_{name}", std::process::id());
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let (server, _) = base.rsplit_once('/').unwrap();
    Some(format!("{server}/{name}"))
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Backends of ours in this database, of those that `which` says. The watcher is in no transaction:
/// there it would see for ever what it saw first.
async fn backends(watcher: &Client, which: &str) -> i64 {
    let sql = format!(
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name = 'bastide' AND {which}"
    );
    watcher.query_one(&sql, &[]).await.unwrap().get(0)
}

const WAITING: &str = "wait_event_type = 'Lock'";

async fn until(watcher: &Client, which: &str, count: i64) {
    for _ in 0..500 {
        if backends(watcher, which).await == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} backends with {which}, not {count}", backends(watcher, which).await);
}

/// Another server's writer, which takes its time.
async fn hold(url: &str) -> Client {
    let holder = connect(url).await;
    let sql = format!("BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})");
    holder.batch_execute(&sql).await.unwrap();
    holder
}

async fn one(lease: &mut Lease, sql: &str) -> Value {
    lease.all(sql, &[]).await.unwrap().remove(0).0.remove(0)
}

#[tokio::test]
async fn waiting_writers_take_no_connection_from_readers() {
    let Some(url) = database("waiting").await else { return };
    let engine = Arc::new(Postgres::open(&url).unwrap());
    let (holder, watcher) = (hold(&url).await, connect(&url).await);
    let writers: Vec<_> = (0..20)
        .map(|_| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move { engine.writer().await?.commit().await })
        })
        .collect();
    until(&watcher, WAITING, 1).await;
    let readers = (0..READERS).map(|_| timeout(Duration::from_secs(5), engine.reader()));
    for reader in futures_util::future::join_all(readers).await {
        assert_eq!(one(&mut reader.unwrap().unwrap(), "SELECT 1").await, Value::Int(1));
    }
    assert_eq!(backends(&watcher, WAITING).await, 1, "only the first of them waits at the database");
    holder.batch_execute("COMMIT").await.unwrap();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_lock_that_is_not_given_is_a_busy_database() {
    let Some(url) = database("busy").await else { return };
    let engine = Postgres::open(&url).unwrap();
    let (holder, watcher) = (hold(&url).await, connect(&url).await);
    assert!(matches!(engine.writer().await, Err(StoreError::Busy)));
    until(&watcher, WAITING, 0).await;
    holder.batch_execute("COMMIT").await.unwrap();
    engine.writer().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn writers_that_give_up_leave_no_backend_behind() {
    let Some(url) = database("gone").await else { return };
    let engine = Postgres::open(&url).unwrap();
    let (holder, watcher) = (hold(&url).await, connect(&url).await);
    for _ in 0..30 {
        let _ = timeout(Duration::from_millis(30), engine.writer()).await;
    }
    until(&watcher, "TRUE", 0).await;
    holder.batch_execute("COMMIT").await.unwrap();
    engine.writer().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn what_was_dropped_half_way_never_goes_back_into_the_pool() {
    let Some(url) = database("dropped").await else { return };
    let engine = Postgres::open(&url).unwrap();
    let watcher = connect(&url).await;
    watcher.batch_execute("CREATE TABLE t (n BIGINT)").await.unwrap();

    // A statement that is under way is cancelled.
    let mut reader = engine.reader().await.unwrap();
    let pid = one(&mut reader, "SELECT pg_backend_pid()").await;
    assert!(timeout(Duration::from_millis(50), reader.all("SELECT pg_sleep(60)", &[])).await.is_err());
    drop(reader);
    until(&watcher, "query LIKE '%pg_sleep%'", 0).await;
    assert_ne!(one(&mut engine.reader().await.unwrap(), "SELECT pg_backend_pid()").await, pid);

    // A transaction that is open, between two statements and in the middle of one.
    for sleep in [false, true] {
        let mut writer = engine.writer().await.unwrap();
        assert_eq!(writer.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap(), 1);
        if sleep {
            let _ = timeout(Duration::from_millis(50), writer.all("SELECT pg_sleep(60)", &[])).await;
        }
        drop(writer);
        let mut next = timeout(Duration::from_secs(5), engine.writer()).await.unwrap().unwrap();
        assert_eq!(one(&mut next, "SELECT COUNT(*) FROM t").await, Value::Int(0));
        next.commit().await.unwrap();
    }
    until(&watcher, "state LIKE 'idle in transaction%'", 0).await;
}

#[tokio::test]
async fn every_connection_is_durable_and_bounded() {
    let Some(url) = database("session").await else { return };
    let name = url.rsplit('/').next().unwrap();
    connect(&url)
        .await
        .batch_execute(&format!("ALTER DATABASE {name} SET synchronous_commit = off"))
        .await
        .unwrap();
    let engine = Postgres::open(&url).unwrap();
    for mut lease in [engine.reader().await.unwrap(), engine.writer().await.unwrap()] {
        for (setting, wanted) in [
            ("synchronous_commit", "on"),
            ("lock_timeout", LOCK_WAIT),
            ("idle_in_transaction_session_timeout", "1min"),
        ] {
            let found = one(&mut lease, &format!("SELECT current_setting('{setting}')")).await;
            assert_eq!(found, Value::Text(wanted.to_owned()), "{setting}");
        }
    }
}
