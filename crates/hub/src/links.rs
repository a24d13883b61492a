//! What is derived from a credential: Xet tokens and signed links. Each names the token that it
//! came from, carries its own end, and is checked against the database at every use.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bastide_core::{Credential, RepoId, TokenId};
use bastide_ledger::Context;

use crate::access::{Access, Level, Read};
use crate::uploads::{Right, Uploader};
use crate::{Hub, Origin, Problem};

/// Clocks of clients may be this far behind ours.
const SKEW_SECONDS: i64 = 5;

/// The signed part of a link: goes into its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub expires: i64,
    /// The token behind it; 0 for somebody anonymous.
    pub token: i64,
    pub mac: String,
}

impl Signature {
    pub fn query(&self) -> String {
        format!("e={}&t={}&s={}", self.expires, self.token, self.mac)
    }
}

/// A link as it came back.
pub struct ShownLink<'a> {
    pub purpose: &'static str,
    pub parts: &'a [&'a [u8]],
    pub signature: &'a Signature,
}

fn token_number(context: &Context) -> i64 {
    match context.credential() {
        Credential::Token { id, .. } => id.as_i64(),
        Credential::None | Credential::Local => 0,
    }
}

impl Hub {
    /// Signs `parts` for a purpose, on behalf of the caller, for some seconds.
    pub(crate) fn sign(&self, context: &Context, purpose: &str, parts: &[&[u8]], seconds: i64) -> Signature {
        let expires = context.now().plus_seconds(seconds).as_seconds();
        let token = token_number(context);
        let mac = self.keys.link_mac(purpose, &framed(parts, &expires.to_be_bytes(), &token.to_be_bytes()));
        Signature { expires, token, mac: URL_SAFE_NO_PAD.encode(mac) }
    }

    /// The context of a link's maker, if the link is genuine and has not ended, and its maker's
    /// token is alive. Anything else is forbidden: clients then ask for a new link.
    pub(crate) async fn check_link(&self, link: &ShownLink<'_>, origin: Origin) -> Result<Context, Problem> {
        let refused =
            || Problem::Forbidden("this link is not valid, or not any more: ask for a new one".into());
        let Signature { expires, token, mac } = link.signature;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| refused())?;
        let (end, number) = (expires.to_be_bytes(), token.to_be_bytes());
        let genuine = self.keys.verify_link(link.purpose, &framed(link.parts, &end, &number), &mac);
        if !genuine || self.clock.now().as_seconds() >= *expires {
            return Err(refused());
        }
        self.context_behind(*token, origin).await.map_err(|_| refused())
    }

    async fn context_behind(&self, token: i64, origin: Origin) -> Result<Context, Problem> {
        match token {
            0 => self.authenticate(None, origin).await,
            token => self.authenticate_derived(TokenId::from_i64(token), origin).await,
        }
    }
}

fn framed<'a>(parts: &[&'a [u8]], expires: &'a [u8], token: &'a [u8]) -> Vec<&'a [u8]> {
    parts.iter().copied().chain([expires, token]).collect()
}

/// What a Xet token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XetScope {
    Read,
    Write,
    /// To bring content for a pull request.
    Propose,
}

impl XetScope {
    const fn as_byte(self) -> u8 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Propose => 2,
        }
    }

    /// The right to bring content that a token has, if it has one.
    const fn right(byte: u8) -> Option<Right> {
        match byte {
            1 => Some(Right::Write),
            2 => Some(Right::Propose),
            _ => None,
        }
    }
}

/// A Xet token and where to use it.
#[derive(Debug, Clone)]
pub struct XetToken {
    pub text: String,
    pub expires: i64,
    pub cas_url: String,
}

const XET_PURPOSE: &str = "xet-token";
const XET_PREFIX: &str = "bx1_";
const XET_BYTES: usize = 8 + 8 + 1 + 8 + 8 + 32;

impl Hub {
    /// The address of a repository's large-file store: the epoch is part of it, so that a new one
    /// makes every client forget what it thought was there.
    pub fn cas_url(&self, context: &Context, repo: RepoId, epoch: i64) -> String {
        format!("{}/xet/{repo}/{epoch}", self.url(context))
    }

    /// A Xet token to upload with.
    pub fn xet_upload_token(&self, context: &Context, by: &Uploader) -> XetToken {
        match by {
            Uploader::Writer(access) => self.xet_token(context, access, XetScope::Write),
            Uploader::Proposer(access) => self.xet_token(context, access, XetScope::Propose),
        }
    }

    /// A Xet token for the permit's repository. The permit's level is the most that it can do.
    pub fn xet_token<L: Level>(&self, context: &Context, access: &Access<L>, scope: XetScope) -> XetToken {
        let repo = access.repo();
        let expires = context.now().plus_seconds(bastide_core::limits::XET_TOKEN_SECONDS).as_seconds();
        let body = xet_body(repo.id, repo.epoch, scope, token_number(context), expires);
        let mac = self.keys.link_mac(XET_PURPOSE, &[&body]);
        let text = format!("{XET_PREFIX}{}", URL_SAFE_NO_PAD.encode([body.as_slice(), &mac].concat()));
        XetToken { text, expires, cas_url: self.cas_url(context, repo.id, repo.epoch) }
    }

    /// The caller behind a Xet token, and the permit to read that it has there and now.
    pub async fn check_xet_token(
        &self,
        text: Option<&str>,
        place: (&str, i64),
        origin: Origin,
    ) -> Result<(Context, Access<Read>), Problem> {
        let (context, repo, _) = self.shown_xet_token(text, place, origin).await?;
        let access = self.access(&context).repo_by_id(repo).await.map_err(|_| Problem::BadToken)?;
        Ok((context, access))
    }

    /// The caller behind a Xet token, and the right to bring content by which the token was made, if it
    /// still is there.
    pub async fn check_xet_upload_token(
        &self,
        text: Option<&str>,
        place: (&str, i64),
        origin: Origin,
    ) -> Result<(Context, Uploader), Problem> {
        let (context, repo, scope) = self.shown_xet_token(text, place, origin).await?;
        // A new token of the same kind would not help: this is no 401, which asks for one.
        let right = XetScope::right(scope)
            .ok_or_else(|| Problem::Forbidden("this token is for reading: ask for one to write".into()))?;
        // Rights that are gone since end the token as well.
        let by = self.uploader_by_id(&context, repo, right).await.map_err(|_| Problem::BadToken)?;
        Ok((context, by))
    }

    /// Who stands behind a Xet token that is genuine and for this place, its repository and its scope.
    async fn shown_xet_token(
        &self,
        text: Option<&str>,
        place: (&str, i64),
        origin: Origin,
    ) -> Result<(Context, RepoId, u8), Problem> {
        let bytes = text.and_then(|text| URL_SAFE_NO_PAD.decode(text.strip_prefix(XET_PREFIX)?).ok());
        let bytes = bytes.filter(|bytes| bytes.len() == XET_BYTES).ok_or(Problem::BadToken)?;
        let (body, mac) = bytes.split_at_checked(XET_BYTES - 32).ok_or(Problem::BadToken)?;
        if !self.keys.verify_link(XET_PURPOSE, &[body], mac) {
            return Err(Problem::BadToken);
        }
        let number = |at: usize| {
            let bytes = body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            i64::from_be_bytes(bytes.unwrap_or_default())
        };
        let (repo, epoch, token, expires) = (RepoId::from_i64(number(0)), number(8), number(17), number(25));
        let ended = self.clock.now().as_seconds() >= expires + SKEW_SECONDS;
        if ended || place != (repo.to_string().as_str(), epoch) {
            return Err(Problem::BadToken);
        }
        let context = self.context_behind(token, origin).await?;
        Ok((context, repo, body.get(16).copied().unwrap_or_default()))
    }
}

fn xet_body(repo: RepoId, epoch: i64, scope: XetScope, token: i64, expires: i64) -> Vec<u8> {
    let mut body = repo.as_i64().to_be_bytes().to_vec();
    body.extend_from_slice(&epoch.to_be_bytes());
    body.push(scope.as_byte());
    body.extend_from_slice(&token.to_be_bytes());
    body.extend_from_slice(&expires.to_be_bytes());
    body
}
