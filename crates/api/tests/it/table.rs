//! Who gets what answer from every route: `tests/access.txt`, a table that is checked in and that
//! this test keeps true. `BASTIDE_WRITE_DOCS=1` writes it anew; what changed is then read in the
//! diff. A route without a request in `ask` fails.
//!
//! Rules that no table may break are tested apart from it: what a caller may not know of answers
//! like what is missing, to the letter; ended tokens do nothing; who may not write changes nothing.

mod social;

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::body::Body;
use bastide_core::id::RowId;
use bastide_core::{RepoId, Role, TokenRole};
use bastide_testkit::{Client, Reply, TestHub};
use bastide_xet::xorb::XorbIndex;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::uploads::{batch, lfs_line, local, noise, put_bytes, sha256, shard, xorb};
use crate::{commit, commit_with, put};

const HEAD: &str = "\
What every route answers to whom, for a repository of an organization: status and X-Error-Code. Made by
crates/api/tests/it/table.rs. Routes of large files are asked with the best token or link that the caller could get:
for this repository, else for the public one.
";
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/access.txt");

/// The columns, and the repository of each. All names are as long as each other.
const COLUMNS: [(&str, &str); 5] = [
    ("public", "openone"),
    ("internal", "inhouse"),
    ("private", "secrets"),
    ("gated", "gateone"),
    ("missing", "missing"),
];

/// The rows of each route: the caller, and the user whose token it shows.
const CALLERS: [(&str, &str); 9] = [
    ("anonymous", ""),
    ("stranger", "eve"),
    ("reader", "rita"),
    ("contributor", "cora"),
    ("writer", "will"),
    ("admin", "anna"),
    ("read token", "anna"),
    ("revoked token", "anna"),
    ("expired token", "anna"),
];

/// These may not write to any of the repositories.
const CANNOT_WRITE: [&str; 5] = ["anonymous", "stranger", "reader", "contributor", "read token"];
/// Who may propose does something here: content for a pull request, which no branch has by that, and what is
/// said in discussions, of which each may change its own.
const PROPOSALS: &[&str] = &[
    "POST /{prefix}/{ns}/{name}/info/lfs/locks/verify",
    // By one's own name: whoever may read.
    "POST /api/{kind}/{ns}/{name}/like",
    "DELETE /api/{kind}/{ns}/{name}/like",
    "POST /api/users/{name}/follow",
    "DELETE /api/users/{name}/follow",
    "POST /api/organizations/{name}/follow",
    "DELETE /api/organizations/{name}/follow",
    "POST /{prefix}/{ns}/{name}/git-receive-pack",
    "POST /{prefix}/{ns}/{name}/info/lfs/objects/batch (upload)",
    "PUT /lfs/{repo}/upload/{oid}",
    "POST /lfs/{repo}/verify/{oid}",
    "POST /api/{kind}/{ns}/{name}/preupload/{*rev} (create_pr)",
    "POST /api/{kind}/{ns}/{name}/commit/{*rev} (create_pr)",
    "POST /api/{kind}/{ns}/{name}/revert/{*rev} (create_pr)",
    "POST /api/{kind}/{ns}/{name}/discussions",
    "POST /api/{kind}/{ns}/{name}/discussions (pull request)",
    "POST /api/{kind}/{ns}/{name}/discussions/{num}/comment",
    "POST /api/{kind}/{ns}/{name}/discussions/{num}/comment/{event}/edit",
    "POST /api/{kind}/{ns}/{name}/discussions/{num}/comment/{event}/hide",
    "POST /api/{kind}/{ns}/{name}/discussions/{num}/title",
    "POST /api/{kind}/{ns}/{name}/discussions/{num}/status",
];
const CANNOT_PROPOSE: [&str; 2] = ["anonymous", "read token"];
const ENDED: [&str; 2] = ["revoked token", "expired token"];
/// These look at no credential: they say nothing about anybody.
const FOR_ANYBODY: [&str; 4] =
    ["POST /v1/telemetry", "POST /api/validate-yaml", "GET /api/tasks", "GET /avatars/{file}"];
/// Ask nothing of a repository, or are no write for all that they are not GET.
const NO_WRITES: &[&str] = &[
    "POST /v1/telemetry",
    "POST /api/validate-yaml",
    // A contributor of an organization may make repositories in it.
    "POST /api/repos/create",
    // Into the caller's own namespace.
    "POST /api/{kind}/{ns}/{name}/duplicate",
    // Into the caller's own settings.
    "POST /api/settings/webhooks",
    "POST /api/{kind}/{ns}/{name}/paths-info/{*rev}",
    "POST /{prefix}/{ns}/{name}/info/lfs/objects/batch (download)",
    "POST /{prefix}/{ns}/{name}/git-upload-pack",
];

/// What a caller got from the hub for one repository while its token was alive.
#[derive(Default, Clone)]
struct Grants {
    read: Option<String>,
    write: Option<String>,
    /// Links of LFS and Xet by what they are for: the path and query on this hub.
    links: BTreeMap<&'static str, String>,
}

struct Scene {
    hub: TestHub,
    clients: BTreeMap<&'static str, Client>,
    /// Ids of the repositories of `COLUMNS`; one that no repository has for the missing one.
    ids: BTreeMap<&'static str, String>,
    grants: BTreeMap<(&'static str, &'static str), Grants>,
    index: XorbIndex,
    xorb: Vec<u8>,
    shard: Vec<u8>,
    file: String,
    data: Vec<u8>,
}

/// One cell: who asks about which repository. `number` is new every time.
struct Cell<'a> {
    scene: &'a Scene,
    caller: &'static str,
    user: &'static str,
    column: &'static str,
    repo: String,
    number: usize,
    /// A discussion that is there for this request, and its first comment.
    discussion: u64,
    event: String,
    /// For routes of collections: one of its own, shown to whom the column says, with one item.
    collection: social::Made,
    /// The id of what was prepared for it.
    made: String,
}

/// A request, with the token that it shows when that is not the caller's own.
struct Ask {
    uri: String,
    body: Vec<u8>,
    token: Option<String>,
}

impl Ask {
    fn get(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), body: Vec::new(), token: None }
    }

    fn json(uri: impl Into<String>, body: &Value) -> Self {
        Self { uri: uri.into(), body: body.to_string().into_bytes(), token: None }
    }
}

const PART_BYTES: usize = 10_000;

/// An object of a caller's own, which no other cell sends.
fn object(caller: &str, column: &str, what: &str, size: usize) -> Vec<u8> {
    let name = Sha256::digest(format!("{caller}/{column}/{what}"));
    noise(size, u64::from_le_bytes(name[..8].try_into().unwrap()))
}

fn basic(caller: &str, column: &str, what: &str) -> Vec<u8> {
    object(caller, column, what, 500)
}

fn parts(caller: &str, column: &str, what: &str) -> Vec<u8> {
    object(caller, column, what, PART_BYTES + 500)
}

impl Scene {
    async fn new() -> Self {
        let hub = TestHub::with(|config| config.lfs_multipart_bytes = PART_BYTES as u64).await;
        for user in ["eve", "rita", "cora", "will", "anna", "zoe"] {
            hub.user(user).await;
        }
        let members = [("rita", Role::Read), ("cora", Role::Contributor), ("will", Role::Write)];
        hub.org("lab", "anna", &members).await;
        let clients = clients(&hub).await;
        let chunks: Vec<Vec<u8>> = (0..3).map(|n| noise(20_000, n)).collect();
        let data = chunks.concat();
        let (index, xorb) = xorb(&chunks);
        let (shard, file) = shard(&index, Sha256::digest(&data).into(), |_| {});
        let ids = BTreeMap::from([("missing", RepoId::from_i64(1 << 58).to_string())]);
        let mut scene = Self { hub, clients, ids, grants: BTreeMap::new(), index, xorb, shard, file, data };
        for (column, name) in COLUMNS.into_iter().filter(|(column, _)| *column != "missing") {
            let id = scene.make(column, name).await;
            scene.ids.insert(column, id);
            scene.fill(name).await;
        }
        scene.collect_grants().await;
        scene
    }

    /// A repository as its column says; its id.
    async fn make(&self, column: &str, name: &str) -> String {
        let visibility = if column == "gated" { "public" } else { column };
        let body = json!({ "name": name, "organization": "lab", "visibility": visibility });
        let made = self.clients["admin"].post("/api/repos/create", body).await.expect(200).json();
        if column == "gated" {
            let uri = format!("/api/models/lab/{name}/settings");
            self.clients["admin"].put(&uri, json!({ "gated": "auto" })).await.expect(200);
        }
        made["id"].as_str().unwrap().to_owned()
    }

    /// The same large file for all, so that its hash alone is worth nothing.
    async fn fill(&self, name: &str) {
        let admin = &self.clients["admin"];
        let uri = format!("/api/models/lab/{name}/xet-write-token/main");
        let token = admin.get(&uri).await.expect(200).json();
        let xet = admin.with_token(token["accessToken"].as_str().unwrap());
        let base = local(&token["casUrl"]);
        let uri = format!("{base}/v1/xorbs/default/{}", self.index.hash);
        xet.send(Method::POST, &uri, &[], Body::from(self.xorb.clone())).await.expect(200);
        let uri = format!("{base}/v1/shards");
        xet.send(Method::POST, &uri, &[], Body::from(self.shard.clone())).await.expect(200);
        let operations = [put("README.md", "# hi\n"), lfs_line("weights.bin", &self.data)];
        commit(admin, &format!("lab/{name}"), &operations).await.expect(200);
    }

    async fn collect_grants(&mut self) {
        // A token that lives one day has a minute left: enough to get what outlives it.
        self.hub.advance_seconds(86_400 - 60);
        for (caller, _) in CALLERS {
            for (column, name) in COLUMNS {
                let grants = self.grants_of(caller, column, name).await;
                self.grants.insert((caller, column), grants);
            }
        }
        self.hub.advance_seconds(60);
        let context = self.hub.operator();
        let anna = self.hub.hub.access(&context).namespace(&"anna".parse().unwrap()).await.unwrap();
        let tokens = self.hub.hub.list_tokens(&anna).await.unwrap();
        let ending = tokens.iter().find(|token| token.name == "to be revoked").unwrap().id;
        self.hub.hub.revoke_token(&context, &anna, ending).await.unwrap();
    }

    async fn grants_of(&self, caller: &'static str, column: &'static str, name: &str) -> Grants {
        let (client, mut grants) = (&self.clients[caller], Grants::default());
        for (scope, token) in [("read", &mut grants.read), ("write", &mut grants.write)] {
            let reply = client.get(&format!("/api/models/lab/{name}/xet-{scope}-token/main")).await.json();
            *token = reply["accessToken"].as_str().map(ToOwned::to_owned);
        }
        let id = format!("lab/{name}");
        let mut links = Vec::new();
        let down = batch(client, &id, "download", json!(["basic"]), &self.data).await.json();
        links.push(("download", down["objects"][0]["actions"]["download"]["href"].clone()));
        for what in ["upload", "verify"] {
            let data = basic(caller, column, what);
            let up = batch(client, &id, "upload", json!(["basic"]), &data).await.json();
            let actions = &up["objects"][0]["actions"];
            links.push((what, actions[what]["href"].clone()));
            if what == "verify" && actions["upload"]["href"].is_string() {
                put_bytes(client, &local(&actions["upload"]["href"]), &data).await.expect(200);
            }
        }
        let data = parts(caller, column, "part");
        let up = batch(client, &id, "upload", json!(["multipart"]), &data).await.json();
        links.push(("part", up["objects"][0]["actions"]["upload"]["header"]["00001"].clone()));
        let data = parts(caller, column, "complete");
        let up = batch(client, &id, "upload", json!(["multipart"]), &data).await.json();
        let upload = &up["objects"][0]["actions"]["upload"];
        // In parts for writers only.
        if upload["header"].is_object() {
            links.push(("complete", upload["href"].clone()));
        }
        for (number, part) in ["00001", "00002"].into_iter().zip(data.chunks(PART_BYTES)) {
            if upload["header"][number].is_string() {
                put_bytes(client, &local(&upload["header"][number]), part).await.expect(200);
            }
        }
        if let (Some(token), Some(id)) = (&grants.read, self.ids.get(column)) {
            let uri = format!("/xet/{id}/1/v1/reconstructions/{}", self.file);
            let plan = client.with_token(token).get(&uri).await.json();
            links.push(("fetch", plan["fetch_info"][self.index.hash.to_string()][0]["url"].clone()));
        }
        let links = links.into_iter().filter(|(_, url)| url.is_string());
        grants.links = links.map(|(what, url)| (what, local(&url))).collect();
        grants
    }
}

async fn clients(hub: &TestHub) -> BTreeMap<&'static str, Client> {
    let mut clients = BTreeMap::new();
    for (caller, user) in CALLERS {
        let client = match caller {
            "anonymous" => hub.anonymous(),
            "read token" => hub.token(user, TokenRole::Read).await,
            "revoked token" => hub.token_with(user, "to be revoked", None).await,
            "expired token" => hub.token_with(user, "to expire", Some(1)).await,
            _ => hub.token(user, TokenRole::Write).await,
        };
        clients.insert(caller, client);
    }
    clients
}

impl Cell<'_> {
    fn grants(&self, column: &'static str) -> &Grants {
        &self.scene.grants[&(self.caller, column)]
    }

    /// A Xet request with the best token that the caller could get: for this repository and
    /// scope, else a lesser one for it, else one for the public repository.
    fn xet(&self, write: bool, rest: &str, body: &[u8]) -> Ask {
        let best = |grants: &Grants| grants.write.clone().filter(|_| write).or_else(|| grants.read.clone());
        let token = best(self.grants(self.column)).or_else(|| best(self.grants("public")));
        let uri = format!("/xet/{}/1/{rest}", self.scene.ids[self.column]);
        Ask { uri, body: body.to_vec(), token: Some(token.unwrap_or_default()) }
    }

    /// A signed link, or one for the public repository with this repository put into it, or one
    /// that somebody made up.
    fn link(&self, what: &'static str, body: Vec<u8>) -> Ask {
        let (own, public) = (&self.scene.ids[self.column], &self.scene.ids["public"]);
        let stolen = || Some(self.grants("public").links.get(what)?.replace(public, own));
        let made_up = || {
            let path = match what {
                "fetch" => format!("/xet/{own}/1/fetch/{}/0-9", self.scene.index.hash),
                _ => format!("/lfs/{own}/{what}/{}", sha256(&self.scene.data)),
            };
            format!("{path}?size=10&u=1&n=1&e=9999999999&t=0&s=AAAA")
        };
        let uri = self.grants(self.column).links.get(what).cloned().or_else(stolen).unwrap_or_else(made_up);
        // The link is the credential.
        Ask { uri, body, token: Some(String::new()) }
    }

    /// The first comment of the discussion that is there for this request; one that nobody has made elsewhere.
    fn comment(&self, verb: &str) -> String {
        let event = if self.event.is_empty() { &self.scene.ids["missing"] } else { &self.event };
        format!("/api/models/{}/discussions/{}/comment/{event}/{verb}", self.repo, self.discussion)
    }

    /// Opens a discussion for this request: the caller's own where that counts and it may have one, else the
    /// admin's. Callers may not open many, and this is about rights.
    async fn open_discussion(&mut self, own: bool) {
        let admin = &self.scene.clients["admin"];
        let uri = format!("/api/models/{}/discussions", self.repo);
        let body = json!({ "title": "a title", "description": "one" });
        let opener = if own { &self.scene.clients[self.caller] } else { admin };
        let mut made = opener.post(&uri, body.clone()).await;
        if !made.status.is_success() {
            made = admin.post(&uri, body).await;
        }
        let Some(num) = made.json()["num"].as_u64() else { return };
        let found = admin.get(&format!("{uri}/{num}")).await.expect(200).json();
        self.event = found["events"][0]["id"].as_str().unwrap().to_owned();
        self.discussion = num;
    }

    /// Has the admin open a pull request for this request, and close it.
    async fn open_pull(&mut self, close: bool) {
        let admin = &self.scene.clients["admin"];
        let uri = format!("/api/models/{}", self.repo);
        let header = json!({ "summary": "a proposal" });
        let file = put(&format!("for/{}", self.number), "x");
        let made = crate::commit_with(admin, &self.repo, "main?create_pr=1", header, &[file]).await.json();
        let Some(url) = made["pullRequestUrl"].as_str() else { return };
        self.discussion = url.rsplit('/').next().unwrap().parse().unwrap();
        if close {
            let status = json!({ "status": "closed" });
            admin.post(&format!("{uri}/discussions/{}/status", self.discussion), status).await.expect(200);
        }
    }

    /// The request to a route in one of its uses; `None` for a route that this does not know.
    fn ask(&self, route: &str, usage: &str) -> Option<Ask> {
        let (repo, scene, number) = (&self.repo, self.scene, self.number);
        let api = |rest: &str| format!("/api/models/{repo}{rest}");
        let discussion = |rest: &str| api(&format!("/discussions/{}{rest}", self.discussion));
        let proposal = if usage == "create_pr" { "?create_pr=1" } else { "" };
        let hook = |rest: &str| format!("/api/settings/webhooks/{}{rest}", self.made);
        let own = if self.user.is_empty() { "eve" } else { self.user };
        let (hash, file) = (scene.index.hash, &scene.file);
        let chunk = scene.index.chunks[0].hash;
        Some(match route {
            "GET /api/whoami-v2" => Ask::get("/api/whoami-v2"),
            "GET /api/tasks" => Ask::get("/api/tasks"),
            "POST /api/validate-yaml" => {
                Ask::json("/api/validate-yaml", &json!({ "content": "---\nlicense: mit\n---\n" }))
            }
            "POST /v1/telemetry" => Ask::json("/v1/telemetry", &json!({})),
            "GET /api/models" | "GET /api/datasets" | "GET /api/spaces" => {
                Ask::get(format!("{}?author=lab&limit=100", &route[4..]))
            }
            "POST /api/repos/create" => Ask::json("/api/repos/create", &json!({ "name": repo })),
            "DELETE /api/repos/delete" => Ask::json("/api/repos/delete", &json!({ "name": repo })),
            "POST /api/repos/move" => {
                let body = json!({ "fromRepo": repo, "toRepo": format!("lab/moved-{number}") });
                Ask::json("/api/repos/move", &body)
            }
            "PUT /api/{kind}/{ns}/{name}/settings" => {
                Ask::json(api("/settings"), &json!({ "discussionsDisabled": false }))
            }
            "POST /api/{kind}/{ns}/{name}/duplicate" => {
                Ask::json(api("/duplicate"), &json!({ "repository": format!("{own}/copy-{number}") }))
            }
            "GET /api/{kind}/{ns}/{name}/auth-check" => Ask::get(api("/auth-check")),
            "GET /api/{kind}/{ns}/{name}/auth-check/write" => Ask::get(api("/auth-check/write")),
            "GET /api/{kind}/{ns}/{name}" => Ask::get(api("")),
            "GET /api/{kind}/{ns}/{name}/revision/{*rev}" => Ask::get(api("/revision/main")),
            "GET /api/{kind}/{ns}/{name}/tree/{*rest}" => Ask::get(api("/tree/main")),
            "POST /api/{kind}/{ns}/{name}/paths-info/{*rev}" => {
                Ask::json(api("/paths-info/main"), &json!({ "paths": ["weights.bin"] }))
            }
            "GET /api/{kind}/{ns}/{name}/treesize/{*rest}" => Ask::get(api("/treesize/main")),
            "POST /api/{kind}/{ns}/{name}/preupload/{*rev}" => {
                let file = json!({ "path": "new.txt", "size": 1, "sample": "YQ==" });
                Ask::json(api(&format!("/preupload/main{proposal}")), &json!({ "files": [file] }))
            }
            "POST /api/{kind}/{ns}/{name}/commit/{*rev}" => {
                let header = json!({ "key": "header", "value": { "summary": "a change" } });
                let lines = format!("{header}\n{}\n", put(&format!("by/{number}"), "x"));
                Ask { uri: api(&format!("/commit/main{proposal}")), body: lines.into_bytes(), token: None }
            }
            "GET /api/{kind}/{ns}/{name}/refs" => Ask::get(api("/refs")),
            "POST /api/{kind}/{ns}/{name}/branch/{*branch}" => {
                Ask::json(api(&format!("/branch/b{number}")), &json!({}))
            }
            "DELETE /api/{kind}/{ns}/{name}/branch/{*branch}" => {
                Ask::get(api(&format!("/branch/old{number}")))
            }
            "GET /api/{kind}/{ns}/{name}/branch-rules" => Ask::get(api("/branch-rules")),
            "GET /api/{kind}/{ns}/{name}/branch-rules/{*branch}"
            | "DELETE /api/{kind}/{ns}/{name}/branch-rules/{*branch}" => {
                Ask::get(api(&format!("/branch-rules/rule{number}")))
            }
            "PUT /api/{kind}/{ns}/{name}/branch-rules/{*branch}" => {
                Ask::json(api(&format!("/branch-rules/new{number}")), &json!({}))
            }
            "POST /api/{kind}/{ns}/{name}/tag/{*rev}" => {
                Ask::json(api("/tag/main"), &json!({ "tag": format!("t{number}") }))
            }
            "DELETE /api/{kind}/{ns}/{name}/tag/{*rev}" => Ask::get(api(&format!("/tag/old{number}"))),
            "GET /api/{kind}/{ns}/{name}/commits/{*rev}" => Ask::get(api("/commits/main")),
            "GET /api/{kind}/{ns}/{name}/compare/{*spec}" => {
                Ask::get(api(&format!("/compare/main~main{usage}").replace('~', "...")))
            }
            "GET /api/{kind}/{ns}/{name}/commit/{*rev}" => Ask::get(api(&format!("/commit/main{usage}"))),
            "POST /api/{kind}/{ns}/{name}/revert/{*rev}" => {
                let body = json!({ "branch": format!("undo{number}"), "create_pr": usage == "create_pr" });
                Ask::json(api(&format!("/revert/undo{number}")), &body)
            }
            "GET /api/{kind}/{ns}/{name}/blame/{*rest}" => Ask::get(api("/blame/main/README.md")),
            "GET /{prefix}/{ns}/{name}/commit/{oid}" => Ask::get(format!("/{repo}/commit/main.diff")),
            "POST /api/{kind}/{ns}/{name}/super-squash/{*rev}" => {
                Ask::json(api("/super-squash/main"), &json!({ "message": "one" }))
            }
            "GET /api/{kind}/{ns}/{name}/discussions" => Ask::get(api("/discussions")),
            "POST /api/{kind}/{ns}/{name}/discussions" => {
                let body =
                    json!({ "title": format!("number {number}"), "pullRequest": usage == "pull request" });
                Ask::json(api("/discussions"), &body)
            }
            "GET /api/{kind}/{ns}/{name}/discussions/{num}"
            | "DELETE /api/{kind}/{ns}/{name}/discussions/{num}" => Ask::get(discussion("")),
            "POST /api/{kind}/{ns}/{name}/discussions/{num}/comment" => {
                Ask::json(discussion("/comment"), &json!({ "comment": "hi" }))
            }
            "POST /api/{kind}/{ns}/{name}/discussions/{num}/comment/{event}/edit" => {
                Ask::json(self.comment("edit"), &json!({ "content": "ho" }))
            }
            "POST /api/{kind}/{ns}/{name}/discussions/{num}/comment/{event}/hide" => {
                Ask::get(self.comment("hide"))
            }
            "POST /api/{kind}/{ns}/{name}/discussions/{num}/title" => {
                Ask::json(discussion("/title"), &json!({ "title": "another" }))
            }
            "POST /api/{kind}/{ns}/{name}/discussions/{num}/status" => {
                Ask::json(discussion("/status"), &json!({ "status": "closed", "comment": "done" }))
            }
            "POST /api/{kind}/{ns}/{name}/discussions/{num}/merge" => {
                Ask::json(discussion("/merge"), &json!({ "comment": "thanks" }))
            }
            "DELETE /api/{kind}/{ns}/{name}/discussions/{num}/ref" => Ask::get(discussion("/ref")),
            "GET /api/{kind}/{ns}/{name}/discussions/{num}/storage" => Ask::get(discussion("/storage")),
            "GET /{prefix}/{ns}/{name}/discussions/{num}/files.diff" => {
                Ask::get(format!("/{repo}/discussions/{}/files.diff", self.discussion))
            }
            "POST /api/{kind}/{ns}/{name}/discussions/{num}/pin" => {
                Ask::json(discussion("/pin"), &json!({ "pinned": true }))
            }
            "POST /api/{kind}/{ns}/{name}/discussions/{num}/lock" => {
                Ask::json(discussion("/lock"), &json!({ "locked": true }))
            }
            "GET /api/{kind}/{ns}/{name}/xet-read-token/{*rev}" => Ask::get(api("/xet-read-token/main")),
            "GET /api/{kind}/{ns}/{name}/xet-write-token/{*rev}" => {
                Ask::get(api(&format!("/xet-write-token/main{proposal}")))
            }
            "GET /{prefix}/{ns}/{name}/resolve/{*rest}" | "HEAD /{prefix}/{ns}/{name}/resolve/{*rest}" => {
                Ask::get(format!("/{repo}/resolve/main/weights.bin"))
            }
            "GET /{prefix}/{ns}/{name}/raw/{*rest}" | "HEAD /{prefix}/{ns}/{name}/raw/{*rest}" => {
                Ask::get(format!("/{repo}/raw/main/weights.bin"))
            }
            "POST /{prefix}/{ns}/{name}/info/lfs/objects/batch" => {
                let object = json!({ "oid": sha256(&scene.data), "size": scene.data.len() });
                let body = json!({ "operation": usage, "transfers": ["basic"], "objects": [object] });
                Ask::json(format!("/{repo}.git/info/lfs/objects/batch"), &body)
            }
            "GET /{prefix}/{ns}/{name}/info/refs" => {
                Ask::get(format!("/{repo}/info/refs?service=git-{usage}"))
            }
            "POST /{prefix}/{ns}/{name}/info/lfs/locks" => {
                let uri = format!("/{repo}.git/info/lfs/locks");
                Ask::json(uri, &json!({ "path": format!("by/{number}.bin") }))
            }
            "GET /api/{kind}/{ns}/{name}/lfs-files" => Ask::get(api("/lfs-files")),
            "POST /api/{kind}/{ns}/{name}/lfs-files/batch" => {
                Ask::json(api("/lfs-files/batch"), &json!({ "deletions": { "sha": ["0".repeat(64)] } }))
            }
            "DELETE /api/{kind}/{ns}/{name}/lfs-files/{sha}" => {
                Ask::get(api(&format!("/lfs-files/{}", "0".repeat(64))))
            }
            "POST /api/{kind}/{ns}/{name}/lfs-files/duplicate" => {
                let file = json!({ "sha256": sha256(&scene.data), "filename": "weights.bin" });
                let target = json!({ "type": "model", "name": repo });
                Ask::json(api("/lfs-files/duplicate"), &json!({ "target": target, "files": [file] }))
            }
            "GET /{prefix}/{ns}/{name}/info/lfs/locks" => Ask::get(format!("/{repo}.git/info/lfs/locks")),
            "POST /{prefix}/{ns}/{name}/info/lfs/locks/verify" => {
                Ask::json(format!("/{repo}.git/info/lfs/locks/verify"), &json!({}))
            }
            "POST /{prefix}/{ns}/{name}/info/lfs/locks/{lock}/unlock" => {
                let sql =
                    format!("SELECT COALESCE(MAX(id), 0) FROM lfs_lock WHERE path = 'old/{number}.bin'");
                let lock = RowId::from_i64(scene.hub.count(&sql));
                Ask::json(format!("/{repo}.git/info/lfs/locks/{lock}/unlock"), &json!({ "force": true }))
            }
            // As a client asks that wants to know whether its token is good.
            "POST /{prefix}/{ns}/{name}/git-receive-pack" => {
                Ask { uri: format!("/{repo}/git-receive-pack"), body: b"0000".to_vec(), token: None }
            }
            "POST /{prefix}/{ns}/{name}/git-upload-pack" => Ask {
                uri: format!("/{repo}/git-upload-pack"),
                body: b"0014command=ls-refs\n0000".to_vec(),
                token: None,
            },
            "PUT /lfs/{repo}/upload/{oid}" => self.link("upload", basic(self.caller, self.column, "upload")),
            "PUT /lfs/{repo}/part/{oid}" => {
                self.link("part", parts(self.caller, self.column, "part")[..PART_BYTES].to_vec())
            }
            "POST /lfs/{repo}/complete/{oid}" => {
                let data = parts(self.caller, self.column, "complete");
                self.link("complete", complete_body(&data))
            }
            "POST /lfs/{repo}/verify/{oid}" => self.link("verify", b"{}".to_vec()),
            "GET /lfs/{repo}/download/{oid}" => self.link("download", Vec::new()),
            "GET /xet/{repo}/{epoch}/v1/chunks/{prefix}/{hash}" => {
                self.xet(false, &format!("v1/chunks/default/{chunk}"), &[])
            }
            "GET /xet/{repo}/{epoch}/chunks/{prefix}/{hash}" => {
                self.xet(false, &format!("chunks/default-merkledb/{chunk}"), &[])
            }
            "POST /xet/{repo}/{epoch}/v1/xorbs/{prefix}/{hash}" => {
                self.xet(true, &format!("v1/xorbs/default/{hash}"), &scene.xorb)
            }
            "POST /xet/{repo}/{epoch}/xorbs/{prefix}/{hash}" => {
                self.xet(true, &format!("xorbs/default/{hash}"), &scene.xorb)
            }
            "POST /xet/{repo}/{epoch}/v1/shards" => self.xet(true, "v1/shards", &scene.shard),
            "POST /xet/{repo}/{epoch}/shards" => self.xet(true, "shards", &scene.shard),
            "POST /xet/{repo}/{epoch}/v2/shards" => self.xet(true, "v2/shards", &scene.shard),
            "GET /xet/{repo}/{epoch}/v1/reconstructions/{hash}" => {
                self.xet(false, &format!("v1/reconstructions/{file}"), &[])
            }
            "GET /xet/{repo}/{epoch}/reconstructions/{hash}" => {
                self.xet(false, &format!("reconstructions/{file}"), &[])
            }
            "GET /xet/{repo}/{epoch}/v2/reconstructions/{hash}" => {
                self.xet(false, &format!("v2/reconstructions/{file}"), &[])
            }
            "GET /api/settings/webhooks" => Ask::get("/api/settings/webhooks"),
            "POST /api/settings/webhooks" => Ask::json("/api/settings/webhooks", &webhook(repo)),
            "GET /api/settings/webhooks/{wid}" | "DELETE /api/settings/webhooks/{wid}" => Ask::get(hook("")),
            "POST /api/settings/webhooks/{wid}" => {
                Ask::json(hook(""), &json!({ "url": "https://hooks.example.org/2" }))
            }
            "POST /api/settings/webhooks/{wid}/enable" => Ask::get(hook("/enable")),
            "POST /api/settings/webhooks/{wid}/disable" => Ask::get(hook("/disable")),
            "GET /api/settings/webhooks/{wid}/deliveries" => Ask::get(hook("/deliveries")),
            "GET /api/settings/webhooks/{wid}/deliveries/{log}" => {
                Ask::get(hook(&format!("/deliveries/{}", RepoId::from_i64(1 << 58))))
            }
            "POST /api/settings/webhooks/{wid}/replay/{log}" => {
                Ask::get(hook(&format!("/replay/{}", RepoId::from_i64(1 << 58))))
            }
            "GET /xet/{repo}/{epoch}/fetch/{hash}/{range}" => self.link("fetch", Vec::new()),
            _ => return social::ask(self, route),
        })
    }

    /// What has to be there for the request to find something to do.
    async fn prepare(&mut self, route: &str) {
        if ["/merge", "/ref", "/storage", "/files.diff"]
            .iter()
            .any(|end| route.ends_with(&format!("/discussions/{{num}}{end}")))
        {
            self.open_pull(route.ends_with("/ref")).await;
        } else if route.contains("/discussions/{num}") {
            let own = ["/edit", "/hide", "/title", "/status"].iter().any(|end| route.ends_with(end));
            self.open_discussion(own || route.starts_with("DELETE")).await;
        }
        let admin = &self.scene.clients["admin"];
        let (repo, number) = (&self.repo, self.number);
        match route {
            "DELETE /api/{kind}/{ns}/{name}/branch/{*branch}" => {
                admin.post(&format!("/api/models/{repo}/branch/old{number}"), json!({})).await;
            }
            "GET /api/{kind}/{ns}/{name}/branch-rules/{*branch}"
            | "DELETE /api/{kind}/{ns}/{name}/branch-rules/{*branch}" => {
                admin.put(&format!("/api/models/{repo}/branch-rules/rule{number}"), json!({})).await;
            }
            "POST /api/{kind}/{ns}/{name}/revert/{*rev}" => {
                admin.post(&format!("/api/models/{repo}/branch/undo{number}"), json!({})).await;
                commit_with(
                    admin,
                    repo,
                    &format!("undo{number}"),
                    json!({ "summary": "x" }),
                    &[put("undo", "x")],
                )
                .await;
            }
            "DELETE /api/{kind}/{ns}/{name}/tag/{*rev}" => {
                let tag = json!({ "tag": format!("old{number}") });
                admin.post(&format!("/api/models/{repo}/tag/main"), tag).await;
            }
            "POST /{prefix}/{ns}/{name}/info/lfs/locks/{lock}/unlock" => {
                let path = json!({ "path": format!("old/{number}.bin") });
                admin.post(&format!("/{repo}.git/info/lfs/locks"), path).await;
            }
            // The admin's, whoever asks: it has to be gone for the next.
            _ if route.contains("/api/settings/webhooks/{wid}") => {
                for old in admin.get("/api/settings/webhooks").await.json().as_array().unwrap() {
                    let uri = format!("/api/settings/webhooks/{}", old["id"].as_str().unwrap());
                    admin.delete(&uri, json!({})).await.expect(200);
                }
                let made = admin.post("/api/settings/webhooks", webhook("lab/openone")).await.expect(200);
                self.made = made.json()["webhook"]["id"].as_str().unwrap().to_owned();
            }
            _ => {}
        }
    }

    async fn reply(&self, method: &Method, ask: &Ask) -> Reply {
        let mut client = self.scene.clients[self.caller].clone();
        if let Some(token) = &ask.token {
            client.token = Some(token.clone()).filter(|token| !token.is_empty());
        }
        // The same id for all: answers are compared with each other.
        let kind = match &ask.uri {
            uri if uri.contains("/commit/") => "application/x-ndjson",
            uri if uri.ends_with("/git-upload-pack") => "application/x-git-upload-pack-request",
            uri if uri.ends_with("/git-receive-pack") => "application/x-git-receive-pack-request",
            _ => "application/json",
        };
        let headers = [("content-type", kind), ("x-request-id", "table"), ("git-protocol", "version=2")];
        client.send(method.clone(), &ask.uri, &headers, Body::from(ask.body.clone())).await
    }
}

/// A webhook that watches a model.
fn webhook(repo: &str) -> Value {
    json!({ "url": "https://hooks.example.org/", "watched": [{ "type": "model", "name": repo }] })
}

fn complete_body(data: &[u8]) -> Vec<u8> {
    let part = |(number, part): (usize, &[u8])| json!({ "partNumber": number, "etag": sha256(part) });
    let parts: Vec<Value> = (1..).zip(data.chunks(PART_BYTES)).map(part).collect();
    json!({ "parts": parts }).to_string().into_bytes()
}

/// A route is used in several ways where its body says what it does.
fn usages(route: &str) -> &'static [&'static str] {
    match route {
        "POST /{prefix}/{ns}/{name}/info/lfs/objects/batch" => &["download", "upload"],
        "GET /{prefix}/{ns}/{name}/info/refs" => &["upload-pack", "receive-pack"],
        "POST /api/{kind}/{ns}/{name}/discussions" => &["", "pull request"],
        "POST /api/{kind}/{ns}/{name}/preupload/{*rev}"
        | "POST /api/{kind}/{ns}/{name}/commit/{*rev}"
        | "GET /api/{kind}/{ns}/{name}/xet-write-token/{*rev}" => &["", "create_pr"],
        "GET /api/{kind}/{ns}/{name}/compare/{*spec}" => &["", "?raw=true"],
        "POST /api/{kind}/{ns}/{name}/revert/{*rev}" => &["", "create_pr"],
        "GET /api/{kind}/{ns}/{name}/commit/{*rev}" => &["", "?diff=1"],
        _ => &[""],
    }
}

/// These take the repository away, or make it: each cell has one of its own.
fn needs_fresh(route: &str) -> bool {
    matches!(route, "DELETE /api/repos/delete" | "POST /api/repos/move")
}

/// Status and error code; for lists whether the repository is in it; for streams how they end.
fn shown(route: &str, cell: &Cell, reply: &Reply) -> String {
    let mut text = reply.status.as_u16().to_string();
    let code = reply.header("x-error-code");
    if !code.is_empty() {
        write!(text, " {code}").unwrap();
    }
    if route == "GET /api/models" && reply.status.is_success() {
        let rows = reply.json();
        let mut rows = rows.as_array().unwrap().iter();
        text += if rows.any(|row| row["id"] == cell.repo.as_str()) { " listed" } else { " not listed" };
    }
    if reply.text().contains("\"type\":\"error\"") {
        text += " error event";
    }
    text
}

/// What another repository's name would not change.
fn comparable(cell: &Cell, reply: &Reply) -> (u16, String, String) {
    let name = cell.repo.trim_start_matches("lab/");
    let clean = |text: String| text.replace(name, "NAME").replace(&cell.scene.ids[cell.column], "ID");
    let headers: BTreeMap<String, String> = reply
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    (reply.status.as_u16(), clean(format!("{headers:?}")), clean(reply.text()))
}

/// What this caller must not know of.
fn is_hidden(caller: &str, column: &str) -> bool {
    match column {
        "private" => matches!(caller, "anonymous" | "stranger") || ENDED.contains(&caller),
        "internal" => caller == "anonymous" || ENDED.contains(&caller),
        _ => false,
    }
}

struct Row {
    caller: &'static str,
    cells: Vec<String>,
}

async fn row(scene: &Scene, route: (&Method, &str), usage: &str, caller: usize, first: usize) -> Row {
    let (caller, user) = CALLERS[caller];
    let (method, name) = route;
    let title = if usage.is_empty() { name.to_owned() } else { format!("{name} ({usage})") };
    let (mut cells, mut hidden, mut missing) = (Vec::new(), Vec::new(), None);
    for (place, (column, repo)) in COLUMNS.into_iter().enumerate() {
        let number = first + place;
        let repo = format!("lab/{repo}");
        let collection = social::make(scene, name, (column, &repo), number).await;
        let mut cell = Cell {
            scene,
            caller,
            user,
            column,
            repo,
            number,
            discussion: 1,
            event: String::new(),
            collection,
            made: String::new(),
        };
        let new = name == "POST /api/repos/create" && column == "missing";
        if needs_fresh(name) || new {
            cell.repo = format!("lab/fre{number:04}");
        }
        if needs_fresh(name) && column != "missing" {
            scene.make(column, cell.repo.trim_start_matches("lab/")).await;
        }
        cell.prepare(name).await;
        let ask = cell.ask(name, usage);
        let ask = ask.unwrap_or_else(|| panic!("{name} is not in the table: add a request for it to `ask`"));
        let reply = cell.reply(method, &ask).await;
        check_rules(&title, method, &cell, &reply);
        cells.push(shown(name, &cell, &reply));
        match column {
            "missing" => missing = Some(comparable(&cell, &reply)),
            _ if is_hidden(caller, column) => hidden.push(comparable(&cell, &reply)),
            _ => {}
        }
    }
    for hidden in hidden {
        assert_eq!(Some(hidden), missing, "{title}: {caller} can tell what is hidden from what is missing");
    }
    Row { caller, cells }
}

/// What holds whatever the table says.
fn check_rules(title: &str, method: &Method, cell: &Cell, reply: &Reply) {
    let (caller, column) = (cell.caller, cell.column);
    let done = reply.status.is_success() && !reply.text().contains("\"type\":\"error\"");
    if ENDED.contains(&caller) && !FOR_ANYBODY.contains(&title) {
        assert!(!done, "{title}: done for a {caller} on {column}");
    }
    let writes = *method != Method::GET && *method != Method::HEAD && !NO_WRITES.contains(&title);
    let cannot: &[&str] = if PROPOSALS.contains(&title) { &CANNOT_PROPOSE } else { &CANNOT_WRITE };
    if writes && cannot.contains(&caller) {
        assert!(!done, "{title}: {caller} has written to {column}");
    }
    assert!(!reply.status.is_server_error(), "{title}: {} for {caller} on {column}", reply.status);
}

fn table(rows: &[Row]) -> String {
    let line = |first: &str, cells: Vec<&str>| {
        let cells: String = cells.iter().map(|cell| format!("  {cell:<16}")).collect();
        format!("{first:<13}{cells}").trim_end().to_owned() + "\n"
    };
    let head = line("", COLUMNS.iter().map(|(column, _)| *column).collect());
    let rows = rows.iter().map(|row| line(row.caller, row.cells.iter().map(String::as_str).collect()));
    std::iter::once(head).chain(rows).collect()
}

/// Routes that answer alike share a table.
fn page(tables: Vec<(String, String)>) -> String {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (title, table) in tables {
        match groups.iter_mut().find(|(known, _)| *known == table) {
            Some((_, titles)) => titles.push(title),
            None => groups.push((table, vec![title])),
        }
    }
    let group = |(table, titles): &(String, Vec<String>)| format!("\n{}\n{table}", titles.join("\n"));
    HEAD.to_owned() + &groups.iter().map(group).collect::<String>()
}

#[tokio::test]
async fn every_route_answers_every_caller_as_the_table_says() {
    let scene = Scene::new().await;
    let (mut tables, mut number) = (Vec::new(), 0);
    for route in bastide_api::routes() {
        let name = format!("{} {}", route.method, route.pattern);
        for usage in usages(&name) {
            let mut rows = Vec::new();
            for caller in 0..CALLERS.len() {
                rows.push(row(&scene, (&route.method, &name), usage, caller, number).await);
                number += COLUMNS.len();
            }
            let title = if usage.is_empty() { name.clone() } else { format!("{name} ({usage})") };
            tables.push((title, table(&rows)));
        }
    }
    let text = page(tables);
    if std::env::var_os("BASTIDE_WRITE_DOCS").is_some() {
        std::fs::write(TABLE, &text).unwrap();
    }
    let found = std::fs::read_to_string(TABLE).unwrap_or_default();
    let same = found.lines().zip(text.lines()).take_while(|(found, now)| found == now).count();
    assert!(
        found == text,
        "tests/access.txt is not what the hub answers, from line {}: now '{}'; if that is right, run with \
         BASTIDE_WRITE_DOCS=1",
        same + 1,
        text.lines().nth(same).unwrap_or_default()
    );
    scene.hub.finish().await;
}
