//! What is told, and to whom: never more than the owner of a webhook may read.

use bastide_core::Role;
use serde_json::{Value, json};

use super::{HOOKS, Receiver, branch, hub, line, log, make, stories, watch};
use crate::{commit, commit_with, put};

#[tokio::test]
async fn every_change_is_told_as_clients_know_it() {
    let hub = hub().await;
    let ann = hub.user("ann").await;
    let receiver = Receiver::start().await;
    let hook = watch(&ann, &receiver.url(), &[("user", "ann")]).await;
    make(&ann, "bert", "public").await;
    assert_eq!(hub.run_webhooks().await, 2);
    let told = receiver.payloads();
    assert_eq!(stories(&told), ["create repo", "update repo.content"]);
    let info = ann.get("/api/models/ann/bert").await.expect(200).json();
    let first = info["sha"].clone();
    let repo = &told[0]["repo"];
    assert_eq!(repo["headSha"], first);
    assert_eq!(repo["id"], info["_id"]);
    assert_eq!(
        (&repo["name"], &repo["type"], &repo["private"]),
        (&json!("ann/bert"), &json!("model"), &json!(false))
    );
    let urls = json!({ "web": "http://hub.test/ann/bert", "api": "http://hub.test/api/models/ann/bert" });
    assert_eq!(repo["url"], urls);
    let me = ann.get("/api/whoami-v2").await.json();
    assert_eq!(repo["owner"], json!({ "id": me["id"] }));
    let id = hook.rsplit('/').next().unwrap();
    assert_eq!(told[0]["webhook"], json!({ "id": id, "version": 3 }));
    let refs = json!([{ "ref": "refs/heads/main", "oldSha": null, "newSha": first }]);
    assert_eq!(told[1]["updatedRefs"], refs);

    let card = put("README.md", "---\nlicense: mit\ntags: [tiny]\n---\n");
    let second = commit(&ann, "ann/bert", &[card]).await.expect(200).json()["commitOid"].clone();
    branch(&ann, "ann/bert", "dev").await;
    ann.post("/api/models/ann/bert/tag/main", json!({ "tag": "v1" })).await.expect(200);
    ann.delete("/api/models/ann/bert/branch/dev", json!({})).await.expect(200);
    ann.delete("/api/models/ann/bert/tag/v1", json!({})).await.expect(200);
    let squashed = ann.post("/api/models/ann/bert/super-squash/main", json!({})).await.expect(200).json();
    assert_eq!(hub.run_webhooks().await, 6);
    let told = receiver.payloads();
    assert!(
        told.iter().all(|payload| payload["event"] == json!({ "action": "update", "scope": "repo.content" }))
    );
    let refs: Vec<&Value> = told.iter().map(|payload| &payload["updatedRefs"][0]).collect();
    let moved = |name: &str, old: &Value, new: &Value| json!({ "ref": name, "oldSha": old, "newSha": new });
    assert_eq!(*refs[0], moved("refs/heads/main", &first, &second));
    assert_eq!(*refs[1], moved("refs/heads/dev", &Value::Null, &second));
    assert_eq!(*refs[2], moved("refs/tags/v1", &Value::Null, &second));
    assert_eq!(*refs[3], moved("refs/heads/dev", &second, &Value::Null));
    assert_eq!(*refs[4], moved("refs/tags/v1", &second, &Value::Null));
    assert_eq!(*refs[5], moved("refs/heads/main", &second, &squashed["commitOid"]));
    assert!(told[0]["repo"]["tags"].as_array().unwrap().contains(&json!("tiny")));

    let settings = "/api/models/ann/bert/settings";
    ann.put(settings, json!({ "private": true })).await.expect(200);
    ann.put(settings, json!({ "private": true })).await.expect(200);
    ann.put(settings, json!({ "gated": "auto", "discussionsDisabled": true })).await.expect(200);
    let rename = json!({ "fromRepo": "ann/bert", "toRepo": "ann/ernie" });
    ann.post("/api/repos/move", rename).await.expect(200);
    assert_eq!(hub.run_webhooks().await, 3);
    let told = receiver.payloads();
    assert_eq!(stories(&told), ["update repo.config", "update repo.config", "move repo"]);
    assert_eq!(told[0]["updatedConfig"], json!({ "private": true, "visibility": "private" }));
    assert_eq!(told[1]["updatedConfig"], json!({ "gated": "auto", "discussionsDisabled": true }));
    assert_eq!(told[2]["repo"]["name"], "ann/bert");
    assert_eq!(told[2]["movedTo"], json!({ "name": "ann/ernie", "owner": { "id": me["id"] } }));

    ann.delete("/api/repos/delete", json!({ "name": "ernie" })).await.expect(200);
    assert_eq!(hub.run_webhooks().await, 1);
    let told = receiver.payloads();
    assert_eq!(stories(&told), ["delete repo"]);
    let repo = &told[0]["repo"];
    assert_eq!(
        (&repo["name"], &repo["private"], &repo["id"]),
        (&json!("ann/ernie"), &json!(true), &info["_id"])
    );
    assert_eq!(repo.get("headSha"), None);
    assert_eq!(hub.run_webhooks().await, 0);
    hub.finish().await;
}

#[tokio::test]
async fn what_was_before_a_webhook_and_while_it_was_off_is_not_told() {
    let hub = hub().await;
    let ann = hub.user("ann").await;
    let receiver = Receiver::start().await;
    make(&ann, "bert", "public").await;
    let hook = watch(&ann, &receiver.url(), &[("model", "ann/bert")]).await;
    branch(&ann, "ann/bert", "one").await;
    assert_eq!(hub.run_webhooks().await, 1);
    // With none that is on, and with another that is.
    for other in [false, true] {
        if other {
            watch(&ann, &receiver.url(), &[("model", "ann/bert")]).await;
        }
        ann.post(&format!("{hook}/disable"), json!({})).await.expect(200);
        branch(&ann, "ann/bert", &format!("off-{other}")).await;
        if other {
            hub.run_webhooks().await;
        }
        ann.post(&format!("{hook}/enable"), json!({})).await.expect(200);
        receiver.hits();
        assert_eq!(hub.reopened().await.hub.run_webhooks().await.unwrap(), 0);
    }
    // More to watch is watched from now on.
    hub.advance_seconds(1);
    make(&ann, "two", "public").await;
    hub.run_webhooks().await;
    let both = json!([{ "type": "model", "name": "ann/two" }, { "type": "model", "name": "ann/bert" }]);
    branch(&ann, "ann/bert", "before").await;
    branch(&ann, "ann/two", "before").await;
    ann.post(&hook, json!({ "watched": both })).await.expect(200);
    branch(&ann, "ann/two", "after").await;
    hub.run_webhooks().await;
    let mut events = Vec::new();
    for row in log(&ann, &hook).await {
        events.push(line(&ann, &hook, &row).await["payload"]["updatedRefs"][0]["ref"].clone());
    }
    assert_eq!(events, ["refs/heads/one", "refs/heads/before", "refs/heads/after"]);
}

#[tokio::test]
async fn only_the_domains_that_were_asked_for() {
    let hub = hub().await;
    let ann = hub.user("ann").await;
    let receiver = Receiver::start().await;
    make(&ann, "bert", "public").await;
    let body = json!({ "url": receiver.url(), "domains": ["discussion"], "watched": [{ "type": "user", "name": "ann" }] });
    ann.post(HOOKS, body).await.expect(200);
    branch(&ann, "ann/bert", "one").await;
    assert_eq!(hub.run_webhooks().await, 0);
}

#[tokio::test]
async fn whoever_watches_a_user_is_told_of_what_they_may_read() {
    let hub = hub().await;
    let (ann, eve) = (hub.user("ann").await, hub.user("eve").await);
    let receiver = Receiver::start().await;
    let hook = watch(&eve, &receiver.url(), &[("user", "ann")]).await;
    make(&ann, "hidden", "private").await;
    commit(&ann, "ann/hidden", &[put("a.txt", "a")]).await.expect(200);
    ann.post("/api/repos/move", json!({ "fromRepo": "ann/hidden", "toRepo": "ann/buried" }))
        .await
        .expect(200);
    ann.delete("/api/repos/delete", json!({ "name": "buried" })).await.expect(200);
    make(&ann, "shown", "public").await;
    make(&ann, "later", "private").await;
    assert_eq!(hub.run_webhooks().await, 2);
    let told = receiver.payloads();
    assert!(told.iter().all(|payload| payload["repo"]["name"] == "ann/shown"), "{told:?}");
    assert_eq!(hub.count("SELECT COUNT(*) FROM webhook_delivery"), 2, "no trace of what is hidden");
    assert_eq!(hub.count("SELECT triggers FROM webhook"), 2, "and none in what is counted");
    assert_eq!(log(&eve, &hook).await.len(), 2);
    // Shown from now on; and then no more.
    ann.put("/api/models/ann/later/settings", json!({ "private": false })).await.expect(200);
    hub.run_webhooks().await;
    assert_eq!(receiver.payloads()[0]["updatedConfig"]["private"], json!(false));
    ann.put("/api/models/ann/later/settings", json!({ "private": true })).await.expect(200);
    branch(&ann, "ann/later", "b").await;
    assert_eq!(hub.run_webhooks().await, 0);
    assert_eq!(receiver.connections(), 3);
}

#[tokio::test]
async fn a_private_repository_of_somebody_else_cannot_be_watched() {
    let hub = hub().await;
    let (ann, eve) = (hub.user("ann").await, hub.user("eve").await);
    make(&ann, "hidden", "private").await;
    let ask = async |name: &str| {
        let body = json!({ "url": "https://x.org/", "watched": [{ "type": "model", "name": name }] });
        let reply = eve.post(HOOKS, body).await.expect(404);
        (reply.text().replace(name, "NAME"), reply.header("x-error-code").to_owned())
    };
    assert_eq!(ask("ann/hidden").await, ask("ann/nothing").await);
    // Nor by its old name.
    ann.post("/api/repos/move", json!({ "fromRepo": "ann/hidden", "toRepo": "ann/buried" }))
        .await
        .expect(200);
    assert_eq!(ask("ann/hidden").await, ask("ann/nothing").await);
}

#[tokio::test]
async fn rights_that_end_before_a_delivery_end_it() {
    let hub = hub().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    hub.org("lab", "ann", &[("bob", Role::Read)]).await;
    make(&ann, "lab/plans", "private").await;
    let receiver = Receiver::start().await;
    let hook = watch(&bob, &receiver.url(), &[("org", "lab")]).await;
    branch(&ann, "lab/plans", "one").await;
    assert_eq!(hub.run_webhooks().await, 1);
    assert_eq!(receiver.payloads().len(), 1);

    // Queued, and then out of the organisation: between the event and its delivery.
    branch(&ann, "lab/plans", "two").await;
    assert_eq!(hub.hub.dispatch_webhooks().await.unwrap(), 1);
    set_role(&hub, None).await;
    hub.run_webhooks().await;
    assert_eq!((receiver.payloads().len(), log(&bob, &hook).await.len()), (0, 1));

    // Tried once, and then out: what waits for its next attempt is not sent either.
    set_role(&hub, Some(Role::Read)).await;
    receiver.answers(super::Answer::Status(503));
    branch(&ann, "lab/plans", "three").await;
    assert_eq!(hub.run_webhooks().await, 1);
    receiver.answers(super::Answer::Status(200));
    receiver.hits();
    set_role(&hub, None).await;
    hub.advance_seconds(3600);
    hub.run_webhooks().await;
    assert_eq!(receiver.payloads().len(), 0);

    // A deletion is told to who could read it, and to nobody else.
    ann.delete("/api/repos/delete", json!({ "name": "plans", "organization": "lab" })).await.expect(200);
    assert_eq!(hub.run_webhooks().await, 0);
    set_role(&hub, Some(Role::Read)).await;
    make(&ann, "lab/more", "private").await;
    ann.delete("/api/repos/delete", json!({ "name": "more", "organization": "lab" })).await.expect(200);
    hub.run_webhooks().await;
    assert_eq!(stories(&receiver.payloads()), ["delete repo"]);
    hub.finish().await;
}

async fn set_role(hub: &bastide_testkit::TestHub, role: Option<Role>) {
    let context = hub.operator();
    let lab = hub.hub.access(&context).namespace(&"lab".parse().unwrap()).await.unwrap();
    hub.hub.set_member(&context, &lab, &"bob".parse().unwrap(), role).await.unwrap();
}

#[tokio::test]
async fn a_disabled_owner_hears_nothing() {
    let hub = hub().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    make(&ann, "bert", "public").await;
    let receiver = Receiver::start().await;
    watch(&bob, &receiver.url(), &[("user", "ann")]).await;
    branch(&ann, "ann/bert", "one").await;
    assert_eq!(hub.hub.dispatch_webhooks().await.unwrap(), 1);
    let context = hub.operator();
    let access = hub.hub.access(&context).namespace(&"bob".parse().unwrap()).await.unwrap();
    hub.hub.disable_user(&context, &access).await.unwrap();
    branch(&ann, "ann/bert", "two").await;
    assert_eq!((hub.run_webhooks().await, receiver.connections()), (0, 0));
    let off = "SELECT COUNT(*) FROM webhook WHERE disabled LIKE 'the account%'";
    assert_eq!(
        (hub.count(off), hub.count("SELECT COUNT(*) FROM webhook_delivery WHERE next_at > 0")),
        (1, 0)
    );
    hub.finish().await;
}

#[tokio::test]
async fn a_repository_that_moves_is_told_of_where_it_was_and_where_it_is() {
    let hub = hub().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    hub.org("lab", "ann", &[]).await;
    let receiver = Receiver::start().await;
    let from = watch(&bob, &receiver.url(), &[("user", "ann")]).await;
    let to = watch(&bob, &receiver.url(), &[("org", "lab")]).await;
    // Both ways to the same: once.
    let both = watch(&bob, &receiver.url(), &[("org", "lab"), ("user", "ann")]).await;
    make(&ann, "bert", "public").await;
    hub.run_webhooks().await;
    hub.advance_seconds(1);
    ann.post("/api/repos/move", json!({ "fromRepo": "ann/bert", "toRepo": "lab/bert" })).await.expect(200);
    branch(&ann, "lab/bert", "b").await;
    hub.run_webhooks().await;
    let events = async |hook: &str| -> Vec<String> {
        log(&bob, hook).await.iter().map(|row| row["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(events(&from).await, ["create repo", "update repo.content", "move repo"]);
    assert_eq!(events(&to).await, ["move repo", "update repo.content"]);
    assert_eq!(events(&both).await.len(), 4);
    assert_eq!(receiver.payloads().len(), 9);
}

#[tokio::test]
async fn what_is_said_is_told_with_its_words_as_they_are_now() {
    let hub = hub().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    let receiver = Receiver::start().await;
    make(&ann, "bert", "public").await;
    watch(&bob, &receiver.url(), &[("model", "ann/bert")]).await;
    let base = "/api/models/ann/bert/discussions";
    let body = json!({ "title": "A question", "description": "How?" });
    bob.post(base, body).await.expect(200);
    assert_eq!(hub.run_webhooks().await, 1);
    let told = receiver.payloads().pop().unwrap();
    assert_eq!(told["event"], json!({ "action": "create", "scope": "discussion" }));
    let me = bob.get("/api/whoami-v2").await.json()["id"].clone();
    let discussion = &told["discussion"];
    assert_eq!((&discussion["num"], &discussion["title"]), (&json!(1), &json!("A question")));
    assert_eq!((&discussion["isPullRequest"], &discussion["status"]), (&json!(false), &json!("open")));
    assert_eq!(discussion["author"], json!({ "id": me }));
    assert_eq!(discussion["url"]["web"], "http://hub.test/ann/bert/discussions/1");
    assert_eq!((&told["comment"]["content"], &told["comment"]["hidden"]), (&json!("How?"), &json!(false)));

    ann.post(&format!("{base}/1/comment"), json!({ "comment": "Thus." })).await.expect(200);
    ann.post(&format!("{base}/1/status"), json!({ "status": "closed" })).await.expect(200);
    ann.post(&format!("{base}/1/title"), json!({ "title": "Answered" })).await.expect(200);
    hub.run_webhooks().await;
    let told = receiver.payloads();
    assert_eq!(stories(&told), ["create discussion.comment", "update discussion", "update discussion"]);
    assert_eq!(told[0]["comment"]["content"], "Thus.");
    assert_eq!(
        (&told[2]["discussion"]["title"], &told[2]["discussion"]["status"]),
        (&json!("Answered"), &json!("closed"))
    );
    let comment = told[0]["comment"]["id"].as_str().unwrap();
    ann.post(&format!("{base}/1/comment/{comment}/edit"), json!({ "content": "So." })).await.expect(200);
    ann.post(&format!("{base}/1/comment/{comment}/hide"), json!({})).await.expect(200);
    hub.run_webhooks().await;
    let told = receiver.payloads();
    assert_eq!(stories(&told), ["update discussion.comment", "update discussion.comment"]);
    // Hidden by the time that it is sent: its words are in nothing any more.
    assert!(
        told.iter().all(|told| told["comment"]["hidden"] == true && told["comment"].get("content").is_none())
    );
    ann.delete(&format!("{base}/1"), json!({})).await.expect(200);
    hub.run_webhooks().await;
    let told = receiver.payloads().pop().unwrap();
    assert_eq!(stories(std::slice::from_ref(&told)), ["delete discussion"]);
    assert_eq!(
        (&told["discussion"]["title"], &told["discussion"]["author"]["id"]),
        (&json!("Answered"), &me)
    );
    hub.finish().await;
}

/// By its own merge, and by a move of its branch.
#[tokio::test]
async fn a_pull_request_that_is_merged_is_told_as_a_discussion_that_changes() {
    let hub = hub().await;
    let ann = hub.user("ann").await;
    let receiver = Receiver::start().await;
    make(&ann, "bert", "public").await;
    watch(&ann, &receiver.url(), &[("model", "ann/bert")]).await;
    for number in [1, 2] {
        let header = json!({ "summary": "a proposal" });
        let text = put(&format!("{number}.txt"), "x");
        commit_with(&ann, "ann/bert", "main?create_pr=1", header, &[text]).await.expect(200);
    }
    hub.run_webhooks().await;
    receiver.payloads();
    let check = async |content: &Value, number: u64| {
        hub.run_jobs().await;
        hub.run_webhooks().await;
        let told = receiver.payloads();
        assert_eq!(stories(&told), ["update repo.content", "update discussion"]);
        let discussion = &told[1]["discussion"];
        assert_eq!((&discussion["num"], &discussion["status"]), (&json!(number), &json!("merged")));
        assert_eq!(&discussion["changes"]["mergeCommitId"], content);
    };
    let merge = ann.post("/api/models/ann/bert/discussions/1/merge", json!({})).await.expect(200).json();
    check(&merge["mergeCommitId"], 1).await;
    let body = json!({ "startingPoint": "refs/pr/2", "overwrite": true });
    ann.post("/api/models/ann/bert/branch/main", body).await.expect(200);
    check(&ann.get("/api/models/ann/bert").await.json()["sha"].clone(), 2).await;
    hub.finish().await;
}

#[tokio::test]
async fn what_is_said_behind_a_gate_stays_behind_it() {
    let hub = hub().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    let receiver = Receiver::start().await;
    make(&ann, "bert", "public").await;
    ann.put("/api/models/ann/bert/settings", json!({ "gated": "auto" })).await.expect(200);
    watch(&bob, &receiver.url(), &[("model", "ann/bert")]).await;
    let body = json!({ "title": "Between us", "description": "words" });
    ann.post("/api/models/ann/bert/discussions", body).await.expect(200);
    branch(&ann, "ann/bert", "one").await;
    assert_eq!(hub.run_webhooks().await, 1);
    assert_eq!(stories(&receiver.payloads()), ["update repo.content"]);
}

#[tokio::test]
async fn what_is_hidden_or_removed_is_in_no_log_and_not_sent_again() {
    let hub = hub().await;
    let ann = hub.user("ann").await;
    let receiver = Receiver::start().await;
    make(&ann, "bert", "public").await;
    let hook = watch(&ann, &receiver.url(), &[("model", "ann/bert")]).await;
    let base = "/api/models/ann/bert/discussions";
    let kept = |words: &str| {
        let words = format!("SELECT COUNT(*) FROM webhook_delivery WHERE payload LIKE '%{words}%'");
        hub.count(&words)
    };
    ann.post(base, json!({ "title": "A question", "description": "First words" })).await.expect(200);
    let said =
        ann.post(&format!("{base}/1/comment"), json!({ "comment": "A leaked secret" })).await.expect(200);
    let comment = said.json()["newMessage"]["id"].as_str().unwrap().to_owned();
    hub.run_webhooks().await;
    assert_eq!((kept("A leaked secret"), kept("First words")), (1, 1));
    let line = log(&ann, &hook).await.pop().unwrap()["id"].as_str().unwrap().to_owned();
    // A replay that waits has the words, too.
    ann.post(&format!("{hook}/replay/{line}"), json!({})).await.expect(200);
    assert_eq!(kept("A leaked secret"), 2);
    ann.post(&format!("{base}/1/comment/{comment}/hide"), json!({})).await.expect(200);
    assert_eq!((kept("A leaked secret"), kept("First words")), (0, 1));
    hub.advance_seconds(1);
    ann.post(&format!("{hook}/replay/{line}"), json!({})).await.expect(200);
    receiver.payloads();
    hub.run_webhooks().await;
    let told = receiver.payloads();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told.iter().all(|told| told["comment"]["hidden"] == true && !told.to_string().contains("leaked"))
    );
    let rows = log(&ann, &hook).await;
    assert_eq!(kept("leaked"), 0);
    // What tells of the hiding itself quotes nothing, and stays.
    assert_eq!(kept("\"hidden\":true"), 3);

    let first = rows[0]["id"].as_str().unwrap();
    ann.delete(&format!("{base}/1"), json!({})).await.expect(200);
    assert_eq!((kept("First words"), kept("A question")), (0, 0));
    ann.post(&format!("{hook}/replay/{first}"), json!({})).await.expect(200);
    hub.run_webhooks().await;
    assert_eq!(stories(&receiver.payloads()), ["delete discussion"]);
    hub.finish().await;
}

#[tokio::test]
async fn words_that_were_hidden_are_not_sent_again() {
    let hub = hub().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    let receiver = Receiver::start().await;
    make(&ann, "bert", "public").await;
    let hook = watch(&bob, &receiver.url(), &[("model", "ann/bert")]).await;
    let base = "/api/models/ann/bert/discussions";
    receiver.answers(super::Answer::Status(503));
    let body = json!({ "title": "A question", "description": "a telephone number" });
    ann.post(base, body).await.expect(200);
    hub.run_webhooks().await;
    let told = receiver.payloads().pop().unwrap();
    assert_eq!(told["comment"]["content"], "a telephone number");
    let comment = told["comment"]["id"].as_str().unwrap();
    ann.post(&format!("{base}/1/comment/{comment}/hide"), json!({})).await.expect(200);
    receiver.answers(super::Answer::Status(200));
    hub.advance_seconds(11);
    hub.run_webhooks().await;
    let line = log(&bob, &hook).await[0]["id"].as_str().unwrap().to_owned();
    bob.post(&format!("{hook}/replay/{line}"), json!({})).await.expect(200);
    hub.run_webhooks().await;
    let told = receiver.payloads();
    assert_eq!(told.len(), 3, "again, that it was hidden, and once more");
    assert!(told.iter().all(|told| !told.to_string().contains("telephone")), "{told:?}");
    ann.delete(&format!("{base}/1"), json!({})).await.expect(200);
    bob.post(&format!("{hook}/replay/{line}"), json!({})).await.expect(200);
    hub.run_webhooks().await;
    assert_eq!(stories(&receiver.payloads()), ["delete discussion"]);
}
