//! From bytes to types that cannot be wrong: who asks, which repository, which revision and path.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bastide_core::limits::MAX_JSON_BYTES;
use bastide_core::{RepoKind, RepoPath};
use bastide_hub::Context;
use bastide_hub::access::{Access, Level, Seen};
use bastide_hub::uploads::{Purpose, Uploader};
use bastide_hub::{Hub, Origin, Problem};
use futures_util::StreamExt;
use http::{HeaderMap, Method, header};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::answer::{Answer, Failure};
use crate::buffer::Buffered;
use crate::middleware::{HubUrl, RequestId};

/// Longest user agent that is kept.
const MAX_USER_AGENT: usize = 512;

/// Who asks, and whether a redirect would reach them.
pub struct Caller {
    pub context: Context,
    follows_redirects: bool,
}

impl Caller {
    /// A permit for a repository. Reading under another name or spelling is redirected there;
    /// writing simply works, since a body cannot be counted on to be sent twice.
    pub async fn repo<L: Level>(&self, hub: &Hub, path: &RepoPath) -> Answer<Access<L>> {
        let access = hub.access(&self.context).repo::<L>(path).await?;
        let now = &access.repo().path;
        if self.follows_redirects && !now.same_spelling(path) {
            return Err(Failure::Moved(Box::new((path.clone(), now.clone()))));
        }
        Ok(access)
    }

    /// The right by which the caller may bring content to a repository for a purpose.
    pub async fn uploader(&self, hub: &Hub, path: &RepoPath, purpose: Purpose) -> Answer<Uploader> {
        let by = hub.access(&self.context).uploader(path, purpose).await?;
        let now = &by.repo().path;
        if self.follows_redirects && !now.same_spelling(path) {
            return Err(Failure::Moved(Box::new((path.clone(), now.clone()))));
        }
        Ok(by)
    }

    /// A permit to look at a repository: to read it, or at least to see it.
    pub async fn seen(&self, hub: &Hub, path: &RepoPath) -> Answer<Seen> {
        let seen = hub.access(&self.context).seen(path).await?;
        let now = seen.see().repo().path.clone();
        if self.follows_redirects && !now.same_spelling(path) {
            return Err(Failure::Moved(Box::new((path.clone(), now))));
        }
        Ok(seen)
    }
}

impl FromRequestParts<Hub> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Answer<Self> {
        let token = shown_token(&parts.headers)?;
        let context = hub.authenticate(token.as_deref(), origin(parts)).await?;
        let follows_redirects = matches!(parts.method, Method::GET | Method::HEAD);
        Ok(Self { context, follows_redirects })
    }
}

/// Where a request came from.
pub fn origin(parts: &Parts) -> Origin {
    let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    Origin {
        request_id: parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
        hub_url: parts.extensions.get::<HubUrl>().map(|url| url.0.clone()),
        address: address(parts),
        user_agent: user_agent.map(|text| text.chars().take(MAX_USER_AGENT).collect()),
    }
}

/// The client's address, as `client_address` has found it out.
fn address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
}

/// The token of `Authorization`: `Bearer`, or the password of `Basic` as git sends it.
pub fn shown_token(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let value = value.to_str().map_err(|_| Problem::BadToken)?;
    let (scheme, rest) = value.split_once(' ').ok_or(Problem::BadToken)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(rest.trim().to_owned()));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        return basic_password(rest).map(Some).ok_or(Problem::BadToken);
    }
    Err(Problem::BadToken)
}

fn basic_password(encoded: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (_, password) = text.split_once(':')?;
    Some(password.to_owned())
}

/// The repository that an address names, and the segments after its verb, decoded one by one:
/// `/api/models/a/b/tree/refs%2Fpr%2F1/x/y` has the tail `["refs/pr/1", "x", "y"]`.
#[derive(Debug)]
pub struct RepoRoute {
    pub path: RepoPath,
    pub tail: Vec<String>,
}

impl RepoRoute {
    /// The only segment of the tail: routes like `/branch/{name}`, where a slash may be raw.
    pub fn joined_tail(&self) -> String {
        self.tail.join("/")
    }

    fn parse(uri_path: &str, anonymous: bool) -> Result<Self, Problem> {
        let mut segments = uri_path.split('/').skip(1).peekable();
        let api = segments.next_if_eq(&"api").is_some();
        let kind = segments.peek().and_then(|segment| RepoKind::from_plural(segment));
        // Models have no prefix outside of /api.
        let kind = match (api, kind) {
            (true, Some(kind)) => kind,
            (false, Some(kind)) if kind != RepoKind::Model => kind,
            (false, _) => RepoKind::Model,
            (true, None) => return Err(Problem::NotFound("no such address".into())),
        };
        if api || kind != RepoKind::Model {
            segments.next();
        }
        let mut next = || segments.next().map(decode).transpose();
        let (namespace, name) = (next()?.unwrap_or_default(), next()?.unwrap_or_default());
        let name = name.strip_suffix(".git").unwrap_or(&name);
        // A name that cannot be is a repository that is not there, not bad input.
        let path = RepoPath::parse(kind, &format!("{namespace}/{name}"))
            .map_err(|_| Problem::RepoNotFound { anonymous })?;
        // The verb itself is not part of the tail.
        let tail = segments.skip(1).map(decode).collect::<Result<_, _>>()?;
        Ok(Self { path, tail })
    }
}

fn decode(segment: &str) -> Result<String, Problem> {
    let text = percent_decode_str(segment).decode_utf8();
    Ok(text.map_err(|_| Problem::Invalid("the address is not valid UTF-8".into()))?.into_owned())
}

impl<S: Sync> FromRequestParts<S> for RepoRoute {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        // A credential that is shown has been checked before: `Caller` comes first.
        let anonymous = !parts.headers.contains_key(header::AUTHORIZATION);
        Ok(Self::parse(parts.uri.path(), anonymous)?)
    }
}

/// A JSON body, whatever type the client says it has, up to `MAX_JSON_BYTES`. An empty body is
/// `{}`: several clients send none where every field is optional.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Hub> for JsonBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &Hub) -> Answer<Self> {
        let bytes = body_bytes(request, MAX_JSON_BYTES).await?;
        let text = if bytes.is_empty() { b"{}" } else { &*bytes };
        let value =
            serde_json::from_slice(text).map_err(|error| Problem::Invalid(format!("bad JSON: {error}")))?;
        Ok(Self(value))
    }
}

/// For optional parts of a body: `null` says as little as a missing key.
pub fn null_is_missing<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A whole body of at most `limit` bytes.
pub async fn body_bytes(request: Request, limit: usize) -> Result<Buffered, Problem> {
    let mut body = request.into_body().into_data_stream();
    let mut buffered = Buffered::default();
    while let Some(part) = body.next().await {
        let part = part.map_err(|_| Problem::Invalid("the request ended before its body did".into()))?;
        buffered.push(&part, limit)?;
    }
    Ok(buffered)
}

/// A query as pairs, in order: names repeat, and booleans come in several spellings.
#[derive(Debug, Default)]
pub struct Query(pub Vec<(String, String)>);

impl Query {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of `name` and of `name[]`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key.strip_suffix("[]").unwrap_or(key) == name)
            .map(|(_, value)| value.as_str())
    }

    /// `true`, `True`, `1` and a bare name are yes.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value, "" | "1" | "true" | "True"))
    }

    pub fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let parse =
            |text: &str| text.parse().map_err(|_| Problem::Invalid(format!("\"{name}\" must be a number")));
        self.get(name).map(parse).transpose()
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = serde_urlencoded::from_str(query).map_err(|_| Problem::Invalid("bad query".into()))?;
        Ok(Self(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> (String, Vec<String>) {
        let route = RepoRoute::parse(path, true).unwrap();
        (route.path.to_string(), route.tail)
    }

    #[test]
    fn repositories_and_tails_are_found_in_every_form_of_address() {
        assert_eq!(parse("/api/models/ann/bert"), ("models/ann/bert".into(), vec![]));
        assert_eq!(
            parse("/api/datasets/ann/d/tree/refs%2Fpr%2F1/a%2Fb"),
            ("datasets/ann/d".into(), vec!["refs/pr/1".into(), "a/b".into()])
        );
        assert_eq!(
            parse("/ann/bert/resolve/main/x%20y/z"),
            ("models/ann/bert".into(), vec!["main".into(), "x y".into(), "z".into()])
        );
        assert_eq!(parse("/spaces/ann/s.git/info/lfs").0, "spaces/ann/s");
    }

    #[test]
    fn impossible_names_are_missing_repositories() {
        for path in
            ["/api/models/a..b/c", "/api/models/ann/x%00y", "/api/models/ann/%2e%2e", "/api/models/ann"]
        {
            for anonymous in [true, false] {
                let found = RepoRoute::parse(path, anonymous);
                assert!(
                    matches!(found, Err(Problem::RepoNotFound { anonymous: a }) if a == anonymous),
                    "{path}"
                );
            }
        }
        assert!(RepoRoute::parse("/api/models/ann/bert/tree/%ff", true).is_err());
    }
}
