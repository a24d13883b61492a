//! `docs/wire.md` says of every route of the wire whether it is served, refused for good, or not
//! there yet. It is made from `tests/wire.tsv` (priority, section, method, path, state), and these
//! tests keep both true: `BASTIDE_WRITE_DOCS=1` writes the page anew.
//!
//! The state is the router's pattern for what is served, `page` for what `web` serves,
//! `refused: why`, or `later`.

use std::collections::BTreeSet;
use std::fmt::Write;

use axum::body::Body;
use bastide_testkit::TestHub;
use http::Method;

const ROWS: &str = include_str!("../wire.tsv");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/wire.md");
const HEAD: &str = "# The wire

Which routes of the Hugging Face wire this hub serves. Made from the router and the list of what clients call; a test
keeps it true. `{id}` is `namespace/name`, `{T}` is `models`, `datasets` or `spaces`, `{pfx}` is nothing for models.
Addresses in `<>` are those that another answer names. What is under `/v1` and `/v2` is under a repository's own
address, `/xet/{repo}/{epoch}`. A route that is refused or not there yet answers 404 with a JSON body that says so and
no `X-Error-Code`: clients treat it as missing and do not repeat it.

| priority | served | refused | not yet |
|---|---|---|---|
";

/// Addresses that look like those of a repository, and answer that there is none.
const LIKE_REPOSITORIES: [&str; 1] = ["/api/spaces/by-subdomain/{sub}"];

struct Row {
    priority: &'static str,
    section: &'static str,
    method: &'static str,
    path: &'static str,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Served(&'static str),
    Page,
    Refused(&'static str),
    Later,
}

impl State {
    fn parse(text: &'static str) -> Self {
        match text {
            "later" => Self::Later,
            "page" => Self::Page,
            pattern if pattern.starts_with('/') => Self::Served(pattern),
            other => Self::Refused(other.strip_prefix("refused: ").unwrap_or_else(|| panic!("{other}"))),
        }
    }
}

fn rows() -> Vec<Row> {
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [priority, section, method, path, state] = cells[..] else { panic!("five cells: {line}") };
        Row { priority, section, method, path, state: State::parse(state) }
    };
    ROWS.lines().map(row).collect()
}

fn page(rows: &[Row]) -> String {
    let mut text = HEAD.to_owned();
    for (priority, what) in [("P0", "main flows"), ("P1", "everyday"), ("P2", "rare")] {
        let count = |wanted: fn(State) -> bool| {
            rows.iter().filter(|row| row.priority == priority && wanted(row.state)).count()
        };
        let served = count(|state| matches!(state, State::Served(_) | State::Page));
        let (refused, later) =
            (count(|state| matches!(state, State::Refused(_))), count(|state| state == State::Later));
        writeln!(text, "| {priority}, {what} | {served} | {refused} | {later} |").unwrap();
    }
    let mut section = "";
    for row in rows {
        if row.section != section {
            section = row.section;
            write!(text, "\n## {section}\n\n| priority | route | state |\n|---|---|---|\n").unwrap();
        }
        let state = match row.state {
            State::Served(_) | State::Page => "served".to_owned(),
            State::Refused(why) => format!("refused: {why}"),
            State::Later => "not yet".to_owned(),
        };
        let path = row.path.replace('|', "\\|");
        writeln!(text, "| {} | `{} {path}` | {state} |", row.priority, row.method).unwrap();
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
    assert_eq!(found, text, "docs/wire.md is not what tests/wire.tsv says: run with BASTIDE_WRITE_DOCS=1");
}

#[test]
fn what_is_said_to_be_served_is_and_what_is_served_is_said() {
    let rows = rows();
    let ours: BTreeSet<(String, &str)> =
        bastide_api::routes().into_iter().map(|route| (route.method.to_string(), route.pattern)).collect();
    let mut said = BTreeSet::new();
    for row in &rows {
        if let State::Served(pattern) = row.state {
            let route = (row.method.to_owned(), pattern);
            assert!(ours.contains(&route), "tests/wire.tsv says that {} {pattern} is served", row.method);
            said.insert(route);
        }
    }
    let unsaid: Vec<_> = ours.difference(&said).collect();
    assert!(unsaid.is_empty(), "not in tests/wire.tsv: {unsaid:?}");
    let addresses: BTreeSet<_> = rows.iter().map(|row| (row.method, row.path)).collect();
    assert_eq!(addresses.len(), rows.len(), "an address is listed twice");
}

/// One address of a row: optional parts left out, variables filled in.
fn example(path: &str) -> String {
    let path = path.split('[').next().unwrap();
    let path = path.replace("{pfx}", "").replace("{id}", "ann/m").replace("{T}", "models").replace('*', "x");
    let mut text = String::new();
    for (place, part) in path.split('{').enumerate() {
        let rest = if place == 0 { part } else { part.split_once('}').unwrap().1 };
        text += if place == 0 { "" } else { "x" };
        text += rest;
    }
    text
}

#[tokio::test]
async fn what_is_not_served_says_so() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    crate::create(&ann, "model", "m").await.expect(200);
    for row in rows() {
        if matches!(row.state, State::Served(_) | State::Page) || LIKE_REPOSITORIES.contains(&row.path) {
            continue;
        }
        let (method, path) = (Method::from_bytes(row.method.as_bytes()).unwrap(), example(row.path));
        for client in [&ann, &hub.anonymous()] {
            let reply = client.send(method.clone(), &path, &[], Body::empty()).await;
            let what = format!("{method} {path}");
            assert_eq!((reply.status.as_u16(), reply.header("x-error-code")), (404, ""), "{what}");
            if method != Method::HEAD {
                assert_eq!(reply.json()["error"], format!("this hub does not serve {what}"));
            }
        }
    }
    hub.finish().await;
}
