//! `docs/wire.md` says of every route of the wire whether it is served. It is made from the
//! router's own table and the list of what clients call (`tests/wire.tsv`: priority, section,
//! method, path), and this test keeps it true: `BASTIDE_WRITE_DOCS=1` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write;

use bastide_testkit::TestHub;
use http::Method;

const ROWS: &str = include_str!("../wire.tsv");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/wire.md");

/// A path without the names of its variables, in which our table and the list agree.
fn shape(path: &str) -> String {
    let path = path.split('[').next().unwrap_or(path).replace(".git/", "/");
    let path = path.replace("{pfx}{id}", "{prefix}/{id}").replace("{id}", "{ns}/{name}");
    let path = ["models", "datasets", "spaces"]
        .iter()
        .fold(path, |path, kind| path.replace(&format!("/api/{kind}/{{ns}}"), "/api/{kind}/{ns}"));
    let path = if path.starts_with("/v1/") || path.starts_with("/v2/") {
        format!("/xet/{{repo}}/{{epoch}}{}", path.replace("/default/", "/{prefix}/"))
    } else {
        path
    };
    let path = path.replace("/{rev}/{path}", "/{rest}");
    let part = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

struct Row {
    priority: &'static str,
    section: &'static str,
    method: &'static str,
    path: &'static str,
    served: bool,
}

fn rows() -> Vec<Row> {
    let ours: BTreeSet<(String, String)> =
        bastide_api::routes().iter().map(|route| (route.method.to_string(), shape(route.pattern))).collect();
    let row = |line: &'static str| {
        let mut cells = line.split('\t');
        let mut next = || cells.next().unwrap();
        let (priority, section, method, path) = (next(), next(), next(), next());
        let wanted = (method.to_owned(), shape(path));
        // Telemetry goes to the root whatever the store's address is.
        let root = (method.to_owned(), path.to_owned());
        let at_root = bastide_api::routes()
            .iter()
            .any(|route| (route.method.to_string(), route.pattern.to_owned()) == root);
        Row { priority, section, method, path, served: ours.contains(&wanted) || at_root || path == "/" }
    };
    ROWS.lines().map(row).collect()
}

fn page(rows: &[Row]) -> String {
    let count = |priority: &str, served: bool| {
        rows.iter().filter(|row| row.priority == priority && (row.served || !served)).count()
    };
    let mut text = "# The wire\n\n\
        Which routes of the Hugging Face wire this hub serves. Made from the router and the list of what clients\n\
        call; a test keeps it true. `{id}` is `namespace/name`, `{T}` is `models`, `datasets` or `spaces`, `{pfx}` is\n\
        nothing for models. A route that is not served answers 404 with a JSON body that says so and no\n\
        `X-Error-Code`: clients treat it as missing and do not repeat it.\n\n\
        | priority | served | of |\n|---|---|---|\n"
        .to_owned();
    for (priority, what) in [("P0", "main flows"), ("P1", "everyday"), ("P2", "rare")] {
        writeln!(text, "| {priority}, {what} | {} | {} |", count(priority, true), count(priority, false))
            .unwrap();
    }
    let mut section = "";
    for row in rows {
        if row.section != section {
            section = row.section;
            write!(text, "\n## {section}\n\n| priority | route | state |\n|---|---|---|\n").unwrap();
        }
        let state = if row.served { "served" } else { "not yet: 404" };
        writeln!(text, "| {} | `{} {}` | {state} |", row.priority, row.method, row.path).unwrap();
    }
    text
}

#[test]
fn the_page_tells_the_truth() {
    let text = page(&rows());
    if std::env::var_os("BASTIDE_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &text).unwrap();
    }
    let found = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert_eq!(found, text, "docs/wire.md is not what the router serves: run with BASTIDE_WRITE_DOCS=1");
}

#[tokio::test]
async fn what_is_not_served_says_so() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    crate::create(&ann, "model", "m").await.expect(200);
    for row in rows().iter().filter(|row| !row.served) {
        let path = row
            .path
            .split('[')
            .next()
            .unwrap()
            .replace("{pfx}", "")
            .replace("{id}", "ann/m")
            .replace("{T}", "models");
        let path = path
            .split('/')
            .map(|part| if part.starts_with('{') { "x" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        let method = Method::from_bytes(row.method.as_bytes()).unwrap();
        let reply = ann.send(method, &path, &[], axum::body::Body::empty()).await;
        // 405 where another method of the same address is served.
        assert!(matches!(reply.status.as_u16(), 404 | 405 | 400), "{} {path}: {}", row.method, reply.status);
    }
    hub.finish().await;
}
