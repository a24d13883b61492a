//! The routes: making, changing, refusing.

use bastide_core::TokenRole;
use bastide_testkit::TestHub;
use serde_json::{Value, json};

use super::{HOOKS, hub, make, watch};

fn hook(url: &str) -> Value {
    json!({ "url": url, "watched": [{ "type": "user", "name": "ann" }] })
}

#[tokio::test]
async fn a_webhook_is_made_changed_turned_off_and_deleted() {
    let hub = hub().await;
    let ann = hub.user("ann").await;
    make(&ann, "bert", "public").await;
    let body = json!({
        "url": "https://hooks.example.org/a", "secret": "correct horse", "domains": ["discussion", "repo"],
        "watched": [{ "type": "user", "name": "ANN" }, { "type": "model", "name": "Ann/Bert" },
                    { "type": "user", "name": "ann" }],
    });
    let made = ann.post(HOOKS, body).await.expect(200);
    assert!(!made.text().contains("correct horse"));
    let made = made.json()["webhook"].clone();
    assert_eq!(made["domains"], json!(["repo", "discussion"]));
    let watched = json!([{ "type": "user", "name": "ann" }, { "type": "model", "name": "ann/bert" }]);
    assert_eq!(
        (&made["watched"], &made["disabled"], &made["hasSecret"]),
        (&watched, &json!(false), &json!(true))
    );
    let uri = format!("{HOOKS}/{}", made["id"].as_str().unwrap());
    assert_eq!(ann.get(&uri).await.expect(200).json()["webhook"], made);
    assert_eq!(ann.get(HOOKS).await.expect(200).json(), json!([made]));

    // Clients send an empty list when they were told of none.
    let change = json!({ "url": "https://hooks.example.org/b", "watched": [], "domains": ["repo"] });
    let changed = ann.post(&uri, change).await.expect(200).json()["webhook"].clone();
    assert_eq!((&changed["watched"], &changed["domains"]), (&watched, &json!(["repo"])));
    assert_eq!(
        (&changed["url"], &changed["hasSecret"]),
        (&json!("https://hooks.example.org/b"), &json!(true))
    );
    let changed = ann.post(&uri, json!({ "secret": "" })).await.expect(200).json()["webhook"].clone();
    assert_eq!(changed["hasSecret"], json!(false));

    let off = ann.post(&format!("{uri}/disable"), json!({})).await.expect(200).json();
    assert_eq!(off["webhook"]["disabled"], json!(true));
    let on = ann.post(&format!("{uri}/enable"), json!({})).await.expect(200).json();
    assert_eq!(on["webhook"]["disabled"], json!(false));
    ann.delete(&uri, json!({})).await.expect(200);
    ann.get(&uri).await.expect(404);
    ann.delete(&uri, json!({})).await.expect(404);
    assert_eq!(ann.get(HOOKS).await.expect(200).json(), json!([]));
    hub.finish().await;
}

#[tokio::test]
async fn a_renamed_repository_is_shown_by_its_new_name_only_to_who_may_know_it() {
    let hub = hub().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    make(&ann, "old", "public").await;
    let seen = watch(&bob, "https://hooks.example.org/", &[("model", "ann/old")]).await;
    let mine = watch(&ann, "https://hooks.example.org/", &[("model", "ann/old")]).await;
    let name = async |client: &bastide_testkit::Client, hook: &str| {
        client.get(hook).await.expect(200).json()["webhook"]["watched"][0]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let rename = json!({ "fromRepo": "ann/old", "toRepo": "ann/plans" });
    ann.post("/api/repos/move", rename).await.expect(200);
    assert_eq!((name(&bob, &seen).await, name(&ann, &mine).await), ("ann/plans".into(), "ann/plans".into()));
    ann.put("/api/models/ann/plans/settings", json!({ "private": true })).await.expect(200);
    let rename = json!({ "fromRepo": "ann/plans", "toRepo": "ann/secret-plans" });
    ann.post("/api/repos/move", rename).await.expect(200);
    assert_eq!(name(&bob, &seen).await, "ann/old");
    assert_eq!(name(&ann, &mine).await, "ann/secret-plans");
    assert!(!bob.get(HOOKS).await.text().contains("secret-plans"));
}

#[tokio::test]
async fn addresses_inside_are_refused_in_every_spelling() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    for bad in [
        "http://127.0.0.1/",
        "http://localhost.@127.0.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1./",
        "http://%31%32%37.0.0.1/",
        "http://0.0.0.0:7860/",
        "http://0/",
        "http://10.0.0.1/",
        "http://192.168.1.1:8080/",
        "http://172.16.5.4/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::7f00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://[ff02::1]/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://192.0.2.1/",
        "https://8.8.8.8:25/",
        "ftp://x.org/",
        "file:///etc/passwd",
        "http://ann:pass@x.org/",
        "http://ann@x.org/",
        "http://x.org/#fragment",
        "http://x.org\\@127.0.0.1/",
        "http://x.org/\r\nx-injected: 1",
        "http://x.org/ y",
        "http:///x",
        "//x.org/",
        "x.org",
        "",
    ] {
        let refused = ann.post(HOOKS, hook(bad)).await.expect(400);
        assert!(refused.header("x-error-message").len() > 10, "{bad}: {}", refused.text());
    }
    // All refusals of addresses are one answer.
    let text = async |url: &str| ann.post(HOOKS, hook(url)).await.expect(400).text();
    assert_eq!(text("http://10.0.0.1/").await, text("http://169.254.169.254/").await);
    for good in ["https://8.8.8.8/x?y=z", "http://x.org:8080/", "https://[2606:4700::1111]/"] {
        ann.post(HOOKS, hook(good)).await.expect(200);
    }
    let long = format!("https://x.org/{}", "a".repeat(2048 - 14));
    ann.post(HOOKS, hook(&long)).await.expect(200);
    ann.post(HOOKS, hook(&format!("{long}a"))).await.expect(400);
}

#[tokio::test]
async fn what_cannot_be_done_is_said_so() {
    let hub = hub().await;
    let ann = hub.user("ann").await;
    hub.org("lab", "ann", &[]).await;
    let url = "https://hooks.example.org/";
    let user = json!([{ "type": "user", "name": "ann" }]);
    for (body, status, text) in [
        (json!({ "watched": user }), 400, "\"url\" is missing"),
        (json!({ "url": url }), 400, "\"watched\" is empty"),
        (json!({ "url": url, "watched": [] }), 400, "\"watched\" is empty"),
        (json!({ "url": url, "watched": user, "domains": [] }), 400, "\"domains\""),
        (json!({ "url": url, "watched": user, "domains": ["jobs"] }), 400, "\"domains\""),
        (json!({ "jobSourceId": "x", "watched": user }), 400, "runs no jobs"),
        (json!({ "job": { "flavor": "x" }, "watched": user }), 400, "runs no jobs"),
        (json!({ "url": url, "watched": [{ "type": "bucket", "name": "ann/x" }] }), 400, "no buckets"),
        (json!({ "url": url, "watched": [{ "type": "thing", "name": "ann" }] }), 400, "\"type\""),
        (json!({ "url": url, "watched": [{ "type": "user", "name": "nobody" }] }), 404, "no user 'nobody'"),
        (json!({ "url": url, "watched": [{ "type": "user", "name": "lab" }] }), 404, "no user 'lab'"),
        (json!({ "url": url, "watched": [{ "type": "org", "name": "ann" }] }), 404, "no org 'ann'"),
        (json!({ "url": url, "watched": [{ "type": "user", "name": "../x" }] }), 404, "no user"),
        (
            json!({ "url": url, "watched": [{ "type": "model", "name": "ann/none" }] }),
            404,
            "no model 'ann/none'",
        ),
        (json!({ "url": url, "watched": [{ "type": "model", "name": "x\u{0}y" }] }), 404, "no model 'xy'"),
        (json!({ "url": 7, "watched": user }), 400, "bad JSON"),
    ] {
        let reply = ann.post(HOOKS, body.clone()).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {}", reply.text());
        assert!(reply.json()["error"].as_str().unwrap().contains(text), "{body}: {}", reply.text());
    }
    assert_eq!(ann.get(HOOKS).await.json(), json!([]));
    // Who may do it: the user, with a token that writes.
    hub.anonymous().get(HOOKS).await.expect(401);
    let reads = hub.token("ann", TokenRole::Read).await;
    reads.get(HOOKS).await.expect(403);
    reads.post(HOOKS, hook(url)).await.expect(403);
    for bad in ["zz", "000000000000000000000000", "..%2f"] {
        ann.get(&format!("{HOOKS}/{bad}")).await.expect(404);
    }
}

#[tokio::test]
async fn secrets_are_headers_and_nothing_else() {
    let hub = hub().await;
    let ann = hub.user("ann").await;
    let with = |secret: &str| {
        let mut body = hook("https://hooks.example.org/");
        body["secret"] = secret.into();
        body
    };
    for bad in ["a\r\nx-injected: 1", "a\nb", "tab\t", "\u{0}", "\u{7f}", "pässword", " a", "a ", " "] {
        ann.post(HOOKS, with(bad)).await.expect(400);
    }
    ann.post(HOOKS, with(&"s".repeat(257))).await.expect(400);
    ann.post(HOOKS, with(&"s".repeat(256))).await.expect(200);
    ann.post(HOOKS, with("!\"#$ %&'()*+,-./:;<=>?@[\\]^_`{|}~")).await.expect(200);
}

#[tokio::test]
async fn a_user_has_so_many_webhooks_and_each_watches_so_much() {
    let hub = hub().await;
    let ann = hub.user("ann").await;
    hub.org("lab", "ann", &[]).await;
    let mut names = Vec::new();
    for number in 0..51 {
        let name = format!("org{number:02}");
        hub.org(&name, "ann", &[]).await;
        names.push(json!({ "type": "org", "name": name }));
    }
    let url = "https://hooks.example.org/";
    ann.post(HOOKS, json!({ "url": url, "watched": names })).await.expect(422);
    let made = ann.post(HOOKS, json!({ "url": url, "watched": names[1..] })).await.expect(200).json();
    let hook = format!("{HOOKS}/{}", made["webhook"]["id"].as_str().unwrap());
    ann.post(&hook, json!({ "watched": names })).await.expect(422);
    for _ in 1..50 {
        watch(&ann, url, &[("user", "ann")]).await;
    }
    let over = json!({ "url": url, "watched": [{ "type": "user", "name": "ann" }] });
    ann.post(HOOKS, over.clone()).await.expect(422);
    ann.delete(&hook, json!({})).await.expect(200);
    ann.post(HOOKS, over).await.expect(200);
}
