//! Branches, tags, history.

use bastide_testkit::TestHub;
use serde_json::json;

use crate::{commit, create, put};

#[tokio::test]
async fn branches_and_tags() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a", "1")]).await.expect(200);
    let api = "/api/models/ann/m";
    ann.post(&format!("{api}/branch/dev"), json!({})).await.expect(200);
    let again = ann.post(&format!("{api}/branch/dev"), json!({})).await.expect(409);
    assert!(again.text().contains("Reference refs/heads/dev already exists"));
    ann.post(&format!("{api}/branch/dev"), json!({ "overwrite": true })).await.expect(200);
    let unknown = ann.post(&format!("{api}/branch/x"), json!({ "startingPoint": "nope" })).await.expect(404);
    assert_eq!(unknown.header("x-error-code"), "RevisionNotFound");
    for bad in ["refs%2Fheads%2Fx", "a..b", "a%20b", "-x", "a.lock"] {
        ann.post(&format!("{api}/branch/{bad}"), json!({})).await.expect(400);
    }
    ann.post(&format!("{api}/tag/main"), json!({ "tag": "v1", "message": "first" })).await.expect(200);
    ann.post(&format!("{api}/tag/dev"), json!({ "tag": "v2" })).await.expect(200);
    ann.post(&format!("{api}/tag/main"), json!({ "tag": "v1" })).await.expect(409);
    ann.post(&format!("{api}/tag/nope"), json!({ "tag": "v3" })).await.expect(404);
    ann.post(&format!("{api}/tag/main"), json!({ "tag": "a b" })).await.expect(400);

    let refs = ann.get(&format!("{api}/refs")).await.expect(200).json();
    let head = ann.get(api).await.json()["sha"].clone();
    assert_eq!(refs["branches"][0], json!({ "name": "dev", "ref": "refs/heads/dev", "targetCommit": head }));
    assert_eq!(refs["tags"][0], json!({ "name": "v1", "ref": "refs/tags/v1", "targetCommit": head }));
    assert_eq!(refs["converts"], json!([]));
    assert!(refs.get("pullRequests").is_none());
    assert_eq!(ann.get(&format!("{api}/refs?include_prs=1")).await.json()["pullRequests"], json!([]));

    assert!(
        ann.delete(&format!("{api}/branch/main"), json!({}))
            .await
            .expect(403)
            .text()
            .contains("Cannot delete refs/heads/main")
    );
    ann.delete(&format!("{api}/branch/dev"), json!({})).await.expect(200);
    ann.delete(&format!("{api}/branch/dev"), json!({})).await.expect(404);
    ann.delete(&format!("{api}/tag/v1"), json!({})).await.expect(200);
    ann.delete(&format!("{api}/tag/v1"), json!({})).await.expect(404);
    hub.finish().await;
}

#[tokio::test]
async fn a_branch_goes_before_a_tag_of_its_name() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let api = "/api/models/ann/m";
    let first = ann.get(api).await.json()["sha"].clone();
    for name in ["main", "x"] {
        ann.post(&format!("{api}/tag/main"), json!({ "tag": name })).await.expect(200);
    }
    ann.post(&format!("{api}/tag/main"), json!({ "tag": "HEAD" })).await.expect(400);
    commit(&ann, "ann/m", &[put("a", "1")]).await.expect(200);
    ann.post(&format!("{api}/branch/x"), json!({})).await.expect(200);
    for (revision, is_old) in [
        ("main", false),
        ("HEAD", false),
        ("x", false),
        ("refs%2Fheads%2Fmain", false),
        ("refs%2Ftags%2Fmain", true),
        ("refs%2Ftags%2Fx", true),
    ] {
        let sha = ann.get(&format!("{api}/revision/{revision}")).await.expect(200).json()["sha"].clone();
        assert_eq!(sha == first, is_old, "{revision}");
        let status = ann.get(&format!("/ann/m/resolve/{revision}/a")).await.status.as_u16();
        assert_eq!(status, if is_old { 404 } else { 200 }, "{revision}");
    }
    // The same where the address is not encoded.
    assert_eq!(ann.get("/ann/m/resolve/refs/heads/main/a").await.expect(200).text(), "1");
    ann.get("/ann/m/resolve/refs/tags/main/a").await.expect(404);
    hub.finish().await;
}

#[tokio::test]
async fn new_names_have_no_characters_that_do_not_show() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let api = "/api/models/ann/m";
    for hidden in ["\u{202e}", "\u{2066}", "\u{200b}", "\u{feff}"] {
        let encoded: String = hidden.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let branch = ann.post(&format!("{api}/branch/ma{encoded}in"), json!({})).await.expect(400).text();
        let tag = json!({ "tag": format!("ma{hidden}in") });
        let tag = ann.post(&format!("{api}/tag/main"), tag).await.expect(400).text();
        assert!(branch.contains("do not show") && tag.contains("do not show"), "{branch} {tag}");
        assert!(!branch.contains(hidden) && !tag.contains(hidden));
    }
    assert_eq!(hub.count("SELECT COUNT(*) FROM git_ref"), 1);
    // One from before can be read, and removed.
    ann.post(&format!("{api}/branch/old"), json!({})).await.expect(200);
    hub.tamper("UPDATE git_ref SET name = 'refs/heads/o\u{202e}ld' WHERE name = 'refs/heads/old'");
    let refs = ann.get(&format!("{api}/refs")).await.expect(200).json();
    assert_eq!(refs["branches"].as_array().unwrap().len(), 2);
    ann.delete(&format!("{api}/branch/o%E2%80%AEld"), json!({})).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn the_number_of_commits_is_told_with_and_without_merges() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    let counted = async |rev: &str| {
        let page = ann.get(&format!("/api/models/ann/m/commits/{rev}?limit=100")).await.expect(200);
        let short = ann.get(&format!("/api/models/ann/m/commits/{rev}?limit=1")).await.expect(200);
        assert_eq!(page.header("x-total-count"), short.header("x-total-count"));
        (page.header("x-total-count").parse::<usize>().unwrap(), page.json().as_array().unwrap().len())
    };
    assert_eq!(counted("main").await, (1, 1));
    crate::commit(&ann, "ann/m", &[put("a", "1")]).await.expect(200);
    assert_eq!(counted("main").await, (2, 2));
    let header = json!({ "summary": "mine" });
    crate::commit_with(&bob, "ann/m", "main?create_pr=1", header, &[put("b", "2")]).await.expect(200);
    crate::commit(&ann, "ann/m", &[put("c", "3")]).await.expect(200);
    ann.post("/api/models/ann/m/discussions/1/merge", json!({})).await.expect(200);
    let merged = counted("main").await;
    assert_eq!(merged.0, merged.1);
    assert!(merged.0 >= 4, "{merged:?}");
    // Who may not see the history is not told how long it is.
    ann.put("/api/models/ann/m/settings", json!({ "private": true })).await.expect(200);
    assert_eq!(bob.get("/api/models/ann/m/commits/main").await.expect(404).header("x-total-count"), "");
    hub.finish().await;
}

#[tokio::test]
async fn history_pages_last_commits_and_squash() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    for n in 0..5 {
        hub.advance_seconds(1);
        let header = json!({ "summary": format!("commit {n}"), "description": "why <b>" });
        let operations = [put("same", "x"), put(&format!("f{n}"), "y")];
        crate::commit_with(&ann, "ann/m", "main", header, &operations).await.expect(200);
    }
    let api = "/api/models/ann/m";
    let page = ann.get(&format!("{api}/commits/main?limit=4&expand[]=formatted")).await.expect(200);
    assert_eq!(
        page.header("link"),
        "<http://hub.test/api/models/ann/m/commits/main?limit=4&expand%5B%5D=formatted&p=1>; rel=\"next\""
    );
    let rows = page.json();
    assert_eq!((rows[0]["title"].as_str(), rows[0]["message"].as_str()), (Some("commit 4"), Some("why <b>")));
    assert_eq!(rows[0]["formatted"]["message"], "why &lt;b&gt;");
    assert_eq!(rows[0]["authors"][0]["user"], "ann");
    let rest = ann.get(&format!("{api}/commits/main?limit=4&p=1")).await.expect(200);
    assert_eq!((rest.json().as_array().unwrap().len(), rest.header("link")), (2, ""));

    let tree = ann.get(&format!("{api}/tree/main?expand=true")).await.expect(200).json();
    let last: Vec<_> =
        tree.as_array().unwrap().iter().map(|item| item["lastCommit"]["title"].as_str().unwrap()).collect();
    assert_eq!(
        last,
        ["initial commit", "commit 0", "commit 1", "commit 2", "commit 3", "commit 4", "commit 0"]
    );

    ann.post(&format!("{api}/super-squash/main"), json!({ "message": "one" })).await.expect(200);
    let rows = ann.get(&format!("{api}/commits/main")).await.json();
    assert_eq!((rows.as_array().unwrap().len(), rows[0]["title"].as_str()), (1, Some("one")));
    assert_eq!(ann.get("/ann/m/resolve/main/f3").await.expect(200).text(), "y");
    commit(&ann, "ann/m", &[put("after", "z")]).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn trees_page_and_paths_are_told_about() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let operations: Vec<_> = (0..25).map(|n| put(&format!("d/f{n:02}"), "x")).collect();
    commit(&ann, "ann/m", &operations).await.expect(200);
    let mut uri = "/api/models/ann/m/tree/main?recursive=true&limit=10".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = ann.get(&uri).await.expect(200);
        seen.extend(
            page.json().as_array().unwrap().iter().map(|item| item["path"].as_str().unwrap().to_owned()),
        );
        let link = page.header("link").to_owned();
        let Some(next) = link.strip_prefix('<').and_then(|link| link.split_once('>')) else { break };
        uri = next.0.trim_start_matches("http://hub.test").to_owned();
    }
    assert_eq!(seen.len(), 27);
    assert!(seen.is_sorted());
    let body = json!({ "paths": ["d", "d/f03", "none", "../x"] });
    let info = ann.post("/api/models/ann/m/paths-info/main", body).await.expect(200).json();
    let kinds: Vec<_> = info.as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["directory", "file"]);
    let missing = ann.get("/api/models/ann/m/tree/main/none").await.expect(404);
    assert_eq!(missing.header("x-error-code"), "EntryNotFound");
    hub.finish().await;
}

#[tokio::test]
async fn refs_that_git_could_not_keep_beside_each_other_are_refused() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let api = "/api/models/ann/m";
    ann.post(&format!("{api}/branch/feat%2Fx"), json!({})).await.expect(200);
    let below = ann.post(&format!("{api}/branch/feat"), json!({})).await.expect(409);
    assert!(
        below.text().contains("Reference refs/heads/feat conflicts with refs/heads/feat/x"),
        "{}",
        below.text()
    );
    let above = ann.post(&format!("{api}/branch/main%2Fx"), json!({})).await.expect(409);
    assert!(above.text().contains("Reference refs/heads/main/x conflicts with refs/heads/main"));
    // Only whole segments clash, and tags are a world of their own.
    ann.post(&format!("{api}/branch/feature"), json!({})).await.expect(200);
    ann.post(&format!("{api}/tag/main"), json!({ "tag": "feat" })).await.expect(200);
    let tag = ann.post(&format!("{api}/tag/main"), json!({ "tag": "feat/x" })).await.expect(409);
    assert!(tag.text().contains("refs/tags/feat/x conflicts with refs/tags/feat"));
    hub.finish().await;
}

#[tokio::test]
async fn the_longest_ref_that_matches_a_raw_address_wins() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let api = "/api/models/ann/m";
    ann.post(&format!("{api}/branch/feat"), json!({})).await.expect(200);
    ann.post(&format!("{api}/tag/main"), json!({ "tag": "feat/x" })).await.expect(200);
    crate::commit_with(&ann, "ann/m", "feat", json!({ "summary": "s" }), &[put("x/a", "branch")])
        .await
        .expect(200);
    crate::commit_with(&ann, "ann/m", "main", json!({ "summary": "s" }), &[put("a", "tag")])
        .await
        .expect(200);
    ann.delete(&format!("{api}/tag/feat%2Fx"), json!({})).await.expect(200);
    assert_eq!(ann.get("/ann/m/resolve/feat/x/a").await.expect(200).text(), "branch");
    ann.post(&format!("{api}/tag/main"), json!({ "tag": "feat/x" })).await.expect(200);
    assert_eq!(ann.get("/ann/m/resolve/feat/x/a").await.expect(200).text(), "tag");
    // A path that is encoded is whole.
    assert_eq!(ann.get("/ann/m/resolve/feat/x%2Fa").await.expect(200).text(), "branch");
    assert_eq!(ann.get("/ann/m/resolve/feat%2Fx/a").await.expect(200).text(), "tag");
    hub.finish().await;
}

#[tokio::test]
async fn only_branches_are_squashed_and_that_is_a_change() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a", "1")]).await.expect(200);
    let api = "/api/models/ann/m";
    ann.post(&format!("{api}/tag/main"), json!({ "tag": "v1" })).await.expect(200);
    let refused = ann.post(&format!("{api}/super-squash/refs%2Ftags%2Fv1"), json!({})).await.expect(404);
    assert_eq!(refused.header("x-error-code"), "RevisionNotFound");
    ann.post(&format!("{api}/super-squash/v1"), json!({})).await.expect(404);
    let before = ann.get(api).await.json()["lastModified"].clone();
    hub.advance_seconds(5);
    ann.post(&format!("{api}/super-squash/main"), json!({ "message": null })).await.expect(200);
    assert_ne!(ann.get(api).await.json()["lastModified"], before);
    hub.finish().await;
}

#[tokio::test]
async fn a_main_branch_that_is_overwritten_is_found_by_what_it_holds_now() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let api = "/api/models/ann/m";
    ann.post(&format!("{api}/branch/before"), json!({ "emptyBranch": null, "overwrite": null }))
        .await
        .expect(200);
    commit(&ann, "ann/m", &[put("README.md", "---\ntags: [odd]\n---\n")]).await.expect(200);
    let lost = ann.get(api).await.json()["sha"].clone();
    let found = async |tag: &str| {
        ann.get(&format!("/api/models?filter={tag}")).await.json().as_array().unwrap().len()
    };
    assert_eq!(found("odd").await, 1);
    let body = json!({ "startingPoint": "before", "overwrite": true });
    ann.post(&format!("{api}/branch/main"), body).await.expect(200);
    assert_eq!(found("odd").await, 0);
    assert_eq!(ann.get(api).await.json()["cardData"], json!(null));
    let noted = crate::making::events(&hub, "branch.create").await;
    assert_eq!((&noted[0].1["before"], &noted[1].1["before"]), (&json!(""), &lost));
    hub.finish().await;
}

#[tokio::test]
async fn an_empty_branch_shares_nothing_with_the_others() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let api = "/api/models/ann/m";
    ann.post(&format!("{api}/branch/bare"), json!({ "emptyBranch": true })).await.expect(200);
    ann.post(&format!("{api}/branch/bare"), json!({ "emptyBranch": true })).await.expect(409);
    assert_eq!(ann.get(&format!("{api}/tree/bare")).await.expect(200).json(), json!([]));
    assert_eq!(ann.get(&format!("{api}/commits/bare")).await.json().as_array().unwrap().len(), 1);
    let header = json!({ "summary": "first" });
    crate::commit_with(&ann, "ann/m", "bare", header, &[put("only", "1")]).await.expect(200);
    let names = ann.get(&format!("{api}/tree/bare")).await.json();
    assert_eq!((names.as_array().unwrap().len(), &names[0]["path"]), (1, &json!("only")));
    hub.finish().await;
}

#[tokio::test]
async fn sizes_of_folders_files_and_nothing() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("d/a", "123"), put("d/b", "45"), put("dx", "6789")]).await.expect(200);
    let size = async |path: &str| ann.get(&format!("/api/models/ann/m/treesize/main{path}")).await;
    assert_eq!(size("/d").await.expect(200).json(), json!({ "path": "d", "size": 5 }));
    assert_eq!(size("/d/a").await.expect(200).json()["size"], 3);
    assert!(size("").await.expect(200).json()["size"].as_u64().unwrap() > 9);
    assert_eq!(size("/none").await.expect(404).header("x-error-code"), "EntryNotFound");
    hub.finish().await;
}
