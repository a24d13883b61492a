//! How it is sent: signatures, attempts, hostile targets, crashes, the log, replays.

use std::time::{Duration, Instant};

use bastide_hub::{Allowed, Secret};
use bastide_testkit::{Shared, TestHub};
use serde_json::{Value, json};

use super::{Answer, HOOKS, Receiver, branch, hub, line, log, make, resolver, watch};

/// A hub, a user with a model, and a webhook that watches it.
struct Scene {
    hub: TestHub,
    ann: bastide_testkit::Client,
    receiver: Receiver,
    hook: String,
    branches: std::cell::Cell<usize>,
}

impl Scene {
    async fn new() -> Self {
        let hub = hub().await;
        let receiver = Receiver::start().await;
        let url = receiver.url();
        Self::with(hub, receiver, &url).await
    }

    async fn with(hub: TestHub, receiver: Receiver, url: &str) -> Self {
        let ann = hub.user("ann").await;
        make(&ann, "bert", "public").await;
        let hook = watch(&ann, url, &[("model", "ann/bert")]).await;
        Self { hub, ann, receiver, hook, branches: std::cell::Cell::new(0) }
    }

    /// Something happens.
    async fn event(&self) {
        // Ids sort by their millisecond.
        self.hub.advance_seconds(1);
        self.branches.set(self.branches.get() + 1);
        branch(&self.ann, "ann/bert", &format!("b{}", self.branches.get())).await;
    }

    async fn last(&self) -> Value {
        let last = log(&self.ann, &self.hook).await.pop().unwrap();
        assert_eq!((last.get("payload"), last.get("response")), (None, None), "a list is lean");
        line(&self.ann, &self.hook, &last).await
    }

    async fn disabled(&self) -> Value {
        self.ann.get(&self.hook).await.expect(200).json()["webhook"]["disabled"].clone()
    }
}

#[tokio::test]
async fn a_delivery_is_signed_over_the_very_bytes() {
    let scene = Scene::new().await;
    scene.ann.post(&scene.hook, json!({ "secret": "correct horse" })).await.expect(200);
    scene.event().await;
    assert_eq!(scene.hub.run_webhooks().await, 1);
    let hit = scene.receiver.hits().pop().unwrap();
    assert!(hit.head.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{}", hit.head);
    assert_eq!(hit.header("content-type"), Some("application/json"));
    assert_eq!(hit.header("host").unwrap(), format!("127.0.0.1:{}", scene.receiver.port()));
    assert_eq!(hit.header("x-webhook-secret"), Some("correct horse"));
    let signature = hit.header("x-webhook-signature").unwrap();
    let (time, mac) = signature.split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let now = scene.hub.hub.clock().now().as_seconds();
    assert_eq!(time.parse::<i64>().unwrap(), now);
    let key = Secret::from("correct horse".to_owned());
    let expected: String =
        key.hmac(&[format!("{time}.{}", hit.body).as_bytes()]).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(mac, expected);
    let row = scene.last().await;
    assert_eq!(hit.header("x-webhook-delivery"), row["id"].as_str());
    assert_eq!(row["payload"], hit.json());
    assert_eq!(
        (&row["state"], &row["status"], &row["attempt"]),
        (&json!("delivered"), &json!(200), &json!(1))
    );
    assert_eq!((&row["url"], &row["event"]), (&json!(scene.receiver.url()), &json!("update repo.content")));
    // What is inside of a network is not shown to whoever can name an address in it.
    assert_eq!(row["response"], Value::Null);
    // Without a secret there is nothing to show and to sign with.
    scene.ann.post(&scene.hook, json!({ "secret": "" })).await.expect(200);
    scene.event().await;
    scene.hub.run_webhooks().await;
    let hit = scene.receiver.hits().pop().unwrap();
    assert_eq!((hit.header("x-webhook-secret"), hit.header("x-webhook-signature")), (None, None));
    scene.hub.finish().await;
}

#[tokio::test]
async fn the_secret_is_nowhere_in_the_clear() {
    let scene = Scene::new().await;
    let secret = "xyzzy-open-sesame-plugh";
    scene.ann.post(&scene.hook, json!({ "secret": secret })).await.expect(200);
    scene.event().await;
    scene.hub.run_webhooks().await;
    assert_eq!(scene.receiver.hits()[0].header("x-webhook-secret"), Some(secret));
    let mut shown = String::new();
    for uri in [HOOKS.to_owned(), scene.hook.clone(), format!("{}/deliveries", scene.hook)] {
        shown += &scene.ann.get(&uri).await.expect(200).text();
    }
    assert!(!shown.contains(secret) && !shown.contains("v1="));
    let mut files = vec![scene.hub.data().to_owned()];
    let mut looked = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        looked += usize::from(bytes.windows(9).any(|window| window == b"ann/bert\""));
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", path.display());
    }
    assert!(looked > 0, "nothing was looked at");
}

#[tokio::test]
async fn attempts_are_repeated_with_growing_waits_and_end() {
    let scene = Scene::new().await;
    scene.receiver.answers(Answer::Status(503));
    scene.event().await;
    let mut ids = std::collections::BTreeSet::new();
    for (attempt, wait) in [10, 60, 600, 3600, 21_600].into_iter().enumerate() {
        assert_eq!(scene.hub.run_webhooks().await, 1, "attempt {attempt}");
        scene.hub.advance_seconds(wait - 1);
        assert_eq!(scene.hub.run_webhooks().await, 0, "too early after attempt {attempt}");
        assert_eq!(scene.last().await["state"], "waiting");
        scene.hub.advance_seconds(1);
    }
    assert_eq!(scene.hub.run_webhooks().await, 1);
    let row = scene.last().await;
    assert_eq!((&row["state"], &row["attempt"], &row["status"]), (&json!("failed"), &json!(6), &json!(503)));
    assert_eq!(row["error"], "the target answered 503");
    scene.hub.advance_seconds(10 * 86_400);
    assert_eq!(scene.hub.run_webhooks().await, 0);
    // The same delivery, the same bytes, each time.
    let hits = scene.receiver.hits();
    ids.extend(hits.iter().map(|hit| hit.header("x-webhook-delivery").unwrap().to_owned() + &hit.body));
    assert_eq!((hits.len(), ids.len()), (6, 1));
    scene.hub.finish().await;
}

#[tokio::test]
async fn answers_decide_what_becomes_of_a_delivery() {
    let scene = Scene::new().await;
    for (status, state) in [
        (200, "delivered"),
        (204, "delivered"),
        (299, "delivered"),
        (301, "failed"),
        (307, "failed"),
        (400, "failed"),
        (401, "failed"),
        (404, "failed"),
        (408, "waiting"),
        (429, "waiting"),
        (500, "waiting"),
        (599, "waiting"),
    ] {
        scene.receiver.answers(Answer::Status(status));
        scene.event().await;
        scene.hub.run_webhooks().await;
        let row = scene.last().await;
        assert_eq!((&row["state"], &row["status"]), (&json!(state), &json!(status)), "{row}");
    }
    assert_eq!(scene.disabled().await, json!(false));
    scene.receiver.answers(Answer::Status(410));
    scene.event().await;
    scene.hub.run_webhooks().await;
    assert!(scene.disabled().await.as_str().unwrap().contains("410"));
    // What waited is dropped.
    assert_eq!(scene.hub.count("SELECT COUNT(*) FROM webhook_delivery WHERE next_at IS NOT NULL"), 0);
    scene.hub.finish().await;
}

#[tokio::test]
async fn a_target_that_fails_ten_times_in_a_row_is_left_alone() {
    let scene = Scene::new().await;
    scene.receiver.answers(Answer::Status(404));
    for _ in 0..9 {
        scene.event().await;
    }
    scene.hub.run_webhooks().await;
    scene.receiver.answers(Answer::Status(200));
    scene.event().await;
    scene.hub.run_webhooks().await;
    scene.receiver.answers(Answer::Status(404));
    for _ in 0..9 {
        scene.event().await;
    }
    scene.hub.run_webhooks().await;
    assert_eq!(scene.disabled().await, json!(false), "one that arrives begins the count anew");
    scene.event().await;
    scene.event().await;
    scene.hub.run_webhooks().await;
    let reason = "10 deliveries in a row failed; the last: the target answered 404";
    assert_eq!(scene.disabled().await, json!(reason));
    assert_eq!(scene.receiver.hits().len(), 20, "none after it was turned off");
    scene.ann.post(&format!("{}/enable", scene.hook), json!({})).await.expect(200);
    scene.receiver.answers(Answer::Status(200));
    scene.event().await;
    assert_eq!(scene.hub.run_webhooks().await, 1);
    scene.hub.finish().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inside = Receiver::start().await;
    let scene = Scene::new().await;
    for to in [inside.url(), "http://169.254.169.254/latest/meta-data/".to_owned()] {
        let raw = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
        scene.receiver.answers(Answer::Raw(raw.into_bytes()));
        scene.event().await;
        scene.hub.run_webhooks().await;
        let row = scene.last().await;
        assert_eq!((&row["state"], &row["status"]), (&json!("failed"), &json!(302)));
    }
    assert_eq!((inside.connections(), scene.receiver.connections()), (0, 2));
}

#[tokio::test]
async fn what_is_no_answer_is_none() {
    let scene = Scene::new().await;
    let headers = "x-a: b\r\n".repeat(100);
    let long = format!("x-a: {}\r\n", "b".repeat(100_000));
    for raw in [
        String::new(),
        "\r\n\r\n".to_owned(),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
        "220 mail.example.org ESMTP\r\n".to_owned(),
        "HTTP/1.1 abc OK\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{headers}\r\n"),
        format!("HTTP/1.1 200 OK\r\n{long}\r\n"),
    ] {
        scene.receiver.answers(Answer::Raw(raw.clone().into_bytes()));
        scene.event().await;
        scene.hub.run_webhooks().await;
        let row = scene.last().await;
        let expected = (json!("waiting"), Value::Null, json!("the answer was not HTTP/1.1"));
        assert_eq!(
            (row["state"].clone(), row["status"].clone(), row["error"].clone()),
            expected,
            "{raw:.50}"
        );
    }
}

#[tokio::test]
async fn slow_and_endless_targets_hold_up_nobody() {
    let scene = Scene::new().await;
    scene.receiver.answers(Answer::Endless);
    scene.event().await;
    let began = Instant::now();
    scene.hub.run_webhooks().await;
    assert_eq!(scene.last().await["status"], 200, "the head says all that counts");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // A head that comes in crumbs: there is a limit to the whole. Meanwhile another is served.
    scene.receiver.answers(Answer::Trickle);
    scene.receiver.hits();
    scene.event().await;
    let quick = Receiver::start().await;
    watch(&scene.ann, &quick.url(), &[("model", "ann/bert")]).await;
    let began = Instant::now();
    let hub = scene.hub.hub.clone();
    let slow = tokio::spawn(async move { hub.run_webhooks().await });
    scene.receiver.hit().await;
    scene.event().await;
    let other = scene.hub.reopened().await;
    assert_eq!(other.hub.run_webhooks().await.unwrap(), 1, "one of each webhook at a time");
    assert_eq!(quick.hits().len(), 1);
    assert!(began.elapsed() < Duration::from_secs(8), "held up by the slow one");
    slow.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let errors: Vec<Value> =
        log(&scene.ann, &scene.hook).await.iter().map(|row| row["error"].clone()).collect();
    assert!(errors.contains(&json!("no answer came in time")), "{errors:?}");
}

#[tokio::test]
async fn one_owner_cannot_take_every_sender() {
    let scene = Scene::new().await;
    let (bob, quick) = (scene.hub.user("bob").await, Receiver::start().await);
    scene.receiver.answers(Answer::Silence);
    for _ in 0..5 {
        watch(&scene.ann, &scene.receiver.url(), &[("model", "ann/bert")]).await;
    }
    watch(&bob, &quick.url(), &[("model", "ann/bert")]).await;
    scene.event().await;
    scene.hub.hub.dispatch_webhooks().await.unwrap();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..7 {
        let hub = scene.hub.hub.clone();
        running.spawn(async move { hub.run_webhooks().await });
    }
    quick.hit().await;
    while scene.receiver.connections() < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(scene.receiver.connections(), 4);
    running.abort_all();
}

#[tokio::test]
async fn names_that_lead_inside_reach_nothing() {
    let receiver = Receiver::start().await;
    let (names, asked) = resolver(|name, _| match name {
        "inside.example.org" => vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        "mapped.example.org" => vec!["::ffff:127.0.0.1".parse().unwrap()],
        "cloud.example.org" => vec!["169.254.169.254".parse().unwrap()],
        _ => Vec::new(),
    });
    let hub = TestHub::with(|config| {
        config.default_visibility = bastide_core::Visibility::Public;
        config.webhook_resolver = names;
    })
    .await;
    let url = |host: &str| format!("http://{host}:{}/", receiver.port());
    let scene = Scene::with(hub, receiver.clone(), &url("inside.example.org")).await;
    let mut rows = Vec::new();
    for host in [
        "inside.example.org",
        "mapped.example.org",
        "cloud.example.org",
        "nothing.example.org",
        "inside.example.org.",
    ] {
        scene.ann.post(&scene.hook, json!({ "url": url(host) })).await.expect(200);
        scene.event().await;
        scene.hub.run_webhooks().await;
        let row = scene.last().await;
        rows.push((row["error"].clone(), row["durationMs"].clone(), row["status"].clone()));
    }
    assert_eq!((receiver.connections(), asked.count()), (0, 5));
    // What is hidden inside answers like what does not exist.
    let uniform = (json!("the URL leads to no address that this hub sends to"), Value::Null, Value::Null);
    assert!(rows.iter().all(|row| *row == uniform), "{rows:?}");
}

#[tokio::test]
async fn a_name_that_changes_its_address_gains_nothing() {
    let receiver = Receiver::start().await;
    // Public at the first look, ours at the second: there is no second look in one request.
    let (names, asked) = resolver(|_, count| match count % 2 {
        1 => vec!["192.0.2.1".parse().unwrap()],
        _ => vec!["127.0.0.1".parse().unwrap()],
    });
    let hub = TestHub::with(|config| {
        config.default_visibility = bastide_core::Visibility::Public;
        config.webhook_resolver = names;
        // In the place of the internet, where no test can be.
        config.webhook_allow = vec![Allowed::parse("192.0.2.0/24").unwrap()];
    })
    .await;
    let url = format!("http://rebind.example.org:{}/", receiver.port());
    let scene = Scene::with(hub, receiver.clone(), &url).await;
    for look in 1..=2 {
        scene.event().await;
        let count = tokio::time::timeout(Duration::from_secs(8), scene.hub.run_webhooks()).await.unwrap_or(1);
        assert_eq!((count, asked.count(), receiver.connections()), (1, look, 0));
        scene.hub.advance_seconds(61);
        scene.hub.tamper("UPDATE webhook_delivery SET next_at = NULL, outcome = 'failed'");
    }
}

#[tokio::test]
async fn the_operator_allows_one_port_of_one_host() {
    let (one, two) = (Receiver::start().await, Receiver::start().await);
    let (names, _) = resolver(|_, _| vec!["127.0.0.1".parse().unwrap()]);
    let allowed = vec![Allowed::parse(&format!("hooks.lab:{}", one.port())).unwrap()];
    let hub = TestHub::with(|config| {
        config.default_visibility = bastide_core::Visibility::Public;
        config.webhook_resolver = names;
        config.webhook_allow = allowed;
    })
    .await;
    let scene = Scene::with(hub, one.clone(), &format!("http://hooks.lab:{}/", one.port())).await;
    for url in [
        format!("http://hooks.lab:{}/", one.port()),
        format!("http://HOOKS.lab:{}/", one.port()),
        format!("http://hooks.lab:{}/", two.port()),
        format!("http://other.lab:{}/", one.port()),
    ] {
        scene.ann.post(&scene.hook, json!({ "url": url })).await.expect(200);
        scene.event().await;
        scene.hub.run_webhooks().await;
    }
    assert_eq!((one.connections(), two.connections()), (2, 0));
}

#[tokio::test]
async fn a_server_that_dies_while_it_sends_loses_nothing() {
    let scene = Scene::new().await;
    scene.receiver.answers(Answer::Silence);
    scene.event().await;
    // Queued, and the server dies.
    assert_eq!(scene.hub.hub.dispatch_webhooks().await.unwrap(), 1);
    let other = scene.hub.reopened().await;
    let hub = other.hub.clone();
    let sending = tokio::spawn(async move { hub.run_webhooks().await });
    let first = scene.receiver.hit().await;
    // Sent, and the server dies before it has written that down.
    sending.abort();
    scene.receiver.answers(Answer::Status(200));
    scene.hub.advance_seconds(59);
    assert_eq!(scene.hub.run_webhooks().await, 0, "the lease lasts");
    scene.hub.advance_seconds(2);
    assert_eq!(scene.hub.run_webhooks().await, 1);
    let second = scene.receiver.hit().await;
    assert_eq!(second.header("x-webhook-delivery"), first.header("x-webhook-delivery"));
    assert_eq!(second.body, first.body);
    assert_eq!(
        (scene.last().await["state"].clone(), scene.last().await["attempt"].clone()),
        (json!("delivered"), json!(2))
    );
    scene.hub.finish().await;
}

#[tokio::test]
async fn many_walkers_queue_each_event_once() {
    let scene = Scene::new().await;
    let servers = [scene.hub.reopened().await, scene.hub.reopened().await, scene.hub.reopened().await];
    for _ in 0..5 {
        scene.event().await;
        scene.event().await;
        let all = servers.iter().map(|server| server.hub.dispatch_webhooks());
        let found: usize = futures_util::future::join_all(all).await.into_iter().map(Result::unwrap).sum();
        assert_eq!(found, 2);
    }
    assert_eq!(scene.hub.run_webhooks().await, 10);
    assert_eq!(scene.receiver.hits().len(), 10);
}

#[tokio::test]
async fn servers_that_share_a_database_share_the_work() {
    let Some(shared) = Shared::start("webhooks").await else { return };
    let (one, two) = (shared.server().await, shared.server().await);
    let ann = one.user("ann").await;
    make(&ann, "bert", "public").await;
    let hook = watch(&ann, "http://nowhere.invalid/", &[("user", "ann")]).await;
    branch(&ann, "ann/bert", "one").await;
    branch(&ann, "ann/bert", "two").await;
    let found = tokio::join!(one.hub.dispatch_webhooks(), two.hub.dispatch_webhooks());
    assert_eq!(found.0.unwrap() + found.1.unwrap(), 2);
    let sent = tokio::join!(one.hub.run_webhooks(), two.hub.run_webhooks());
    assert_eq!(sent.0.unwrap() + sent.1.unwrap(), 2);
    let rows = log(&ann, &hook).await;
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["attempt"] == 1 && row["state"] == "waiting"));
    let line = format!("{hook}/replay/{}", rows[0]["id"].as_str().unwrap());
    ann.post(&line, json!({})).await.expect(200);
    ann.post(&hook, json!({ "watched": [{ "type": "model", "name": "ann/bert" }], "secret": "s" }))
        .await
        .expect(200);
    assert_eq!(ann.get(HOOKS).await.expect(200).json()[0]["watched"][0]["name"], "ann/bert");
    ann.post(&format!("{hook}/disable"), json!({})).await.expect(200);
    ann.post(&format!("{hook}/enable"), json!({})).await.expect(200);
    ann.delete(&hook, json!({})).await.expect(200);
}

#[tokio::test]
async fn what_was_sent_can_be_sent_again_by_its_owner_alone() {
    let scene = Scene::new().await;
    let bob = scene.hub.user("bob").await;
    let bobs = watch(&bob, &scene.receiver.url(), &[("model", "ann/bert")]).await;
    scene.event().await;
    scene.hub.run_webhooks().await;
    let first = scene.last().await;
    let line = first["id"].as_str().unwrap();
    for (client, hook) in [(&bob, &scene.hook), (&bob, &bobs), (&scene.ann, &bobs)] {
        client.post(&format!("{hook}/replay/{line}"), json!({})).await.expect(404);
    }
    bob.get(&format!("{}/deliveries", scene.hook)).await.expect(404);
    let other = Receiver::start().await;
    let change = json!({ "url": other.url(), "secret": "new" });
    scene.ann.post(&scene.hook, change).await.expect(200);
    scene.receiver.hits();
    scene.hub.advance_seconds(1);
    let made = scene.ann.post(&format!("{}/replay/{line}", scene.hook), json!({})).await.expect(200).json();
    assert_eq!(scene.hub.run_webhooks().await, 1);
    let hit = other.hits().pop().unwrap();
    assert_eq!((hit.json(), hit.header("x-webhook-secret")), (first["payload"].clone(), Some("new")));
    let row = scene.last().await;
    assert_eq!(
        (&row["id"], &row["replayOf"], &row["state"]),
        (&made["id"], &first["id"], &json!("delivered"))
    );
    assert_eq!(scene.receiver.hits().len(), 0);

    // Not while it is off; and not what may not be read any more.
    let bobs_line = log(&bob, &bobs).await.pop().unwrap()["id"].as_str().unwrap().to_owned();
    bob.post(&format!("{bobs}/disable"), json!({})).await.expect(200);
    bob.post(&format!("{bobs}/replay/{bobs_line}"), json!({})).await.expect(400);
    bob.post(&format!("{bobs}/enable"), json!({})).await.expect(200);
    scene.ann.put("/api/models/ann/bert/settings", json!({ "private": true })).await.expect(200);
    bob.post(&format!("{bobs}/replay/{bobs_line}"), json!({})).await.expect(200);
    scene.hub.run_webhooks().await;
    assert_eq!(scene.receiver.hits().len(), 0);
    scene.hub.finish().await;
}

#[tokio::test]
async fn a_day_has_so_many_triggers() {
    let receiver = Receiver::start().await;
    let hub = TestHub::with(|config| {
        config.default_visibility = bastide_core::Visibility::Public;
        config.webhook_allow = vec![Allowed::parse("127.0.0.1").unwrap()];
        config.webhook_daily_triggers = 3;
    })
    .await;
    let url = receiver.url();
    let scene = Scene::with(hub, receiver, &url).await;
    for _ in 0..6 {
        scene.event().await;
    }
    assert_eq!(scene.hub.run_webhooks().await, 3);
    let rows = log(&scene.ann, &scene.hook).await;
    let states: Vec<&Value> = rows.iter().map(|row| &row["state"]).collect();
    assert_eq!(states, ["delivered", "delivered", "delivered", "dropped"]);
    assert!(rows[3]["error"].as_str().unwrap().starts_with("more than 3 events in a day"));
    let line = format!("{}/replay/{}", scene.hook, rows[0]["id"].as_str().unwrap());
    scene.ann.post(&line, json!({})).await.expect(429);
    scene.hub.advance_seconds(86_400);
    scene.ann.post(&line, json!({})).await.expect(200);
    scene.event().await;
    assert_eq!(scene.hub.run_webhooks().await, 2);
    scene.hub.finish().await;
}

#[tokio::test]
async fn the_log_has_pages_and_an_end() {
    let scene = Scene::new().await;
    for _ in 0..5 {
        scene.event().await;
    }
    scene.hub.run_webhooks().await;
    let (mut uri, mut seen) = (format!("{}/deliveries?limit=2", scene.hook), Vec::new());
    loop {
        let page = scene.ann.get(&uri).await.expect(200);
        let rows = page.json().as_array().unwrap().clone();
        seen.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        let Some((next, _)) = page.header("link").split_once('>') else { break };
        uri = next.trim_start_matches("<http://hub.test").to_owned();
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted_by(|one, two| one > two), "newest first: {seen:?}");
    for bad in ["limit=x", "cursor=x", "cursor=-1"] {
        scene.ann.get(&format!("{}/deliveries?{bad}", scene.hook)).await.expect(400);
    }
    let all = scene.ann.get(&format!("{}/deliveries?limit=100000", scene.hook)).await.expect(200).json();
    assert_eq!(all.as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn a_quick_target_is_sent_one_after_the_other() {
    let scene = Scene::new().await;
    for _ in 0..20 {
        scene.event().await;
    }
    scene.hub.hub.dispatch_webhooks().await.unwrap();
    let began = Instant::now();
    scene.hub.hub.start().await.unwrap();
    let mut came = 0;
    while came < 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        came += scene.receiver.hits().len();
        assert!(began.elapsed() < Duration::from_secs(5), "{came} of 20 came");
    }
}

#[tokio::test]
async fn a_webhook_ends_with_the_token_that_said_where_it_sends() {
    let scene = Scene::new().await;
    let stolen = scene.hub.token_with("ann", "stolen", None).await;
    let url = scene.receiver.url();
    let (made, taken) = (
        watch(&stolen, &url, &[("user", "ann")]).await,
        watch(&scene.ann, "https://hooks.example.org/", &[("user", "ann")]).await,
    );
    stolen.post(&taken, json!({ "url": url })).await.expect(200);
    // What says nothing new about where it sends leaves it as it was.
    stolen.post(&scene.hook, json!({ "url": url, "domains": ["repo"] })).await.expect(200);
    scene.ann.post(&made, json!({ "url": url, "domains": ["repo"] })).await.expect(200);
    scene.event().await;
    assert_eq!(scene.hub.hub.dispatch_webhooks().await.unwrap(), 3);
    let context = scene.hub.operator();
    let ann = scene.hub.hub.access(&context).namespace(&"ann".parse().unwrap()).await.unwrap();
    let token = scene.hub.hub.list_tokens(&ann).await.unwrap();
    let token = token.iter().find(|token| token.name == "stolen").unwrap().id;
    scene.hub.hub.revoke_token(&context, &ann, token).await.unwrap();
    assert_eq!(scene.hub.run_webhooks().await, 1, "what waited for them is not sent");
    for (hook, disabled) in [
        (&made, json!("the token that said where it sends was revoked")),
        (&taken, json!("the token that said where it sends was revoked")),
        (&scene.hook, json!(false)),
    ] {
        assert_eq!(scene.ann.get(hook).await.expect(200).json()["webhook"]["disabled"], disabled);
    }
    let told = "SELECT COUNT(*) FROM event WHERE action = 'webhook.disable' AND facts LIKE '%was revoked%'";
    assert_eq!(scene.hub.count(told), 2);
    scene.hub.finish().await;
}

#[tokio::test]
async fn the_log_does_not_tell_what_may_not_be_read_any_more() {
    let scene = Scene::new().await;
    let bob = scene.hub.user("bob").await;
    let hook = watch(&bob, &scene.receiver.url(), &[("model", "ann/bert")]).await;
    scene.event().await;
    scene.hub.run_webhooks().await;
    let row = log(&bob, &hook).await.pop().unwrap();
    assert_eq!(line(&bob, &hook, &row).await["payload"]["repo"]["name"], "ann/bert");
    scene.ann.get(&format!("{hook}/deliveries/{}", row["id"].as_str().unwrap())).await.expect(404);
    scene.ann.get(&format!("{}/deliveries/{}", scene.hook, row["id"].as_str().unwrap())).await.expect(404);
    scene.ann.put("/api/models/ann/bert/settings", json!({ "private": true })).await.expect(200);
    let after = line(&bob, &hook, &row).await;
    assert_eq!((&after["state"], after.get("payload")), (&json!("delivered"), None));
    for text in [after.to_string(), bob.get(&format!("{hook}/deliveries")).await.expect(200).text()] {
        assert!(!text.contains("bert"), "{text}");
    }
    assert!(line(&scene.ann, &scene.hook, &scene.last().await).await.get("payload").is_some());
    scene.hub.finish().await;
}
