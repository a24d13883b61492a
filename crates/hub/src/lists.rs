//! Information about one repository, and lists of many.

use bastide_core::limits::{LIST_PAGE_FILES, LIST_PAGE_FULL, LIST_PAGE_MAX, MAX_LIST_TERMS};
use bastide_core::{Oid, RepoKind};
use bastide_ledger::Context;
use bastide_store::db::Value;
use bastide_store::lists::{self, Cursor, ListQuery, RepoInfo, Sort};
use bastide_store::related;

use crate::access::{Access, Includes, See};
use crate::trees::TreeItem;
use crate::{Hub, Problem};

pub use bastide_store::lists::{Cursor as ListCursor, RepoInfo as Info, Sort as ListSort};

/// Rows of a page when nobody says.
const DEFAULT_LIMIT: u32 = 100;
/// Spaces that information about a model names.
const MAX_SPACES: u32 = 100;

/// What somebody looks for.
#[derive(Debug, Clone)]
pub struct ListRequest {
    pub kind: RepoKind,
    pub author: Option<String>,
    pub search: Vec<String>,
    pub tags: Vec<String>,
    pub links: Vec<String>,
    pub pipeline: Option<String>,
    /// Programs that run it, all of them.
    pub apps: Vec<String>,
    /// Only what links models or data sets.
    pub linked: bool,
    /// Only what is served for inference: nothing is, here.
    pub served: bool,
    pub gated: Option<bool>,
    pub parameters: (Option<i64>, Option<i64>),
    pub sort: Sort,
    pub ascending: bool,
    pub limit: Option<u64>,
    pub cursor: Option<Cursor>,
    pub detail: Detail,
}

/// What a row tells that is not in the row itself: any of it makes pages shorter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Detail {
    /// The commit that the main branch is at.
    pub commit: bool,
    /// The files of that commit.
    pub files: bool,
    /// Spaces that link it.
    pub spaces: bool,
    /// How many models were made from it.
    pub children: bool,
}

impl Detail {
    const NONE: Self = Self { commit: false, files: false, spaces: false, children: false };
}

/// One of a list, with what `Detail` asked for.
#[derive(Debug)]
pub struct ListRow {
    pub info: RepoInfo,
    pub commit: Option<Oid>,
    pub files: Vec<TreeItem>,
    pub related: Related,
}

/// What leads to a model from other repositories that the reader may see.
#[derive(Debug, Default)]
pub struct Related {
    /// Ids of Spaces that link it.
    pub spaces: Vec<String>,
    /// Models that were made from it, if they were asked for.
    pub children: Option<u64>,
}

/// A page, and where the next one starts.
#[derive(Debug)]
pub struct ListPage {
    pub rows: Vec<ListRow>,
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
            Some(commit) => self.named_files(access, commit).await,
            None => Ok(Vec::new()),
        }
    }

    /// A page of what the caller may see of what it looks for.
    pub async fn list_repos(&self, context: &Context, request: ListRequest) -> Result<ListPage, Problem> {
        let request = checked(request)?;
        if request.served {
            return Ok(ListPage { rows: Vec::new(), next: None });
        }
        let (sort, detail) = (request.sort, request.detail);
        let limit = page_limit(request.limit, detail);
        let query = ListQuery { limit: limit + 1, ..query(context, request) };
        let mut found = lists::find(&mut self.db.read().await?, &query).await?;
        let mut more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let mut last = None;
        let (mut rows, mut files) = (Vec::with_capacity(found.len()), 0);
        let mut found = found.into_iter();
        for info in found.by_ref() {
            last = Some(Cursor::after(&info, sort));
            if let Some(row) = self.list_row(context, info, detail).await? {
                files += row.files.len();
                rows.push(row);
            }
            if files >= LIST_PAGE_FILES {
                break;
            }
        }
        more |= found.next().is_some();
        Ok(ListPage { rows, next: last.filter(|_| more) })
    }

    /// A row with its details; `None` when it has gone from the caller's sight meanwhile.
    async fn list_row(
        &self,
        context: &Context,
        info: RepoInfo,
        detail: Detail,
    ) -> Result<Option<ListRow>, Problem> {
        let mut row = ListRow { info, commit: None, files: Vec::new(), related: Related::default() };
        if detail == Detail::NONE {
            return Ok(Some(row));
        }
        let access = match self.access(context).repo_by_id::<See>(row.info.id).await {
            Ok(access) => access,
            Err(Problem::RepoNotFound { .. } | Problem::Disabled) => return Ok(None),
            Err(problem) => return Err(problem),
        };
        if detail.commit || detail.files {
            row.commit = self.head(&access).await?;
        }
        if detail.files {
            row.files = self.siblings(&access, row.commit).await?;
        }
        row.related = self.related(context, &access, detail).await?;
        Ok(Some(row))
    }

    /// What leads to a model from other repositories that the caller may see.
    pub async fn related<L: Includes<See>>(
        &self,
        context: &Context,
        access: &Access<L>,
        detail: Detail,
    ) -> Result<Related, Problem> {
        let mut related = Related::default();
        if access.repo().path.kind != RepoKind::Model {
            return Ok(related);
        }
        let viewer = context.user_id();
        if detail.spaces {
            let mut read = self.db.read().await?;
            related.spaces = related::spaces(&mut read, access, viewer, MAX_SPACES).await?;
        }
        if detail.children {
            related.children = Some(related::children(&mut self.db.read().await?, access, viewer).await?);
        }
        Ok(related)
    }
}

fn page_limit(asked: Option<u64>, detail: Detail) -> u32 {
    let most = if detail == Detail::NONE { LIST_PAGE_MAX } else { LIST_PAGE_FULL };
    asked.map_or(DEFAULT_LIMIT, |asked| u32::try_from(asked.clamp(1, most as u64)).unwrap_or(DEFAULT_LIMIT))
}

fn query(context: &Context, request: ListRequest) -> ListQuery {
    let tags = request.tags.into_iter().map(|tag| ("tag", tag));
    let links = request.links.into_iter().map(|link| ("link", link));
    let pipeline = request.pipeline.into_iter().map(|pipeline| ("pipeline", pipeline));
    let apps = request.apps.into_iter().map(|app| ("app", app));
    let linked = request.linked.then(|| ("linked", "any".to_owned()));
    ListQuery {
        kind: request.kind,
        viewer: context.user_id(),
        author: request.author.map(|author| author.to_ascii_lowercase()),
        search: request.search,
        terms: tags.chain(links).chain(pipeline).chain(apps).chain(linked).collect(),
        gated: request.gated,
        parameters: request.parameters,
        sort: request.sort,
        ascending: request.ascending,
        limit: DEFAULT_LIMIT,
        cursor: request.cursor,
    }
}

/// A request that every engine can answer: each term once, not too many, none that nothing can
/// have, and a cursor of the order that is asked for.
fn checked(mut request: ListRequest) -> Result<ListRequest, Problem> {
    let ListRequest { search, tags, links, apps, .. } = &mut request;
    for words in [&mut *search, links, apps] {
        words.iter_mut().for_each(|word| *word = word.to_ascii_lowercase());
    }
    let mut count = 0;
    for words in [search, tags, links, apps] {
        words.sort_unstable();
        words.dedup();
        count += words.len();
    }
    count += usize::from(request.pipeline.is_some());
    let ListRequest { search, tags, links, apps, .. } = &request;
    let single = request.author.iter().chain(&request.pipeline);
    let mut texts = single.chain(search).chain(tags).chain(links).chain(apps);
    if texts.any(|text| text.chars().any(char::is_control)) {
        return Err(Problem::Invalid("what is searched for has no control characters".into()));
    }
    if count > MAX_LIST_TERMS {
        return Err(Problem::Unprocessable(format!(
            "a list has at most {MAX_LIST_TERMS} searches and filters together, not {count}"
        )));
    }
    if request.cursor.as_ref().is_some_and(|cursor| !fits(cursor, request.sort)) {
        return Err(Problem::Invalid("the cursor is not one of this hub's for this order".into()));
    }
    Ok(request)
}

fn fits(cursor: &Cursor, sort: Sort) -> bool {
    match (sort, &cursor.value) {
        (Sort::Trending, Value::Real(value)) => value.is_finite(),
        (Sort::Downloads | Sort::Likes | Sort::Created | Sort::Updated, Value::Int(_)) => true,
        _ => false,
    }
}
