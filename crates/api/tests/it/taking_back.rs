//! Taking commits back: ordinary ones, merges, while others commit, of content that is gone.

use std::time::Duration;

use bastide_testkit::{Client, Reply};
use serde_json::{Value, json};

use crate::history::{API, merged, opened, scene, titled};
use crate::uploads::{batch, local, noise, put_bytes, sha256, upload};
use crate::{delete, put};

#[tokio::test]
async fn a_commit_is_taken_back_by_another() {
    let (hub, ann) = scene().await;
    let data = noise(3000, 1);
    upload(&ann, "ann/m", "w.bin", &data).await;
    titled(&ann, "main", "before", &[put("a", "1"), put("gone", "g")]).await;
    let operations = [put("a", "2"), put("d/new", "n"), delete("gone"), delete("w.bin")];
    let bad = titled(&ann, "main", "bad", &operations).await;
    titled(&ann, "main", "unrelated", &[put("other", "o")]).await;
    let done = ann.post(&format!("{API}/revert/{bad}"), json!({})).await.expect(200).json();
    let shown = ann.get(&format!("{API}/commit/main")).await.expect(200).json();
    assert_eq!(shown["id"], done["commitOid"]);
    assert_eq!(shown["title"], "Revert \"bad\"");
    assert_eq!(shown["message"], format!("This reverts commit {bad}."));
    assert_eq!(ann.get("/ann/m/resolve/main/a").await.expect(200).text(), "1");
    assert_eq!(ann.get("/ann/m/resolve/main/gone").await.expect(200).text(), "g");
    assert_eq!(ann.get("/ann/m/resolve/main/w.bin").await.expect(200).body, data);
    ann.get("/ann/m/resolve/main/d/new").await.expect(404);
    ann.get("/ann/m/resolve/main/other").await.expect(200);
    // A second time nothing of it is left; a branch that has moved on in the same file is in conflict.
    let again = ann.post(&format!("{API}/revert/{bad}"), json!({})).await.expect(409);
    assert!(again.text().contains("nothing of the commit is left"), "{}", again.text());
    let one = titled(&ann, "main", "one", &[put("a", "3")]).await;
    titled(&ann, "main", "two", &[put("a", "4")]).await;
    let clash = ann.post(&format!("{API}/revert/{one}"), json!({})).await.expect(409);
    assert!(clash.text().contains("main has changed since, in a:"), "{}", clash.text());
    assert_eq!(ann.get("/ann/m/resolve/main/a").await.expect(200).text(), "4");
    // The revert can be reverted, with words of one's own, and as a pull request.
    let body = json!({ "title": "Again", "message": "It was right" });
    let undone = done["commitOid"].as_str().unwrap();
    ann.post(&format!("{API}/revert/{undone}"), body).await.expect(409);
    let last = titled(&ann, "main", "last", &[put("z", "1")]).await;
    let pull =
        ann.post(&format!("{API}/revert/{last}"), json!({ "create_pr": true })).await.expect(200).json();
    assert!(pull["pullRequest"].is_u64(), "{pull}");
    ann.get("/ann/m/resolve/main/z").await.expect(200);
    ann.get("/ann/m/resolve/refs%2Fpr%2F1/z").await.expect(404);
    // The one of another branch, of nobody, of nothing.
    ann.post(&format!("{API}/branch/apart"), json!({ "emptyBranch": true })).await.expect(200);
    ann.post(&format!("{API}/revert/{last}"), json!({ "branch": "apart" })).await.expect(422);
    ann.post(&format!("{API}/revert/{last}"), json!({ "branch": "none" })).await.expect(404);
    ann.post(&format!("{API}/revert/{last}"), json!({ "branch": "../x" })).await.expect(400);
    ann.post(&format!("{API}/revert/{}", "0".repeat(40)), json!({})).await.expect(404);
    hub.finish().await;
}

#[tokio::test]
async fn a_merge_is_taken_back_to_its_first_parent() {
    let (hub, ann) = scene().await;
    titled(&ann, "main", "base", &[put("a", "1"), put("b", "1"), put("c", "1")]).await;
    let (side, number) = opened(&ann, "side", &[put("b", "2"), delete("c"), put("new", "n")]).await;
    titled(&ann, "main", "on", &[put("a", "2")]).await;
    let merge = merged(&ann, number).await;
    titled(&ann, "main", "later", &[put("later", "l")]).await;
    ann.post(&format!("{API}/revert/{merge}"), json!({})).await.expect(200);
    for (path, text) in [("a", "2"), ("b", "1"), ("c", "1"), ("later", "l")] {
        assert_eq!(ann.get(&format!("/ann/m/resolve/main/{path}")).await.expect(200).text(), text, "{path}");
    }
    ann.get("/ann/m/resolve/main/new").await.expect(404);
    let shown = ann.get(&format!("{API}/commit/main")).await.expect(200).json();
    assert_eq!(shown["title"], "Revert \"side (#1)\"");
    assert_eq!(shown["parents"].as_array().unwrap().len(), 1, "a commit like others");
    // Of the commit that was merged nothing is left to take back, either.
    let again = ann.post(&format!("{API}/revert/{side}"), json!({})).await.expect(409);
    assert!(again.text().contains("nothing of the commit is left"), "{}", again.text());
    hub.finish().await;
}

/// Takes a commit back while others commit: what is answered, and their commits.
async fn raced(ann: &Client, uri: &str) -> (Reply, Vec<String>) {
    let mut revert = std::pin::pin!(ann.post(uri, json!({})));
    let mut commits = Vec::new();
    loop {
        let content = commits.len().to_string();
        let other = async {
            // The revert has to have looked at the branch.
            tokio::time::sleep(Duration::from_millis(10)).await;
            titled(ann, "main", "other", &[put("other", content)]).await
        };
        let mut other = std::pin::pin!(other);
        tokio::select! {
            done = &mut other => commits.push(done),
            reply = &mut revert => {
                commits.push(other.await);
                return (reply, commits);
            }
        }
    }
}

#[tokio::test]
async fn a_branch_that_moves_meanwhile_is_left_as_it_is() {
    let (hub, ann) = scene().await;
    // So many that others commit while they are read.
    let files = |text: &str| -> Vec<Value> {
        (0..2000).map(|n| put(&format!("f{n}"), format!("{text}{n}"))).collect()
    };
    titled(&ann, "main", "good", &files("good")).await;
    let mut tries = 0;
    let (uri, commits) = loop {
        let bad = titled(&ann, "main", "bad", &files("bad")).await;
        let uri = format!("{API}/revert/{bad}");
        let (reply, commits) = raced(&ann, &uri).await;
        if reply.status.as_u16() == 412 {
            break (uri, commits);
        }
        // Sometimes it is faster than the others are.
        reply.expect(200);
        tries += 1;
        assert!(tries < 10, "nobody was ever faster");
    };
    // Nothing of it is there: the branch has the others' commits, the files are as they were.
    let now = ann.get(&format!("{API}/commits/main?limit=1000")).await.expect(200).json();
    assert_eq!(now[0]["id"], commits.last().unwrap().as_str());
    let titles: Vec<&str> =
        now.as_array().unwrap().iter().map(|row| row["title"].as_str().unwrap()).collect();
    let since = titles.split(|title| *title == "bad").next().unwrap();
    assert!(!since.iter().any(|title| title.starts_with("Revert")), "{titles:?}");
    assert_eq!(ann.get("/ann/m/resolve/main/f7").await.expect(200).text(), "bad7");
    // Asked again, it is done.
    ann.post(&uri, json!({})).await.expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/f7").await.expect(200).text(), "good7");
    ann.get("/ann/m/resolve/main/other").await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn what_was_deleted_for_good_does_not_come_back_by_taking_back() {
    let (hub, ann) = scene().await;
    let data = noise(3000, 1);
    upload(&ann, "ann/m", "w.bin", &data).await;
    let gone = titled(&ann, "main", "without", &[delete("w.bin"), put("a", "1")]).await;
    let body = json!({ "deletions": { "sha": [sha256(&data)], "rewriteHistory": false } });
    ann.post(&format!("{API}/lfs-files/batch"), body).await.expect(200);
    for body in [json!({}), json!({ "create_pr": true })] {
        let reply = ann.post(&format!("{API}/revert/{gone}"), body).await;
        assert!(reply.status.is_client_error(), "{}", reply.status);
        assert!(reply.text().contains("w.bin"), "{}", reply.text());
    }
    ann.get("/ann/m/resolve/main/w.bin").await.expect(404);
    assert_eq!(ann.get("/ann/m/resolve/main/a").await.expect(200).text(), "1");
    let commits = ann.get(&format!("{API}/commits/main")).await.expect(200).json();
    assert_eq!(commits[0]["id"], gone.as_str());
    assert_eq!(hub.count("SELECT COUNT(*) FROM discussion"), 0);
    // Whoever brings it anew may have it so.
    let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), &data).await.expect(200).json();
    put_bytes(&ann, &local(&answer["objects"][0]["actions"]["upload"]["href"]), &data).await.expect(200);
    ann.post(&format!("{API}/revert/{gone}"), json!({})).await.expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/w.bin").await.expect(200).body, data);
    hub.finish().await;
}
