//! What goes over the wire besides the answers: connections, addresses, headers for browsers.

use std::time::Duration;

use axum::body::Body;
use bastide_testkit::TestHub;
use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::create;

async fn served(hub: &TestHub) -> TcpStream {
    connected(hub.router.clone()).await
}

async fn connected(router: axum::Router) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    TcpStream::connect(address).await.unwrap()
}

/// Head and body of one answer.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        let mut part = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut part)).await;
        let read = read.unwrap().unwrap_or(0);
        text.extend_from_slice(&part[..read]);
        let found = String::from_utf8_lossy(&text).into_owned();
        let length = found.to_lowercase().split_once("content-length: ").map(|(_, rest)| rest.to_owned());
        let length = length.and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
        let whole =
            found.split_once("\r\n\r\n").zip(length).is_some_and(|((_, body), len)| body.len() >= len);
        if read == 0 || whole {
            return found;
        }
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_does_not_break_the_next_request() {
    let hub = TestHub::open().await;
    for path in ["/no/such/route", "/lfs/x/upload/y", "/api/models/ann/none/preupload/main"] {
        let mut stream = served(&hub).await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: hub.test\r\ncontent-length: 5\r\n\r\n");
        let head = if path.starts_with("/lfs") { head.replace("POST", "PUT") } else { head };
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.write_all(b"12345").await.unwrap();
        let first = answer(&mut stream).await;
        assert!(first.starts_with("HTTP/1.1 4") && !first.contains("connection: close"), "{path}: {first}");
        stream.write_all(b"GET /api/tasks HTTP/1.1\r\nhost: hub.test\r\n\r\n").await.unwrap();
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"), "{path}");
    }
}

#[tokio::test]
async fn a_body_too_long_to_be_thrown_away_ends_the_connection_with_a_word() {
    let hub = TestHub::open().await;
    for more in ["content-length: 70000", "content-length: 10\r\nexpect: 100-continue", "content-length: 10"]
    {
        let mut stream = served(&hub).await;
        let head = format!("POST /no/such/route HTTP/1.1\r\nhost: hub.test\r\n{more}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // Nothing follows: in the last case the hub has waited for a second.
        let first = answer(&mut stream).await;
        assert!(first.starts_with("HTTP/1.1 404") && first.contains("connection: close"), "{more}: {first}");
    }
}

#[tokio::test]
async fn a_body_that_a_handler_reads_arrives_whole() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let parts: Vec<Result<_, std::io::Error>> = [r#"{"name":"#, r#""m"}"#]
        .iter()
        .map(|part| Ok(bytes::Bytes::from_static(part.as_bytes())))
        .collect();
    let body = Body::from_stream(futures_util::stream::iter(parts));
    ann.send(Method::POST, "/api/repos/create", &[], body).await.expect(200);
}

#[tokio::test]
async fn links_name_the_hub_as_its_caller_reached_it_and_never_as_a_stranger_says() {
    let hub = TestHub::with(|config| {
        config.public_url = "http://127.0.0.1:7860".into();
        config.local_port = Some(7860);
    })
    .await;
    let ann = hub.user("ann").await;
    let mut number = 0;
    let mut url = async |host: &str| {
        number += 1;
        let body = Body::from(json!({ "name": format!("m{number}") }).to_string());
        let made = ann.send(Method::POST, "/api/repos/create", &[("host", host)], body).await.expect(200);
        made.json()["url"].as_str().unwrap().rsplit_once("/ann/").unwrap().0.to_owned()
    };
    for host in ["localhost:7860", "LocalHost:7860", "10.1.2.3:7860", "[::1]:7860", "127.0.0.1:7860"] {
        assert_eq!(url(host).await, format!("http://{host}"));
    }
    for host in [
        "evil.example:7860",
        "localhost:80",
        "localhost",
        "localhost.evil.example:7860",
        "127.0.0.1.evil.example:7860",
        "user@localhost:7860",
        "[::1]evil:7860",
        "localhost:7860:7860",
        "",
    ] {
        assert_eq!(url(host).await, "http://127.0.0.1:7860", "{host}");
    }
    // Every link of one answer agrees.
    let at = [("host", "localhost:7860")];
    let token = ann.get_with("/api/models/ann/m1/xet-write-token/main", &at).await.expect(200).json();
    assert!(token["casUrl"].as_str().unwrap().starts_with("http://localhost:7860/xet/"), "{token}");
    let page = ann.get_with("/api/models?limit=1", &at).await.expect(200);
    assert!(page.header("link").starts_with("<http://localhost:7860/api/models"), "{}", page.header("link"));
    let body = json!({ "operation": "upload", "transfers": ["basic"],
        "objects": [{ "oid": "0".repeat(64), "size": 1 }] });
    let batch = ann
        .send(Method::POST, "/ann/m1.git/info/lfs/objects/batch", &at, Body::from(body.to_string()))
        .await
        .expect(200)
        .json();
    let href = batch["objects"][0]["actions"]["upload"]["href"].as_str().unwrap();
    assert!(href.starts_with("http://localhost:7860/lfs/"), "{href}");
}

#[tokio::test]
async fn a_hub_with_a_public_url_ignores_what_host_is_named() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let body = Body::from(json!({ "name": "m" }).to_string());
    let made = ann.send(Method::POST, "/api/repos/create", &[("host", "localhost:7860")], body).await;
    assert_eq!(made.json()["url"], "http://hub.test/ann/m");
}

#[tokio::test]
async fn browsers_may_ask_first_and_are_told_what_they_may_read() {
    let hub = TestHub::open().await;
    let anyone = hub.anonymous();
    let asks = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization"),
    ];
    let preflight = anyone.send(Method::OPTIONS, "/api/repos/create", &asks, Body::empty()).await.expect(204);
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
    assert!(preflight.header("access-control-allow-headers").contains("Authorization"));
    assert!(preflight.header("access-control-allow-methods").contains("DELETE"));
    let answer = anyone.get_with("/api/models", &asks[..1]).await.expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    // Nothing that a browser would add by itself counts.
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    assert!(answer.header("access-control-expose-headers").contains("X-Repo-Commit"));
    anyone.send(Method::OPTIONS, "/api/repos/create", &[], Body::empty()).await.expect(404);
}

#[tokio::test]
async fn a_request_has_an_id_of_ours_in_the_books_and_its_own_in_the_answer() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let long = "x".repeat(500);
    for given in ["mine", long.as_str()] {
        let body = Body::from(json!({ "name": format!("m{}", given.len()) }).to_string());
        let made = ann.send(Method::POST, "/api/repos/create", &[("x-request-id", given)], body).await;
        assert_eq!(made.expect(200).header("x-request-id"), given);
    }
    let lines = hub.hub.export_events(&hub.operator(), 0..i64::MAX).await.unwrap();
    let ids: Vec<String> = lines
        .iter()
        .map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap())
        .filter(|event| event["action"] == "repo.create")
        .map(|event| event["request_id"].as_str().unwrap().to_owned())
        .collect();
    assert!(ids[0].ends_with(";mine") && ids[0].len() > 20, "{ids:?}");
    assert!(ids[1].ends_with("xxx") && ids[1].len() < 200 && !ids[1].starts_with('x'), "{ids:?}");
}

#[tokio::test]
async fn answers_say_that_json_is_utf_8_and_tasks_are_listed() {
    let hub = TestHub::open().await;
    let tasks = hub.anonymous().get("/api/tasks").await.expect(200);
    assert_eq!(tasks.header("content-type"), "application/json; charset=utf-8");
    assert_eq!(tasks.json()["text-generation"]["label"], "Text Generation");
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let card = crate::put("README.md", "---\nlicense: x\n---\n");
    let refused = crate::commit(&ann, "ann/m", &[card]).await.expect(400);
    assert!(refused.header("x-error-message").contains("README.md. - Error:"), "{:?}", refused.headers);
}

#[tokio::test]
async fn pages_beside_the_wire_have_a_request_id_too() {
    let hub = TestHub::open().await;
    let pages = axum::Router::new().route("/", axum::routing::get(|| async { "a page" }));
    let mut stream = connected(bastide_api::router_with(hub.hub.clone(), pages)).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: hub.test\r\n\r\n").await.unwrap();
    let page = answer(&mut stream).await;
    assert!(page.contains("x-request-id: ") && !page.contains("access-control"), "{page}");
}
