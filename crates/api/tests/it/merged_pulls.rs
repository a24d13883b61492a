//! Pull requests that are merged without their own merge: their commits come to the branch by a push, with another
//! pull request, or because the branch is put there. What stock git does is in `tests/clients/test_pulls.py`.

use bastide_core::Role;
use bastide_hub::access::Admin;
use bastide_testkit::{Client, TestHub};
use serde_json::{Value, json};

use crate::push::{EMPTY_PACK, push};
use crate::uploads::{batch, lfs_line, local, noise, put_bytes, sha256, upload};
use crate::{commit, commit_with, create, delete, put};

const MAIN: &str = "refs/heads/main";

/// A public repository of ann's with one file, and bob, who has nothing to do with it.
async fn scene() -> (TestHub, Client, Client) {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a.txt", "one\n")]).await.expect(200);
    (hub, ann, bob)
}

/// Opens a pull request with a commit; its number.
async fn propose(client: &Client, rev: &str, operations: &[Value]) -> u64 {
    let header = json!({ "summary": "a proposal", "description": "why" });
    let rev = format!("{rev}?create_pr=1");
    let answer = commit_with(client, "ann/m", &rev, header, operations).await.expect(200).json();
    answer["pullRequestUrl"].as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap()
}

/// Adds a commit to any ref; its id.
async fn add(client: &Client, rev: &str, operations: &[Value]) -> String {
    let rev = rev.replace('/', "%2F");
    let answer = commit_with(client, "ann/m", &rev, json!({ "summary": "more" }), operations).await;
    answer.expect(200).json()["commitOid"].as_str().unwrap().to_owned()
}

fn route(number: u64, rest: &str) -> String {
    format!("/api/models/ann/m/discussions/{number}{rest}")
}

async fn detail(client: &Client, number: u64) -> Value {
    client.get(&route(number, "")).await.expect(200).json()
}

async fn status(client: &Client, number: u64) -> String {
    detail(client, number).await["status"].as_str().unwrap().to_owned()
}

async fn set_status(client: &Client, number: u64, status: &str) {
    client.post(&route(number, "/status"), json!({ "status": status })).await.expect(200);
}

async fn head(client: &Client, rev: &str) -> String {
    let rev = rev.replace('/', "%2F");
    let found = client.get(&format!("/api/models/ann/m/revision/{rev}")).await.expect(200).json();
    found["sha"].as_str().unwrap().to_owned()
}

/// Makes a branch at a revision, or puts it there.
async fn place(client: &Client, name: &str, at: &str) {
    let body = json!({ "startingPoint": at, "overwrite": true });
    client.post(&format!("/api/models/ann/m/branch/{name}"), body).await.expect(200);
}

/// Pushes commits that the hub has: a branch goes from where it is to somewhere else.
async fn push_to(client: &Client, branch: &str, to: &str) {
    let from = head(client, branch).await;
    let name = format!("refs/heads/{branch}");
    let reply = push(client, &[(&name, &from, to)], EMPTY_PACK).await.expect(200).text();
    assert!(reply.contains(&format!("ok {name}")), "{reply}");
}

#[tokio::test]
async fn a_pull_request_whose_commits_are_pushed_is_merged_by_who_pushed_them() {
    let (hub, ann, bob) = scene().await;
    let number = propose(&bob, "main", &[put("b.txt", "two\n")]).await;
    let before = head(&ann, "main").await;
    let proposed = head(&ann, "refs/pr/1").await;
    let patch = ann.get("/ann/m/discussions/1/files.diff").await.expect(200).text();
    // The branch goes on from there, in the same push.
    place(&ann, "work", "refs/pr/1").await;
    let after = add(&ann, "work", &[put("c.txt", "three\n")]).await;
    hub.run_jobs().await;
    assert_eq!(status(&ann, number).await, "open", "it is for another branch");
    push_to(&ann, "main", &after).await;
    assert_eq!(hub.run_jobs().await, 1);

    let found = detail(&bob, number).await;
    assert_eq!(found["status"], "merged");
    assert_eq!(found["changes"], json!({ "base": MAIN, "mergeCommitId": proposed }));
    assert_eq!(found["filesWithConflicts"], false);
    let last = found["events"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["type"], &last["data"]), (&json!("status-change"), &json!({ "status": "merged" })));
    assert_eq!(last["author"]["name"], "ann");
    assert_eq!(ann.get("/ann/m/discussions/1/files.diff").await.expect(200).text(), patch);
    // It is final, as after any merge.
    ann.post(&route(number, "/merge"), json!({})).await.expect(409);
    ann.post(&route(number, "/status"), json!({ "status": "closed" })).await.expect(400);
    commit_with(&bob, "ann/m", "refs%2Fpr%2F1", json!({ "summary": "late" }), &[put("d", "d")])
        .await
        .expect(403);
    let open =
        ann.get("/api/models/ann/m/discussions?status=open&type=pull_request").await.expect(200).json();
    assert_eq!((&open["count"], &open["numClosedDiscussions"]), (&json!(0), &json!(1)), "{open}");
    // Nothing of it is charged to bob any more.
    assert_eq!(hub.count("SELECT COUNT(*) FROM proposal_commit"), 0);
    assert_eq!(hub.count("SELECT proposed_bytes + proposal_price FROM repo"), 0);
    let ann_id = hub.count("SELECT id FROM namespace WHERE name = 'ann'");
    let facts = format!(
        r#"{{"base":"{MAIN}","before":"{before}","by_id":{ann_id},"commit":"{proposed}",%"head":"{proposed}",%"status":"merged"%"#
    );
    let sql = format!(
        "SELECT COUNT(*) FROM event WHERE action = 'pull.merge' AND actor_name = 'merged-pulls' AND facts LIKE '{facts}'"
    );
    assert_eq!(hub.count(&sql), 1);
    whole(&hub).await;
    hub.finish().await;
}

/// Counts, refs and charges are those that the rows say.
async fn whole(hub: &TestHub) {
    let checked = hub.hub.check_all(&hub.operator(), false, |_, _, _| {}).await.unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
}

#[tokio::test]
async fn drafts_and_locked_ones_are_merged_and_closed_ones_stay_closed() {
    let (hub, ann, bob) = scene().await;
    let body = json!({ "title": "a draft", "description": "later", "pullRequest": true });
    for _ in 0..2 {
        bob.post("/api/models/ann/m/discussions", body.clone()).await.expect(200);
    }
    let draft = add(&bob, "refs/pr/1", &[put("draft.txt", "d")]).await;
    push_to(&ann, "main", &draft).await;
    hub.run_jobs().await;
    assert_eq!(status(&ann, 1).await, "merged");
    // One without commits of its own has brought nothing, whatever is pushed.
    assert_eq!(status(&ann, 2).await, "draft");
    let locked = propose(&bob, "main", &[put("locked.txt", "l")]).await;
    ann.post(&route(locked, "/lock"), json!({ "locked": true })).await.expect(200);
    let closed = propose(&bob, "main", &[put("closed.txt", "c")]).await;
    set_status(&bob, closed, "closed").await;
    let later = propose(&bob, "main", &[put("later.txt", "l")]).await;
    let to = head(&ann, &format!("refs/pr/{locked}")).await;
    push_to(&ann, "main", &to).await;
    hub.run_jobs().await;
    assert_eq!([status(&ann, locked).await, status(&ann, later).await], ["merged", "open"]);
    // Its commits come to the branch while it is closed: it stays so, and open when it is opened again.
    let pushed = propose(&bob, "main", &[put("other.txt", "c")]).await;
    set_status(&ann, pushed, "closed").await;
    let to = head(&ann, &format!("refs/pr/{pushed}")).await;
    push_to(&ann, "main", &to).await;
    hub.run_jobs().await;
    assert_eq!([status(&ann, closed).await, status(&ann, pushed).await], ["closed", "closed"]);
    set_status(&bob, pushed, "open").await;
    add(&ann, "main", &[put("a.txt", "two")]).await;
    hub.run_jobs().await;
    assert_eq!([status(&ann, pushed).await, status(&ann, 2).await], ["open", "draft"]);
    whole(&hub).await;
    hub.finish().await;
}

/// A pull request that was opened from where its branch was, and whose branch went back and forth.
#[tokio::test]
async fn what_was_in_the_branch_before_is_merged_by_no_push() {
    let (hub, ann, bob) = scene().await;
    let first = head(&ann, "main").await;
    add(&ann, "main", &[put("a.txt", "two")]).await;
    let body = json!({ "title": "empty", "description": "", "pullRequest": true });
    bob.post("/api/models/ann/m/discussions", body).await.expect(200);
    let second = head(&ann, "main").await;
    place(&ann, "main", &first).await;
    push_to(&ann, "main", &second).await;
    hub.run_jobs().await;
    assert_eq!(status(&ann, 1).await, "draft");
    // With a commit of its own it is merged, though the branch was elsewhere when that came.
    place(&ann, "main", &first).await;
    let own = add(&bob, "refs/pr/1", &[put("b.txt", "b")]).await;
    push_to(&ann, "main", &second).await;
    hub.run_jobs().await;
    assert_eq!(status(&ann, 1).await, "draft");
    push_to(&ann, "main", &own).await;
    hub.run_jobs().await;
    assert_eq!(status(&ann, 1).await, "merged");
    hub.finish().await;
}

#[tokio::test]
async fn a_merge_takes_along_those_whose_commits_it_has_and_a_squash_does_not() {
    let (hub, ann, bob) = scene().await;
    let one = propose(&bob, "main", &[put("b.txt", "b")]).await;
    let below = head(&ann, "refs/pr/1").await;
    // Upon the first, as its own history says.
    let body = json!({ "title": "upon it", "description": "", "pullRequest": true });
    for _ in 0..2 {
        bob.post("/api/models/ann/m/discussions", body.clone()).await.expect(200);
    }
    let from = head(&ann, "main").await;
    for number in [2, 3] {
        let reply = push(&bob, &[(&format!("refs/pr/{number}"), &from, &below)], EMPTY_PACK).await;
        assert!(reply.text().contains("ok refs/pr/"), "{number}");
    }
    add(&bob, "refs/pr/2", &[put("c.txt", "c")]).await;
    add(&bob, "refs/pr/3", &[put("d.txt", "d")]).await;
    set_status(&bob, 2, "open").await;
    set_status(&bob, 3, "open").await;
    ann.post(&route(2, "/merge"), json!({ "squash": true })).await.expect(200);
    hub.run_jobs().await;
    assert_eq!([status(&ann, one).await, status(&ann, 3).await], ["open", "open"]);
    ann.post(&route(3, "/merge"), json!({})).await.expect(200);
    hub.run_jobs().await;
    let found = detail(&ann, one).await;
    assert_eq!(found["status"], "merged");
    assert_eq!(
        found["changes"]["mergeCommitId"],
        head(&ann, "main").await.as_str(),
        "by the commit of the merge"
    );
    assert_eq!(hub.count("SELECT COUNT(*) FROM event WHERE action = 'pull.merge'"), 3);
    whole(&hub).await;
    hub.finish().await;
}

#[tokio::test]
async fn what_changes_between_the_push_and_its_job_decides() {
    let (hub, ann, bob) = scene().await;
    // More commits came: they are not in the branch.
    propose(&bob, "main", &[put("b.txt", "b")]).await;
    push_to(&ann, "main", &head(&ann, "refs/pr/1").await).await;
    add(&bob, "refs/pr/1", &[put("more.txt", "b")]).await;
    hub.run_jobs().await;
    assert_eq!(status(&ann, 1).await, "open");
    push_to(&ann, "main", &head(&ann, "refs/pr/1").await).await;
    hub.run_jobs().await;
    assert_eq!(status(&ann, 1).await, "merged");
    // The branch went back.
    propose(&bob, "main", &[put("c.txt", "c")]).await;
    let before = head(&ann, "main").await;
    push_to(&ann, "main", &head(&ann, "refs/pr/2").await).await;
    place(&ann, "main", &before).await;
    hub.run_jobs().await;
    assert_eq!(status(&ann, 2).await, "open");
    // It was closed, or deleted with all that was said.
    for number in [2, 3] {
        if number == 3 {
            propose(&bob, "main", &[put("d.txt", "d")]).await;
        }
        push_to(&ann, "main", &head(&ann, &format!("refs/pr/{number}")).await).await;
        set_status(&ann, number, "closed").await;
        if number == 3 {
            ann.delete(&route(3, ""), json!({})).await.expect(200);
        }
        hub.run_jobs().await;
        place(&ann, "main", &before).await;
    }
    assert_eq!(status(&ann, 2).await, "closed");
    // It was merged as usual in the meantime.
    propose(&bob, "main", &[put("e.txt", "e")]).await;
    place(&ann, "work", "refs/pr/4").await;
    let to = add(&ann, "work", &[put("f.txt", "f")]).await;
    ann.post(&route(4, "/merge"), json!({})).await.expect(200);
    let merged = detail(&ann, 4).await;
    place(&ann, "main", &to).await;
    hub.run_jobs().await;
    assert_eq!(detail(&ann, 4).await, merged);
    // The repository is gone.
    propose(&bob, "main", &[put("g.txt", "g")]).await;
    push_to(&ann, "main", &head(&ann, "refs/pr/5").await).await;
    ann.delete("/api/repos/delete", json!({ "name": "m" })).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn a_push_that_moves_both_the_pull_request_and_its_branch_merges_it() {
    let (hub, ann, bob) = scene().await;
    let body = json!({ "title": "a draft", "description": "", "pullRequest": true });
    ann.post("/api/models/ann/m/discussions", body).await.expect(200);
    place(&ann, "work", "main").await;
    let (from, to) = (head(&ann, "main").await, add(&ann, "work", &[put("b.txt", "b")]).await);
    let moves = [(MAIN, from.as_str(), to.as_str()), ("refs/pr/1", from.as_str(), to.as_str())];
    let reply = push(&ann, &moves, EMPTY_PACK).await.expect(200).text();
    assert!(reply.contains("ok refs/heads/main") && reply.contains("ok refs/pr/1"), "{reply}");
    hub.run_jobs().await;
    assert_eq!(status(&bob, 1).await, "merged");
    hub.finish().await;
}

#[tokio::test]
async fn branches_that_are_put_somewhere_or_made_again_merge_what_is_there() {
    let (hub, ann, bob) = scene().await;
    place(&ann, "dev", "main").await;
    let one = propose(&bob, "dev", &[put("b.txt", "b")]).await;
    place(&ann, "dev", "refs/pr/1").await;
    hub.run_jobs().await;
    assert_eq!(status(&ann, one).await, "merged");
    // Deleted, and made again from its own pull request, by way of a tag.
    let two = propose(&bob, "dev", &[put("c.txt", "c")]).await;
    let three = propose(&bob, "dev", &[put("d.txt", "d")]).await;
    ann.delete("/api/models/ann/m/branch/dev", json!({})).await.expect(200);
    hub.run_jobs().await;
    assert_eq!([status(&ann, two).await, status(&ann, three).await], ["open", "open"]);
    let uri = format!("/ann/m/discussions/{two}/files.diff");
    place(&ann, "dev", &format!("refs/pr/{two}")).await;
    hub.run_jobs().await;
    assert_eq!([status(&ann, two).await, status(&ann, three).await], ["merged", "open"]);
    assert!(ann.get(&uri).await.expect(200).text().contains("+++ b/c.txt"));
    // A job for a branch that is gone again.
    place(&ann, "dev", &format!("refs/pr/{three}")).await;
    ann.delete("/api/models/ann/m/branch/dev", json!({})).await.expect(200);
    hub.run_jobs().await;
    assert_eq!(status(&ann, three).await, "open");
    whole(&hub).await;
    hub.finish().await;
}

#[tokio::test]
async fn each_move_names_who_has_made_it() {
    let hub = TestHub::open().await;
    let (ann, cem) = (hub.user("ann").await, hub.user("cem").await);
    hub.org("lab", "ann", &[("cem", Role::Write)]).await;
    ann.post("/api/repos/create", json!({ "name": "m", "organization": "lab" })).await.expect(200);
    commit(&ann, "lab/m", &[put("a.txt", "a")]).await.expect(200);
    let place = async |client: &Client, at: &str| {
        let body = json!({ "startingPoint": at, "overwrite": true });
        client.post("/api/models/lab/m/branch/main", body).await.expect(200);
    };
    let header = json!({ "summary": "a proposal" });
    commit_with(&ann, "lab/m", "main?create_pr=1", header.clone(), &[put("b.txt", "b")]).await.expect(200);
    place(&cem, "refs/pr/1").await;
    commit_with(&ann, "lab/m", "main?create_pr=1", header, &[put("c.txt", "c")]).await.expect(200);
    place(&ann, "refs/pr/2").await;
    // Both before any job has run.
    hub.run_jobs().await;
    for (number, name) in [(1, "cem"), (2, "ann")] {
        let found = ann.get(&format!("/api/models/lab/m/discussions/{number}")).await.expect(200).json();
        let last = found["events"].as_array().unwrap().last().unwrap();
        assert_eq!((&found["status"], &last["author"]["name"]), (&json!("merged"), &json!(name)), "{found}");
    }
    hub.finish().await;
}

/// Between the push and its job every commit got a new id.
#[tokio::test]
async fn a_history_that_is_written_anew_forgets_no_push() {
    let (hub, ann, bob) = scene().await;
    let data = noise(50_000, 1);
    upload(&ann, "ann/m", "x.bin", &data).await;
    propose(&bob, "main", &[put("b.txt", "b")]).await;
    let body = json!({ "title": "empty", "description": "", "pullRequest": true });
    bob.post("/api/models/ann/m/discussions", body).await.expect(200);
    push_to(&ann, "main", &head(&ann, "refs/pr/1").await).await;
    let body = json!({ "deletions": { "sha": [sha256(&data)], "rewriteHistory": true } });
    ann.post("/api/models/ann/m/lfs-files/batch", body).await.expect(200);
    hub.run_jobs().await;
    assert_eq!([status(&ann, 1).await, status(&ann, 2).await], ["merged", "draft"]);
    let merged = detail(&ann, 1).await["changes"]["mergeCommitId"].as_str().unwrap().to_owned();
    assert_eq!(merged, head(&ann, "refs/pr/1").await, "the commit as it is now");
    whole(&hub).await;
    hub.finish().await;
}

/// What was proposed is the owner's from then on, also what its commits took away again; a push is not refused for
/// it, but the next upload is.
#[tokio::test]
async fn what_a_push_merges_is_charged_to_the_owner() {
    let (hub, ann, bob) = scene().await;
    let large = [noise(200_000, 1), noise(300_000, 2)];
    for data in &large {
        let answer = batch(&bob, "ann/m", "upload", json!(["basic"]), data).await.expect(200).json();
        put_bytes(&bob, &local(&answer["objects"][0]["actions"]["upload"]["href"]), data).await.expect(200);
    }
    propose(&bob, "main", &[lfs_line("gone.bin", &large[0]), lfs_line("b.bin", &large[1])]).await;
    add(&bob, "refs/pr/1", &[delete("gone.bin")]).await;
    let all = hub.count("SELECT used_bytes FROM repo");
    assert!(hub.count("SELECT proposed_bytes FROM repo") > 500_000);
    let context = hub.operator();
    let access = hub.hub.access(&context).namespace::<Admin>(&"ann".parse().unwrap()).await.unwrap();
    let quota = bastide_hub::storage::Quota::Bytes(100_000);
    hub.hub.set_namespace_quota(&context, &access, quota).await.unwrap();
    push_to(&ann, "main", &head(&ann, "refs/pr/1").await).await;
    hub.run_jobs().await;
    assert_eq!(status(&ann, 1).await, "merged");
    assert_eq!(hub.count("SELECT proposed_bytes + proposal_price FROM repo"), 0);
    assert_eq!(hub.count("SELECT used_bytes FROM repo"), all);
    let refused = batch(&ann, "ann/m", "upload", json!(["basic"]), &noise(1000, 3)).await.expect(200).json();
    assert_eq!(refused["objects"][0]["error"]["code"], 402, "{refused}");
    whole(&hub).await;
    hub.finish().await;
}
