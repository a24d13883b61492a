//! Fetching with git, without git: what is answered to whom, how much a request may take, and what is
//! left of those who go away. What real clients do is in `tests/clients/test_git.py`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bastide_core::{RepoKind, RepoPath, Role};
use bastide_hub::access::Admin;
use bastide_hub::reads::ReadFact;
use bastide_testkit::{Client, Reply, TestHub};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;

use crate::uploads::noise;
use crate::{commit, create, put};

const REQUEST: &str = "application/x-git-upload-pack-request";
const V2: (&str, &str) = ("git-protocol", "version=2");

fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

/// A whole clone in version 2.
fn clone_request(oid: &str) -> String {
    let wanted = [line(&format!("want {oid}\n")), line("ofs-delta\n"), line("done\n")].concat();
    format!("{}0001{wanted}0000", line("command=fetch"))
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

async fn refs(client: &Client, repo: &str) -> Reply {
    client.get(&format!("/{repo}/info/refs?service=git-upload-pack")).await
}

async fn ask(client: &Client, repo: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
    let all: Vec<_> = [("content-type", REQUEST), V2].into_iter().chain(headers.iter().copied()).collect();
    client.send(Method::POST, &format!("/{repo}/git-upload-pack"), &all, body.into()).await
}

async fn head(client: &Client, repo: &str) -> String {
    let refs = client.get(&format!("/api/models/{repo}/refs")).await.expect(200).json();
    refs["branches"][0]["targetCommit"].as_str().unwrap().to_owned()
}

/// A repository of ann's with one commit, which is returned.
async fn filled(ann: &Client) -> String {
    create(ann, "model", "m").await.expect(200);
    commit(ann, "ann/m", &[put("a.txt", "hello")]).await.expect(200);
    head(ann, "ann/m").await
}

async fn recorded(hub: &TestHub) -> Vec<ReadFact> {
    hub.hub.flush_reads().await.unwrap();
    let path = RepoPath::parse(RepoKind::Model, "ann/m").unwrap();
    let access = hub.hub.access(&hub.operator()).repo::<Admin>(&path).await.unwrap();
    hub.hub.reads_of(&access, 10_000).await.unwrap()
}

/// Programs whose folder is below this one.
fn programs(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap();
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let ours =
        all.filter(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&folder)));
    ours.map(|process| fs::read_to_string(process.join("comm")).unwrap_or_default()).collect()
}

async fn until_no_program_runs(folder: &Path) {
    for _ in 0..400 {
        if programs(folder).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("these run still: {:?}", programs(folder));
}

fn snapshots(hub: &TestHub) -> Vec<PathBuf> {
    let folder = fs::read_dir(hub.data().join("cache/git/snapshots"));
    folder.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn refs_are_told_in_every_version_of_the_protocol() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let oid = filled(&ann).await;
    let old = refs(&hub.anonymous(), "ann/m").await.expect(200);
    assert_eq!(old.header("content-type"), "application/x-git-upload-pack-advertisement");
    assert_eq!(old.header("cache-control"), "no-cache, max-age=0, must-revalidate");
    assert!(old.text().starts_with("001e# service=git-upload-pack\n0000"), "{}", old.text());
    assert!(
        old.text().contains(&format!("{oid} HEAD\0")) && old.text().contains("symref=HEAD:refs/heads/main")
    );
    assert!(old.text().ends_with(&format!("{oid} refs/heads/main\n0000")), "{}", old.text());
    let uri = "/ann/m.git/info/refs?service=git-upload-pack";
    let new = ann.get_with(uri, &[V2]).await.expect(200);
    assert!(new.text().starts_with("000eversion 2\n") && !new.text().contains(&oid), "{}", new.text());
    let one = ann.get_with(uri, &[("git-protocol", "version=1")]).await.expect(200);
    assert!(one.text().contains("000eversion 1\n"), "{}", one.text());
    // Nothing that a client writes there means anything else.
    for odd in ["version=9", "version=2;x", "", "\u{e9}", &"version=2:".repeat(500)] {
        ann.get_with(uri, &[("git-protocol", odd)]).await.expect(200);
    }
    hub.finish().await;
}

#[tokio::test]
async fn a_fetch_is_answered_with_a_pack_and_recorded_as_one_download() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let oid = filled(&ann).await;
    let list = ask(&ann, "ann/m", &[], format!("{}0000", line("command=ls-refs\n"))).await.expect(200);
    assert_eq!(
        list.text(),
        format!("{}{}0000", line(&format!("{oid} HEAD\n")), line(&format!("{oid} refs/heads/main\n")))
    );
    assert!(recorded(&hub).await.is_empty(), "names are no content");
    for (headers, body) in [
        (vec![], clone_request(&oid).into_bytes()),
        (vec![("content-encoding", "gzip")], gzip(clone_request(&oid).as_bytes())),
    ] {
        let pack = ask(&ann, "ann/m", &headers, body).await.expect(200);
        assert_eq!(pack.header("content-type"), "application/x-git-upload-pack-result");
        assert!(pack.body.starts_with(b"000dpackfile\n") && pack.body.windows(4).any(|part| part == b"PACK"));
        assert!(pack.body.ends_with(b"0000"));
    }
    // Somebody who has it all, and somebody who wants one file of a partial clone.
    let have =
        clone_request(&oid).replace(&line("done\n"), &(line(&format!("have {oid}\n")) + &line("done\n")));
    ask(&ann, "ann/m", &[], have).await.expect(200);
    let blob = ann.get("/api/models/ann/m/tree/main").await.json();
    let blob = blob.as_array().unwrap().iter().find(|entry| entry["path"] == "a.txt").unwrap().clone();
    let blob = blob["oid"].as_str().unwrap();
    ask(&ann, "ann/m", &[], clone_request(blob)).await.expect(200);
    let facts = recorded(&hub).await;
    let via: Vec<&str> = facts.iter().rev().map(|fact| fact.via.as_str()).collect();
    assert_eq!(via, ["git-clone", "git-clone", "git", "git"]);
    assert!(facts.iter().all(|fact| fact.actor_id.is_some() && fact.credential_id.is_some()));
    let objects: Vec<&str> = facts.iter().rev().map(|fact| fact.object.as_str()).collect();
    assert_eq!(objects, [&oid, &oid, &oid, blob]);
    assert_eq!(hub.count("SELECT COUNT(*) FROM read_record WHERE commit_id IS NOT NULL"), 3);
    let info = ann.get("/api/models/ann/m?expand=downloads").await.json();
    assert_eq!(info["downloads"], 2, "{info}");
    hub.finish().await;
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_delivered() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let oid = filled(&ann).await;
    let journal = hub.data().join("journal");
    let _ = fs::remove_dir_all(&journal);
    fs::write(&journal, "in the way").unwrap();
    let refused = ask(&ann, "ann/m", &[], clone_request(&oid)).await;
    assert!(refused.status.is_server_error(), "{}", refused.status);
    assert!(!refused.body.windows(4).any(|part| part == b"PACK"));
    until_no_program_runs(hub.data()).await;
}

#[tokio::test]
async fn whoever_may_not_read_learns_nothing() {
    let hub = TestHub::new().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    for (name, visibility) in [("private", "private"), ("inhouse", "internal")] {
        ann.post("/api/repos/create", json!({ "name": name, "visibility": visibility })).await.expect(200);
    }
    let nobody = hub.anonymous();
    let comparable = |reply: &Reply| {
        let mut headers = reply.headers.clone();
        headers.remove("x-request-id");
        (reply.status, headers, reply.text())
    };
    for (client, hidden) in [(&nobody, "ann/private"), (&nobody, "ann/inhouse"), (&bob, "ann/private")] {
        for missing in ["ann/missing", "none/private", "ann/a..b", "ann/%00"] {
            let (found, none) = (refs(client, hidden).await, refs(client, missing).await);
            assert_eq!(comparable(&found), comparable(&none), "{hidden} and {missing}");
            let body = clone_request(&"1".repeat(40));
            let (found, none) =
                (ask(client, hidden, &[], body.clone()).await, ask(client, missing, &[], body).await);
            assert_eq!(comparable(&found), comparable(&none), "{hidden} and {missing}");
        }
    }
    let asked = refs(&nobody, "ann/private").await.expect(401);
    assert!(asked.header("www-authenticate").starts_with("Basic realm="));
    assert_eq!(asked.header("content-type"), "text/plain; charset=utf-8");
    assert!(asked.text().contains("token"), "{}", asked.text());
    let refused = refs(&bob, "ann/private").await.expect(404);
    assert_eq!((refused.text().as_str(), refused.header("www-authenticate")), ("Repository not found\n", ""));
    hub.finish().await;
}

#[tokio::test]
async fn refusals_say_why_in_plain_text() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    let wrong = refs(&ann.with_token("hf_wrong"), "ann/m").await.expect(401);
    assert!(wrong.text().starts_with("Invalid credentials in Authorization header\n"));
    assert!(wrong.header("www-authenticate").starts_with("Basic "));
    ann.put("/api/models/ann/m/settings", json!({ "gated": "manual" })).await.expect(200);
    let gated = refs(&bob, "ann/m").await.expect(403);
    assert_eq!(gated.text(), "Access to model ann/m is restricted and you are not in the authorized list.\n");
    let gated = refs(&hub.anonymous(), "ann/m").await.expect(401);
    assert!(
        gated.text().contains("Please log in.") && gated.header("www-authenticate").starts_with("Basic ")
    );
    let ask_anonymously =
        ask(&hub.anonymous(), "ann/m", &[], clone_request(&"1".repeat(40))).await.expect(401);
    assert!(!ask_anonymously.text().contains("PACK"));
    hub.tamper("UPDATE repo SET disabled = 1, gated = 'false' WHERE name = 'm'");
    assert_eq!(refs(&bob, "ann/m").await.expect(403).text(), "Access to this resource is disabled.\n");
    for query in ["", "?service=", "?service=git-upload-archive", "?service=../../bin/sh", "?x=y"] {
        for repo in ["ann/m", "ann/missing"] {
            let reply = bob.get(&format!("/{repo}/info/refs{query}")).await;
            assert!(
                reply.status.is_client_error() && !reply.text().contains('{'),
                "{query}: {}",
                reply.text()
            );
        }
    }
    let old: Vec<_> = [bob.get("/ann/m/info/refs").await, bob.get("/ann/missing/info/refs").await]
        .iter()
        .map(|reply| (reply.status.as_u16(), reply.text()))
        .collect();
    assert!(old[0] == old[1] && old[0].1.contains("use git"), "{old:?}");
    for path in ["/ann/m/HEAD", "/datasets/ann/m/objects/info/packs", "/ann/m.git/objects/12/34"] {
        assert!(bob.get(path).await.expect(403).text().contains("use git"), "{path}");
    }
    hub.finish().await;
}

#[tokio::test]
async fn any_user_name_will_do_with_a_token_as_the_password() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    filled(&ann).await;
    let token = ann.token.clone().unwrap();
    let nobody = hub.anonymous();
    for (user, status) in [("ann", 200), ("hf_user", 200), ("", 200), ("a:b", 401)] {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{token}")));
        let uri = "/ann/m/info/refs?service=git-upload-pack";
        nobody.get_with(uri, &[("authorization", &basic)]).await.expect(status);
    }
    hub.finish().await;
}

#[tokio::test]
async fn a_renamed_repository_is_where_it_is_now() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let oid = filled(&ann).await;
    ann.post("/api/repos/move", json!({ "fromRepo": "ann/m", "toRepo": "ann/n" })).await.expect(200);
    let moved = refs(&ann, "ann/m.git").await.expect(307);
    assert_eq!(moved.header("location"), "/ann/n/info/refs?service=git-upload-pack");
    assert_eq!(
        refs(&ann, "ANN/N").await.expect(307).header("location"),
        "/ann/n/info/refs?service=git-upload-pack"
    );
    // A body is not counted on to be sent twice.
    ask(&ann, "ann/m", &[], clone_request(&oid)).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn a_request_that_is_none_is_refused_and_costs_nothing() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let oid = filled(&ann).await;
    let whole = clone_request(&oid);
    let half = whole[..whole.len() - 20].to_owned();
    let wrong_type = [("content-type", "text/plain")];
    ann.send(Method::POST, "/ann/m/git-upload-pack", &wrong_type, Body::from(whole.clone()))
        .await
        .expect(400);
    for body in ["zzzz", "0003", "PACK", "fffffffff", &half, "0014command=no-such\n0000"] {
        let reply = ask(&ann, "ann/m", &[], body.to_owned()).await;
        assert!(reply.status.is_client_error() || reply.text().contains("ERR "), "{body}: {}", reply.status);
        assert!(!reply.text().contains("stderr") && !reply.text().contains(hub.data().to_str().unwrap()));
    }
    for (encoding, body) in [("br", whole.clone().into_bytes()), ("gzip", whole.clone().into_bytes())] {
        ask(&ann, "ann/m", &[("content-encoding", encoding)], body).await.expect(400);
    }
    let packed = gzip(whole.as_bytes());
    ask(&ann, "ann/m", &[("content-encoding", "gzip")], packed[..packed.len() - 4].to_vec())
        .await
        .expect(400);
    // A bomb: 100 MB in 300 kB, of what git would take.
    let haves = line(&format!("have {oid}\n")).repeat(2_000_000);
    let bomb = gzip(format!("{}0001{haves}", line("command=fetch")).as_bytes());
    assert!(bomb.len() < 1_000_000);
    ask(&ann, "ann/m", &[("content-encoding", "gzip")], bomb).await.expect(413);
    assert!(recorded(&hub).await.is_empty());
    until_no_program_runs(hub.data()).await;
    ask(&ann, "ann/m", &[], whole).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn nothing_that_was_not_committed_can_be_fetched() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let oid = filled(&ann).await;
    refs(&ann, "ann/m").await.expect(200);
    // A pack in the node's copy without a row, as of a commit that was refused at the last moment.
    let copy = fs::read_dir(hub.data().join("cache/git")).unwrap().flatten();
    let copy = copy.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "git"));
    let refused = hub_with_secret(&hub, &copy.unwrap()).await;
    for body in [clone_request(&refused), clone_request(&oid)] {
        let reply = ask(&ann, "ann/m", &[], body.clone()).await.expect(200);
        assert_eq!(reply.text().contains("not our ref"), body.contains(&refused), "{}", reply.text());
    }
    hub.finish().await;
}

/// Puts a pack of another repository into the folder; the id of a commit in it.
async fn hub_with_secret(hub: &TestHub, copy: &Path) -> String {
    let eve = hub.user("eve").await;
    create(&eve, "model", "secret").await.expect(200);
    commit(&eve, "eve/secret", &[put("secret.txt", "the secret")]).await.expect(200);
    let oid = head(&eve, "eve/secret").await;
    let folders = fs::read_dir(hub.data().join("cache/git")).unwrap().flatten().map(|entry| entry.path());
    for other in folders.filter(|path| path != copy && path.extension().is_some_and(|end| end == "git")) {
        for file in fs::read_dir(other.join("objects/pack")).unwrap().flatten() {
            fs::copy(file.path(), copy.join("objects/pack").join(file.file_name())).unwrap();
        }
    }
    oid
}

#[tokio::test]
async fn a_fetch_under_way_is_not_disturbed_and_the_next_sees_what_is_new() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let first = filled(&ann).await;
    refs(&ann, "ann/m").await.expect(200);
    assert_eq!(snapshots(&hub).len(), 1);
    refs(&ann, "ann/m").await.expect(200);
    assert_eq!(snapshots(&hub).len(), 1, "nothing has changed: the same one");
    for n in 0..30 {
        commit(&ann, "ann/m", &[put(&format!("f{n}.txt"), noise(2000, n))]).await.expect(200);
    }
    let listed = refs(&ann, "ann/m").await.expect(200);
    assert!(listed.text().contains(&head(&ann, "ann/m").await) && snapshots(&hub).len() == 1);
    // The packs are merged, and their files go from the node's copy.
    assert!(hub.run_jobs().await > 0);
    let old = clone_request(&first);
    ask(&ann, "ann/m", &[], old.clone()).await.expect(200);
    // A branch that is gone since the client was told of it.
    ann.post("/api/models/ann/m/branch/dev", json!({ "startingPoint": first })).await.expect(200);
    ann.delete("/api/models/ann/m/branch/dev", json!({})).await.expect(200);
    ann.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(200);
    for version in ["version=2", "version=0"] {
        let body = match version {
            "version=2" => old.clone(),
            _ => format!("{}0000{}", line(&format!("want {first} ofs-delta\n")), line("done\n")),
        };
        let headers = [("content-type", REQUEST), ("git-protocol", version)];
        let reply =
            ann.send(Method::POST, "/ann/m/git-upload-pack", &headers, Body::from(body)).await.expect(200);
        assert!(reply.body.windows(4).any(|part| part == b"PACK"), "{version}: {}", reply.text());
    }
    hub.finish().await;
}

#[tokio::test]
async fn a_cache_that_is_cleared_under_a_running_server_is_made_anew() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let oid = filled(&ann).await;
    ask(&ann, "ann/m", &[], clone_request(&oid)).await.expect(200);
    fs::remove_dir_all(hub.data().join("cache")).unwrap();
    let pack = ask(&ann, "ann/m", &[], clone_request(&oid)).await.expect(200);
    assert!(pack.body.ends_with(b"0000"));
    // Only the packs of the snapshot.
    let packs = snapshots(&hub)[0].join("objects/pack");
    fs::remove_dir_all(&packs).unwrap();
    assert!(ask(&ann, "ann/m", &[], clone_request(&oid)).await.expect(200).body.ends_with(b"0000"));
    // A start clears what an earlier process has left.
    hub.hub.start().await.unwrap();
    assert!(snapshots(&hub).is_empty());
    assert!(ask(&ann, "ann/m", &[], clone_request(&oid)).await.expect(200).body.ends_with(b"0000"));
}

/// A repository whose clone is larger than what is read ahead anywhere.
async fn large(ann: &Client) -> String {
    create(ann, "model", "m").await.expect(200);
    let files: Vec<_> = (0..12).map(|n| put(&format!("f{n}.txt"), noise(3_000_000, n))).collect();
    commit(ann, "ann/m", &files).await.expect(200);
    head(ann, "ann/m").await
}

async fn open(ann: &Client, oid: &str) -> Body {
    let headers = [("content-type", REQUEST), V2];
    let (method, body) = (Method::POST, Body::from(clone_request(oid)));
    ann.begin(method, "/ann/m/git-upload-pack", &headers, body).await
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_no_program_behind() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let oid = large(&ann).await;
    let mut body = open(&ann, &oid).await;
    body.frame().await.unwrap().unwrap();
    assert!(!programs(hub.data()).is_empty(), "git is under way");
    drop(body);
    until_no_program_runs(hub.data()).await;
    hub.finish().await;
}

/// A request that never ends; it goes on as long as what is returned is kept.
fn half(client: &Client) -> (Sender, tokio::task::JoinHandle<Reply>) {
    let (rest, parts) = tokio::sync::mpsc::channel(1);
    let stream =
        futures_util::stream::unfold(parts, |mut parts| async { Some((parts.recv().await?, parts)) });
    let (client, body) = (client.clone(), Body::from_stream(stream.fuse()));
    (rest, tokio::spawn(async move { ask(&client, "ann/m", &[], body).await }))
}

type Sender = tokio::sync::mpsc::Sender<Result<Bytes, std::io::Error>>;

#[tokio::test]
async fn who_sends_slowly_keeps_nobody_waiting() {
    let hub = TestHub::with(|config| {
        config.default_visibility = bastide_core::Visibility::Public;
        config.git_processes = 2;
        config.git_wait = Duration::from_millis(500);
    })
    .await;
    let ann = hub.user("ann").await;
    let oid = filled(&ann).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        let (rest, asking) = half(&hub.anonymous());
        rest.send(Ok(Bytes::from_static(b"0011command=fetch"))).await.unwrap();
        // The second part is taken when somebody waits for it.
        rest.send(Ok(Bytes::from_static(b"0001"))).await.unwrap();
        slow.push((rest, asking));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(programs(hub.data()).is_empty(), "a request that has not come whole costs nothing");
    for client in [&ann, &hub.anonymous()] {
        assert!(ask(client, "ann/m", &[], clone_request(&oid)).await.expect(200).body.ends_with(b"0000"));
    }
    // One of them ends, and has its answer.
    let (rest, asking) = slow.pop().unwrap();
    rest.send(Ok(clone_request(&oid).split_off("0011command=fetch0001".len()).into())).await.unwrap();
    drop(rest);
    assert!(asking.await.unwrap().expect(200).body.ends_with(b"0000"));
    // A long one is put down in a file, of which nothing is left.
    let haves = line(&format!("have {}\n", "1".repeat(40))).repeat(20_000);
    let long = clone_request(&oid).replace(&line("done\n"), &(haves + &line("done\n")));
    assert!(ask(&ann, "ann/m", &[], long).await.expect(200).body.ends_with(b"0000"));
    slow.iter().for_each(|(_, asking)| asking.abort());
    assert_eq!(fs::read_dir(hub.data().join("cache/tmp")).unwrap().count(), 0);
    hub.finish().await;
}

#[tokio::test]
async fn one_caller_has_a_share_of_the_places_and_the_others_are_served() {
    let hub = TestHub::with(|config| {
        config.default_visibility = bastide_core::Visibility::Public;
        config.git_processes = 8;
        config.git_wait = Duration::from_millis(300);
    })
    .await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    let oid = large(&ann).await;
    for (greedy, other) in [(&hub.anonymous(), &ann), (&bob, &hub.anonymous())] {
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut body = open(greedy, &oid).await;
            body.frame().await.unwrap().unwrap();
            held.push(body);
        }
        // In words that git shows: of a status it shows the number alone.
        let third = ask(greedy, "ann/m", &[], clone_request(&oid)).await.expect(200);
        assert_eq!(third.text(), line("ERR this hub is busy: try again in 30 s\n"));
        let old = [("content-type", REQUEST)];
        let body = format!("{}0000{}", line(&format!("want {oid} ofs-delta\n")), line("done\n"));
        let old = greedy.send(Method::POST, "/ann/m/git-upload-pack", &old, Body::from(body)).await;
        assert_eq!(old.expect(200).text(), third.text());
        assert!(ask(other, "ann/m", &[], clone_request(&oid)).await.expect(200).body.ends_with(b"0000"));
        refs(greedy, "ann/m").await.expect(200);
    }
    hub.finish().await;
}

#[tokio::test]
async fn a_clone_under_way_ends_with_its_token() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    hub.user("bob").await;
    hub.org("lab", "bob", &[("ann", Role::Read)]).await;
    let oid = large(&ann).await;
    let mut body = open(&ann, &oid).await.into_data_stream();
    let mut got = body.next().await.unwrap().unwrap().len();
    let operator = hub.operator();
    let owner = hub.hub.access(&operator).namespace::<Admin>(&"ann".parse().unwrap()).await.unwrap();
    for token in hub.hub.list_tokens(&owner).await.unwrap() {
        hub.hub.revoke_token(&operator, &owner, token.id).await.unwrap();
    }
    // Longer than a reader is believed.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut cut = false;
    while let Some(part) = body.next().await {
        match part {
            Ok(part) => got += part.len(),
            Err(_) => cut = true,
        }
    }
    assert!(cut && got < 30_000_000, "{got} bytes came, cut: {cut}");
    drop(body);
    until_no_program_runs(hub.data()).await;
    hub.finish().await;
}

#[tokio::test]
async fn a_pack_that_breaks_off_is_not_taken_for_a_whole_one_and_the_copy_is_mended() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let oid = large(&ann).await;
    let whole = ask(&ann, "ann/m", &[], clone_request(&oid)).await.expect(200).body;
    assert!(whole.ends_with(b"0000") && whole.len() > 30_000_000);
    // The same length, so that nothing is noticed before git reads it.
    let packs = snapshots(&hub)[0].join("objects/pack");
    for file in fs::read_dir(packs).unwrap().flatten().map(|entry| entry.path()) {
        let mut bytes = fs::read(&file).unwrap();
        if file.extension().is_some_and(|end| end == "pack") && bytes.len() > 1_000_000 {
            // In the tree, which is before the commit at the end.
            let tree = bytes.len() - 450;
            bytes[tree..tree + 100].fill(7);
            fs::remove_file(&file).unwrap();
            fs::write(&file, bytes).unwrap();
        }
    }
    let mut body = open(&ann, &oid).await.into_data_stream();
    let (mut got, mut cut) = (Vec::new(), false);
    while let Some(part) = body.next().await {
        match part {
            Ok(part) => got.extend_from_slice(&part),
            Err(_) => cut = true,
        }
    }
    let end = String::from_utf8_lossy(&got[got.len().saturating_sub(200)..]).into_owned();
    assert!(cut && got.len() < 1000, "cut: {cut}, {} of {}: {end}", got.len(), whole.len());
    let mended = ask(&ann, "ann/m", &[], clone_request(&oid)).await.expect(200).body;
    assert!(mended.len().abs_diff(whole.len()) < 100_000 && mended.ends_with(b"0000"), "{}", mended.len());
    hub.finish().await;
}

#[tokio::test]
async fn who_is_too_many_waits_for_a_place() {
    let hub = TestHub::with(|config| {
        config.default_visibility = bastide_core::Visibility::Public;
        config.git_processes = 1;
    })
    .await;
    let ann = hub.user("ann").await;
    let oid = large(&ann).await;
    let mut first = open(&ann, &oid).await;
    first.frame().await.unwrap().unwrap();
    let mut second = {
        let (ann, oid) = (ann.clone(), oid.clone());
        tokio::spawn(async move { ask(&ann, "ann/m", &[], clone_request(&oid)).await })
    };
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut second).await.is_err());
    // To be told what there is does not wait for those who fetch.
    refs(&ann, "ann/m").await.expect(200);
    drop(first);
    assert!(second.await.unwrap().expect(200).body.ends_with(b"0000"));
    hub.finish().await;
}
