//! Law 4 for requests that last: whoever loses a credential or a right while a request is under way
//! has lost it for the rest of that request, too.

use std::time::Duration;

use axum::body::Body;
use bastide_core::Role;
use bastide_hub::access::Admin;
use bastide_testkit::{Client, TestHub};
use bytes::Bytes;
use futures_util::StreamExt;
use http::Method;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::uploads::{batch, lfs_line, local, put_bytes};
use crate::{commit, create, put};

/// A request whose body has begun and waits for its second half.
struct Open {
    rest: mpsc::Sender<Bytes>,
    answer: JoinHandle<u16>,
}

impl Open {
    async fn begin(client: &Client, method: Method, uri: &str, start: &[u8]) -> Self {
        let (rest, mut parts) = mpsc::channel::<Bytes>(1);
        let stream = futures_util::stream::poll_fn(move |cx| parts.poll_recv(cx));
        let body = Body::from_stream(stream.map(Ok::<_, std::io::Error>));
        let (client, uri) = (client.clone(), uri.to_owned());
        let headers = [("content-type", "application/x-ndjson")];
        let answer =
            tokio::spawn(async move { client.send(method, &uri, &headers, body).await.status.as_u16() });
        rest.send(Bytes::copy_from_slice(start)).await.unwrap();
        // The channel has room for one: when it is empty again, the handler is reading.
        while rest.capacity() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Self { rest, answer }
    }

    async fn end(self, rest: &[u8]) -> u16 {
        self.rest.send(Bytes::copy_from_slice(rest)).await.unwrap();
        drop(self.rest);
        self.answer.await.unwrap()
    }

    async fn commit(client: &Client, id: &str) -> Self {
        let header = json!({ "key": "header", "value": { "summary": "slow" } }).to_string() + "\n";
        Self::begin(client, Method::POST, &format!("/api/models/{id}/commit/main"), header.as_bytes()).await
    }

    async fn end_commit(self) -> u16 {
        self.end((put("late", "x").to_string() + "\n").as_bytes()).await
    }
}

async fn revoke_all(hub: &TestHub, user: &str) {
    let operator = hub.operator();
    let owner = hub.hub.access(&operator).namespace::<Admin>(&user.parse().unwrap()).await.unwrap();
    for token in hub.hub.list_tokens(&owner).await.unwrap() {
        hub.hub.revoke_token(&operator, &owner, token.id).await.unwrap();
    }
}

async fn set_role(hub: &TestHub, role: Option<Role>) {
    let operator = hub.operator();
    let lab = hub.hub.access(&operator).namespace::<Admin>(&"lab".parse().unwrap()).await.unwrap();
    hub.hub.set_member(&operator, &lab, &"bob".parse().unwrap(), role).await.unwrap();
}

#[tokio::test]
async fn a_commit_under_way_ends_with_its_token() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let open = Open::commit(&ann, "ann/m").await;
    revoke_all(&hub, "ann").await;
    assert_eq!(open.end_commit().await, 401);
    hub.anonymous().get("/ann/m/resolve/main/late").await.expect(404);
    hub.finish().await;
}

#[tokio::test]
async fn a_comment_under_way_ends_with_its_token_and_with_the_right_to_read() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    let api = "/api/models/ann/m/discussions";
    ann.post(api, json!({ "title": "title" })).await.expect(200);
    let begin =
        async || Open::begin(&bob, Method::POST, &format!("{api}/1/comment"), b"{\"comment\":\"la").await;
    let hidden = begin().await;
    ann.put("/api/models/ann/m/settings", json!({ "visibility": "private" })).await.expect(200);
    assert_eq!(hidden.end(b"te\"}").await, 404);
    ann.put("/api/models/ann/m/settings", json!({ "visibility": "public" })).await.expect(200);
    let revoked = begin().await;
    revoke_all(&hub, "bob").await;
    assert_eq!(revoked.end(b"te\"}").await, 401);
    assert_eq!(ann.get(&format!("{api}/1")).await.json()["numComments"], 1);
    hub.finish().await;
}

#[tokio::test]
async fn a_commit_under_way_ends_with_its_user() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let open = Open::commit(&ann, "ann/m").await;
    let operator = hub.operator();
    let user = hub.hub.access(&operator).namespace::<Admin>(&"ann".parse().unwrap()).await.unwrap();
    hub.hub.disable_user(&operator, &user).await.unwrap();
    assert_eq!(open.end_commit().await, 401);
    hub.finish().await;
}

#[tokio::test]
async fn a_commit_under_way_ends_with_the_membership() {
    let hub = TestHub::new().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    hub.org("lab", "ann", &[("bob", Role::Write)]).await;
    let body = json!({ "name": "m", "organization": "lab", "type": "model", "private": true });
    ann.post("/api/repos/create", body).await.expect(200);
    let open = Open::commit(&bob, "lab/m").await;
    set_role(&hub, Some(Role::Read)).await;
    assert_eq!(open.end_commit().await, 403, "reading is not writing");
    set_role(&hub, Some(Role::Write)).await;
    let open = Open::commit(&bob, "lab/m").await;
    set_role(&hub, None).await;
    assert_eq!(open.end_commit().await, 404, "what may not be seen does not exist");
    hub.finish().await;
}

#[tokio::test]
async fn a_commit_under_way_ends_with_its_repository() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let open = Open::commit(&ann, "ann/m").await;
    ann.delete("/api/repos/delete", json!({ "name": "m", "type": "model" })).await.expect(200);
    assert_eq!(open.end_commit().await, 404);
    hub.finish().await;
}

#[tokio::test]
async fn an_upload_under_way_ends_with_its_token() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let data = vec![7; 300_000];
    let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), &data).await.json();
    let href = local(&answer["objects"][0]["actions"]["upload"]["href"]);
    let open = Open::begin(&ann, Method::PUT, &href, &data[..200_000]).await;
    revoke_all(&hub, "ann").await;
    assert_eq!(open.end(&data[200_000..]).await, 401);
    let again = hub.token("ann", bastide_core::TokenRole::Write).await;
    commit(&again, "ann/m", &[lfs_line("x.bin", &data)]).await.expect(400);
    hub.finish().await;
}

#[tokio::test]
async fn a_download_under_way_ends_with_its_token() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let data: Vec<u8> = (0..40_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), &data).await.json();
    put_bytes(&ann, &local(&answer["objects"][0]["actions"]["upload"]["href"]), &data).await.expect(200);
    commit(&ann, "ann/m", &[lfs_line("x.bin", &data)]).await.expect(200);
    let mut body = ann.open("/ann/m/resolve/main/x.bin").await.into_data_stream();
    let mut got = body.next().await.unwrap().unwrap().len();
    revoke_all(&hub, "ann").await;
    // Longer than a reader is believed.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut cut = false;
    while let Some(part) = body.next().await {
        match part {
            Ok(part) => got += part.len(),
            Err(_) => cut = true,
        }
    }
    assert!(cut && got < 4_000_000, "{got} bytes came, cut: {cut}");
    hub.finish().await;
}
