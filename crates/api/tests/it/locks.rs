//! Locks of git-lfs: who may lock, list and unlock, and what a lock keeps from changing.

use axum::body::Body;
use bastide_core::{Role, TokenRole};
use bastide_testkit::{Client, Reply, TestHub};
use http::Method;
use serde_json::{Value, json};

use crate::{commit, commit_with, create, delete, put};

async fn lock(client: &Client, id: &str, path: &str) -> Reply {
    let body = json!({ "path": path, "ref": { "name": "refs/heads/main" } });
    client.post(&format!("/{id}.git/info/lfs/locks"), body).await
}

async fn unlock(client: &Client, id: &str, lock: &Value, force: bool) -> Reply {
    let lock = lock.as_str().unwrap();
    client.post(&format!("/{id}.git/info/lfs/locks/{lock}/unlock"), json!({ "force": force })).await
}

async fn lab() -> (TestHub, Client, Client) {
    let hub = TestHub::new().await;
    let anna = hub.user("anna").await;
    let will = hub.user("will").await;
    hub.user("rita").await;
    hub.org("lab", "anna", &[("will", Role::Write), ("rita", Role::Read)]).await;
    let body = json!({ "name": "m", "organization": "lab", "visibility": "private" });
    anna.post("/api/repos/create", body).await.expect(200);
    (hub, anna, will)
}

#[tokio::test]
async fn a_lock_is_made_shown_and_taken_back() {
    let (hub, anna, will) = lab().await;
    let made = lock(&anna, "lab/m", "data/a.bin").await.expect(201);
    assert_eq!(made.header("content-type"), "application/vnd.git-lfs+json");
    let made = made.json()["lock"].clone();
    assert_eq!((&made["path"], &made["owner"]["name"]), (&json!("data/a.bin"), &json!("anna")));
    assert!(made["locked_at"].as_str().unwrap().ends_with('Z'), "{made}");
    // Again, by anybody: the answer holds the lock that is there.
    for client in [&anna, &will] {
        let taken = lock(client, "lab/m", "data/a.bin").await.expect(409).json();
        assert_eq!(taken["lock"], made);
        assert_eq!(taken["message"], "data/a.bin is locked already, by anna");
    }
    let listed = will.get("/lab/m.git/info/lfs/locks?path=data/a.bin&refspec=refs/heads/x").await.expect(200);
    assert_eq!(listed.json(), json!({ "locks": [made] }));
    let by_id = format!("/lab/m/info/lfs/locks?id={}", made["id"].as_str().unwrap());
    assert_eq!(will.get(&by_id).await.expect(200).json()["locks"], json!([made]));
    for none in ["path=other", "id=nonsense", "id=000000000000000000000000"] {
        let uri = format!("/lab/m.git/info/lfs/locks?{none}");
        assert_eq!(will.get(&uri).await.expect(200).json(), json!({ "locks": [] }), "{none}");
    }
    for (client, ours, theirs) in [(&anna, 1, 0), (&will, 0, 1)] {
        let body = json!({ "ref": { "name": "refs/heads/main" } });
        let seen = client.post("/lab/m.git/info/lfs/locks/verify", body).await.expect(200).json();
        let count = |key: &str| seen[key].as_array().unwrap().len();
        assert_eq!((count("ours"), count("theirs")), (ours, theirs));
    }
    let refused = unlock(&will, "lab/m", &made["id"], false).await.expect(403).json();
    assert!(refused["message"].as_str().unwrap().contains("--force"), "{refused}");
    assert_eq!(unlock(&will, "lab/m", &made["id"], true).await.expect(200).json()["lock"], made);
    unlock(&anna, "lab/m", &made["id"], false).await.expect(404);
    let sql = "SELECT COUNT(*) FROM event WHERE action IN ('lock.create', 'lock.remove')";
    assert_eq!(hub.count(sql), 2);
    assert!(hub.count("SELECT facts LIKE '%\"forced\":true%' FROM event WHERE action = 'lock.remove'") == 1);
    hub.finish().await;
}

#[tokio::test]
async fn locks_are_listed_in_pages_from_the_oldest() {
    let (hub, anna, will) = lab().await;
    for n in 0..7 {
        lock(&anna, "lab/m", &format!("f{n}.bin")).await.expect(201);
        hub.advance_seconds(1);
    }
    let mut paths: Vec<String> = Vec::new();
    let (mut cursor, mut pages) = (String::new(), 0);
    loop {
        let uri = format!("/lab/m.git/info/lfs/locks?limit=3&cursor={cursor}");
        let page = will.get(&uri).await.expect(200).json();
        pages += 1;
        paths.extend(
            page["locks"].as_array().unwrap().iter().map(|lock| lock["path"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = next.to_owned();
    }
    assert_eq!((pages, paths), (3, (0..7).map(|n| format!("f{n}.bin")).collect()));
    let verified =
        will.post("/lab/m.git/info/lfs/locks/verify", json!({ "limit": 5 })).await.expect(200).json();
    assert_eq!(verified["theirs"].as_array().unwrap().len(), 5);
    let rest = json!({ "cursor": verified["next_cursor"] });
    let rest = will.post("/lab/m.git/info/lfs/locks/verify", rest).await.expect(200).json();
    assert_eq!((rest["theirs"].as_array().unwrap().len(), &rest["next_cursor"]), (2, &Value::Null));
    will.get("/lab/m.git/info/lfs/locks?cursor=nonsense").await.expect(400);
    hub.finish().await;
}

#[tokio::test]
async fn a_path_that_cannot_be_is_not_locked() {
    let (hub, anna, _) = lab().await;
    let long = "x".repeat(1025);
    for bad in ["", "../x", "/x", "a//b", ".git/config", "a\u{7}b", long.as_str()] {
        let refused = lock(&anna, "lab/m", bad).await.expect(422);
        assert_eq!(refused.header("content-type"), "application/vnd.git-lfs+json", "{bad:?}");
        assert!(refused.json()["request_id"].is_string());
    }
    assert_eq!(hub.count("SELECT COUNT(*) FROM lfs_lock"), 0);
    hub.finish().await;
}

#[tokio::test]
async fn who_may_not_write_locks_and_unlocks_nothing() {
    let (hub, anna, _) = lab().await;
    let made = lock(&anna, "lab/m", "a.bin").await.expect(201).json()["lock"]["id"].clone();
    let eve = hub.user("eve").await;
    let rita = hub.token("rita", TokenRole::Write).await;
    let reading = hub.token("anna", TokenRole::Read).await;
    for (client, status) in [(&hub.anonymous(), 401), (&eve, 404), (&rita, 403), (&reading, 403)] {
        lock(client, "lab/m", "b.bin").await.expect(status);
        unlock(client, "lab/m", &made, true).await.expect(status);
        let verify = client.post("/lab/m.git/info/lfs/locks/verify", json!({})).await;
        // Who may push to a pull request is told what others work on, as git-lfs asks before a push.
        if std::ptr::eq(client, &rita) {
            let seen = verify.expect(200).json();
            assert_eq!((&seen["ours"], &seen["theirs"][0]["id"]), (&json!([]), &made));
        } else {
            verify.expect(status);
        }
    }
    eve.get("/lab/m.git/info/lfs/locks").await.expect(404);
    rita.get("/lab/m.git/info/lfs/locks").await.expect(200);
    // A lock of another repository is none of this one's.
    create(&eve, "model", "own").await.expect(200);
    unlock(&eve, "eve/own", &made, true).await.expect(404);
    assert_eq!(hub.count("SELECT COUNT(*) FROM lfs_lock"), 1);
    hub.finish().await;
}

#[tokio::test]
async fn errors_are_as_git_lfs_reads_them() {
    let (hub, _, _) = lab().await;
    let anonymous = hub.anonymous();
    for path in ["/lab/m.git/info/lfs/locks", "/lab/none.git/info/lfs/locks"] {
        let refused = anonymous.get(path).await.expect(401);
        assert_eq!(refused.header("lfs-authenticate"), "Basic realm=\"Bastide\"");
        assert_eq!(refused.header("content-type"), "application/vnd.git-lfs+json");
        let body = refused.json();
        assert_eq!(body["message"], body["error"]);
        assert!(!body["request_id"].as_str().unwrap().is_empty());
    }
    let headers = [("authorization", "Basic YW5uOmhmX25vbmU=")];
    let uri = "/lab/m.git/info/lfs/objects/batch";
    let bad = anonymous.send(Method::POST, uri, &headers, Body::from("{}")).await.expect(401);
    assert_eq!(bad.header("lfs-authenticate"), "Basic realm=\"Bastide\"");
    // Elsewhere nothing has changed.
    let other = anonymous.get("/api/models/lab/m").await.expect(401);
    assert_eq!((other.header("lfs-authenticate"), &other.json()["message"]), ("", &Value::Null));
    hub.finish().await;
}

#[tokio::test]
async fn what_somebody_has_locked_nobody_else_changes() {
    let (hub, anna, will) = lab().await;
    let first = [put("dir/a.txt", "1"), put("dir/b.txt", "1"), put("c.txt", "1")];
    commit(&anna, "lab/m", &first).await.expect(200);
    let made = lock(&anna, "lab/m", "dir/a.txt").await.expect(201).json()["lock"]["id"].clone();
    for operations in [
        vec![put("dir/a.txt", "2")],
        vec![delete("dir/a.txt")],
        vec![delete("dir")],
        vec![put("c.txt", "2"), delete("dir/a.txt")],
    ] {
        let refused = commit(&will, "lab/m", &operations).await.expect(403);
        assert!(refused.header("x-error-message").contains("dir/a.txt by anna"), "{operations:?}");
    }
    // In every branch; what is beside it is free, and its owner is.
    will.post("/api/models/lab/m/branch/next", json!({})).await.expect(200);
    let header = json!({ "summary": "a change" });
    commit_with(&will, "lab/m", "next", header, &[put("dir/a.txt", "2")]).await.expect(403);
    commit(&will, "lab/m", &[put("dir/b.txt", "2"), put("dir/a.txt.bak", "2")]).await.expect(200);
    commit(&anna, "lab/m", &[put("dir/a.txt", "3")]).await.expect(200);
    unlock(&anna, "lab/m", &made, false).await.expect(200);
    commit(&will, "lab/m", &[put("dir/a.txt", "4")]).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn a_branch_that_is_put_elsewhere_changes_no_locked_file() {
    let (hub, anna, will) = lab().await;
    let head = || async { anna.get("/api/models/lab/m").await.expect(200).json()["sha"].clone() };
    let empty = head().await;
    commit(&anna, "lab/m", &[put("a.bin", "1")]).await.expect(200);
    let old = head().await;
    commit(&anna, "lab/m", &[put("b.bin", "2")]).await.expect(200);
    let new = head().await;
    lock(&anna, "lab/m", "a.bin").await.expect(201);
    for body in [
        json!({ "startingPoint": empty, "overwrite": true }),
        json!({ "emptyBranch": true, "overwrite": true }),
    ] {
        let refused = will.post("/api/models/lab/m/branch/main", body.clone()).await.expect(403);
        assert!(refused.header("x-error-message").contains("a.bin by anna"), "{body}");
    }
    assert_eq!(head().await, new);
    // Where the locked file stays as it is, the branch moves; so it does for who has locked it, and when all
    // history becomes one commit, no file changes.
    let to = |commit: &Value| json!({ "startingPoint": commit, "overwrite": true });
    will.post("/api/models/lab/m/branch/main", to(&old)).await.expect(200);
    anna.post("/api/models/lab/m/branch/main", to(&empty)).await.expect(200);
    will.post("/api/models/lab/m/branch/main", to(&old)).await.expect(403);
    hub.finish().await;
}

#[tokio::test]
async fn a_forced_push_back_changes_no_locked_file() {
    let (hub, anna, will) = lab().await;
    commit(&anna, "lab/m", &[put("a.bin", "1")]).await.expect(200);
    let head = || async { anna.get("/api/models/lab/m").await.expect(200).json()["sha"].clone() };
    let old = head().await;
    commit(&anna, "lab/m", &[put("a.bin", "2")]).await.expect(200);
    let new = head().await;
    anna.post("/api/models/lab/m/branch/next", json!({})).await.expect(200);
    let made = lock(&anna, "lab/m", "a.bin").await.expect(201).json()["lock"]["id"].clone();
    // No commit of this push is new: what the branch loses is the change.
    let push = || async {
        let line = |text: String| format!("{:04x}{text}", text.len() + 4);
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        let moved = format!("{} {} refs/heads/next\0report-status", word(&new), word(&old));
        let mut body = format!("{}0000", line(moved)).into_bytes();
        body.extend(b"PACK\0\0\0\x02\0\0\0\0");
        body.extend(
            "029d08823bd8a8eab510ad6ac75c823cfd3ed31e".parse::<bastide_core::Oid>().unwrap().as_bytes(),
        );
        let headers = [("content-type", "application/x-git-receive-pack-request")];
        will.send(Method::POST, "/lab/m/git-receive-pack", &headers, Body::from(body))
            .await
            .expect(200)
            .text()
    };
    let refused = push().await;
    assert!(refused.contains("ng refs/heads/next locked by others: a.bin by anna"), "{refused}");
    // Nor does the branch go, to be made anew from where the file was another.
    let refused =
        will.send(Method::DELETE, "/api/models/lab/m/branch/next", &[], Body::empty()).await.expect(403);
    assert!(refused.header("x-error-message").contains("a.bin by anna"));
    unlock(&anna, "lab/m", &made, false).await.expect(200);
    let moved = push().await;
    assert!(moved.contains("ok refs/heads/next"), "{moved}");
    hub.finish().await;
}

#[tokio::test]
async fn locks_go_with_their_repository_and_are_not_without_end() {
    let (hub, anna, _) = lab().await;
    lock(&anna, "lab/m", "a.bin").await.expect(201);
    let repo = hub.count("SELECT id FROM repo WHERE name = 'm'");
    let owner = hub.count("SELECT id FROM namespace WHERE name = 'anna'");
    hub.tamper(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) INSERT INTO lfs_lock \
         (id, repo_id, path, owner_id, created_at) SELECT i, {repo}, 'p' || i, {owner}, 0 FROM n",
        bastide_hub::locks::MAX_LOCKS - 1
    ));
    let refused = lock(&anna, "lab/m", "b.bin").await.expect(422);
    assert!(refused.text().contains("at most 10000 locks"), "{}", refused.text());
    anna.delete("/api/repos/delete", json!({ "name": "m", "organization": "lab" })).await.expect(200);
    assert_eq!(hub.count("SELECT COUNT(*) FROM lfs_lock"), 0);
    hub.finish().await;
}

#[tokio::test]
async fn commits_of_another_branch_are_no_way_around_a_lock() {
    const EMPTY_PACK: &[u8] =
        b"PACK\0\0\0\x02\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";
    let (hub, anna, will) = lab().await;
    commit(&anna, "lab/m", &[put("a", "1"), put("b", "1")]).await.expect(200);
    let header = json!({ "summary": "a change" });
    for (branch, path) in [("bad", "a"), ("good", "b")] {
        will.post(&format!("/api/models/lab/m/branch/{branch}"), json!({})).await.expect(200);
        commit_with(&will, "lab/m", branch, header.clone(), &[put(path, "2")]).await.expect(200);
    }
    lock(&anna, "lab/m", "a").await.expect(201);
    let refs = will.get("/api/models/lab/m/refs").await.expect(200).json();
    let head = |branch: &str| {
        let found = refs["branches"].as_array().unwrap().iter().find(|found| found["name"] == branch);
        found.unwrap()["targetCommit"].as_str().unwrap().to_owned()
    };
    for (branch, said) in
        [("bad", "ng refs/heads/main locked by others: a by anna"), ("good", "ok refs/heads/main")]
    {
        let line = format!("{} {} refs/heads/main\0report-status", head("main"), head(branch));
        let body = [format!("{:04x}{line}0000", line.len() + 4).as_bytes(), EMPTY_PACK].concat();
        let headers = [("content-type", "application/x-git-receive-pack-request")];
        let reply = will.send(Method::POST, "/lab/m/git-receive-pack", &headers, Body::from(body)).await;
        let reply = reply.expect(200).text();
        assert!(reply.contains(said), "{reply}");
    }
    hub.finish().await;
}
