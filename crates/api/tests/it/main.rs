//! The wire as a whole: a hub in a temporary folder, requests through the real router.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod access;
mod attacks;
mod collect;
mod collections;
mod commit;
mod connection;
mod copies;
mod copy;
mod discussions;
mod facts;
mod git_read;
mod history;
mod journal;
mod large;
mod laws;
mod lfs_files;
mod likes;
mod list;
mod locks;
mod making;
mod merged_pulls;
mod profiles;
mod proposal_quota;
mod prune;
mod pulls;
mod push;
mod quota;
mod refs;
mod repos;
mod resolve;
mod revoked;
mod shared;
mod table;
mod taking_back;
mod uploads;
mod visible;
mod webhooks;
mod wire;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bastide_testkit::{Client, Reply};
use http::Method;
use serde_json::{Value, json};

/// Makes a repository of the caller's own.
pub async fn create(client: &Client, kind: &str, name: &str) -> Reply {
    client.post("/api/repos/create", json!({ "name": name, "type": kind })).await
}

/// One operation of a commit.
pub fn put(path: &str, content: impl AsRef<[u8]>) -> Value {
    json!({ "key": "file", "value": { "path": path, "content": STANDARD.encode(content), "encoding": "base64" } })
}

pub fn delete(path: &str) -> Value {
    json!({ "key": "deletedEntry", "value": { "path": path } })
}

/// Sends a commit to `models/{id}`.
pub async fn commit(client: &Client, id: &str, operations: &[Value]) -> Reply {
    commit_with(client, id, "main", json!({ "summary": "a change" }), operations).await
}

pub async fn commit_with(client: &Client, id: &str, rev: &str, header: Value, operations: &[Value]) -> Reply {
    send_commit(client, &format!("models/{id}"), rev, header, operations).await
}

/// Sends a commit to any repository: `datasets/ann/d`.
pub async fn commit_to(client: &Client, repo: &str, operations: &[Value]) -> Reply {
    send_commit(client, repo, "main", json!({ "summary": "a change" }), operations).await
}

async fn send_commit(client: &Client, repo: &str, rev: &str, header: Value, operations: &[Value]) -> Reply {
    let mut body = format!("{}\n", json!({ "key": "header", "value": header }));
    operations.iter().for_each(|operation| body.push_str(&format!("{operation}\n")));
    let uri = format!("/api/{repo}/commit/{rev}");
    client.send(Method::POST, &uri, &[("content-type", "application/x-ndjson")], Body::from(body)).await
}
