//! The git side of pull requests: what strangers may bring, what merging does, and those who would do more.

use axum::body::Body;
use bastide_core::Role;
use bastide_hub::access::Admin;
use bastide_testkit::{Client, Reply, TestHub};
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::push::push;
use crate::uploads::{batch, lfs_line, local, noise, put_bytes, sha256, shard, upload, xorb};
use crate::{commit, commit_with, create, delete, put};

/// A public repository of ann's with one file, and bob, who has nothing to do with it.
async fn scene() -> (TestHub, Client, Client) {
    scene_with(|_| {}).await
}

async fn scene_with(change: impl FnOnce(&mut bastide_hub::Config)) -> (TestHub, Client, Client) {
    let hub = TestHub::with(|config| {
        config.default_visibility = bastide_core::Visibility::Public;
        change(config);
    })
    .await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a.txt", "one\n")]).await.expect(200);
    (hub, ann, bob)
}

async fn propose(client: &Client, id: &str, operations: &[Value]) -> Reply {
    commit_with(
        client,
        id,
        "main?create_pr=1",
        json!({ "summary": "a proposal", "description": "why" }),
        operations,
    )
    .await
}

/// Opens a pull request; its number.
async fn proposed(client: &Client, id: &str, operations: &[Value]) -> u64 {
    let answer = propose(client, id, operations).await.expect(200).json();
    let url = answer["pullRequestUrl"].as_str().unwrap();
    url.rsplit('/').next().unwrap().parse().unwrap()
}

fn route(id: &str, number: u64, rest: &str) -> String {
    format!("/api/models/{id}/discussions/{number}{rest}")
}

async fn merge(client: &Client, number: u64) -> Reply {
    client.post(&route("ann/m", number, "/merge"), json!({})).await
}

async fn head(client: &Client, rev: &str) -> String {
    let found = client.get(&format!("/api/models/ann/m/revision/{rev}")).await.expect(200).json();
    found["sha"].as_str().unwrap().to_owned()
}

async fn text(client: &Client, rev: &str, path: &str) -> Reply {
    client.get(&format!("/ann/m/resolve/{rev}/{path}")).await
}

async fn detail(client: &Client, number: u64) -> Value {
    client.get(&route("ann/m", number, "")).await.expect(200).json()
}

/// A Xet token of somebody for uploads to a pull request.
async fn xet_token(client: &Client, rev: &str) -> Reply {
    client.get(&format!("/api/models/ann/m/xet-write-token/{rev}")).await
}

const PR1: &str = "refs%2Fpr%2F1";

#[tokio::test]
async fn a_stranger_opens_a_pull_request_with_a_commit_and_a_writer_merges_it() {
    let (hub, ann, bob) = scene().await;
    let before = head(&ann, "main").await;
    let answer = propose(&bob, "ann/m", &[put("b.txt", "two\n")]).await.expect(200).json();
    assert_eq!(answer["pullRequestUrl"], "http://hub.test/ann/m/discussions/1");
    let commit = answer["commitOid"].as_str().unwrap().to_owned();
    assert_eq!(answer["commitUrl"], format!("http://hub.test/ann/m/commit/{commit}"));
    // Nothing of it is in the branch.
    assert_eq!(head(&ann, "main").await, before);
    assert_eq!(head(&ann, PR1).await, commit);
    text(&ann, "main", "b.txt").await.expect(404);
    assert_eq!(text(&bob, PR1, "b.txt").await.expect(200).text(), "two\n");
    let refs = ann.get("/api/models/ann/m/refs?include_prs=1").await.json();
    assert_eq!(refs["pullRequests"][0]["ref"], "refs/pr/1");
    assert_eq!(refs["pullRequests"][0]["targetCommit"], commit.as_str());
    assert!(ann.get("/api/models/ann/m/refs").await.json().get("pullRequests").is_none());

    let found = detail(&ann, 1).await;
    assert_eq!((found["status"].as_str(), found["isPullRequest"].as_bool()), (Some("open"), Some(true)));
    assert_eq!((&found["title"], &found["author"]["name"]), (&json!("a proposal"), &json!("bob")));
    assert_eq!(found["changes"], json!({ "base": "refs/heads/main" }));
    assert_eq!(found["filesWithConflicts"], false);
    let events = found["events"].as_array().unwrap();
    assert_eq!(events[0]["data"]["latest"]["raw"], "why");
    assert_eq!(events[1]["type"], "commit");
    assert_eq!(events[1]["data"], json!({ "subject": "a proposal", "oid": commit }));

    // What it changes, also when the branch has moved on.
    let patch = async || bob.get(&route("ann/m", 1, "?diff=1")).await.expect(200).json()["diff"].clone();
    let before_merge = patch().await;
    assert!(before_merge.as_str().unwrap().contains("+++ b/b.txt\n@@ -0,0 +1 @@\n+two\n"), "{before_merge}");
    assert!(detail(&bob, 1).await.get("diff").is_none());
    let raw = bob.get("/ann/m/discussions/1/files.diff").await.expect(200);
    assert_eq!(raw.text(), before_merge);
    assert_eq!(raw.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(raw.header("x-repo-commit"), commit);
    merge(&bob, 1).await.expect(403);
    merge(&hub.anonymous(), 1).await.expect(401);
    let merged =
        ann.post(&route("ann/m", 1, "/merge"), json!({ "comment": "thanks" })).await.expect(200).json();
    let now = head(&ann, "main").await;
    assert_eq!((&merged["status"], &merged["mergeCommitId"]), (&json!("merged"), &json!(now)));
    assert_eq!(text(&ann, "main", "b.txt").await.expect(200).text(), "two\n");
    let found = detail(&ann, 1).await;
    assert_eq!((&found["status"], &found["changes"]["mergeCommitId"]), (&json!("merged"), &json!(now)));
    let kinds: Vec<&str> =
        found["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["comment", "commit", "comment", "status-change"]);
    assert_eq!(patch().await, before_merge);
    assert_eq!(ann.get("/ann/m/discussions/1/files.diff").await.expect(200).text(), before_merge);
    // Both histories, the proposer's commit as its own.
    let commits = ann.get("/api/models/ann/m/commits/main").await.json();
    let authors: Vec<_> =
        commits.as_array().unwrap().iter().map(|c| c["authors"][0]["user"].clone()).collect();
    assert_eq!(commits.as_array().unwrap().len(), 4, "{commits}");
    assert!(authors[0] == "ann" && authors.contains(&json!("bob")), "{authors:?}");
    assert_eq!(commits[0]["title"], "a proposal (#1)");
    // The last commit of the file is the one that brought it.
    let tree = ann.get("/api/models/ann/m/tree/main?expand=true").await.json();
    let file = tree.as_array().unwrap().iter().find(|file| file["path"] == "b.txt").unwrap();
    assert_eq!(file["lastCommit"]["id"], commit.as_str());
    merge(&ann, 1).await.expect(409);
    hub.finish().await;
}

#[tokio::test]
async fn a_proposer_moves_nothing_but_refs_of_its_own_pull_requests() {
    let (hub, ann, bob) = scene().await;
    let eve = hub.user("eve").await;
    let before = head(&ann, "main").await;
    let number = proposed(&bob, "ann/m", &[put("b.txt", "two")]).await;
    let header = json!({ "summary": "more" });
    // Somebody else's, whatever the query says.
    commit_with(&eve, "ann/m", PR1, header.clone(), &[put("e.txt", "x")]).await.expect(403);
    commit_with(&hub.anonymous(), "ann/m", PR1, header.clone(), &[put("e.txt", "x")]).await.expect(401);
    xet_token(&eve, PR1).await.expect(403);
    let preupload = json!({ "files": [{ "path": "x", "size": 1, "sample": "" }] });
    eve.post("/api/models/ann/m/preupload/refs%2Fpr%2F1", preupload.clone()).await.expect(403);
    bob.post("/api/models/ann/m/preupload/refs%2Fpr%2F1", preupload.clone()).await.expect(200);
    bob.post("/api/models/ann/m/preupload/main", preupload.clone()).await.expect(403);
    bob.post("/api/models/ann/m/preupload/main?create_pr=True", preupload).await.expect(200);
    // With `create_pr` a pull request's ref is no base, nor is a commit, a tag or nothing.
    ann.post("/api/models/ann/m/tag/main", json!({ "tag": "v1" })).await.expect(200);
    for base in [PR1, before.as_str(), "v1", "refs%2Ftags%2Fv1", "nowhere", "refs%2Fconvert%2Fx"] {
        let rev = format!("{base}?create_pr=1");
        let refused =
            commit_with(&eve, "ann/m", &rev, header.clone(), &[put("e.txt", "x")]).await.expect(404);
        assert_eq!(refused.header("x-error-code"), "RevisionNotFound", "{base}");
    }
    for (client, expected) in [(&bob, 403), (&eve, 403)] {
        commit_with(client, "ann/m", "main", header.clone(), &[put("e.txt", "x")]).await.expect(expected);
        client.post("/api/models/ann/m/branch/mine", json!({})).await.expect(expected);
        client.post("/api/models/ann/m/super-squash/refs%2Fpr%2F1", json!({})).await.expect(expected);
        client.delete(&route("ann/m", number, "/ref"), json!({})).await.expect(expected);
        client.get(&route("ann/m", number, "/storage")).await.expect(expected);
    }
    // Its own, and a writer's: each tells of itself.
    commit_with(&bob, "ann/m", PR1, header.clone(), &[put("c.txt", "three")]).await.expect(200);
    commit_with(&ann, "ann/m", PR1, header.clone(), &[put("d.txt", "four")]).await.expect(200);
    assert_eq!(head(&ann, "main").await, before);
    let events = detail(&ann, number).await["events"].clone();
    let commits: Vec<_> =
        events.as_array().unwrap().iter().filter(|event| event["type"] == "commit").collect();
    assert_eq!(commits.len(), 3);
    assert_eq!(commits[2]["author"]["name"], "ann");
    // A head that was not seen is refused; a discussion has no commits; nor has what is not there.
    let stale = json!({ "summary": "late", "parentCommit": before });
    commit_with(&bob, "ann/m", PR1, stale, &[put("c.txt", "x")]).await.expect(412);
    ann.post("/api/models/ann/m/discussions", json!({ "title": "words", "description": "" }))
        .await
        .expect(200);
    for rev in ["refs%2Fpr%2F2", "refs%2Fpr%2F99", "refs%2Fpr%2F0"] {
        commit_with(&ann, "ann/m", rev, header.clone(), &[put("c.txt", "x")]).await.expect(404);
        commit_with(&bob, "ann/m", rev, header.clone(), &[put("c.txt", "x")]).await.expect(403);
    }
    hub.finish().await;
}

#[tokio::test]
async fn closed_and_merged_pull_requests_take_no_commits() {
    let (hub, ann, bob) = scene().await;
    let header = json!({ "summary": "more" });
    proposed(&bob, "ann/m", &[put("b.txt", "two")]).await;
    bob.post(&route("ann/m", 1, "/status"), json!({ "status": "closed" })).await.expect(200);
    for client in [&bob, &ann] {
        let refused =
            commit_with(client, "ann/m", PR1, header.clone(), &[put("c.txt", "x")]).await.expect(403);
        assert!(refused.text().contains("reopen it"), "{}", refused.text());
    }
    merge(&ann, 1).await.expect(409);
    bob.post(&route("ann/m", 1, "/status"), json!({ "status": "open" })).await.expect(200);
    merge(&ann, 1).await.expect(200);
    commit_with(&bob, "ann/m", PR1, header, &[put("c.txt", "x")]).await.expect(403);
    hub.finish().await;
}

#[tokio::test]
async fn drafts_take_commits_are_published_and_only_then_merged() {
    let (hub, ann, bob) = scene().await;
    let body = json!({ "title": "a draft", "description": "later", "pullRequest": true });
    bob.post("/api/models/ann/m/discussions", body).await.expect(200);
    assert_eq!(detail(&bob, 1).await["status"], "draft");
    commit_with(&bob, "ann/m", PR1, json!({ "summary": "work" }), &[put("b.txt", "two")]).await.expect(200);
    let refused = merge(&ann, 1).await.expect(409);
    assert!(refused.text().contains("is a draft"), "{}", refused.text());
    bob.post(&route("ann/m", 1, "/status"), json!({ "status": "open" })).await.expect(200);
    merge(&ann, 1).await.expect(200);
    assert_eq!(text(&ann, "main", "b.txt").await.expect(200).text(), "two");
    // One without commits of its own has nothing to merge.
    let body = json!({ "title": "empty", "description": "", "pullRequest": true });
    bob.post("/api/models/ann/m/discussions", body).await.expect(200);
    bob.post(&route("ann/m", 2, "/status"), json!({ "status": "open" })).await.expect(200);
    let refused = merge(&ann, 2).await.expect(409);
    assert!(refused.text().contains("nothing to merge"), "{}", refused.text());
    hub.finish().await;
}

#[tokio::test]
async fn both_sides_of_a_merge_are_kept_and_conflicts_are_named() {
    let (hub, ann, bob) = scene().await;
    let lines = |first: &str, last: &str| format!("{first}\n{}{last}\n", "line\n".repeat(20));
    commit(&ann, "ann/m", &[put("code.py", lines("one", "two")), put("x/y.txt", "old")]).await.expect(200);
    proposed(&bob, "ann/m", &[put("code.py", lines("one", "bob")), put("new/f.txt", "f"), delete("x")]).await;
    proposed(&bob, "ann/m", &[put("code.py", lines("bob", "two")), put("a.txt", "bob\n")]).await;
    commit(&ann, "ann/m", &[put("code.py", lines("ann", "two")), put("a.txt", "ann\n")]).await.expect(200);

    assert_eq!(detail(&ann, 1).await["filesWithConflicts"], false);
    assert_eq!(detail(&hub.anonymous(), 2).await["filesWithConflicts"], json!(["a.txt", "code.py"]));
    merge(&ann, 1).await.expect(200);
    assert_eq!(text(&ann, "main", "code.py").await.expect(200).text(), lines("ann", "bob"));
    assert_eq!(text(&ann, "main", "new/f.txt").await.expect(200).text(), "f");
    text(&ann, "main", "x/y.txt").await.expect(404);
    assert_eq!(text(&ann, "main", "a.txt").await.expect(200).text(), "ann\n");
    let before = head(&ann, "main").await;
    let refused = merge(&ann, 2).await.expect(409).json();
    assert_eq!(refused["filesWithConflicts"], json!(["a.txt", "code.py"]));
    assert!(refused["error"].as_str().unwrap().contains("a.txt, code.py"), "{refused}");
    assert_eq!(head(&ann, "main").await, before);
    assert_eq!(detail(&ann, 2).await["status"], "open");
    hub.finish().await;
}

#[tokio::test]
async fn squashing_makes_one_commit_that_names_its_authors() {
    let (hub, ann, bob) = scene().await;
    proposed(&bob, "ann/m", &[put("b.txt", "two")]).await;
    commit_with(&bob, "ann/m", PR1, json!({ "summary": "more" }), &[put("c.txt", "three")]).await.expect(200);
    let before = head(&ann, "main").await;
    ann.post(&route("ann/m", 1, "/merge"), json!({ "squash": true })).await.expect(200);
    let commits = ann.get("/api/models/ann/m/commits/main").await.json();
    assert_eq!(commits[1]["id"], before.as_str(), "{commits}");
    let message = commits[0]["message"].as_str().unwrap();
    assert!(message.contains("- a proposal (") && message.contains("- more ("), "{message}");
    assert!(message.ends_with("Co-authored-by: bob <bob@users.noreply.bastide.invalid>"), "{message}");
    assert_eq!(text(&ann, "main", "c.txt").await.expect(200).text(), "three");
    let tree = ann.get("/api/models/ann/m/tree/main?expand=true").await.json();
    let file = tree.as_array().unwrap().iter().find(|file| file["path"] == "c.txt").unwrap();
    assert_eq!(file["lastCommit"]["id"], commits[0]["id"]);
    hub.finish().await;
}

#[tokio::test]
async fn a_pull_request_that_was_squashed_is_merged_as_before() {
    let (hub, ann, bob) = scene().await;
    proposed(&bob, "ann/m", &[put("a.txt", "bob\n")]).await;
    commit_with(&bob, "ann/m", PR1, json!({ "summary": "more" }), &[put("c.txt", "three")]).await.expect(200);
    commit(&ann, "ann/m", &[put("d.txt", "four")]).await.expect(200);
    let squash = format!("/api/models/ann/m/super-squash/{PR1}");
    bob.post(&squash, json!({})).await.expect(403);
    ann.post(&squash, json!({ "message": "all of it" })).await.expect(200);
    let commits = ann.get(&format!("/api/models/ann/m/commits/{PR1}")).await.json();
    let titles: Vec<_> = commits.as_array().unwrap().iter().map(|commit| commit["title"].clone()).collect();
    assert_eq!(titles[0], "all of it");
    assert!(!titles.contains(&json!("more")), "{titles:?}");
    let events = detail(&ann, 1).await["events"].clone();
    assert_eq!(events.as_array().unwrap().last().unwrap()["data"]["subject"], "all of it");
    assert_eq!(detail(&ann, 1).await["filesWithConflicts"], false);
    merge(&ann, 1).await.expect(200);
    assert_eq!(text(&ann, "main", "a.txt").await.expect(200).text(), "bob\n");
    assert_eq!(text(&ann, "main", "d.txt").await.expect(200).text(), "four");
    ann.post(&squash, json!({})).await.expect(403);
    hub.finish().await;
}

/// Without a commit that both have, merging would bring back all that the branch has given up.
#[tokio::test]
async fn a_pull_request_older_than_its_squashed_branch_is_brought_onto_it_first() {
    let (hub, ann, bob) = scene().await;
    commit(&ann, "ann/m", &[put("secret.txt", "a key\n")]).await.expect(200);
    proposed(&bob, "ann/m", &[put("b.txt", "two\n")]).await;
    commit(&ann, "ann/m", &[delete("secret.txt")]).await.expect(200);
    ann.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(200);
    let before = head(&ann, "main").await;

    let found = bob.get(&route("ann/m", 1, "?diff=1")).await.expect(200).json();
    assert_eq!(found["filesWithConflicts"], true);
    let diff = found["diff"].as_str().unwrap();
    assert!(diff.contains("+++ b/b.txt") && diff.contains("+++ b/secret.txt"), "{diff}");
    for body in [json!({}), json!({ "squash": true })] {
        let refused = ann.post(&route("ann/m", 1, "/merge"), body).await.expect(409).text();
        assert!(refused.contains("shares no commit with main"), "{refused}");
        assert!(
            refused.contains("git rebase --onto origin/main") && refused.contains("refs/pr/1"),
            "{refused}"
        );
    }
    assert_eq!(head(&ann, "main").await, before);
    text(&ann, "main", "secret.txt").await.expect(404);
    // More commits upon it would be lost work, and one commit of it all is no better.
    for client in [&bob, &ann] {
        let refused =
            commit_with(client, "ann/m", PR1, json!({ "summary": "more" }), &[put("c.txt", "x")]).await;
        assert!(refused.expect(409).text().contains("rebase --onto"));
    }
    let refused = ann.post(&format!("/api/models/ann/m/super-squash/{PR1}"), json!({})).await.expect(409);
    assert!(refused.text().contains("shares no commit"));
    hub.finish().await;
}

#[tokio::test]
async fn a_pull_request_is_not_pushed_to_a_history_of_its_own() {
    let (hub, ann, bob) = scene().await;
    proposed(&bob, "ann/m", &[put("b.txt", "two\n")]).await;
    ann.post("/api/models/ann/m/branch/apart", json!({})).await.expect(200);
    ann.post("/api/models/ann/m/super-squash/apart", json!({})).await.expect(200);
    commit(&ann, "ann/m", &[put("later.txt", "x")]).await.expect(200);
    let (old, apart, main) = (head(&bob, PR1).await, head(&ann, "apart").await, head(&ann, "main").await);
    // Git sends a pack without objects when the hub has them all.
    let pack = [b"PACK\0\0\0\x02\0\0\0\0".as_slice(), &EMPTY_PACK_SUM].concat();
    let reply = push(&bob, &[("refs/pr/1", &old, &apart)], &pack).await.expect(200).text();
    assert!(reply.contains("ng refs/pr/1") && reply.contains("shares no commit with main"), "{reply}");
    assert_eq!(head(&bob, PR1).await, old);
    let reply = push(&bob, &[("refs/pr/1", &old, &main)], &pack).await.expect(200).text();
    assert!(reply.contains("ok refs/pr/1"), "{reply}");
    hub.finish().await;
}

const EMPTY_PACK_SUM: [u8; 20] = [
    0x02, 0x9d, 0x08, 0x82, 0x3b, 0xd8, 0xa8, 0xea, 0xb5, 0x10, 0xad, 0x6a, 0xc7, 0x5c, 0x82, 0x3c, 0xfd,
    0x3e, 0xd3, 0x1e,
];

#[tokio::test]
async fn a_locked_pull_request_takes_nothing_from_its_author() {
    let (hub, ann, bob) = scene().await;
    let header = json!({ "summary": "look at me" });
    proposed(&bob, "ann/m", &[put("b.txt", "two")]).await;
    ann.post(&route("ann/m", 1, "/lock"), json!({ "locked": true })).await.expect(200);
    let events = detail(&ann, 1).await["events"].as_array().unwrap().len();
    let refused = commit_with(&bob, "ann/m", PR1, header.clone(), &[put("c.txt", "x")]).await.expect(403);
    assert!(refused.text().contains("locked"), "{}", refused.text());
    let (old, main) = (head(&bob, PR1).await, head(&ann, "main").await);
    let pack = [b"PACK\0\0\0\x02\0\0\0\0".as_slice(), &EMPTY_PACK_SUM].concat();
    let reply = push(&bob, &[("refs/pr/1", &old, &main)], &pack).await.expect(200).text();
    assert!(reply.contains("ng refs/pr/1") && reply.contains("locked"), "{reply}");
    assert_eq!(detail(&ann, 1).await["events"].as_array().unwrap().len(), events);
    // Those who maintain it go on.
    commit_with(&ann, "ann/m", PR1, header.clone(), &[put("c.txt", "x")]).await.expect(200);
    ann.post(&route("ann/m", 1, "/status"), json!({ "status": "closed" })).await.expect(200);
    let refused = bob.post(&route("ann/m", 1, "/status"), json!({ "status": "open" })).await.expect(403);
    assert!(refused.text().contains("locked"), "{}", refused.text());
    assert_eq!(detail(&ann, 1).await["status"], "closed");
    ann.post(&route("ann/m", 1, "/status"), json!({ "status": "open" })).await.expect(200);
    // To close is not to go on.
    bob.post(&route("ann/m", 1, "/status"), json!({ "status": "closed" })).await.expect(200);
    ann.post(&route("ann/m", 1, "/lock"), json!({ "locked": false })).await.expect(200);
    bob.post(&route("ann/m", 1, "/status"), json!({ "status": "open" })).await.expect(200);
    commit_with(&bob, "ann/m", PR1, header, &[put("d.txt", "x")]).await.expect(200);
    hub.finish().await;
}

/// An object of a stranger's: uploaded over LFS, without a word about pull requests.
async fn bring(client: &Client, data: &[u8]) -> Reply {
    let answer =
        batch(client, "ann/m", "upload", json!(["basic", "multipart"]), data).await.expect(200).json();
    assert_eq!(answer["transfer"], "basic");
    put_bytes(client, &local(&answer["objects"][0]["actions"]["upload"]["href"]), data).await
}

#[tokio::test]
async fn large_files_of_a_proposal_are_merged_whole_with_their_attributes() {
    let (hub, ann, bob) = scene().await;
    let (one, two, three) = (noise(90_000, 1), noise(80_000, 2), noise(70_000, 3));
    upload(&ann, "ann/m", "base.weights", &one).await;
    bring(&bob, &two).await.expect(200);
    proposed(&bob, "ann/m", &[lfs_line("bob.weights", &two)]).await;
    upload(&ann, "ann/m", "ann.weights", &three).await;
    // Both sides have added a line for a file of their own.
    assert_eq!(detail(&ann, 1).await["filesWithConflicts"], false);
    merge(&ann, 1).await.expect(200);
    for (path, data) in [("base.weights", &one), ("bob.weights", &two), ("ann.weights", &three)] {
        assert_eq!(text(&ann, "main", path).await.expect(200).body, *data);
    }
    let attributes = text(&ann, "main", ".gitattributes").await.expect(200).text();
    for path in ["base.weights", "bob.weights", "ann.weights"] {
        assert_eq!(attributes.matches(&format!("{path} filter=lfs")).count(), 1, "{attributes}");
    }
    // The same file, changed by both: never by lines.
    bring(&bob, &noise(60_000, 4)).await.expect(200);
    proposed(&bob, "ann/m", &[lfs_line("base.weights", &noise(60_000, 4))]).await;
    upload(&ann, "ann/m", "base.weights", &noise(60_000, 5)).await;
    let refused = merge(&ann, 2).await.expect(409).json();
    assert_eq!(refused["filesWithConflicts"], json!(["base.weights"]));
    // What is in a branch counts for nobody any more; what waits does.
    assert_eq!(hub.count("SELECT COUNT(*) FROM proposal_commit WHERE number = 1"), 0);
    assert_eq!(hub.count("SELECT COUNT(*) FROM proposal_xorb"), 1);
    hub.finish().await;
}

#[tokio::test]
async fn the_merged_whole_is_judged() {
    let (hub, ann, bob) = scene().await;
    proposed(&bob, "ann/m", &[put("Notes.md", "n")]).await;
    commit(&ann, "ann/m", &[put("notes.md", "m")]).await.expect(200);
    let refused = merge(&ann, 1).await.expect(422);
    assert!(refused.text().contains("differs from"), "{}", refused.text());
    // Two good cards that together are none: a name that one side takes away and the other uses.
    let card = |first: &str, last: &str| format!("---\n{first}\nb: 2\nc: 3\nd: 4\ne: 5\n{last}\n---\n# hi\n");
    commit(&ann, "ann/m", &[put("README.md", card("a: &n 1", "f: 6"))]).await.expect(200);
    proposed(&bob, "ann/m", &[put("README.md", card("a: 1", "f: 6"))]).await;
    commit(&ann, "ann/m", &[put("README.md", card("a: &n 1", "f: *n"))]).await.expect(200);
    let refused = merge(&ann, 2).await.expect(400);
    assert!(refused.text().contains("Invalid metadata in README.md"), "{}", refused.text());
    // A file where the other side has put a folder.
    proposed(&bob, "ann/m", &[put("thing", "file")]).await;
    commit(&ann, "ann/m", &[put("thing/below", "x")]).await.expect(200);
    merge(&ann, 3).await.expect(409);
    for number in [1, 2, 3] {
        assert_eq!(detail(&ann, number).await["status"], "open");
    }
    hub.finish().await;
}

#[tokio::test]
async fn a_base_that_is_gone_or_has_moved_on() {
    let (hub, ann, bob) = scene().await;
    ann.post("/api/models/ann/m/branch/dev", json!({})).await.expect(200);
    let rev = "dev?create_pr=true";
    commit_with(&bob, "ann/m", rev, json!({ "summary": "for dev" }), &[put("b.txt", "b")]).await.expect(200);
    assert_eq!(detail(&ann, 1).await["changes"]["base"], "refs/heads/dev");
    ann.delete("/api/models/ann/m/branch/dev", json!({})).await.expect(200);
    assert_eq!(detail(&ann, 1).await["filesWithConflicts"], false);
    let refused = merge(&ann, 1).await.expect(409);
    assert!(refused.text().contains("refs/heads/dev, is gone"), "{}", refused.text());
    // From an older commit of the branch, and from one that it does not have.
    let old = head(&ann, "main").await;
    commit(&ann, "ann/m", &[put("d.txt", "d")]).await.expect(200);
    let header = json!({ "summary": "older", "parentCommit": old });
    commit_with(&bob, "ann/m", "main?create_pr=1", header, &[put("e.txt", "e")]).await.expect(200);
    text(&ann, "refs%2Fpr%2F2", "d.txt").await.expect(404);
    merge(&ann, 2).await.expect(200);
    text(&ann, "main", "d.txt").await.expect(200);
    let header = json!({ "summary": "foreign", "parentCommit": head(&ann, PR1).await });
    commit_with(&bob, "ann/m", "main?create_pr=1", header, &[put("f.txt", "f")]).await.expect(400);
    hub.finish().await;
}

#[tokio::test]
async fn of_racing_merges_one_wins() {
    let (hub, ann, bob) = scene().await;
    proposed(&bob, "ann/m", &[put("b.txt", "b")]).await;
    let (one, two) = tokio::join!(merge(&ann, 1), merge(&ann, 1));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    // With pushes to the branch and to the pull request at the same time nothing is lost.
    proposed(&bob, "ann/m", &[put("c.txt", "c")]).await;
    let header = json!({ "summary": "more" });
    let (push, more) = ([put("p.txt", "p")], [put("m.txt", "m")]);
    let (merged, pushed, added) = tokio::join!(
        merge(&ann, 2),
        commit(&ann, "ann/m", &push),
        commit_with(&bob, "ann/m", "refs%2Fpr%2F2", header, &more)
    );
    pushed.expect(200);
    assert!(matches!(merged.status.as_u16(), 200 | 412), "{}", merged.text());
    assert!(matches!(added.status.as_u16(), 200 | 403), "{}", added.text());
    text(&ann, "main", "p.txt").await.expect(200);
    if merged.status.is_success() {
        text(&ann, "main", "c.txt").await.expect(200);
    }
    hub.finish().await;
}

#[tokio::test]
async fn what_a_stranger_brings_is_bounded() {
    let (hub, ann, bob) = scene_with(|config| {
        config.proposal_bytes = 600_000;
        config.proposals_open = 2;
    })
    .await;
    // Before bytes move.
    let answer = batch(&bob, "ann/m", "upload", json!(["basic"]), &noise(700_000, 1)).await.expect(402);
    assert!(answer.text().contains("600000 bytes"), "{}", answer.text());
    bring(&bob, &noise(200_000, 2)).await.expect(200);
    // A link from before there was no room.
    let late = batch(&bob, "ann/m", "upload", json!(["basic"]), &noise(190_000, 3)).await.expect(200).json();
    bring(&bob, &noise(140_000, 4)).await.expect(200);
    batch(&bob, "ann/m", "upload", json!(["basic"]), &noise(180_000, 5)).await.expect(402);
    put_bytes(&bob, &local(&late["objects"][0]["actions"]["upload"]["href"]), &noise(190_000, 3))
        .await
        .expect(402);
    // By Xet, too, and by regular files; small things are not free.
    let token = xet_token(&bob, "main?create_pr=1").await.expect(200).json();
    let xet = bob.with_token(token["accessToken"].as_str().unwrap());
    let (index, bytes) = xorb(&[noise(70_000, 6), noise(70_000, 16)]);
    let uri = format!("{}/v1/xorbs/default/{}", local(&token["casUrl"]), index.hash);
    xet.send(Method::POST, &uri, &[], Body::from(bytes)).await.expect(402);
    let blobs = |hub: &TestHub| hub.count("SELECT COUNT(*) FROM xorb");
    assert_eq!(blobs(&hub), 2);
    propose(&bob, "ann/m", &[put("big.txt", "x".repeat(150_000))]).await.expect(402);
    // Where there is no room at all, a body is not read.
    for n in 0..2 {
        let refused = propose(&bob, "ann/m", &[put(&format!("{n}.txt"), "x")]).await;
        assert_eq!(refused.status.as_u16(), if n == 0 { 200 } else { 402 }, "{}", refused.text());
    }
    // Nobody else is touched by it: not the owner, not another stranger, not bob elsewhere.
    let eve = hub.user("eve").await;
    bring(&eve, &noise(150_000, 7)).await.expect(200);
    upload(&ann, "ann/m", "ann.bin", &noise(600_000, 8)).await;
    create(&bob, "model", "own").await.expect(200);
    upload(&bob, "bob/own", "own.bin", &noise(600_000, 9)).await;
    hub.finish().await;
}

#[tokio::test]
async fn pull_requests_of_strangers_have_a_number() {
    let (hub, ann, bob) = scene_with(|config| {
        config.proposals_open = 2;
        config.proposals_per_day = 4;
    })
    .await;
    for n in 0..2 {
        proposed(&bob, "ann/m", &[put(&format!("{n}.txt"), "x")]).await;
    }
    let refused = propose(&bob, "ann/m", &[put("x.txt", "x")]).await.expect(403);
    assert!(refused.text().contains("close one"), "{}", refused.text());
    let draft = json!({ "title": "a draft", "description": "", "pullRequest": true });
    bob.post("/api/models/ann/m/discussions", draft.clone()).await.expect(403);
    bob.post(&route("ann/m", 1, "/status"), json!({ "status": "closed" })).await.expect(200);
    bob.post("/api/models/ann/m/discussions", draft).await.expect(200);
    // What was closed cannot come back beside them.
    bob.post(&route("ann/m", 1, "/status"), json!({ "status": "open" })).await.expect(403);
    bob.post(&route("ann/m", 2, "/status"), json!({ "status": "closed" })).await.expect(200);
    proposed(&bob, "ann/m", &[put("y.txt", "x")]).await;
    create(&ann, "model", "other").await.expect(200);
    commit(&ann, "ann/other", &[put("a", "a")]).await.expect(200);
    let refused = propose(&bob, "ann/other", &[put("z.txt", "x")]).await.expect(429);
    assert!(!refused.header("retry-after").is_empty());
    for n in 0..6 {
        proposed(&ann, "ann/m", &[put(&format!("ann{n}.txt"), "x")]).await;
    }
    hub.advance_seconds(24 * 3600 + 1);
    proposed(&bob, "ann/other", &[put("z.txt", "x")]).await;
    hub.finish().await;
}

#[tokio::test]
async fn a_proposal_is_no_way_to_content_of_others() {
    let (hub, ann, bob) = scene().await;
    ann.post("/api/repos/create", json!({ "name": "secret", "private": true })).await.expect(200);
    let data = noise(100_000, 1);
    upload(&ann, "ann/secret", "s.bin", &data).await;
    // The hash of what another repository has is worth nothing here.
    let answer = batch(&bob, "ann/m", "upload", json!(["basic"]), &data).await.expect(200).json();
    assert!(answer["objects"][0]["actions"]["upload"].is_object(), "{answer}");
    let refused = propose(&bob, "ann/m", &[lfs_line("s.bin", &data)]).await.expect(400);
    assert!(refused.text().contains("was not uploaded to this repository"), "{}", refused.text());
    // A private repository is not there, and a gated one is behind its gate.
    propose(&bob, "ann/secret", &[put("x", "x")]).await.expect(404);
    bob.get("/api/models/ann/secret/xet-write-token/main?create_pr=1").await.expect(404);
    batch(&bob, "ann/secret", "upload", json!(["basic"]), &data).await.expect(404);
    ann.put("/api/models/ann/m/settings", json!({ "gated": "manual" })).await.expect(200);
    let refused = propose(&bob, "ann/m", &[put("x", "x")]).await.expect(403);
    assert_eq!(refused.header("x-error-code"), "GatedRepo");
    let refused = xet_token(&bob, "main?create_pr=1").await.expect(403);
    assert_eq!(refused.header("x-error-code"), "GatedRepo");
    batch(&bob, "ann/m", "upload", json!(["basic"]), &data).await.expect(403);
    ann.put("/api/models/ann/m/settings", json!({ "gated": false, "discussionsDisabled": true }))
        .await
        .expect(200);
    propose(&bob, "ann/m", &[put("x", "x")]).await.expect(403);
    batch(&bob, "ann/m", "upload", json!(["basic"]), &data).await.expect(403);
    propose(&ann, "ann/m", &[put("x", "x")]).await.expect(403);
    // A token for reading proposes nothing.
    ann.put("/api/models/ann/m/settings", json!({ "discussionsDisabled": false })).await.expect(200);
    let reader = hub.token("bob", bastide_core::TokenRole::Read).await;
    propose(&reader, "ann/m", &[put("x", "x")]).await.expect(403);
    xet_token(&reader, "main?create_pr=1").await.expect(403);
    hub.finish().await;
}

#[tokio::test]
async fn what_was_given_to_a_proposer_ends_with_its_rights_and_is_good_for_nothing_more() {
    let (hub, ann, bob) = scene().await;
    let data = noise(50_000, 1);
    let answer = batch(&bob, "ann/m", "upload", json!(["basic"]), &data).await.expect(200).json();
    let href = local(&answer["objects"][0]["actions"]["upload"]["href"]);
    assert!(href.contains("r=propose"), "{href}");
    // As a writer's link it is forged.
    put_bytes(&bob, &href.replace("&r=propose", ""), &data).await.expect(403);
    put_bytes(&bob, &href.replace("r=propose", "r=write"), &data).await.expect(403);
    let own = batch(&ann, "ann/m", "upload", json!(["basic"]), &noise(10, 2)).await.expect(200).json();
    let own = local(&own["objects"][0]["actions"]["upload"]["href"]);
    put_bytes(&ann, &format!("{own}&r=propose"), &noise(10, 2)).await.expect(403);
    let token = xet_token(&bob, "main?create_pr=1").await.expect(200).json();
    let xet = bob.with_token(token["accessToken"].as_str().unwrap());
    let (index, bytes) = xorb(&[noise(20_000, 3)]);
    let uri = format!("{}/v1/xorbs/default/{}", local(&token["casUrl"]), index.hash);
    xet.send(Method::POST, &uri, &[], Body::from(bytes.clone())).await.expect(200);
    // The repository is not shown to bob any more: neither is the store behind it.
    ann.put("/api/models/ann/m/settings", json!({ "private": true })).await.expect(200);
    put_bytes(&bob, &href, &data).await.expect(403);
    xet.send(Method::POST, &uri, &[], Body::from(bytes.clone())).await.expect(401);
    ann.put("/api/models/ann/m/settings", json!({ "private": false })).await.expect(200);
    xet.send(Method::POST, &uri, &[], Body::from(bytes.clone())).await.expect(200);
    // Nor with a token that was revoked.
    let operator = hub.operator();
    let access = hub.hub.access(&operator).namespace::<Admin>(&"bob".parse().unwrap()).await.unwrap();
    for token in hub.hub.list_tokens(&access).await.unwrap() {
        hub.hub.revoke_token(&operator, &access, token.id).await.unwrap();
    }
    put_bytes(&bob, &href, &data).await.expect(403);
    xet.send(Method::POST, &uri, &[], Body::from(bytes)).await.expect(401);
    hub.finish().await;
}

#[tokio::test]
async fn a_writer_who_becomes_a_reader_writes_no_more_by_what_it_was_given() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    hub.org("lab", "ann", &[("bob", Role::Write)]).await;
    ann.post("/api/repos/create", json!({ "name": "m", "organization": "lab" })).await.expect(200);
    commit(&ann, "lab/m", &[put("a", "a")]).await.expect(200);
    let data = noise(30_000, 1);
    let answer = batch(&bob, "lab/m", "upload", json!(["basic"]), &data).await.expect(200).json();
    let href = local(&answer["objects"][0]["actions"]["upload"]["href"]);
    assert!(!href.contains("propose"));
    let token = bob.get("/api/models/lab/m/xet-write-token/main").await.expect(200).json();
    let operator = hub.operator();
    let lab = hub.hub.access(&operator).namespace::<Admin>(&"lab".parse().unwrap()).await.unwrap();
    hub.hub.set_member(&operator, &lab, &"bob".parse().unwrap(), Some(Role::Read)).await.unwrap();
    put_bytes(&bob, &href, &data).await.expect(403);
    let xet = bob.with_token(token["accessToken"].as_str().unwrap());
    let (index, bytes) = xorb(&[noise(20_000, 3)]);
    let uri = format!("{}/v1/xorbs/default/{}", local(&token["casUrl"]), index.hash);
    xet.send(Method::POST, &uri, &[], Body::from(bytes)).await.expect(401);
    hub.finish().await;
}

#[tokio::test]
async fn a_proposer_neither_mends_nor_replaces_what_is_there_and_revives_nothing() {
    let (hub, ann, bob) = scene().await;
    let chunks = [noise(60_000, 1)];
    let (index, bytes) = xorb(&chunks);
    let (claims, _) = shard(&index, Sha256::digest(&chunks[0]).into(), |_| {});
    let send = async |client: &Client, rev: &str| {
        let token = xet_token(client, rev).await.expect(200).json();
        let xet = client.with_token(token["accessToken"].as_str().unwrap());
        let base = local(&token["casUrl"]);
        let uri = format!("{base}/v1/xorbs/default/{}", index.hash);
        let sent = xet.send(Method::POST, &uri, &[], Body::from(bytes.clone())).await;
        let shard =
            xet.send(Method::POST, &format!("{base}/v1/shards"), &[], Body::from(claims.clone())).await;
        (sent, shard)
    };
    let (sent, _) = send(&ann, "main").await;
    assert_eq!(sent.json()["was_inserted"], true);
    commit(&ann, "ann/m", &[lfs_line("w.bin", &chunks[0])]).await.expect(200);
    // Whether it is there is nothing that a proposer is told; nor does it count.
    let (sent, _) = send(&bob, "main?create_pr=1").await;
    assert_eq!(sent.json()["was_inserted"], true);
    assert_eq!(hub.count("SELECT COUNT(*) FROM proposal_xorb"), 0);
    // Found damaged: only a writer's bytes take its place.
    hub.tamper("UPDATE xorb SET damaged_at = 1");
    let (sent, shard) = send(&bob, "main?create_pr=1").await;
    sent.expect(422);
    assert!(!shard.status.is_success());
    assert_eq!(hub.count("SELECT COUNT(*) FROM xorb WHERE damaged_at IS NULL"), 0);
    let (sent, shard) = send(&ann, "main").await;
    sent.expect(200);
    shard.expect(200);
    assert_eq!(hub.count("SELECT COUNT(*) FROM xorb WHERE damaged_at IS NULL"), 1);
    // On its way out: by its name alone nobody but a writer keeps it.
    commit(&ann, "ann/m", &[delete("w.bin")]).await.expect(200);
    hub.tamper("UPDATE xet_file SET unused_since = 1");
    let answer = batch(&bob, "ann/m", "upload", json!(["basic"]), &chunks[0]).await.expect(200).json();
    assert!(answer["objects"][0]["actions"].is_object(), "{answer}");
    propose(&bob, "ann/m", &[lfs_line("again.bin", &chunks[0])]).await.expect(400);
    assert_eq!(hub.count("SELECT COUNT(*) FROM xet_file WHERE unused_since IS NOT NULL"), 1);
    hub.finish().await;
}

#[tokio::test]
async fn a_ref_is_given_up_for_good_and_its_content_is_collected() {
    let (hub, ann, bob) = scene().await;
    let (shared, own) = (noise(100_000, 1), noise(200_000, 2));
    upload(&ann, "ann/m", "shared.bin", &shared).await;
    bring(&bob, &own).await.expect(200);
    proposed(&bob, "ann/m", &[lfs_line("own.bin", &own), lfs_line("copy.bin", &shared)]).await;
    let storage = ann.get(&route("ann/m", 1, "/storage")).await.expect(200).json();
    let bytes = hub.count("SELECT bytes FROM proposal_xorb");
    assert_eq!(storage, json!({ "bytes": bytes, "files": 1, "complete": true }));
    let refused = ann.delete(&route("ann/m", 1, "/ref"), json!({})).await.expect(409);
    assert!(refused.text().contains("close it"), "{}", refused.text());
    ann.post(&route("ann/m", 1, "/status"), json!({ "status": "closed" })).await.expect(200);
    ann.delete(&route("ann/m", 1, "/ref"), json!({})).await.expect(200);
    ann.delete(&route("ann/m", 1, "/ref"), json!({})).await.expect(404);
    ann.get(&format!("/api/models/ann/m/revision/{PR1}")).await.expect(404);
    let found = detail(&ann, 1).await;
    assert_eq!(found["events"].as_array().unwrap().last().unwrap()["type"], "ref-deletion");
    assert_eq!(found["filesWithConflicts"], false);
    bob.post(&route("ann/m", 1, "/status"), json!({ "status": "open" })).await.expect(400);
    commit_with(&bob, "ann/m", PR1, json!({ "summary": "x" }), &[put("c", "x")]).await.expect(403);
    let storage = ann.get(&route("ann/m", 1, "/storage")).await.expect(200).json();
    assert_eq!(storage["bytes"], 0);
    // A grace later it is gone, and bob has room again.
    for _ in 0..4 {
        hub.advance_seconds(86_401);
        hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
        hub.run_jobs().await;
    }
    assert_eq!(hub.count("SELECT COUNT(*) FROM xet_file"), 1);
    for table in ["proposal_xorb", "proposal_file", "proposal_commit"] {
        assert_eq!(hub.count(&format!("SELECT COUNT(*) FROM {table}")), 0, "{table}");
    }
    assert_eq!(text(&ann, "main", "shared.bin").await.expect(200).body, shared);
    hub.finish().await;
}

#[tokio::test]
async fn a_pull_request_that_was_deleted_locks_nobody_out() {
    // Room for one commit: a commit counts 64 KiB at least.
    let (hub, ann, bob) = scene_with(|config| config.proposal_bytes = 100_000).await;
    let number = proposed(&bob, "ann/m", &[put("b.txt", "b")]).await;
    propose(&bob, "ann/m", &[put("c.txt", "c")]).await.expect(402);
    ann.delete(&format!("/api/models/ann/m/discussions/{number}"), Value::Null).await.expect(200);
    assert_eq!(hub.count("SELECT COUNT(*) FROM proposal_commit"), 0);
    propose(&bob, "ann/m", &[put("c.txt", "c")]).await.expect(200);
    let checked = hub.hub.check_all(&hub.operator(), true, |_, _, _| {}).await.unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    hub.finish().await;
}

#[tokio::test]
async fn uploads_for_a_proposal_that_never_came_are_collected() {
    let (hub, _, bob) = scene().await;
    bring(&bob, &noise(100_000, 1)).await.expect(200);
    assert_eq!(hub.count("SELECT COUNT(*) FROM proposal_xorb"), 1);
    for _ in 0..5 {
        hub.advance_seconds(86_401);
        hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
    }
    for table in ["xorb", "xet_file", "proposal_xorb", "proposal_file"] {
        assert_eq!(hub.count(&format!("SELECT COUNT(*) FROM {table}")), 0, "{table}");
    }
    hub.finish().await;
}

#[tokio::test]
async fn a_repository_that_was_renamed_takes_proposals_under_its_old_name() {
    let (hub, ann, bob) = scene().await;
    ann.post("/api/repos/move", json!({ "fromRepo": "ann/m", "toRepo": "ann/n" })).await.expect(200);
    let answer = propose(&bob, "ann/m", &[put("b", "b")]).await.expect(200).json();
    assert_eq!(answer["pullRequestUrl"], "http://hub.test/ann/n/discussions/1");
    bob.get("/api/models/ann/m/xet-write-token/main?create_pr=1").await.expect(307);
    ann.post("/api/models/ann/m/discussions/1/merge", json!({})).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn numbers_and_bodies_that_make_no_sense() {
    let (hub, ann, bob) = scene().await;
    proposed(&bob, "ann/m", &[put("b", "b")]).await;
    for number in ["0", "99", "x", "-1", "%00", "18446744073709551616", "1%2F2"] {
        for rest in ["/merge"] {
            let uri = format!("/api/models/ann/m/discussions/{number}{rest}");
            let reply = ann.post(&uri, json!({})).await;
            assert!(matches!(reply.status.as_u16(), 404 | 400), "{number}: {}", reply.status);
        }
    }
    ann.post(&route("ann/m", 1, "/merge"), json!({ "comment": "x".repeat(1 << 20) })).await.expect(413);
    ann.post(&route("ann/m", 1, "/merge"), json!({ "comment": "\u{1b}[2J" })).await.expect(400);
    ann.post(&route("ann/m", 1, "/merge"), json!({ "squash": "yes" })).await.expect(400);
    commit_with(&bob, "ann/m", "main?create_pr=1", json!({ "summary": "" }), &[put("c", "c")])
        .await
        .expect(400);
    let answer =
        commit_with(&bob, "ann/m", "main?create_pr=1", json!({ "summary": "x" }), &[put("c", "c")]).await;
    answer.expect(200);
    assert_eq!(detail(&ann, 2).await["title"], "Change: x");
    // Nothing changes: no pull request.
    propose(&bob, "ann/m", &[put("a.txt", "one\n")]).await.expect(400);
    assert_eq!(hub.count("SELECT COUNT(*) FROM discussion"), 2);
    hub.finish().await;
}

#[tokio::test]
async fn the_patch_of_a_pull_request_is_for_those_who_read() {
    let (hub, ann, bob) = scene().await;
    let number = proposed(&bob, "ann/m", &[put("b.txt", "two\n")]).await;
    let uri = format!("/ann/m/discussions/{number}/files.diff");
    hub.anonymous().get(&uri).await.expect(200);
    // What is no pull request, or no number, has none.
    let about = json!({ "title": "words", "description": "only" });
    let words = ann.post("/api/models/ann/m/discussions", about).await.expect(200).json()["num"].clone();
    assert_eq!(ann.get(&format!("/ann/m/discussions/{words}/files.diff")).await.status.as_u16(), 400);
    for bad in ["99", "-1", "%31x", "18446744073709551616", "..", "%00"] {
        let reply = ann.get(&format!("/ann/m/discussions/{bad}/files.diff")).await;
        assert_eq!(reply.status.as_u16(), 404, "{bad}: {}", reply.text());
    }
    for other in ["/datasets/ann/m", "/spaces/ann/m", "/ann/none"] {
        assert_eq!(ann.get(&format!("{other}/discussions/{number}/files.diff")).await.status.as_u16(), 404);
    }
    hub.hub.flush_reads().await.unwrap();
    let read = "SELECT COUNT(*) FROM read_record WHERE via = 'diff'";
    assert_eq!(hub.count(read), 1, "refusals are no deliveries");
    // Behind a gate, and in private.
    ann.put("/api/models/ann/m/settings", json!({ "gated": "manual" })).await.expect(200);
    assert_eq!(bob.get(&uri).await.expect(403).header("x-error-code"), "GatedRepo");
    ann.get(&uri).await.expect(200);
    ann.put("/api/models/ann/m/settings", json!({ "gated": false, "private": true })).await.expect(200);
    assert_eq!(bob.get(&uri).await.expect(404).header("x-error-code"), "RepoNotFound");
    hub.anonymous().get(&uri).await.expect(401);
    // With its commits it goes.
    let status = json!({ "status": "closed" });
    ann.post(&route("ann/m", number, "/status"), status).await.expect(200);
    ann.get(&uri).await.expect(200);
    ann.delete(&route("ann/m", number, "/ref"), json!({})).await.expect(200);
    assert_eq!(ann.get(&uri).await.expect(404).header("x-error-code"), "RevisionNotFound");
    hub.finish().await;
}

#[tokio::test]
async fn a_history_that_is_written_anew_takes_what_pull_requests_say_of_it_along() {
    let (hub, ann, bob) = scene().await;
    let data = noise(50_000, 1);
    upload(&ann, "ann/m", "x.bin", &data).await;
    let (one, two) = (
        proposed(&bob, "ann/m", &[put("b.txt", "b")]).await,
        proposed(&bob, "ann/m", &[put("c.txt", "c")]).await,
    );
    merge(&ann, one).await.expect(200);
    merge(&ann, two).await.expect(200);
    ann.delete(&route("ann/m", two, "/ref"), json!({})).await.expect(200);
    let patch = ann.get(&format!("/ann/m/discussions/{one}/files.diff")).await.expect(200).text();
    let before = [detail(&ann, one).await, detail(&ann, two).await];
    let body = json!({ "deletions": { "sha": [sha256(&data)], "rewriteHistory": true } });
    ann.post("/api/models/ann/m/lfs-files/batch", body).await.expect(200);
    let reached = ann.get("/api/models/ann/m/commits/main?limit=100").await.expect(200).json();
    let reached: Vec<&str> =
        reached.as_array().unwrap().iter().map(|commit| commit["id"].as_str().unwrap()).collect();
    let mut named = 0;
    for (number, before) in [one, two].into_iter().zip(before) {
        let after = detail(&ann, number).await;
        let merged = after["changes"]["mergeCommitId"].as_str().unwrap();
        assert!(
            after["changes"]["mergeCommitId"] != before["changes"]["mergeCommitId"]
                && reached.contains(&merged),
            "{after}"
        );
        for event in after["events"].as_array().unwrap() {
            let Some(oid) = event["data"]["oid"].as_str() else { continue };
            assert!(reached.contains(&oid), "{event}");
            named += 1;
        }
    }
    assert_eq!(named, 3, "two commits, and the end of a ref");
    assert_eq!(ann.get(&format!("/ann/m/discussions/{one}/files.diff")).await.expect(200).text(), patch);
    hub.finish().await;
}
