//! Differences, commits by path, the last commit of each file, whose line is whose.

use std::time::{Duration, Instant};

use bastide_core::{Role, TokenRole};
use bastide_testkit::{Client, Reply, TestHub};
use serde_json::{Value, json};

use crate::uploads::{noise, sha256, upload};
use crate::{commit, commit_with, create, delete, put};

pub const API: &str = "/api/models/ann/m";

pub async fn titled(client: &Client, rev: &str, title: &str, operations: &[Value]) -> String {
    let reply = commit_with(client, "ann/m", rev, json!({ "summary": title }), operations).await.expect(200);
    reply.json()["commitOid"].as_str().unwrap().to_owned()
}

/// A public repository `ann/m` and its owner.
pub async fn scene() -> (TestHub, Client) {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    (hub, ann)
}

fn code(reply: &Reply) -> (u16, &str) {
    (reply.status.as_u16(), reply.header("x-error-code"))
}

#[tokio::test]
async fn commits_are_compared_with_two_dots_and_three() {
    let (hub, ann) = scene().await;
    titled(&ann, "main", "first", &[put("a", "1\n2\n3\n")]).await;
    ann.post(&format!("{API}/branch/feature%2Fx"), json!({})).await.expect(200);
    hub.advance_seconds(1);
    titled(&ann, "feature%2Fx", "side", &[put("side", "s\n")]).await;
    hub.advance_seconds(1);
    let head = titled(&ann, "main", "on", &[put("a", "1\n2\n3\n4\n")]).await;

    let three = ann.get(&format!("{API}/compare/main...feature%2Fx")).await.expect(200);
    assert_eq!(three.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(three.header("x-content-type-options"), "nosniff");
    let text = three.text();
    assert!(text.contains("+++ b/side\n@@ -0,0 +1 @@\n+s\n") && !text.contains("b/a"), "{text}");
    // A slash may stand as it is.
    assert_eq!(ann.get(&format!("{API}/compare/main...feature/x")).await.expect(200).text(), text);
    let two = ann.get(&format!("{API}/compare/feature%2Fx..main")).await.expect(200).text();
    assert!(two.contains("deleted file mode 100644") && two.contains("+4\n"), "{two}");
    // A commit alone is compared with its parent, everything with nothing.
    let alone = ann.get(&format!("{API}/compare/main")).await.expect(200).text();
    assert!(alone.contains("@@ -1,3 +1,4 @@\n 1\n 2\n 3\n+4\n") && !alone.contains("side"), "{alone}");
    assert_eq!(ann.get(&format!("/ann/m/commit/{head}.diff")).await.expect(200).text(), alone);
    let all =
        ann.get(&format!("{API}/compare/4b825dc642cb6eb9a060e54bf8d69288fbee4904...main?raw=true")).await;
    let rows: Vec<String> = all.expect(200).text().lines().map(ToOwned::to_owned).collect();
    assert!(
        rows.iter()
            .any(|row| row.starts_with("T 8\t:000000 100644 0000000000000000000000000000000000000000... ")
                && row.ends_with("... A\ta")),
        "{rows:?}"
    );
    hub.finish().await;
}

#[tokio::test]
async fn hostile_comparisons_are_refused() {
    let (hub, ann) = scene().await;
    titled(&ann, "main", "first", &[put("a", "1\n")]).await;
    ann.post(&format!("{API}/branch/apart"), json!({ "emptyBranch": true })).await.expect(200);
    for (spec, status) in [
        ("main...", 400),
        ("...main", 400),
        ("..", 400),
        ("main...none", 404),
        ("none..main", 404),
        ("main....main", 404),
        ("main...main...main", 404),
        ("main...%2e%2e%2f%2e%2e%2fetc", 404),
        ("main...%00", 404),
        ("main...-x", 404),
        ("main...refs%2Fheads%2F..%2Fmain", 404),
        ("main...apart", 422),
        ("main..apart", 200),
        ("%ff...main", 400),
    ] {
        let reply = ann.get(&format!("{API}/compare/{spec}")).await;
        assert_eq!(reply.status.as_u16(), status, "{spec}: {}", reply.text());
    }
    let long = "x".repeat(60_000);
    assert_eq!(ann.get(&format!("{API}/compare/{long}...main")).await.status.as_u16(), 404);
    for uri in ["/ann/m/commit/main", "/ann/m/commit/.diff", "/ann/m/commit/none.diff"] {
        assert_eq!(ann.get(uri).await.status.as_u16(), 404, "{uri}");
    }
    hub.finish().await;
}

#[tokio::test]
async fn what_may_not_be_read_is_not_compared() {
    let hub = TestHub::open().await;
    let (ann, eve) = (hub.user("ann").await, hub.user("eve").await);
    create(&ann, "model", "m").await.expect(200);
    let body = json!({ "name": "hidden", "visibility": "private" });
    ann.post("/api/repos/create", body).await.expect(200);
    let secret = commit(&ann, "ann/hidden", &[put("secret", "word\n")]).await.expect(200).json();
    let secret = secret["commitOid"].as_str().unwrap().to_owned();
    titled(&ann, "main", "first", &[put("a", "1\n")]).await;
    let anonymous = hub.anonymous();
    for rest in ["compare/main", "commit/main", "blame/main/secret", "commits/main?path=secret"] {
        let hidden = eve.get(&format!("/api/models/ann/hidden/{rest}")).await;
        assert_eq!(code(&hidden), (404, "RepoNotFound"), "{rest}");
        assert_eq!(anonymous.get(&format!("/api/models/ann/hidden/{rest}")).await.status.as_u16(), 401);
    }
    assert_eq!(eve.get("/ann/hidden/commit/main.diff").await.status.as_u16(), 404);
    // A commit of another repository is none of this one, whoever asks.
    for client in [&ann, &eve] {
        for uri in [
            format!("{API}/compare/{secret}"),
            format!("{API}/compare/main..{secret}"),
            format!("{API}/compare/{secret}...main?raw=1"),
            format!("{API}/commit/{secret}?diff=1"),
            format!("{API}/blame/{secret}/secret"),
            format!("{API}/commits/{secret}?path=secret"),
            format!("/ann/m/commit/{secret}.diff"),
        ] {
            assert_eq!(code(&client.get(&uri).await), (404, "RevisionNotFound"), "{uri}");
        }
    }
    // Behind a gate: names and sizes as in a listing, no contents.
    ann.put(&format!("{API}/settings"), json!({ "gated": "auto" })).await.expect(200);
    for rest in ["compare/main", "commit/main?diff=1", "blame/main/a"] {
        assert_eq!(code(&eve.get(&format!("{API}/{rest}")).await), (403, "GatedRepo"), "{rest}");
    }
    assert_eq!(code(&eve.get("/ann/m/commit/main.diff").await), (403, "GatedRepo"));
    assert!(eve.get(&format!("{API}/compare/main?raw=1")).await.expect(200).text().ends_with("A\ta\n"));
    let seen = eve.get(&format!("{API}/commit/main")).await.expect(200).json();
    let file = &seen["files"][0];
    assert_eq!((file["path"].as_str(), file["new"]["size"].as_u64()), (Some("a"), Some(2)));
    assert!(file.get("additions").is_none() && file.get("hunks").is_none(), "{file}");
    // A token that was revoked reads nothing.
    let ended = hub.token_with("ann", "ends", Some(1)).await;
    hub.advance_seconds(86_401);
    assert_eq!(ended.get(&format!("{API}/compare/main")).await.status.as_u16(), 401);
    hub.finish().await;
}

#[tokio::test]
async fn a_commit_is_shown_with_its_files() {
    let (hub, ann) = scene().await;
    let data = noise(3000, 1);
    upload(&ann, "ann/m", "w.bin", &data).await;
    titled(&ann, "main", "texts", &[put("a", "1\n2\n"), put("bin", [0, 1])]).await;
    let more = noise(4000, 2);
    upload(&ann, "ann/m", "other.bin", &more).await;
    let first = titled(&ann, "main", "before", &[put("x", "")]).await;
    let line = json!({ "key": "lfsFile", "value": { "path": "w.bin", "algo": "sha256", "oid": sha256(&more), "size": more.len() } });
    let header = json!({ "summary": "everything", "description": "and why" });
    let operations = [put("a", "1\n3"), put("bin", [0, 2]), put("new/f", "n\n"), delete("x"), line];
    commit_with(&ann, "ann/m", "main", header, &operations).await.expect(200);

    let reply = ann.get(&format!("{API}/commit/main?diff=1")).await.expect(200).json();
    assert_eq!((reply["title"].as_str(), reply["message"].as_str()), (Some("everything"), Some("and why")));
    assert_eq!(reply["authors"][0]["user"], "ann");
    assert!(reply["authors"][0]["_id"].is_string() && reply.get("pushedBy").is_none(), "{reply}");
    assert_eq!(reply["parents"], json!([first]));
    let files = reply["files"].as_array().unwrap();
    let of = |path: &str| files.iter().find(|file| file["path"] == path).unwrap();
    assert_eq!(of("a")["hunks"][0]["lines"], json!([" 1\n", "-2\n", "+3"]));
    assert_eq!((of("a")["additions"].as_u64(), of("a")["deletions"].as_u64()), (Some(1), Some(1)));
    assert_eq!(of("bin")["content"], "binary");
    assert_eq!(of("w.bin")["content"], "large");
    assert_eq!(of("w.bin")["old"]["size"], 3000);
    assert_eq!(of("w.bin")["new"]["lfs"], json!({ "oid": sha256(&more), "size": 4000 }));
    assert_eq!(
        (of("x")["status"].as_str(), of("new/f")["status"].as_str()),
        (Some("deleted"), Some("added"))
    );
    assert_eq!(reply["filesCount"], files.len());

    let page = ann.get(&format!("{API}/commit/main?limit=2&p=1")).await.expect(200);
    assert_eq!(page.json()["files"].as_array().unwrap().len(), 2);
    assert!(page.header("link").contains("p=2"), "{}", page.header("link"));
    assert!(page.json()["files"][0].get("hunks").is_none());
    let patch = ann.get("/ann/m/commit/main.diff").await.expect(200).text();
    assert!(
        patch.contains(&format!("Large file: 3000 bytes (sha256 {}) -> 4000 bytes", sha256(&data))),
        "{patch}"
    );
    assert!(patch.contains("\\ No newline at end of file") && !patch.contains("git-lfs"), "{patch}");
    // A root is compared with nothing.
    let rows = ann.get(&format!("{API}/commits/main?limit=100")).await.json();
    let root = rows.as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    let root = ann.get(&format!("{API}/commit/{root}")).await.expect(200).json();
    assert_eq!((root["parents"].clone(), root["files"][0]["status"].as_str()), (json!([]), Some("added")));
    hub.hub.flush_reads().await.unwrap();
    let reads = hub.count("SELECT COUNT(*) FROM read_record WHERE via = 'diff'");
    assert_eq!(reads, 2, "the hunks and the patch");
    hub.finish().await;
}

#[tokio::test]
async fn authors_are_users_by_the_name_they_have_now() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    hub.org("lab", "ann", &[("bob", Role::Write)]).await;
    ann.post("/api/repos/create", json!({ "name": "m", "organization": "lab" })).await.expect(200);
    commit(&ann, "lab/m", &[put("a", "1")]).await.expect(200);
    commit(&bob, "lab/m", &[put("b", "1")]).await.expect(200);
    hub.tamper("UPDATE namespace SET name = 'robert' WHERE name = 'bob'");
    let rows = ann.get("/api/models/lab/m/commits/main").await.expect(200).json();
    let users: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| row["authors"][0]["user"].as_str().unwrap()).collect();
    assert_eq!(users[..2], ["robert", "ann"]);
    // Of somebody who is not known here, the commit's own words, which nobody takes for a user's name.
    hub.tamper("UPDATE git_commit SET author_id = NULL");
    let rows = ann.get("/api/models/lab/m/commits/main").await.expect(200).json();
    assert_eq!(rows[0]["authors"], json!([{ "user": "bob (unverified)", "name": "bob" }]));
}

#[tokio::test]
async fn lines_are_followed_to_their_commits() {
    let (hub, ann) = scene().await;
    let one = titled(&ann, "main", "one", &[put("f", "a\nb\nc\n")]).await;
    hub.advance_seconds(1);
    let two = titled(&ann, "main", "two", &[put("f", "a\nB\nc\nd\n")]).await;
    hub.advance_seconds(1);
    titled(&ann, "main", "moved", &[delete("f"), put("d/g", "a\nB\nc\nd\n")]).await;
    let reply = ann.get(&format!("{API}/blame/main/d%2Fg")).await.expect(200).json();
    let rows: Vec<_> = reply["ranges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (row["start"].as_u64().unwrap(), row["lines"].as_u64().unwrap(), row["commit"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        rows,
        [(1, 1, one.as_str()), (2, 1, two.as_str()), (3, 1, one.as_str()), (4, 1, two.as_str())]
    );
    assert_eq!((reply["ranges"][0]["path"].as_str(), reply["complete"].as_bool()), (Some("f"), Some(true)));
    assert_eq!(reply["commits"][&one]["title"], "one");
    assert_eq!(reply["commits"][&two]["authors"][0]["user"], "ann");

    upload(&ann, "ann/m", "w.bin", &noise(3000, 1)).await;
    titled(&ann, "main", "odd", &[put("zero", [0]), put("long", "x\n".repeat(20_001))]).await;
    for (path, status) in [("w.bin", 422), ("zero", 422), ("long", 413), ("d", 404), ("none", 404), ("", 404)]
    {
        let reply = ann.get(&format!("{API}/blame/main/{path}")).await;
        assert_eq!(reply.status.as_u16(), status, "{path}: {}", reply.text());
    }
    hub.finish().await;
}

#[tokio::test]
async fn hostile_contents_are_compared_in_bounded_time() {
    let (hub, ann) = scene().await;
    let lines =
        |seed: u64| -> String { noise(19_000, seed).iter().map(|byte| format!("{}\n", byte % 40)).collect() };
    let files = |round: u64| -> Vec<Value> {
        let slow = (0..30).map(|n| put(&format!("slow{n}"), lines(100 * round + n)));
        let wide = put("wide", "w".repeat(2 * 1024 * 1024 - 1) + &round.to_string());
        let deep = put(&format!("{}f", "d/".repeat(60)), round.to_string());
        slow.chain([wide, deep]).collect()
    };
    titled(&ann, "main", "one", &files(1)).await;
    titled(&ann, "main", "two", &files(2)).await;
    let begin = Instant::now();
    let text = ann.get(&format!("{API}/compare/main")).await.expect(200).text();
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert!(text.contains("Left out: this answer is as long as it may be"), "the slow ones are too many");
    assert!(text.contains(&format!("+++ b/{}f\n", "d/".repeat(60))));
    hub.finish().await;
}

#[tokio::test]
async fn very_many_changed_files_are_bounded() {
    let (hub, ann) = scene().await;
    for round in 0..4 {
        let files: Vec<_> =
            (0..10_000).map(|n| put(&format!("d{round}/{}/f{n}", n % 50), format!("{round} {n}"))).collect();
        titled(&ann, "main", "many", &files).await;
    }
    let empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    let begin = Instant::now();
    let raw = ann.get(&format!("{API}/compare/{empty}..main?raw=true")).await.expect(200).text();
    assert_eq!(raw.lines().count(), 40_001, "and .gitattributes");
    let text = ann.get(&format!("{API}/compare/{empty}..main")).await.expect(200).text();
    assert!(text.ends_with("Not shown: 30001 more files differ\n"), "{}", &text[text.len() - 100..]);
    assert_eq!(text.matches("Left out").count(), 7000);
    let shown =
        ann.get(&format!("{API}/commit/main?limit=100000&p=18446744073709551615")).await.expect(200).json();
    assert_eq!((shown["filesCount"].as_u64(), shown["files"].as_array().unwrap().len()), (Some(10_000), 0));
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    hub.finish().await;
}

#[tokio::test]
async fn a_read_token_reads_differences() {
    let (hub, ann) = scene().await;
    titled(&ann, "main", "first", &[put("a", "1\n")]).await;
    let reader = hub.token("ann", TokenRole::Read).await;
    reader.get(&format!("{API}/compare/main")).await.expect(200);
    hub.finish().await;
}

/// Titles of a list of commits.
async fn titles(client: &Client, rest: &str) -> Vec<String> {
    let rows = client.get(&format!("{API}/{rest}")).await.expect(200).json();
    rows.as_array().unwrap().iter().map(|row| row["title"].as_str().unwrap().to_owned()).collect()
}

/// The title of the last commit of each path of a listing.
async fn last(client: &Client, rev: &str, path: &str) -> String {
    let body = json!({ "paths": [path], "expand": true });
    let reply = client.post(&format!("{API}/paths-info/{rev}"), body).await.expect(200).json();
    reply[0]["lastCommit"]["title"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn commits_of_a_path_are_those_that_changed_it() {
    let (hub, ann) = scene().await;
    titled(&ann, "main", "one", &[put("d/a", "1"), put("b", "1")]).await;
    titled(&ann, "main", "two", &[put("d/a", "2")]).await;
    titled(&ann, "main", "three", &[put("b", "2"), put("d/c", "1")]).await;
    ann.post(&format!("{API}/branch/side"), json!({})).await.expect(200);
    titled(&ann, "side", "side", &[put("d/a", "side")]).await;
    titled(&ann, "main", "four", &[delete("d/a")]).await;
    titled(&ann, "main", "back", &[put("d/a", "2")]).await;
    assert_eq!(titles(&ann, "commits/main?path=d%2Fa").await, ["back", "four", "two", "one"]);
    assert_eq!(titles(&ann, "commits/side?path=d/a").await, ["side", "two", "one"]);
    assert_eq!(titles(&ann, "commits/main?path=d/").await, ["back", "four", "three", "two", "one"]);
    assert_eq!(titles(&ann, "commits/main?path=b&limit=1").await, ["three"]);
    let page = ann.get(&format!("{API}/commits/main?path=b&limit=1&expand[]=formatted")).await.expect(200);
    assert_eq!(page.json()[0]["formatted"]["title"], "three");
    let next = page.header("link").to_owned();
    assert!(next.contains("path=b") && next.contains("p=1"), "{next}");
    let page = ann.get(&format!("{API}/commits/main?path=b&limit=1&p=1")).await.expect(200);
    assert_eq!((page.json()[0]["title"].as_str(), page.header("link")), (Some("one"), ""));
    assert_eq!(titles(&ann, "commits/main?path=b&p=18446744073709551615").await, Vec::<String>::new());
    for bad in ["none", "d%2F..%2Fb", "%00", "%2F%2F%2Fx%2F%2Fy"] {
        assert_eq!(
            code(&ann.get(&format!("{API}/commits/main?path={bad}")).await),
            (404, "EntryNotFound"),
            "{bad}"
        );
    }
    assert_eq!(last(&ann, "main", "d/a").await, "back");
    assert_eq!(last(&ann, "main", "d").await, "back");
    assert_eq!(last(&ann, "side", "d/a").await, "side");
    assert_eq!(last(&ann, "side", "b").await, "three");
    hub.finish().await;
}

#[tokio::test]
async fn the_last_commit_is_right_when_the_same_comes_back_again_and_again() {
    let (hub, ann) = scene().await;
    titled(&ann, "main", "start", &[put("f", "0"), put("still", "x")]).await;
    ann.post(&format!("{API}/branch/old"), json!({})).await.expect(200);
    // More often than is looked at in one go, and on other branches that are ahead.
    for n in 0..60 {
        titled(&ann, "main", &format!("main {n}"), &[put("f", (n % 2).to_string())]).await;
    }
    titled(&ann, "old", "old", &[put("f", "1")]).await;
    for (rev, found) in [("main", "main 59"), ("old", "old")] {
        assert_eq!(last(&ann, rev, "f").await, found);
        assert_eq!(last(&ann, rev, "still").await, "start");
    }
    let rows = ann.get(&format!("{API}/commits/main?limit=100")).await.json();
    for (place, row) in rows.as_array().unwrap().iter().enumerate().take(60) {
        let id = row["id"].as_str().unwrap();
        assert_eq!(last(&ann, id, "f").await, row["title"].as_str().unwrap(), "{place}");
    }
    hub.finish().await;
}

/// Opens a pull request to `main`: its commit and its number.
pub async fn opened(client: &Client, title: &str, operations: &[Value]) -> (String, u64) {
    let header = json!({ "summary": title });
    let reply = commit_with(client, "ann/m", "main?create_pr=1", header, operations).await.expect(200).json();
    let number = reply["pullRequestUrl"].as_str().unwrap().rsplit('/').next().unwrap();
    (reply["commitOid"].as_str().unwrap().to_owned(), number.parse().unwrap())
}

/// Merges one: the merge commit.
pub async fn merged(client: &Client, number: u64) -> String {
    let reply = client.post(&format!("{API}/discussions/{number}/merge"), json!({})).await.expect(200).json();
    reply["mergeCommitId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn commits_of_a_path_are_followed_over_merges() {
    let (hub, ann) = scene().await;
    let text = |first: &str, last: &str| format!("{first}\n1\n2\n3\n4\n5\n6\n7\n{last}\n");
    titled(&ann, "main", "base", &[put("d/both", text("a", "z")), put("d/main", "1"), put("d/side", "1")])
        .await;
    let operations = [put("d/both", text("a", "Z")), put("d/side", "2"), put("new", "n")];
    let (_, number) = opened(&ann, "side", &operations).await;
    titled(&ann, "main", "on", &[put("d/both", text("A", "z")), put("d/main", "2")]).await;
    merged(&ann, number).await;
    assert_eq!(ann.get("/ann/m/resolve/main/d/both").await.expect(200).text(), text("A", "Z"));
    // What one parent has is no change of the merge's; what none has is.
    for (path, expected, latest) in [
        ("d/main", &["on", "base"][..], "on"),
        ("d/side", &["side", "base"], "side"),
        ("new", &["side"], "side"),
        ("d/both", &["side (#1)", "on", "side", "base"], "side (#1)"),
        ("d", &["side (#1)", "on", "side", "base"], "side (#1)"),
    ] {
        let mut found = titles(&ann, &format!("commits/main?path={path}")).await;
        assert_eq!(last(&ann, "main", path).await, latest, "{path}");
        assert_eq!(found.first().map(String::as_str), Some(latest), "{path}");
        // Two that do not come from each other are in no order.
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{path}");
    }
    // Before the merge it is as if nothing had been.
    let parents = ann.get(&format!("{API}/commit/main")).await.expect(200).json()["parents"].clone();
    let first = parents[0].as_str().unwrap();
    assert_eq!(parents.as_array().unwrap().len(), 2, "{parents}");
    assert_eq!(titles(&ann, &format!("commits/{first}?path=d/both")).await, ["on", "base"]);
    assert_eq!(last(&ann, first, "d/side").await, "base");
    // And after it the lines are those of who wrote them.
    let blame = ann.get(&format!("{API}/blame/main/d%2Fboth")).await.expect(200).json();
    let of =
        |row: &Value| blame["commits"][row["commit"].as_str().unwrap()]["title"].as_str().unwrap().to_owned();
    let whose: Vec<String> = blame["ranges"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(whose, ["on", "base", "side"]);
    hub.finish().await;
}

/// Addresses whose answers take comparing.
const COMPARING: [&str; 7] = [
    "/api/models/ann/m/compare/main",
    "/api/models/ann/m/compare/main?raw=true",
    "/api/models/ann/m/commit/main",
    "/api/models/ann/m/commit/main?diff=1",
    "/api/models/ann/m/blame/main/a",
    "/ann/m/commit/main.diff",
    "/ann/m/discussions/1/files.diff",
];

/// A hub that compares so many things at the same time, with something to compare.
async fn comparing(places: usize) -> (TestHub, Client) {
    let hub = TestHub::with(|config| {
        config.default_visibility = bastide_core::Visibility::Public;
        config.concurrent_comparisons = places;
    })
    .await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    titled(&ann, "main", "first", &[put("a", "1\n")]).await;
    opened(&ann, "other", &[put("a", "2\n")]).await;
    (hub, ann)
}

#[tokio::test]
async fn comparisons_wait_for_each_other_and_not_for_ever() {
    let (hub, ann) = comparing(0).await;
    let begin = Instant::now();
    let client = &ann;
    let asked = COMPARING.map(|uri| async move { (uri, client.get(uri).await) });
    for (uri, reply) in futures_util::future::join_all(asked).await {
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (503, "10"), "{uri}");
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    // What takes no comparing goes on.
    ann.get(&format!("{API}/commits/main?path=a")).await.expect(200);
    hub.finish().await;

    let (hub, ann) = comparing(1).await;
    let all = COMPARING.iter().chain(&COMPARING).map(|uri| async { (*uri, ann.get(uri).await) });
    for (uri, reply) in futures_util::future::join_all(all).await {
        assert_eq!(reply.status.as_u16(), 200, "{uri}: {}", reply.text());
    }
    // Who has gone leaves the place to others.
    for uri in COMPARING.repeat(5) {
        let _ = tokio::time::timeout(Duration::from_micros(300), ann.get(uri)).await;
    }
    ann.get(COMPARING[0]).await.expect(200);
    hub.finish().await;
}
