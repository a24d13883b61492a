//! Files: `resolve` with ranges and exact headers, and `raw`, which is git's own view.

use std::ops::Range;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bastide_hub::access::{Access, Read, Repo, See, Seen};
use bastide_hub::content::{CARD, Content, FileFacts, LargeFacts, slice};
use bastide_hub::reads::Delivery;
use bastide_hub::{Hub, Problem};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::answer::{Answer, X_REPO_COMMIT, header_text};
use crate::conditions;
use crate::extract::{Caller, Query, RepoRoute};
use crate::guard::guarded;
use crate::routes::Routes;

const X_LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const X_LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
const X_XET_HASH: HeaderName = HeaderName::from_static("x-xet-hash");
/// Who accepts this asks where the chunks of a file are, and not for its bytes.
const XET_INFO: &str = "application/vnd.xet-fileinfo+json";

pub fn routes(routes: Routes) -> Routes {
    routes
        .files(Method::GET, "/{prefix}/{ns}/{name}/resolve/{*rest}", resolve)
        .files(Method::HEAD, "/{prefix}/{ns}/{name}/resolve/{*rest}", resolve)
        .files(Method::GET, "/{prefix}/{ns}/{name}/raw/{*rest}", raw)
        .files(Method::HEAD, "/{prefix}/{ns}/{name}/raw/{*rest}", raw)
}

/// A request for a file.
struct Wanted {
    method: Method,
    headers: HeaderMap,
    download: bool,
    raw: bool,
}

async fn resolve(
    hub: State<Hub>,
    caller: Caller,
    route: RepoRoute,
    query: Query,
    method: Method,
    headers: HeaderMap,
) -> Answer<Response> {
    let wanted = Wanted { method, headers, download: query.flag("download"), raw: false };
    serve(hub.0, caller, route, wanted).await
}

async fn raw(
    hub: State<Hub>,
    caller: Caller,
    route: RepoRoute,
    query: Query,
    method: Method,
    headers: HeaderMap,
) -> Answer<Response> {
    let wanted = Wanted { method, headers, download: query.flag("download"), raw: true };
    serve(hub.0, caller, route, wanted).await
}

async fn serve(hub: Hub, caller: Caller, route: RepoRoute, wanted: Wanted) -> Answer<Response> {
    // What is missing is told to everybody who may see the repository, contents are not.
    let seen = caller.seen(&hub, &route.path).await?;
    let (commit, path) = hub.resolve_tail(&seen.see(), &route.tail).await?;
    let access = match seen {
        Seen::Open(access) => access,
        Seen::Gated(access) => {
            if path.as_ref().is_some_and(|path| path.as_str() == CARD)
                && let Some((facts, bytes)) = hub.card_file(&access, commit).await?
            {
                return card(&hub, &caller, &access, (&facts, &bytes), &wanted);
            }
            caller.repo::<Read>(&hub, &route.path).await?
        }
    };
    let facts = hub.file_facts(&access, commit, path, wanted.raw).await?;
    if conditions::has_copy(&wanted.headers, &facts.etag()) {
        return Ok(unchanged(&hub, &caller, access.repo(), &facts, &wanted));
    }
    if wanted.wants_xet_info()
        && let Some(large) = facts.large
    {
        return Ok(xet_info(&hub, &caller, access.repo(), (&facts, large)));
    }
    let range = wanted.range(&facts)?;
    let body = match wanted.method {
        Method::HEAD => Body::empty(),
        _ => open(&hub, &caller, &access, &facts, range.clone(), &wanted).await?,
    };
    Ok(file_response(&hub, &caller, access.repo(), (&facts, body), range, &wanted))
}

/// The card of a gated repository, for those who may only see it.
fn card(
    hub: &Hub,
    caller: &Caller,
    access: &Access<See>,
    (facts, bytes): (&FileFacts, &Bytes),
    wanted: &Wanted,
) -> Answer<Response> {
    if conditions::has_copy(&wanted.headers, &facts.etag()) {
        return Ok(unchanged(hub, caller, access.repo(), facts, wanted));
    }
    let range = wanted.range(facts)?;
    let part = range.clone().unwrap_or(0..facts.size);
    let body = match wanted.method {
        Method::HEAD => Body::empty(),
        _ => {
            hub.record_read(&caller.context, access, delivery(facts, &part, wanted))?;
            Body::from(slice(bytes, part))
        }
    };
    Ok(file_response(hub, caller, access.repo(), (facts, body), range, wanted))
}

impl Wanted {
    fn range(&self, facts: &FileFacts) -> Result<Option<Range<u64>>, Problem> {
        conditions::range(&self.method, &self.headers, &facts.etag(), facts.size)
    }

    fn wants_xet_info(&self) -> bool {
        let accept = self.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let types =
            accept.unwrap_or_default().split(',').map(|one| one.split(';').next().unwrap_or_default());
        self.method == Method::GET && !self.raw && types.into_iter().any(|one| one.trim() == XET_INFO)
    }
}

fn delivery(facts: &FileFacts, range: &Range<u64>, wanted: &Wanted) -> Delivery {
    Delivery {
        via: if wanted.raw { "raw" } else { "resolve" },
        commit: Some(facts.commit),
        path: Some(facts.path.to_string()),
        object: facts.etag(),
        bytes: range.end - range.start,
    }
}

/// The client has the content: the headers alone.
fn unchanged(hub: &Hub, caller: &Caller, repo: &Repo, facts: &FileFacts, wanted: &Wanted) -> Response {
    let mut response = file_response(hub, caller, repo, (facts, Body::empty()), None, wanted);
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response
}

/// The bytes, after their delivery was recorded.
async fn open(
    hub: &Hub,
    caller: &Caller,
    access: &Access<Read>,
    facts: &FileFacts,
    range: Option<Range<u64>>,
    wanted: &Wanted,
) -> Answer<Body> {
    let range = range.unwrap_or(0..facts.size);
    hub.record_read(&caller.context, access, delivery(facts, &range, wanted))?;
    let body = match hub.open_content(access, facts, range).await? {
        Content::Whole(bytes) => Body::from(bytes),
        Content::Large(stream) => guarded(hub, &caller.context, access, Body::from_stream(stream)),
    };
    Ok(body)
}

fn file_response(
    hub: &Hub,
    caller: &Caller,
    repo: &Repo,
    (facts, body): (&FileFacts, Body),
    range: Option<Range<u64>>,
    wanted: &Wanted,
) -> Response {
    let mut response = body.into_response();
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    file_headers(facts, range, wanted, response.headers_mut());
    if let Some(large) = facts.large {
        large_headers(hub, caller, repo, (facts, large), response.headers_mut());
    }
    response
}

/// One range of bytes, half open. Several ranges, and what is no range of bytes, are answered
/// with the whole file, as RFC 9110 allows.
pub fn parse_range(text: &str, size: u64) -> Result<Option<Range<u64>>, Problem> {
    let Some(spec) = text.trim().strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else {
        return Ok(None);
    };
    let Some((first, last)) = spec.split_once('-') else { return Ok(None) };
    let outside = || Problem::Range { size };
    let number = |text: &str| text.trim().parse::<u64>();
    let range = match (number(first), number(last)) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..size,
        (Err(_), Ok(0)) if first.trim().is_empty() => return Err(outside()),
        (Err(_), Ok(count)) if first.trim().is_empty() => size.saturating_sub(count)..size,
        _ => return Ok(None),
    };
    if range.start >= size { Err(outside()) } else { Ok(Some(range)) }
}

fn file_headers(facts: &FileFacts, range: Option<Range<u64>>, wanted: &Wanted, headers: &mut HeaderMap) {
    let etag = header_text(&format!("\"{}\"", facts.etag()));
    headers.insert(X_REPO_COMMIT, header_text(&facts.commit.to_string()));
    headers.insert(header::ETAG, etag);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, content_type(facts));
    headers.insert(header::CONTENT_DISPOSITION, disposition(facts.path.file_name(), wanted.download));
    // What people upload is never a page of ours: no scripts, no frames, no guessing of types.
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    let len = range.as_ref().map_or(facts.size, |range| range.end - range.start);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    if let Some(range) = range {
        let text = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), facts.size);
        headers.insert(header::CONTENT_RANGE, header_text(&text));
    }
}

/// Where a client gets a token for the store of a file, and its plan there.
struct XetLinks {
    token: String,
    info: String,
}

impl XetLinks {
    fn new(hub: &Hub, caller: &Caller, repo: &Repo, (facts, large): (&FileFacts, LargeFacts)) -> Self {
        let base = hub.url(&caller.context);
        let (kind, id) = (repo.path.kind.plural(), repo.path.id());
        let store = hub.cas_url(&caller.context, repo.id, repo.epoch);
        Self {
            token: format!("{base}/api/{kind}/{id}/xet-read-token/{}", facts.commit),
            info: format!("{store}/v1/reconstructions/{}", large.xet_hash),
        }
    }
}

/// Where a client finds the content in chunks.
fn large_headers(
    hub: &Hub,
    caller: &Caller,
    repo: &Repo,
    (facts, large): (&FileFacts, LargeFacts),
    headers: &mut HeaderMap,
) {
    let XetLinks { token, info } = XetLinks::new(hub, caller, repo, (facts, large));
    let link = format!("<{token}>; rel=\"xet-auth\", <{info}>; rel=\"xet-reconstruction-info\"");
    headers.insert(X_LINKED_ETAG, header_text(&format!("\"{}\"", facts.etag())));
    headers.insert(X_LINKED_SIZE, HeaderValue::from(facts.size));
    headers.insert(X_XET_HASH, header_text(&large.xet_hash.to_string()));
    headers.insert(header::LINK, header_text(&link));
}

/// Where the content is in chunks, and no byte of it.
fn xet_info(hub: &Hub, caller: &Caller, repo: &Repo, (facts, large): (&FileFacts, LargeFacts)) -> Response {
    let links = XetLinks::new(hub, caller, repo, (facts, large));
    let body = serde_json::json!({
        "hash": large.xet_hash.to_string(),
        "size": facts.size,
        "etag": facts.etag(),
        "refreshUrl": links.token,
        "reconstructionUrl": links.info,
    });
    let mut response = body.to_string().into_response();
    let headers = response.headers_mut();
    headers.insert(X_REPO_COMMIT, header_text(&facts.commit.to_string()));
    headers.insert(header::ETAG, header_text(&format!("\"{}\"", facts.etag())));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(XET_INFO));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    large_headers(hub, caller, repo, (facts, large), headers);
    response
}

/// Text is shown, everything else is saved; nothing is ever HTML.
fn content_type(facts: &FileFacts) -> HeaderValue {
    const TEXT: &[&str] = &[
        "cfg",
        "csv",
        "gitattributes",
        "gitignore",
        "html",
        "js",
        "json",
        "jsonl",
        "md",
        "py",
        "rs",
        "sh",
        "toml",
        "tsv",
        "txt",
        "xml",
        "yaml",
        "yml",
        "css",
        "ini",
        "log",
        "rst",
        "svg",
    ];
    let ending = facts.path.file_name().rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    if facts.large.is_none() && TEXT.contains(&ending.as_str()) {
        return HeaderValue::from_static("text/plain; charset=utf-8");
    }
    HeaderValue::from_static("application/octet-stream")
}

/// RFC 6266: a plain name for old clients and the real one, encoded.
fn disposition(name: &str, download: bool) -> HeaderValue {
    let kind = if download { "attachment" } else { "inline" };
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\') { c } else { '_' })
        .collect();
    let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC);
    header_text(&format!("{kind}; filename*=UTF-8''{encoded}; filename=\"{plain}\";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let good = |text| parse_range(text, 10).unwrap();
        assert_eq!(good("bytes=0-0"), Some(0..1));
        assert_eq!(good("bytes=2-"), Some(2..10));
        assert_eq!(good("bytes=-3"), Some(7..10));
        assert_eq!(good("bytes=-30"), Some(0..10));
        assert_eq!(good("bytes=8-100"), Some(8..10));
        for whole in ["bytes=0-1,3-4", "items=0-1", "bytes=x-y", "bytes=5-2", "bytes=-", "bytes"] {
            assert_eq!(good(whole), None, "{whole}");
        }
        for outside in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=18446744073709551615-"] {
            assert!(matches!(parse_range(outside, 10), Err(Problem::Range { size: 10 })), "{outside}");
        }
        assert!(parse_range("bytes=0-0", 0).is_err());
    }

    #[test]
    fn names_cannot_break_out_of_their_header() {
        let value = disposition("a\"b\\c\u{7f}ü 🤗.bin", true);
        assert_eq!(
            value.to_str().unwrap(),
            "attachment; filename*=UTF-8''a%22b%5Cc%7F%C3%BC%20%F0%9F%A4%97%2Ebin; filename=\"a_b_c____.bin\";"
        );
    }
}
