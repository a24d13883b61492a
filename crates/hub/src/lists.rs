//! Information about one repository, and lists of many.

use bastide_core::limits::LIST_PAGE_MAX;
use bastide_core::{Oid, RepoKind};
use bastide_ledger::Context;
use bastide_store::lists::{self, Cursor, ListQuery, RepoInfo, Sort};

use crate::access::{Access, Includes, See};
use crate::trees::TreeItem;
use crate::{Hub, Problem};

pub use bastide_store::lists::{Cursor as ListCursor, RepoInfo as Info, Sort as ListSort};

/// Rows of a page when nobody says.
const DEFAULT_LIMIT: u32 = 100;

/// What somebody looks for.
#[derive(Debug, Clone)]
pub struct ListRequest {
    pub kind: RepoKind,
    pub author: Option<String>,
    pub search: Vec<String>,
    pub tags: Vec<String>,
    pub links: Vec<String>,
    pub gated: Option<bool>,
    pub parameters: (Option<i64>, Option<i64>),
    pub sort: Sort,
    pub ascending: bool,
    pub limit: Option<u64>,
    pub cursor: Option<Cursor>,
}

/// A page, and where the next one starts.
#[derive(Debug)]
pub struct ListPage {
    pub rows: Vec<RepoInfo>,
    pub next: Option<Cursor>,
}

/// A repository at a revision.
#[derive(Debug)]
pub struct InfoAt {
    pub info: RepoInfo,
    pub commit: Option<Oid>,
}

impl Hub {
    pub async fn info<L: Includes<See>>(
        &self,
        access: &Access<L>,
        revision: Option<&str>,
    ) -> Result<InfoAt, Problem> {
        let commit = match revision {
            Some(revision) => Some(self.resolve_revision(access, revision).await?),
            None => self.head(access).await?,
        };
        let info = lists::info_of(&mut self.db.read().await?, access).await?;
        let info = info.ok_or(Problem::RepoNotFound { anonymous: false })?;
        Ok(InfoAt { info, commit })
    }

    /// The files of a commit, with Xet hashes left out: those are for trees.
    pub async fn siblings<L: Includes<See>>(
        &self,
        access: &Access<L>,
        commit: Option<Oid>,
    ) -> Result<Vec<TreeItem>, Problem> {
        match commit {
            Some(commit) => self.all_files(access, commit).await,
            None => Ok(Vec::new()),
        }
    }

    /// A page of what the caller may see of what it looks for.
    pub async fn list_repos(&self, context: &Context, request: ListRequest) -> Result<ListPage, Problem> {
        let limit = match request.limit {
            None => DEFAULT_LIMIT,
            Some(limit) => u32::try_from(limit.clamp(1, LIST_PAGE_MAX as u64)).unwrap_or(DEFAULT_LIMIT),
        };
        let sort = request.sort;
        let tags = request.tags.into_iter().map(|tag| ("tag", tag));
        let links = request.links.into_iter().map(|link| ("link", link.to_ascii_lowercase()));
        let query = ListQuery {
            kind: request.kind,
            viewer: context.user_id(),
            author: request.author.map(|author| author.to_ascii_lowercase()),
            search: request.search.iter().map(|piece| piece.to_ascii_lowercase()).collect(),
            terms: tags.chain(links).collect(),
            gated: request.gated,
            parameters: request.parameters,
            sort,
            ascending: request.ascending,
            limit: limit + 1,
            cursor: request.cursor,
        };
        let mut rows = lists::find(&mut self.db.read().await?, &query).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = rows.last().filter(|_| more).map(|last| Cursor::after(last, sort));
        Ok(ListPage { rows, next })
    }
}
