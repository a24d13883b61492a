//! Discussions: who may say what where, what is shown of it, and what never is.

use bastide_core::limits::{
    COMMENTS_PER_HOUR, DISCUSSIONS_PER_DAY, MAX_COMMENT_BYTES, MAX_COMMENT_VERSIONS, MAX_DISCUSSION_BYTES,
    MAX_DISCUSSION_EVENTS,
};
use bastide_core::{Role, TokenRole};
use bastide_hub::access::Admin;
use bastide_testkit::{Client, Reply, TestHub};
use serde_json::{Value, json};

use crate::{commit, create, put};

const API: &str = "/api/models/ann/m/discussions";

/// A hub where ann has a public repository, and bob and eve are strangers to it.
async fn scene() -> (TestHub, Client, Client, Client) {
    let hub = TestHub::open().await;
    let (ann, bob, eve) = (hub.user("ann").await, hub.user("bob").await, hub.user("eve").await);
    create(&ann, "model", "m").await.expect(200);
    (hub, ann, bob, eve)
}

async fn open(client: &Client, api: &str, title: &str, description: &str) -> u64 {
    let body = json!({ "title": title, "description": description });
    client.post(api, body).await.expect(200).json()["num"].as_u64().unwrap()
}

async fn detail(client: &Client, num: u64) -> Value {
    client.get(&format!("{API}/{num}")).await.expect(200).json()
}

async fn event_of(client: &Client, num: u64, place: usize) -> String {
    detail(client, num).await["events"][place]["id"].as_str().unwrap().to_owned()
}

async fn say(client: &Client, num: u64, comment: &str) -> Reply {
    client.post(&format!("{API}/{num}/comment"), json!({ "comment": comment })).await
}

async fn edit(client: &Client, num: u64, event: &str, content: &str) -> Reply {
    client.post(&format!("{API}/{num}/comment/{event}/edit"), json!({ "content": content })).await
}

async fn hide(client: &Client, num: u64, event: &str) -> Reply {
    client.post(&format!("{API}/{num}/comment/{event}/hide"), Value::Null).await
}

async fn set_status(client: &Client, num: u64, status: &str) -> Reply {
    client.post(&format!("{API}/{num}/status"), json!({ "status": status })).await
}

async fn disable(hub: &TestHub, user: &str) {
    let operator = hub.operator();
    let user = hub.hub.access(&operator).namespace::<Admin>(&user.parse().unwrap()).await.unwrap();
    hub.hub.disable_user(&operator, &user).await.unwrap();
}

fn nums(list: &Value) -> Vec<u64> {
    list["discussions"].as_array().unwrap().iter().map(|row| row["num"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_discussion_from_its_opening_to_its_end() {
    let (hub, ann, bob, _) = scene().await;
    let made = bob.post(API, json!({ "title": "  It crashes ", "description": "see\r\n<b>log</b>" })).await;
    let made = made.expect(200).json();
    assert_eq!(
        (made["num"].as_u64(), made["url"].as_str()),
        (Some(1), Some("http://hub.test/ann/m/discussions/1"))
    );
    hub.advance_seconds(60);
    let said = say(&ann, 1, "Which version?").await.expect(200).json()["newMessage"].clone();
    assert_eq!((said["type"].as_str(), said["author"]["name"].as_str()), (Some("comment"), Some("ann")));
    let title = bob.post(&format!("{API}/1/title"), json!({ "title": "It crashes on load" })).await;
    let title = title.expect(200).json()["newTitle"].clone();
    assert_eq!(title["data"], json!({ "from": "It crashes", "to": "It crashes on load" }));
    let closed = json!({ "status": "closed", "comment": "fixed" });
    let closed = ann.post(&format!("{API}/1/status"), closed).await.expect(200).json()["newStatus"].clone();
    assert_eq!(
        (closed["type"].as_str(), &closed["data"]),
        (Some("status-change"), &json!({ "status": "closed" }))
    );
    set_status(&ann, 1, "closed").await.expect(400);
    set_status(&bob, 1, "open").await.expect(200);

    let found = detail(&hub.anonymous(), 1).await;
    let kinds: Vec<_> =
        found["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["comment", "comment", "title-change", "comment", "status-change", "status-change"]);
    assert_eq!(found["title"], "It crashes on load");
    assert_eq!(found["status"], "open");
    assert_eq!(found["numComments"], 3);
    assert_eq!(found["repo"], json!({ "name": "ann/m", "type": "model" }));
    assert_eq!(found["author"]["name"], "bob");
    assert_eq!(found["createdAt"], "2026-11-24T06:00:00.000Z");
    assert!(found.get("changes").is_none() && found.get("diff").is_none());
    let first = &found["events"][0];
    assert_eq!(first["id"].as_str().unwrap().len(), 24);
    assert_eq!(first["data"]["latest"]["raw"], "see\n<b>log</b>");
    assert_eq!(first["data"]["latest"]["html"], "<p>see<br>\n&lt;b&gt;log&lt;/b&gt;</p>");
    assert_eq!(first["data"]["edited"], false);
    assert_eq!(first["data"]["history"], json!([]));

    // Datasets and Spaces have numbers of their own.
    create(&ann, "dataset", "m").await.expect(200);
    assert_eq!(open(&bob, "/api/datasets/ann/m/discussions", "hello", "").await, 1);
    let found = ann.get("/api/datasets/ann/m/discussions/1").await.expect(200).json();
    assert_eq!(found["repo"]["type"], "dataset");
    assert_eq!(found["events"][0]["data"]["latest"]["raw"], "");
    hub.finish().await;
}

#[tokio::test]
async fn what_may_not_be_read_cannot_be_discussed() {
    let (hub, ann, bob, _) = scene().await;
    open(&ann, API, "secret plans", "the password").await;
    let event = event_of(&ann, 1, 0).await;
    ann.put("/api/models/ann/m/settings", json!({ "visibility": "private" })).await.expect(200);
    let missing = "/api/models/ann/none/discussions";
    for (client, status) in [(&bob, 404), (&hub.anonymous(), 401)] {
        for rest in ["", "/1", "/2", "?author=ann", "?search=secret", "?p=1"] {
            let (hidden, none) =
                (client.get(&format!("{API}{rest}")).await, client.get(&format!("{missing}{rest}")).await);
            assert_eq!((hidden.status.as_u16(), hidden.text()), (status, none.text()), "{rest}");
            assert_eq!(hidden.header("x-error-code"), "RepoNotFound");
        }
        for (rest, body) in [
            ("", json!({ "title": "title" })),
            ("/1/comment", json!({ "comment": "x" })),
            (&*format!("/1/comment/{event}/edit"), json!({ "content": "x" })),
            (&*format!("/1/comment/{event}/hide"), Value::Null),
            ("/1/title", json!({ "title": "title" })),
            ("/1/status", json!({ "status": "closed" })),
            ("/1/pin", json!({ "pinned": true })),
            ("/1/lock", json!({ "locked": true })),
        ] {
            let reply = client.post(&format!("{API}{rest}"), body).await;
            assert_eq!(reply.status.as_u16(), status, "{rest}");
            assert!(!reply.text().contains("secret"));
        }
        client.delete(&format!("{API}/1"), Value::Null).await.expect(status);
    }
    assert_eq!(detail(&ann, 1).await["numComments"], 1);
    hub.finish().await;
}

#[tokio::test]
async fn behind_the_gate_of_a_gated_repository_is_what_is_said_of_it_too() {
    let (hub, ann, bob, _) = scene().await;
    open(&ann, API, "quoted contents", "line 1 of the data").await;
    ann.put("/api/models/ann/m/settings", json!({ "gated": "manual" })).await.expect(200);
    for (client, status) in [(&bob, 403), (&hub.anonymous(), 401)] {
        for rest in ["", "/1", "?search=quoted"] {
            let reply = client.get(&format!("{API}{rest}")).await.expect(status);
            assert_eq!(reply.header("x-error-code"), "GatedRepo");
            assert!(!reply.text().contains("quoted") && !reply.text().contains("line 1"));
        }
    }
    assert_eq!(say(&bob, 1, "may I?").await.expect(403).header("x-error-code"), "GatedRepo");
    hub.finish().await;
}

#[tokio::test]
async fn only_who_wrote_a_comment_edits_it_and_every_version_is_kept() {
    let (hub, ann, bob, eve) = scene().await;
    open(&bob, API, "title", "first").await;
    let event = event_of(&bob, 1, 0).await;
    for other in [&eve, &ann] {
        let refused = edit(other, 1, &event, "words in his mouth").await.expect(403);
        assert!(refused.text().contains("Only who wrote a comment can edit it."), "{}", refused.text());
    }
    edit(&hub.token("bob", TokenRole::Read).await, 1, &event, "x").await.expect(403);
    edit(&hub.anonymous(), 1, &event, "x").await.expect(401);
    hub.advance_seconds(5);
    let updated = edit(&bob, 1, &event, "second").await.expect(200).json()["updatedComment"].clone();
    let data = &updated["data"];
    assert_eq!((data["edited"].as_bool(), data["numEdits"].as_u64()), (Some(true), Some(1)));
    assert_eq!(data["latest"]["raw"], "second");
    assert_eq!(data["latest"]["updatedAt"], "2026-11-24T06:00:05.000Z");
    assert_eq!(data["history"][0]["raw"], "first");
    assert_eq!(data["history"][0]["author"]["name"], "bob");
    assert!(data["history"][0].get("html").is_none() && data["latest"]["html"].is_string());
    assert_eq!(detail(&eve, 1).await["events"][0], updated);
    // What is no comment cannot be edited or hidden.
    let status = set_status(&bob, 1, "closed").await.expect(200).json()["newStatus"]["id"].clone();
    edit(&bob, 1, status.as_str().unwrap(), "x").await.expect(404);
    hide(&ann, 1, status.as_str().unwrap()).await.expect(404);
    for n in 2..MAX_COMMENT_VERSIONS {
        if n % 80 == 0 {
            hub.advance_seconds(3600);
        }
        edit(&bob, 1, &event, &format!("version {n}")).await.expect(200);
    }
    edit(&bob, 1, &event, "one more").await.expect(422);
    hub.finish().await;
}

#[tokio::test]
async fn a_hidden_comment_is_gone_for_everybody_with_its_history() {
    let (hub, ann, bob, eve) = scene().await;
    open(&bob, API, "title", "description").await;
    say(&bob, 1, "hf_leaked_one").await.expect(200);
    let event = event_of(&bob, 1, 1).await;
    edit(&bob, 1, &event, "hf_leaked_two").await.expect(200);
    hide(&eve, 1, &event).await.expect(403);
    hide(&hub.anonymous(), 1, &event).await.expect(401);
    let hidden = hide(&ann, 1, &event).await.expect(200);
    assert!(!hidden.text().contains("leaked"), "{}", hidden.text());
    assert_eq!(hidden.json()["updatedComment"]["data"]["hidden"], true);
    for client in [&ann, &bob, &eve, &hub.anonymous()] {
        for uri in
            [format!("{API}/1"), format!("{API}/1?diff=1"), API.to_owned(), format!("{API}?search=leaked")]
        {
            let reply = client.get(&uri).await.expect(200);
            assert!(!reply.text().contains("leaked"), "{}", reply.text());
        }
    }
    assert_eq!(detail(&eve, 1).await["numComments"], 1);
    // It cannot be taken back, or said anew in its place.
    let refused = edit(&bob, 1, &event, "hf_leaked_three").await.expect(403);
    assert!(!refused.text().contains("leaked"));
    hide(&bob, 1, &event).await.expect(403);
    // The book says who, and not what.
    assert_eq!(
        hub.count("SELECT COUNT(*) FROM event WHERE action = 'comment.hide' AND actor_name = 'ann'"),
        1
    );
    assert_eq!(hub.count("SELECT COUNT(*) FROM event WHERE facts LIKE '%leaked%'"), 0);
    // One's own, too.
    say(&eve, 1, "never mind").await.expect(200);
    let own = event_of(&eve, 1, 2).await;
    hide(&eve, 1, &own).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn nothing_that_somebody_wrote_is_markup() {
    let (hub, _, bob, _) = scene().await;
    let attack = "</p><script>alert(1)</script><img src=x onerror=\"alert('2')\">&lt;[x](javascript:3)";
    open(&bob, API, "<script>alert(0)</script>", attack).await;
    let reply = bob.get(&format!("{API}/1")).await.expect(200);
    assert_eq!(reply.header("content-type"), "application/json; charset=utf-8");
    let latest = reply.json()["events"][0]["data"]["latest"].clone();
    assert_eq!(latest["raw"], attack, "what was written is given back as text");
    let html = latest["html"].as_str().unwrap();
    let inner = html.strip_prefix("<p>").and_then(|html| html.strip_suffix("</p>")).unwrap();
    assert!(!inner.contains(['<', '>', '"', '\'']), "{html}");
    assert!(inner.contains("&amp;lt;"));
    hub.finish().await;
}

#[tokio::test]
async fn events_belong_to_one_discussion_of_one_repository() {
    let (hub, ann, bob, _) = scene().await;
    create(&bob, "model", "b").await.expect(200);
    open(&ann, API, "of ann", "text").await;
    open(&ann, API, "of ann too", "text").await;
    open(&bob, "/api/models/bob/b/discussions", "of bob", "text").await;
    let (event, second) = (event_of(&ann, 1, 0).await, event_of(&ann, 2, 0).await);
    // bob may hide what he likes in his own repository: nothing of others'.
    let uri = |event: &str| format!("/api/models/bob/b/discussions/1/comment/{event}/hide");
    bob.post(&uri(&event), Value::Null).await.expect(404);
    hide(&ann, 1, &second).await.expect(404);
    edit(&ann, 2, &event, "x").await.expect(404);
    for bad in ["x", "0", "ffffffffffffffffffffffff", "..", &"0".repeat(24), &"a".repeat(300), "%00"] {
        hide(&ann, 1, bad).await.expect(404);
    }
    for bad in
        ["0", "-1", "+1", "99", "1e3", "x", "18446744073709551616", "9223372036854775808", "01x", "%00"]
    {
        ann.get(&format!("{API}/{bad}")).await.expect(404);
    }
    assert_eq!(hub.count("SELECT COUNT(*) FROM discussion_event WHERE hidden_at IS NOT NULL"), 0);
    hub.finish().await;
}

#[tokio::test]
async fn texts_are_bounded_and_clean() {
    let (hub, _, bob, _) = scene().await;
    let title = |title: &str| json!({ "title": title, "description": "x" });
    for bad in ["", "ab", "  ab  ", "a\nb c", "nul\0nul", "esc\x1b[2J", "bidi\u{202e}x", &"x".repeat(201)] {
        bob.post(API, title(bad)).await.expect(400);
    }
    for (n, good) in ["abc", &"ü".repeat(200), "100% 'quoted' \\ \u{1f600}"].into_iter().enumerate() {
        assert_eq!(bob.post(API, title(good)).await.expect(200).json()["num"], n + 1);
    }
    for bad in [json!({}), json!({ "title": 3 }), json!({ "title": "abc", "description": 4 }), json!([])] {
        bob.post(API, bad).await.expect(400);
    }
    bob.post(API, json!({ "title": "null", "description": null, "pullRequest": null })).await.expect(200);
    say(&bob, 1, &"x".repeat(MAX_COMMENT_BYTES)).await.expect(200);
    say(&bob, 1, &"x".repeat(MAX_COMMENT_BYTES + 1)).await.expect(413);
    for bad in ["", "  \n", "nul\0", "bell\x07"] {
        say(&bob, 1, bad).await.expect(400);
    }
    say(&bob, 1, "tabs\tand\r\nlines are text").await.expect(200);
    assert_eq!(hub.count("SELECT COUNT(*) FROM discussion"), 4);
    hub.finish().await;
}

#[tokio::test]
async fn strangers_have_a_pace_and_writers_have_none() {
    let (hub, ann, bob, eve) = scene().await;
    for n in 0..DISCUSSIONS_PER_DAY {
        open(&bob, API, &format!("flood {n}"), "").await;
        hub.advance_seconds(1);
    }
    let refused = bob.post(API, json!({ "title": "one more" })).await.expect(429);
    let wait: i64 = refused.header("retry-after").parse().unwrap();
    assert!((86_000..86_400).contains(&wait), "{wait}");
    assert!(
        refused.text().contains(&format!("{DISCUSSIONS_PER_DAY} discussions and pull requests in a day"))
    );
    // Under another name it is the same flood, and it opens no pull requests either.
    create(&eve, "model", "e").await.expect(200);
    let other = json!({ "title": "elsewhere", "pullRequest": true });
    bob.post("/api/models/eve/e/discussions", other).await.expect(429);
    hub.token("bob", TokenRole::Write).await.post(API, json!({ "title": "new token" })).await.expect(429);
    open(&ann, API, "ann works here", "").await;
    open(&eve, API, "and eve has done nothing", "").await;
    hub.advance_seconds(wait);
    open(&bob, API, "the next day", "").await;

    hub.advance_seconds(3600);
    for n in 0..COMMENTS_PER_HOUR {
        say(&bob, 1, &format!("spam {n}")).await.expect(200);
    }
    let refused = say(&bob, 2, "more").await.expect(429);
    assert_eq!(refused.header("retry-after"), "3601");
    let event = event_of(&bob, 1, 1).await;
    edit(&bob, 1, &event, "an edit says something, too").await.expect(429);
    bob.post(&format!("{API}/1/title"), json!({ "title": "so does a title" })).await.expect(429);
    set_status(&bob, 1, "closed").await.expect(429);
    hide(&bob, 1, &event).await.expect(200);
    say(&ann, 1, "stop it").await.expect(200);
    say(&eve, 1, "yes").await.expect(200);
    hub.advance_seconds(3601);
    say(&bob, 1, "sorry").await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn lists_filter_count_and_page() {
    let (hub, ann, bob, _) = scene().await;
    for (client, title) in [(&bob, "Crash on load"), (&ann, "Typo"), (&bob, "crash again"), (&ann, "Roadmap")]
    {
        open(client, API, title, "").await;
        hub.advance_seconds(1);
    }
    let pull = json!({ "title": "Fix typo", "pullRequest": true });
    assert_eq!(bob.post(API, pull).await.expect(200).json()["num"], 5);
    hub.advance_seconds(1);
    set_status(&ann, 1, "closed").await.expect(200);
    ann.post(&format!("{API}/2/pin"), json!({ "pinned": true })).await.expect(200);
    let ask = async |query: &str| {
        let list = hub.anonymous().get(&format!("{API}?{query}")).await.expect(200).json();
        (nums(&list), list["count"].as_u64().unwrap(), list["numClosedDiscussions"].as_u64().unwrap())
    };
    assert_eq!(ask("").await, (vec![2, 5, 4, 3, 1], 5, 1));
    assert_eq!(ask("type=all&status=all").await, (vec![2, 5, 4, 3, 1], 5, 1));
    assert_eq!(ask("type=discussion").await, (vec![2, 4, 3, 1], 4, 1));
    assert_eq!(ask("type=pull_request").await, (vec![5], 1, 0));
    assert_eq!(ask("status=open").await, (vec![2, 5, 4, 3], 4, 1));
    assert_eq!(ask("status=closed").await, (vec![1], 1, 1));
    assert_eq!(ask("author=bob").await, (vec![5, 3, 1], 3, 1));
    assert_eq!(ask("author=bob&status=open&type=discussion").await, (vec![3], 1, 1));
    assert_eq!(ask("author=no%20name%00").await, (vec![], 0, 0));
    assert_eq!(ask("search=CRASH").await, (vec![3, 1], 2, 1));
    assert_eq!(ask("search=%25").await, (vec![], 0, 0));
    assert_eq!(ask("sort=recently-updated").await, (vec![2, 1, 5, 4, 3], 5, 1));
    for bad in ["type=x", "status=merged", "sort=x", "p=x", "p=-1", "search=%00", "p=99999999999999999999999"]
    {
        ann.get(&format!("{API}?{bad}")).await.expect(400);
    }
    ann.get(&format!("{API}?search={}", "x".repeat(300))).await.expect(400);
    // As the clients page: `p` from 0, until start + rows reach count.
    let page = ann.get(&format!("{API}?p=1&limit=2")).await.json();
    assert_eq!((nums(&page), page["start"].as_u64(), page["count"].as_u64()), (vec![4, 3], Some(2), Some(5)));
    for huge in ["1000000000000000000", "18446744073709551615"] {
        for filter in ["", "&author=bob", "&search=crash"] {
            let page = ann.get(&format!("{API}?p={huge}{filter}&limit=100000000")).await.expect(200).json();
            assert_eq!((nums(&page), &page["start"]), (vec![], &page["count"]));
        }
    }
    hub.finish().await;
}

#[tokio::test]
async fn statuses_go_one_way_where_they_have_to() {
    let (hub, ann, bob, eve) = scene().await;
    let body = json!({ "title": "a pull request", "description": "why", "pullRequest": true });
    let made = bob.post(API, body).await.expect(200).json();
    assert_eq!((made["status"].as_str(), made["pullRequest"].as_bool()), (Some("draft"), Some(true)));
    let refs = ann.get("/api/models/ann/m/refs?include_prs=1").await.json();
    let main = refs["branches"][0]["targetCommit"].clone();
    let pull = json!({ "name": "refs/pr/1", "ref": "refs/pr/1", "targetCommit": main });
    assert_eq!(refs["pullRequests"], json!([pull]));
    let found = detail(&eve, 1).await;
    assert_eq!(found["changes"], json!({ "base": "refs/heads/main" }));
    assert_eq!(found["isPullRequest"], true);
    for status in ["draft", "merged", "OPEN", ""] {
        set_status(&bob, 1, status).await.expect(400);
    }
    set_status(&eve, 1, "open").await.expect(403);
    eve.post(&format!("{API}/1/title"), json!({ "title": "mine now" })).await.expect(403);
    set_status(&bob, 1, "open").await.expect(200);
    set_status(&bob, 1, "open").await.expect(400);
    set_status(&ann, 1, "closed").await.expect(200);
    set_status(&bob, 1, "open").await.expect(200);
    set_status(&bob, 1, "closed").await.expect(200);
    hub.tamper("UPDATE discussion SET ref_deleted_at = 1 WHERE num = 1");
    let refused = set_status(&ann, 1, "open").await.expect(400);
    assert!(refused.text().contains("the commits of this pull request were deleted: it stays closed"));
    hub.tamper("UPDATE discussion SET ref_deleted_at = NULL, status = 'merged' WHERE num = 1");
    for status in ["open", "closed"] {
        assert!(set_status(&ann, 1, status).await.expect(400).text().contains("that is final"));
    }
    hub.finish().await;
}

#[tokio::test]
async fn locked_discussions_are_read_and_only_maintainers_go_on() {
    let (hub, ann, bob, eve) = scene().await;
    open(&bob, API, "a hot topic", "text").await;
    let event = event_of(&bob, 1, 0).await;
    for stranger in [&bob, &eve] {
        stranger.post(&format!("{API}/1/lock"), json!({ "locked": true })).await.expect(403);
        stranger.post(&format!("{API}/1/pin"), json!({ "pinned": true })).await.expect(403);
        stranger.delete(&format!("{API}/1"), Value::Null).await.expect(403);
    }
    ann.post(&format!("{API}/1/lock"), json!({ "locked": true })).await.expect(200);
    ann.post(&format!("{API}/1/lock"), json!({ "locked": true })).await.expect(200);
    for stranger in [&bob, &eve] {
        assert!(say(stranger, 1, "and another thing").await.expect(403).text().contains("locked"));
    }
    edit(&bob, 1, &event, "by the back door").await.expect(403);
    bob.post(&format!("{API}/1/title"), json!({ "title": "by another" })).await.expect(403);
    let with_comment = json!({ "status": "closed", "comment": "and a last word" });
    bob.post(&format!("{API}/1/status"), with_comment).await.expect(403);
    say(&ann, 1, "that is all").await.expect(200);
    let found = detail(&eve, 1).await;
    assert_eq!((found["locked"].as_bool(), found["numComments"].as_u64()), (Some(true), Some(2)));
    let locks = found["events"].as_array().unwrap().iter().filter(|event| event["type"] == "locking-change");
    assert_eq!(locks.count(), 1, "what is so already does not happen again");
    set_status(&bob, 1, "closed").await.expect(200);
    ann.post(&format!("{API}/1/lock"), json!({ "locked": false })).await.expect(200);
    say(&bob, 1, "thanks").await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn what_is_switched_off_is_neither_read_nor_written_and_comes_back() {
    let (hub, ann, bob, _) = scene().await;
    open(&bob, API, "before", "text").await;
    let settings = "/api/models/ann/m/settings";
    ann.put(settings, json!({ "discussionsDisabled": true })).await.expect(200);
    for client in [&ann, &bob] {
        for uri in [API.to_owned(), format!("{API}/1"), format!("{API}?author=x%20y")] {
            let refused = client.get(&uri).await.expect(403);
            assert!(refused.header("x-error-message").starts_with("Discussions are disabled for this repo"));
        }
        client.post(API, json!({ "title": "after" })).await.expect(403);
        client.post(API, json!({ "title": "after", "pullRequest": true })).await.expect(403);
        say(client, 1, "x").await.expect(403);
        set_status(client, 1, "closed").await.expect(403);
    }
    ann.put(settings, json!({ "discussionsDisabled": false })).await.expect(200);
    assert_eq!(nums(&bob.get(API).await.expect(200).json()), [1]);
    hub.finish().await;
}

#[tokio::test]
async fn a_removed_discussion_takes_its_ref_along_and_its_number_is_spent() {
    let (hub, ann, bob, _) = scene().await;
    open(&bob, API, "one", "text").await;
    bob.post(API, json!({ "title": "two", "pullRequest": true })).await.expect(200);
    for num in [1, 2] {
        ann.delete(&format!("{API}/{num}"), Value::Null).await.expect(200);
        ann.get(&format!("{API}/{num}")).await.expect(404);
        ann.delete(&format!("{API}/{num}"), Value::Null).await.expect(404);
        say(&bob, num, "x").await.expect(404);
    }
    assert_eq!(ann.get("/api/models/ann/m/refs?include_prs=1").await.json()["pullRequests"], json!([]));
    assert_eq!(open(&bob, API, "three", "text").await, 3);
    let list = bob.get(API).await.json();
    assert_eq!((nums(&list), list["count"].as_u64()), (vec![3], Some(1)));
    assert_eq!(hub.count("SELECT COUNT(*) FROM event WHERE action = 'discussion.delete'"), 2);
    for table in ["discussion_event", "comment_version", "discussion_participant"] {
        assert_eq!(hub.count(&format!("SELECT COUNT(*) FROM {table}")), 1, "{table}");
    }
    hub.finish().await;
}

#[tokio::test]
async fn discussions_move_and_go_with_their_repository() {
    let (hub, ann, bob, _) = scene().await;
    open(&bob, API, "title", "text").await;
    ann.post("/api/repos/move", json!({ "fromRepo": "ann/m", "toRepo": "ann/new" })).await.expect(200);
    let moved = bob.get(&format!("{API}/1?diff=1")).await.expect(307);
    assert_eq!(moved.header("location"), "/api/models/ann/new/discussions/1?diff=1");
    assert_eq!(bob.get(API).await.expect(307).header("location"), "/api/models/ann/new/discussions");
    // What changes something works under the old name.
    say(&bob, 1, "still here").await.expect(200);
    set_status(&bob, 1, "closed").await.expect(200);
    let found = bob.get("/api/models/ann/new/discussions/1").await.expect(200).json();
    assert_eq!((found["repo"]["name"].as_str(), found["numComments"].as_u64()), (Some("ann/new"), Some(2)));
    // Another repository takes the old name: it has discussions of its own.
    create(&ann, "model", "m").await.expect(200);
    assert_eq!(nums(&bob.get(API).await.expect(200).json()), Vec::<u64>::new());
    ann.delete("/api/repos/delete", json!({ "name": "ann/new" })).await.expect(200);
    for table in
        ["discussion", "discussion_event", "comment_version", "discussion_participant", "discussion_count"]
    {
        assert_eq!(hub.count(&format!("SELECT COUNT(*) FROM {table}")), 0, "{table}");
    }
    hub.finish().await;
}

#[tokio::test]
async fn who_is_gone_is_left_out_and_says_nothing_more() {
    let (hub, ann, bob, _) = scene().await;
    open(&bob, API, "title", "text").await;
    let event = event_of(&bob, 1, 0).await;
    edit(&bob, 1, &event, "text, edited").await.expect(200);
    set_status(&bob, 1, "closed").await.expect(200);
    disable(&hub, "bob").await;
    say(&bob, 1, "x").await.expect(401);
    let found = ann.get(&format!("{API}/1")).await.expect(200);
    assert!(!found.text().contains("bob") && !found.text().contains("null"), "{}", found.text());
    let list = ann.get(API).await.expect(200);
    assert!(list.json()["discussions"][0].get("author").is_none() && !list.text().contains("null"));
    assert_eq!(found.json()["events"][0]["data"]["latest"]["raw"], "text, edited");
    assert_eq!(ann.get(&format!("{API}?author=bob")).await.json()["count"], 0, "no list tells whose it was");
    // What they said can still be hidden, and closed things opened, by who may write.
    set_status(&ann, 1, "open").await.expect(200);
    hide(&ann, 1, &event).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn roles_and_tokens_decide() {
    let hub = TestHub::new().await;
    let (_, will, rita) = (hub.user("ann").await, hub.user("will").await, hub.user("rita").await);
    hub.org("lab", "ann", &[("will", Role::Write), ("rita", Role::Read)]).await;
    let body = json!({ "name": "m", "organization": "lab", "visibility": "private" });
    will.post("/api/repos/create", body).await.expect(200);
    let api = "/api/models/lab/m/discussions";
    assert_eq!(open(&rita, api, "from a reader", "text").await, 1);
    let (reads, writes) =
        (hub.token("rita", TokenRole::Read).await, hub.token("will", TokenRole::Read).await);
    for client in [&reads, &writes] {
        client.get(&format!("{api}/1")).await.expect(200);
        let refused = client.post(&format!("{api}/1/comment"), json!({ "comment": "x" })).await.expect(403);
        assert!(refused.text().contains("Your token has the role 'read'"), "{}", refused.text());
    }
    rita.post(&format!("{api}/1/comment"), json!({ "comment": "x" })).await.expect(200);
    rita.post(&format!("{api}/1/pin"), json!({ "pinned": true })).await.expect(403);
    will.post(&format!("{api}/1/pin"), json!({ "pinned": true })).await.expect(200);
    will.post(&format!("{api}/1/title"), json!({ "title": "renamed" })).await.expect(200);
    // Taking the words of others away is for those who could take the repository away: will made it, ann owns it.
    will.delete(&format!("{api}/1"), Value::Null).await.expect(403);
    hub.token("ann", TokenRole::Write).await.delete(&format!("{api}/1"), Value::Null).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn the_book_tells_enough_of_every_change() {
    let (hub, ann, bob, _) = scene().await;
    commit(&ann, "ann/m", &[put("a", "1")]).await.expect(200);
    open(&bob, API, "title", "hi @ann and @nobody and mail@eve").await;
    say(&ann, 1, "@bob @eve @ANN").await.expect(200);
    let event = event_of(&ann, 1, 1).await;
    edit(&ann, 1, &event, "@bob").await.expect(200);
    set_status(&bob, 1, "closed").await.expect(200);
    hide(&ann, 1, &event).await.expect(200);
    ann.delete(&format!("{API}/1"), Value::Null).await.expect(200);
    for (action, facts) in [
        ("discussion.create", "%\"num\":1,\"pull_request\":false,\"status\":\"open\",\"title\":\"title\"%"),
        ("comment.create", &*format!("%\"event\":\"{event}\",\"num\":1%")),
        ("comment.edit", &*format!("%\"event\":\"{event}\",\"num\":1%\"version\":2%")),
        ("discussion.update", "%\"change\":\"status-change\"%\"status\":\"closed\"%"),
        ("comment.hide", &*format!("%\"event\":\"{event}\"%")),
        ("discussion.delete", "%\"num\":1%"),
    ] {
        let sql = format!(
            "SELECT COUNT(*) FROM event WHERE action = '{action}' AND facts LIKE '{facts}' AND subject_kind = 'repo'"
        );
        assert_eq!(hub.count(&sql), 1, "{action} {facts}");
    }
    hub.finish().await;
}

#[tokio::test]
async fn who_writes_and_who_is_named_takes_part() {
    let (hub, ann, bob, _) = scene().await;
    open(&bob, API, "title", "hi @Ann, @nobody, mail@eve.org").await;
    say(&ann, 1, "hello").await.expect(200);
    let count = |condition: &str| {
        hub.count(&format!(
            "SELECT COUNT(*) FROM discussion_participant p JOIN namespace n ON n.id = p.user_id WHERE {condition}"
        ))
    };
    assert_eq!(count("n.name = 'bob' AND p.wrote_at IS NOT NULL AND p.mentioned_at IS NULL"), 1);
    assert_eq!(count("n.name = 'ann' AND p.wrote_at IS NOT NULL AND p.mentioned_at IS NOT NULL"), 1);
    assert_eq!(count("1 = 1"), 2);
    hub.finish().await;
}

#[tokio::test]
async fn checking_finds_what_is_said_twice_and_differs() {
    let (hub, ann, bob, _) = scene().await;
    open(&bob, API, "title", "text").await;
    bob.post(API, json!({ "title": "a pull request", "pullRequest": true })).await.expect(200);
    say(&ann, 1, "hello").await.expect(200);
    let event = event_of(&ann, 1, 1).await;
    edit(&ann, 1, &event, "hello!").await.expect(200);
    hide(&ann, 1, &event).await.expect(200);
    set_status(&ann, 1, "closed").await.expect(200);
    open(&bob, API, "removed", "text").await;
    ann.delete(&format!("{API}/3"), Value::Null).await.expect(200);
    let check = async || hub.hub.check_all(&hub.operator(), false, |_, _, _| {}).await.unwrap().problems;
    assert!(check().await.is_empty(), "{:?}", check().await);
    for (sql, fault) in [
        ("UPDATE discussion_count SET open_pulls = 7", "it counts its discussions as"),
        ("UPDATE discussion_count SET last_num = 1", "it counts its discussions as"),
        ("UPDATE discussion SET comments = 9 WHERE num = 1", "discussion 1 does not say"),
        ("UPDATE discussion SET status = 'open' WHERE num = 1", "discussion 1 does not say"),
        ("DELETE FROM comment_version WHERE version = 1", "discussion 1 does not say"),
        ("DELETE FROM discussion_event WHERE place = 3", "discussion 1 does not say"),
        ("DELETE FROM git_ref WHERE name = 'refs/pr/2'", "refs/pr/2 is not there"),
        (
            "UPDATE git_ref SET name = 'refs/pr/9' WHERE name = 'refs/pr/2'",
            "refs/pr/9 belongs to no pull request",
        ),
        (
            "INSERT INTO proposal_commit (repo_id, number, user_id, bytes) SELECT id, 3, 1, 9 FROM repo",
            "commits are counted for pull request 3",
        ),
    ] {
        let undo = hub.tamper(sql);
        let found = check().await;
        assert!(found.iter().any(|problem| problem.contains(fault)), "{sql}: {found:?}");
        undo.undo();
    }
    assert!(check().await.is_empty());
    hub.finish().await;
}

#[tokio::test]
async fn a_discussion_has_an_end_in_bytes_and_in_events() {
    let (hub, ann, bob, _) = scene().await;
    open(&ann, API, "long", "").await;
    let most = MAX_DISCUSSION_BYTES / (MAX_COMMENT_BYTES as u64 + 100);
    let text = "'".repeat(MAX_COMMENT_BYTES);
    for _ in 0..most {
        say(&ann, 1, &text).await.expect(200);
    }
    assert!(say(&ann, 1, &text).await.expect(422).text().contains("this discussion is full"));
    let first = event_of(&ann, 1, 1).await;
    edit(&ann, 1, &first, &text).await.expect(422);
    say(&bob, 1, "what is short has room yet").await.expect(200);
    let found = detail(&bob, 1).await;
    assert_eq!(found["events"].as_array().unwrap().len() as u64, most + 2);
    assert_eq!(found["events"][1]["data"]["latest"]["raw"].as_str(), Some(&*text));
    // Who may write ends it all the same.
    set_status(&ann, 1, "closed").await.expect(200);

    open(&bob, API, "many", "").await;
    hub.tamper(&format!("UPDATE discussion SET events = {} WHERE num = 2", MAX_DISCUSSION_EVENTS - 1));
    say(&bob, 2, "the last word").await.expect(200);
    for client in [&ann, &bob] {
        say(client, 2, "no, this").await.expect(422);
        client.post(&format!("{API}/2/title"), json!({ "title": "or here" })).await.expect(422);
    }
    ann.post(&format!("{API}/2/lock"), json!({ "locked": true })).await.expect(200);
    set_status(&bob, 2, "closed").await.expect(422);
    set_status(&ann, 2, "closed").await.expect(200);
    hub.finish().await;
}
