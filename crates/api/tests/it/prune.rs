//! What collection has dropped leaves the packs: nobody can fetch it by its id, its bytes count no more, and whoever
//! was building upon it is told.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use bastide_core::Visibility;
use bastide_testkit::{Client, Reply, TestHub};
use bytes::Bytes;
use futures_util::StreamExt;
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;

use crate::uploads::noise;
use crate::{commit, commit_with, create, delete, put};

/// More than the grace.
const LATER: i64 = 100_000;
const NONE: &str = "0000000000000000000000000000000000000000";
const REQUEST: &str = "application/x-git-upload-pack-request";
const V2: (&str, &str) = ("git-protocol", "version=2");
/// No object, and the sum of that.
pub const EMPTY_PACK: &[u8] = b"PACK\0\0\0\x02\0\0\0\0\
    \x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";

async fn scene() -> (TestHub, Client) {
    let hub = TestHub::with(|config| config.default_visibility = Visibility::Public).await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a.txt", "one\n")]).await.expect(200);
    (hub, ann)
}

/// Collects until what was marked is dropped. Jobs are for the caller to run.
async fn collect(hub: &TestHub) {
    for _ in 0..2 {
        let done = hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
        assert!(done.problems.is_empty(), "{:?}", done.problems);
        hub.advance_seconds(LATER);
    }
    hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
}

/// The walk over everything finds nothing wrong, and the bytes that count are those that there are.
async fn is_whole(hub: &TestHub) {
    let checked = hub.hub.check_all(&hub.operator(), true, |_, _, _| {}).await.unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    let packs = hub.count("SELECT COALESCE(SUM(bytes), 0) FROM git_pack");
    assert_eq!(hub.count("SELECT SUM(used_bytes) FROM repo"), packs);
    assert_eq!(hub.count("SELECT SUM(used_bytes) FROM namespace"), packs);
}

pub async fn head(client: &Client, rev: &str) -> String {
    let found = client.get(&format!("/api/models/ann/m/revision/{rev}")).await.expect(200).json();
    found["sha"].as_str().unwrap().to_owned()
}

/// The ids of what is below a folder, or at the top.
async fn ids(client: &Client, path: &str) -> Vec<String> {
    let listed = client.get(&format!("/api/models/ann/m/tree/main{path}")).await.expect(200).json();
    listed.as_array().unwrap().iter().map(|entry| entry["oid"].as_str().unwrap().to_owned()).collect()
}

fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

fn wants(oid: &str) -> String {
    let wanted = [line(&format!("want {oid}\n")), line("ofs-delta\n"), line("done\n")].concat();
    format!("{}0001{wanted}0000", line("command=fetch"))
}

pub async fn fetch(client: &Client, version: &str, oid: &str) -> Reply {
    let body = match version {
        "version=2" => wants(oid),
        _ => format!("{}0000{}", line(&format!("want {oid} ofs-delta\n")), line("done\n")),
    };
    let headers = [("content-type", REQUEST), ("git-protocol", version)];
    client.send(Method::POST, "/ann/m/git-upload-pack", &headers, Body::from(body)).await
}

/// Can an object be fetched by its id?
pub async fn is_fetched(client: &Client, oid: &str) -> bool {
    let mut found = Vec::new();
    for version in ["version=2", "version=0"] {
        let reply = fetch(client, version, oid).await.expect(200);
        let sent = reply.body.windows(4).any(|part| part == b"PACK");
        assert!(sent || reply.text().contains("not our ref"), "{}", reply.text());
        found.push(sent);
    }
    assert_eq!(found[0], found[1]);
    found[0]
}

/// A file in a folder that is in one commit of the history; then a history that has only the next one. The ids of the
/// commit, the folder and the file.
pub async fn leave_secret(client: &Client) -> Vec<String> {
    commit(client, "ann/m", &[put("dir/secret.bin", noise(20_000, 5))]).await.expect(200);
    let (before, mut gone) = (ids(client, "").await, vec![head(client, "main").await]);
    gone.extend(before.iter().cloned());
    gone.extend(ids(client, "/dir").await);
    commit(client, "ann/m", &[delete("dir/secret.bin")]).await.expect(200);
    let kept = ids(client, "").await;
    gone.retain(|id| !kept.contains(id));
    assert!(before.len() > kept.len() && gone.len() == 3, "{gone:?}");
    client.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(200);
    gone
}

#[tokio::test]
async fn what_collection_dropped_can_be_fetched_by_no_id_and_counts_no_more() {
    let (hub, ann) = scene().await;
    let gone = leave_secret(&ann).await;
    let before = hub.count("SELECT used_bytes FROM repo");
    collect(&hub).await;
    // Dropped, and in the packs still, as in a snapshot that is kept for the next who asks.
    for oid in &gone {
        assert!(is_fetched(&ann, oid).await, "{oid}");
    }
    assert_eq!(hub.run_jobs().await, 1);
    for oid in &gone {
        assert!(!is_fetched(&ann, oid).await, "{oid}");
        assert!(!is_fetched(&hub.anonymous(), oid).await, "{oid}");
        for uri in [
            format!("/api/models/ann/m/revision/{oid}"),
            format!("/api/models/ann/m/tree/{oid}"),
            format!("/ann/m/resolve/{oid}/dir/secret.bin"),
            format!("/ann/m/resolve/{oid}/a.txt"),
            format!("/api/models/ann/m/commits/{oid}"),
            format!("/api/models/ann/m/compare/{oid}..main"),
        ] {
            let status = ann.get(&uri).await.status;
            assert_eq!(status, 404, "{uri}");
        }
        let start = json!({ "startingPoint": oid });
        ann.post("/api/models/ann/m/branch/back", start).await.expect(404);
    }
    assert!(is_fetched(&ann, &head(&ann, "main").await).await);
    assert_eq!(ann.get("/ann/m/resolve/main/a.txt").await.expect(200).text(), "one\n");
    let after = hub.count("SELECT used_bytes FROM repo");
    assert!(after + 19_000 < before, "{before} {after}");
    assert_eq!(hub.count("SELECT COUNT(*) FROM git_pack"), 1);
    is_whole(&hub).await;
    // What nobody names leaves the disk with the next collection.
    assert_eq!(hub.count("SELECT COUNT(*) FROM git_loss"), 0);
    hub.advance_seconds(LATER);
    let done = hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
    assert!((done.unpruned, done.freed_bytes > 20_000) == (0, true), "{done:?}");
    is_whole(&hub).await;
    hub.finish().await;
}

#[tokio::test]
async fn what_lost_nothing_is_left_alone() {
    let (hub, ann) = scene().await;
    commit(&ann, "ann/m", &[put("a.txt", "two\n")]).await.expect(200);
    collect(&hub).await;
    assert_eq!(hub.run_jobs().await, 0);
    // Asked for, and nothing is lost: the branch has come back.
    let old = head(&ann, "main").await;
    ann.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(200);
    collect(&hub).await;
    let reply = crate::push::push(&ann, &[("refs/heads/old", NONE, &old)], EMPTY_PACK).await;
    let reply = reply.expect(200).text();
    assert!(reply.contains("ok refs/heads/old"), "{reply}");
    let packs = hub.count("SELECT COUNT(*) FROM git_pack");
    assert_eq!(hub.run_jobs().await, 1);
    assert_eq!(hub.count("SELECT COUNT(*) FROM git_pack"), packs);
    assert_eq!(hub.count("SELECT prunings FROM repo") + hub.count("SELECT COUNT(*) FROM git_loss"), 0);
    is_whole(&hub).await;
    hub.finish().await;
}

#[tokio::test]
async fn all_that_refs_and_commits_in_their_grace_need_is_kept() {
    let (hub, ann) = scene().await;
    ann.post("/api/models/ann/m/tag/main", json!({ "tag": "v1", "message": "first" })).await.expect(200);
    // A commit without files: git knows its tree wherever it is.
    ann.post("/api/models/ann/m/branch/empty", json!({ "emptyBranch": true })).await.expect(200);
    let pulled = json!({ "summary": "a proposal" });
    let operations = [put("pulled.txt", "pulled")];
    commit_with(&ann, "ann/m", "main?create_pr=1", pulled, &operations).await.expect(200);
    let gone = leave_secret(&ann).await;
    collect(&hub).await;
    // Left a moment ago: in its grace.
    ann.post("/api/models/ann/m/branch/exp", json!({})).await.expect(200);
    let header = json!({ "summary": "x" });
    commit_with(&ann, "ann/m", "exp", header, &[put("dir/exp.txt", "left")]).await.expect(200);
    let left = head(&ann, "exp").await;
    ann.delete("/api/models/ann/m/branch/exp", json!({})).await.expect(200);
    hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
    assert!(hub.run_jobs().await > 0);
    assert!(is_fetched(&ann, &left).await && !is_fetched(&ann, &gone[0]).await);
    assert_eq!(ann.get(&format!("/ann/m/resolve/{left}/dir/exp.txt")).await.expect(200).text(), "left");
    assert_eq!(ann.get("/ann/m/resolve/v1/a.txt").await.expect(200).text(), "one\n");
    assert_eq!(ann.get("/ann/m/resolve/refs%2Fpr%2F1/pulled.txt").await.expect(200).text(), "pulled");
    assert!(is_fetched(&ann, &head(&ann, "empty").await).await);
    is_whole(&hub).await;
    // And goes in its turn.
    collect(&hub).await;
    hub.run_jobs().await;
    assert!(!is_fetched(&ann, &left).await);
    is_whole(&hub).await;
    hub.finish().await;
}

/// A push that stops in the middle of its pack, until what is returned sends the rest.
async fn half_a_push(
    hub: &TestHub,
    client: &Client,
    (name, new): (&str, &str),
) -> (tokio::sync::mpsc::Sender<Result<Bytes, std::io::Error>>, tokio::task::JoinHandle<Reply>) {
    let command = line(&format!("{NONE} {new} {name}\0report-status"));
    let start = [command.as_bytes(), b"0000", &EMPTY_PACK[..12]].concat();
    let (rest, parts) = tokio::sync::mpsc::channel(1);
    let stream =
        futures_util::stream::unfold(parts, |mut parts| async { Some((parts.recv().await?, parts)) });
    let (client, body) = (client.clone(), Body::from_stream(stream.fuse()));
    let asking = tokio::spawn(async move {
        let headers = [("content-type", "application/x-git-receive-pack-request")];
        client.send(Method::POST, "/ann/m/git-receive-pack", &headers, body).await
    });
    rest.send(Ok(start.into())).await.unwrap();
    let tmp = hub.data().join("cache/tmp");
    for _ in 0..500 {
        let mut found = std::fs::read_dir(&tmp).into_iter().flatten().flatten();
        if found.any(|entry| entry.path().join("objects/info/alternates").exists()) {
            return (rest, asking);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the push was not received");
}

#[tokio::test]
async fn a_push_that_builds_upon_what_was_pruned_meanwhile_is_refused() {
    let (hub, ann) = scene().await;
    let gone = leave_secret(&ann).await;
    collect(&hub).await;
    // It names a commit that it does not bring: it is in the packs by chance.
    let (rest, asking) = half_a_push(&hub, &ann, ("refs/heads/old", &gone[0])).await;
    assert_eq!(hub.run_jobs().await, 1);
    rest.send(Ok(EMPTY_PACK[12..].into())).await.unwrap();
    drop(rest);
    let reply = asking.await.unwrap().expect(200).text();
    assert!(reply.contains("push again") && !reply.contains("ok refs"), "{reply}");
    is_whole(&hub).await;
    let again = crate::push::push(&ann, &[("refs/heads/old", NONE, &gone[0])], EMPTY_PACK).await;
    assert!(!again.text().contains("ok refs/heads/old"), "{}", again.text());
    // One that builds upon nothing that went is told the same, and goes through the next time.
    let main = head(&ann, "main").await;
    crate::push::push(&ann, &[("refs/heads/new", NONE, &main)], EMPTY_PACK).await.expect(200);
    assert_eq!(head(&ann, "new").await, main);
    assert!(!is_fetched(&ann, &gone[0]).await);
    is_whole(&hub).await;
    hub.finish().await;
}

#[tokio::test]
async fn commits_while_packs_are_pruned_lose_nothing() {
    let (hub, ann) = scene().await;
    for round in 0..3u64 {
        leave_secret(&ann).await;
        collect(&hub).await;
        let writer = ann.clone();
        let writing = tokio::spawn(async move {
            for n in 0..12u64 {
                let name = format!("r{round}/{n}.txt");
                commit(&writer, "ann/m", &[put(&name, noise(500, n))]).await.expect(200);
            }
        });
        hub.run_jobs().await;
        writing.await.unwrap();
        hub.advance_seconds(LATER);
        hub.run_jobs().await;
        is_whole(&hub).await;
    }
    assert!(hub.count("SELECT prunings FROM repo") > 0);
    assert_eq!(hub.count("SELECT COUNT(*) FROM git_loss WHERE commits > 0"), 0);
    hub.finish().await;
}

#[tokio::test]
async fn a_fetch_under_way_is_not_disturbed() {
    let (hub, ann) = scene().await;
    let files: Vec<_> = (0..12).map(|n| put(&format!("f{n}.bin"), noise(3_000_000, n))).collect();
    commit(&ann, "ann/m", &files).await.expect(200);
    let old = head(&ann, "main").await;
    let gone: Vec<_> = (0..12).map(|n| delete(&format!("f{n}.bin"))).collect();
    commit(&ann, "ann/m", &gone).await.expect(200);
    ann.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(200);
    collect(&hub).await;
    let headers = [("content-type", REQUEST), V2];
    let mut body = ann.begin(Method::POST, "/ann/m/git-upload-pack", &headers, Body::from(wants(&old))).await;
    let mut read = body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    assert_eq!(hub.run_jobs().await, 1);
    assert!(!is_fetched(&ann, &old).await);
    // The pack goes to its end, with all that was asked for.
    while let Some(frame) = body.frame().await {
        read += frame.unwrap().into_data().unwrap().len();
    }
    assert!(read > 36_000_000, "{read}");
    is_whole(&hub).await;
    hub.finish().await;
}

#[tokio::test]
async fn what_a_proposer_brought_counts_until_its_bytes_are_gone() {
    let (hub, ann) = scene().await;
    let bob = hub.user("bob").await;
    for n in 1..=2u64 {
        let header = json!({ "summary": "a proposal", "description": "why" });
        let operations = [put("b.bin", noise(30_000, n))];
        commit_with(&bob, "ann/m", "main?create_pr=1", header, &operations).await.expect(200);
    }
    let counted = || hub.count("SELECT COALESCE(SUM(bytes), 0) FROM proposal_commit");
    let both = counted();
    assert!(both > 60_000);
    let heads = [head(&ann, "refs%2Fpr%2F1").await, head(&ann, "refs%2Fpr%2F2").await];
    for n in 1..=2 {
        let status = json!({ "status": "closed" });
        let route = format!("/api/models/ann/m/discussions/{n}");
        ann.post(&format!("{route}/status"), status).await.expect(200);
        if n == 1 {
            ann.delete(&format!("{route}/ref"), json!({})).await.expect(200);
        }
    }
    assert_eq!(counted(), both, "the bytes are here");
    collect(&hub).await;
    assert_eq!(counted(), both, "dropped, and in the packs still");
    assert_eq!(hub.run_jobs().await, 1);
    let one = counted();
    assert!(one > 30_000 && one < both - 30_000, "{one} of {both}");
    assert!(!is_fetched(&ann, &heads[0]).await && is_fetched(&ann, &heads[1]).await);
    is_whole(&hub).await;
    // With the whole discussion: nobody could give the room back any more, so it is not held against who proposed it.
    ann.delete("/api/models/ann/m/discussions/2", json!({})).await.expect(200);
    assert_eq!(counted(), 0);
    is_whole(&hub).await;
    collect(&hub).await;
    hub.run_jobs().await;
    assert_eq!(counted(), 0);
    assert!(!is_fetched(&ann, &heads[1]).await);
    is_whole(&hub).await;
    hub.finish().await;
}

#[tokio::test]
async fn what_a_branch_has_taken_over_does_not_count_for_who_proposed_it() {
    let (hub, ann) = scene().await;
    let bob = hub.user("bob").await;
    let header = json!({ "summary": "a proposal", "description": "why" });
    let operations = [put("b.bin", noise(30_000, 1))];
    commit_with(&bob, "ann/m", "main?create_pr=1", header, &operations).await.expect(200);
    let theirs = head(&ann, "refs%2Fpr%2F1").await;
    ann.post("/api/models/ann/m/branch/taken", json!({ "startingPoint": theirs })).await.expect(200);
    ann.post("/api/models/ann/m/discussions/1/status", json!({ "status": "closed" })).await.expect(200);
    ann.delete("/api/models/ann/m/discussions/1/ref", json!({})).await.expect(200);
    let counted = || hub.count("SELECT COALESCE(SUM(bytes), 0) FROM proposal_commit");
    assert!(counted() > 30_000);
    hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
    assert_eq!(counted(), 0);
    assert!(is_fetched(&ann, &theirs).await);
    is_whole(&hub).await;
    hub.finish().await;
}

/// A copy has the packs of its original, with all that is in them.
#[tokio::test]
async fn a_copy_is_pruned_of_what_its_original_had_lost() {
    let (hub, ann) = scene().await;
    let gone = leave_secret(&ann).await;
    collect(&hub).await;
    let body = json!({ "repository": "ann/copy" });
    ann.post("/api/models/ann/m/duplicate", body).await.expect(200);
    hub.run_jobs().await;
    assert!(!is_fetched(&ann, &gone[0]).await);
    collect(&hub).await;
    hub.run_jobs().await;
    assert_eq!(hub.count("SELECT COUNT(*) FROM git_loss"), 0);
    assert_eq!(hub.count("SELECT COUNT(*) FROM repo WHERE prunings = 1"), 2);
    is_whole(&hub).await;
    hub.finish().await;
}

/// The packs in the node's copies of repositories.
fn copies(hub: &TestHub) -> Vec<PathBuf> {
    let found = std::fs::read_dir(hub.data().join("cache/git")).unwrap().flatten().map(|entry| entry.path());
    let found = found.filter(|path| path.extension().is_some_and(|end| end == "git"));
    found.map(|path| path.join("objects/pack")).collect()
}

fn names(folder: &Path) -> BTreeSet<OsString> {
    std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name()).collect()
}

/// One file of which both sides change a part, and what comes of that.
pub fn sides() -> [String; 4] {
    let text = |first: &str, last: &str| format!("{first}\n{}{last}\n", "line\n".repeat(10));
    [text("a", "b"), text("A", "b"), text("a", "B"), text("A", "B")]
}

/// A pull request of ann's that changes the file upon what she has done to it since; its number.
pub async fn two_sides(client: &Client) -> u64 {
    let [base, mine, yours, _] = sides();
    commit(client, "ann/m", &[put("f", base)]).await.expect(200);
    let header = json!({ "summary": "a proposal" });
    let opened = commit_with(client, "ann/m", "main?create_pr=1", header, &[put("f", yours)]).await;
    commit(client, "ann/m", &[put("f", mine)]).await.expect(200);
    let url = opened.expect(200).json()["pullRequestUrl"].as_str().unwrap().to_owned();
    url.rsplit('/').next().unwrap().parse().unwrap()
}

/// As on another node, whose copy is not brought up to date yet.
#[tokio::test]
async fn nothing_is_built_upon_what_is_left_in_a_copy() {
    let (hub, ann) = scene().await;
    // What will be merged later has been there before.
    commit(&ann, "ann/m", &[put("by-chance", &sides()[3])]).await.expect(200);
    commit(&ann, "ann/m", &[delete("by-chance")]).await.expect(200);
    let gone = leave_secret(&ann).await;
    let (copy, kept) = (copies(&hub).remove(0), hub.data().join("kept"));
    std::fs::create_dir(&kept).unwrap();
    for name in names(&copy) {
        std::fs::copy(copy.join(&name), kept.join(&name)).unwrap();
    }
    collect(&hub).await;
    assert_eq!(hub.run_jobs().await, 1);
    assert_eq!(names(&copy).len(), 2, "the pack and its index");
    for name in names(&kept) {
        std::fs::copy(kept.join(&name), copy.join(&name)).unwrap();
    }
    let refused = crate::push::push(&ann, &[("refs/heads/old", NONE, &gone[0])], EMPTY_PACK).await;
    assert!(!refused.expect(200).text().contains("ok refs/heads/old"));
    let number = two_sides(&ann).await;
    ann.post(&format!("/api/models/ann/m/discussions/{number}/merge"), json!({})).await.expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/f").await.expect(200).text(), sides()[3]);
    for oid in &gone {
        assert!(!is_fetched(&ann, oid).await, "{oid}");
    }
    // The proof is what is there without them.
    for name in names(&kept) {
        std::fs::remove_file(copy.join(&name)).unwrap();
    }
    assert!(is_fetched(&ann, &head(&ann, "main").await).await);
    is_whole(&hub).await;
    hub.finish().await;
}

/// Of a change that fails in its transaction nothing is left in the copy, for others to build upon.
#[tokio::test]
async fn the_pack_of_a_push_that_fails_leaves_the_copy() {
    let (hub, ann) = scene().await;
    let anns = copies(&hub).remove(0);
    let bob = hub.user("bob").await;
    create(&bob, "model", "m").await.expect(200);
    // One pack, with all that its only commit needs.
    let bobs = copies(&hub).into_iter().find(|copy| *copy != anns).unwrap();
    let name = names(&bobs).into_iter().find(|name| name.to_string_lossy().ends_with(".pack")).unwrap();
    let pack = std::fs::read(bobs.join(name)).unwrap();
    let refs = bob.get("/api/models/bob/m/refs").await.expect(200).json();
    let theirs = refs["branches"][0]["targetCommit"].as_str().unwrap().to_owned();
    let before = names(&anns);
    hub.tamper(
        "CREATE TRIGGER late BEFORE INSERT ON git_ref BEGIN SELECT RAISE(ABORT, 'as the test wants it'); END",
    );
    let moves = [("refs/heads/theirs", NONE, theirs.as_str())];
    let failed = crate::push::push(&ann, &moves, &pack).await;
    assert!(!failed.text().contains("ok refs/heads/theirs"), "{}", failed.text());
    assert_eq!(names(&anns), before);
    hub.tamper("DROP TRIGGER late");
    let refused = crate::push::push(&ann, &moves, EMPTY_PACK).await;
    assert!(!refused.text().contains("ok refs/heads/theirs"), "{}", refused.text());
    is_whole(&hub).await;
    let taken = crate::push::push(&ann, &moves, &pack).await;
    assert!(taken.text().contains("ok refs/heads/theirs"), "{}", taken.text());
    is_whole(&hub).await;
    hub.finish().await;
}

/// What a commit or a merge names without bringing it was looked up before its transaction.
#[tokio::test]
async fn a_pruning_just_before_a_transaction_is_seen_there() {
    let (hub, ann) = scene().await;
    let number = two_sides(&ann).await;
    let last = head(&ann, "main").await;
    hub.tamper(
        "CREATE TRIGGER pruned AFTER UPDATE ON git_ref BEGIN UPDATE repo SET prunings = prunings + 1; END",
    );
    let merge = format!("/api/models/ann/m/discussions/{number}/merge");
    let revert = format!("/api/models/ann/m/revert/{last}");
    ann.post(&merge, json!({})).await.expect(412);
    ann.post(&revert, json!({})).await.expect(412);
    assert_eq!(head(&ann, "main").await, last);
    // Whoever brings all that is new is not held up.
    commit(&ann, "ann/m", &[put("other", "x")]).await.expect(200);
    hub.tamper("DROP TRIGGER pruned");
    ann.post(&merge, json!({})).await.expect(200);
    is_whole(&hub).await;
    hub.finish().await;
}

/// The body of a commit comes slowly, and what it was begun upon is gone before it has come.
#[tokio::test]
async fn a_commit_that_outlasts_a_pruning_is_made_upon_what_there_is_then() {
    let (hub, ann) = scene().await;
    let gone = leave_secret(&ann).await;
    let (rest, parts) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let stream =
        futures_util::stream::unfold(parts, |mut parts| async { Some((parts.recv().await?, parts)) });
    let (client, body) = (ann.clone(), Body::from_stream(stream.fuse()));
    let asking = tokio::spawn(async move {
        let headers = [("content-type", "application/x-ndjson")];
        client.send(Method::POST, "/api/models/ann/m/commit/main", &headers, body).await
    });
    let line = |value: serde_json::Value| Ok(Bytes::from(format!("{value}\n")));
    rest.send(line(json!({ "key": "header", "value": { "summary": "slow" } }))).await.unwrap();
    // The same bytes as those that will be pruned.
    let secret = put("dir/secret.bin", noise(20_000, 5));
    rest.send(line(secret)).await.unwrap();
    for _ in 0..500 {
        let tmp = std::fs::read_dir(hub.data().join("cache/tmp")).into_iter().flatten().flatten();
        if tmp.count() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    collect(&hub).await;
    assert_eq!(hub.run_jobs().await, 1);
    assert!(!is_fetched(&ann, gone.last().unwrap()).await);
    rest.send(line(put("b.txt", "b"))).await.unwrap();
    drop(rest);
    asking.await.unwrap().expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/dir/secret.bin").await.expect(200).body, noise(20_000, 5));
    is_whole(&hub).await;
    hub.finish().await;
}

/// What pull requests say of commits that are gone is read without them.
#[tokio::test]
async fn pages_of_pull_requests_outlive_their_commits() {
    let (hub, ann) = scene().await;
    let number = two_sides(&ann).await;
    let route = format!("/api/models/ann/m/discussions/{number}");
    ann.post(&format!("{route}/merge"), json!({})).await.expect(200);
    ann.delete(&format!("{route}/ref"), json!({})).await.expect(200);
    ann.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(200);
    hub.run_jobs().await;
    collect(&hub).await;
    assert_eq!(hub.run_jobs().await, 1);
    for client in [&ann, &hub.anonymous()] {
        let shown = client.get(&format!("{route}?diff=1")).await.expect(200).json();
        assert_eq!(shown["status"], "merged");
        client.get("/api/models/ann/m/discussions").await.expect(200);
    }
    for rest in ["/storage", "/conflicts", ".diff"] {
        let status = ann.get(&format!("{route}{rest}")).await.status;
        assert!(status == 200 || status == 404 || status == 409, "{rest}: {status}");
    }
    is_whole(&hub).await;
    hub.finish().await;
}

/// What proposers have replaced themselves is gone, and counts for nobody: the owner is let off what is there, and
/// nothing else.
#[tokio::test]
async fn who_replaces_what_it_proposed_lets_the_owner_off_nothing_that_is_gone() {
    let (hub, ann) = scene().await;
    let bob = hub.user("bob").await;
    let header = json!({ "summary": "a proposal" });
    for n in 0..3 {
        let at = if n == 0 { "main?create_pr=1" } else { "refs%2Fpr%2F1" };
        commit_with(&bob, "ann/m", at, header.clone(), &[put("b.bin", noise(30_000, n))]).await.expect(200);
    }
    let proposed = || hub.count("SELECT proposed_bytes FROM repo");
    let before = proposed();
    assert!(before > 90_000);
    // One commit with the last of them.
    ann.post("/api/models/ann/m/super-squash/refs%2Fpr%2F1", json!({})).await.expect(200);
    collect(&hub).await;
    assert_eq!(proposed(), before, "the bytes are here");
    assert_eq!(hub.run_jobs().await, 1);
    let after = proposed();
    assert!(after > 30_000 && after < 40_000, "{after} of {before}");
    is_whole(&hub).await;
    hub.finish().await;
}

/// Collection may drop more while packs are written anew.
#[tokio::test]
async fn what_is_lost_during_a_pruning_is_pruned_by_the_next() {
    let (hub, ann) = scene().await;
    let gone = leave_secret(&ann).await;
    collect(&hub).await;
    hub.tamper(
        "CREATE TRIGGER more AFTER UPDATE OF prunings ON repo BEGIN UPDATE git_loss SET commits = commits + 1; END",
    );
    assert_eq!(hub.run_jobs().await, 1);
    hub.tamper("DROP TRIGGER more");
    assert!(!is_fetched(&ann, &gone[0]).await);
    assert_eq!(hub.count("SELECT commits FROM git_loss"), 1);
    let done = hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
    assert_eq!((done.unpruned, hub.run_jobs().await), (1, 1));
    assert_eq!(hub.count("SELECT COUNT(*) FROM git_loss"), 0);
    is_whole(&hub).await;
    hub.finish().await;
}
