//! Discussions and pull requests as conversations: lists, opening, comments, titles, statuses, pins and locks.
//! What a pull request does with commits is not decided here.
//!
//! Who may read the contents may read what is said about them: behind the gate of a gated repository
//! too, because a discussion quotes. Who signs in and reads may propose: open, comment, change what is its own.

mod change;
mod comment;
mod open;
mod pace;
mod text;

use bastide_core::Name;
use bastide_ledger::{Action, Context, NewEvent};
use bastide_store::discussions::{self, DiscussionQuery};
use bastide_store::{Reader, WriteTx, gate};

pub use bastide_store::discussions::{
    Comment, CommentVersion, Discussion, DiscussionOrder, DiscussionPage, EventRow, PullRequest,
};
pub use change::StatusRequest;
pub(crate) use change::add_event;
pub use open::OpenRequest;
pub(crate) use text::{check_room, comment as comment_text};

use crate::access::{Access, Includes, Level, Propose, Read, Write};
use crate::repos::repo_event;
use crate::{Hub, Problem};

/// Discussions of a page when nobody says, and at most.
const PAGE: u64 = 50;
const MAX_PAGE: u64 = 100;
/// Characters of a search.
const MAX_SEARCH: usize = 200;

/// What somebody wants listed. A missing filter is "all".
#[derive(Debug, Clone, Default)]
pub struct DiscussionList {
    pub pull_requests: Option<bool>,
    pub open: Option<bool>,
    pub author: Option<String>,
    pub search: Option<String>,
    pub order: DiscussionOrder,
    /// From 0.
    pub page: u64,
    pub limit: Option<u64>,
}

/// A page, and the place of its first row in the whole list.
#[derive(Debug, Clone)]
pub struct ListedDiscussions {
    pub page: DiscussionPage,
    pub start: u64,
}

impl Hub {
    pub async fn list_discussions<L: Includes<Read>>(
        &self,
        access: &Access<L>,
        request: DiscussionList,
    ) -> Result<ListedDiscussions, Problem> {
        let query = query(&request)?;
        let mut read = self.db.read().await?;
        let summary = discussions::summary(&mut read, access).await?;
        if summary.disabled {
            return Err(disabled());
        }
        let page = match query {
            Some(ref query) => discussions::list(&mut read, access, query, &summary).await?,
            None => DiscussionPage::default(),
        };
        let start = query.map_or(0, |query| query.offset).min(page.count);
        Ok(ListedDiscussions { page, start })
    }

    /// A discussion and all that happened in it.
    pub async fn discussion<L: Includes<Read>>(
        &self,
        access: &Access<L>,
        num: u64,
    ) -> Result<(Discussion, Vec<EventRow>), Problem> {
        let mut read = self.db.read().await?;
        let found = enabled(&mut read, access, num).await?;
        let events = discussions::events(&mut read, access, &found).await?;
        Ok((found, events))
    }

    /// Begins to change a discussion: the transaction, what it is about, and whether the caller may write.
    async fn turn(&self, context: &Context, access: &Access<Propose>, num: u64) -> Result<Turn, Problem> {
        let mut tx = self.write_to(context, access).await?;
        let discussion = enabled(&mut tx, access, num).await?;
        let writes = self.may_write(&mut tx, context, access).await?;
        Ok(Turn { tx, discussion, writes })
    }

    /// Whether somebody who may propose may write as well.
    pub(crate) async fn may_write<L: Level>(
        &self,
        read: &mut Reader,
        context: &Context,
        access: &Access<L>,
    ) -> Result<bool, Problem> {
        let facts = gate::repo_by_id(read, access.repo_id(), context.user_id()).await?;
        Ok(self.access(context).grant::<Write>(facts).is_ok())
    }
}

/// A change of a discussion under way.
struct Turn {
    tx: WriteTx,
    discussion: Discussion,
    writes: bool,
}

impl Turn {
    /// For what is the author's own, and the maintainers'.
    fn for_author_or_writer(&self, context: &Context, what: &str) -> Result<(), Problem> {
        if self.writes || self.discussion.is_author(context.user_id()) {
            return Ok(());
        }
        Err(Problem::Forbidden(format!(
            "Only its author and those with write access can {what} this discussion."
        )))
    }

    /// For words in a discussion that may be locked, and for opening it again.
    fn for_unlocked(&self) -> Result<(), Problem> {
        if self.writes || !self.discussion.locked {
            return Ok(());
        }
        Err(Problem::Forbidden(
            "This discussion is locked: only those with write access can comment, or open it again.".into(),
        ))
    }
}

/// A discussion of a repository that has not switched them off.
async fn enabled<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    num: u64,
) -> Result<Discussion, Problem> {
    match discussions::get_with_setting(read, access, num).await? {
        Some((_, true)) => Err(disabled()),
        Some((found, false)) => Ok(found),
        None if discussions::summary(read, access).await?.disabled => Err(disabled()),
        None => Err(Problem::NotFound(format!("Discussion not found: there is no number {num} here"))),
    }
}

/// The owner wants no discussions; those that are there are kept and not shown.
pub(crate) fn disabled() -> Problem {
    Problem::Forbidden(
        "Discussions are disabled for this repo: its owner can switch them on in the settings.".into(),
    )
}

/// `None` when nothing can be found: by an author whose name cannot be one.
fn query(request: &DiscussionList) -> Result<Option<DiscussionQuery>, Problem> {
    let limit = request.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let author = match request.author.as_deref().filter(|author| !author.is_empty()).map(str::parse::<Name>) {
        Some(Err(_)) => return Ok(None),
        Some(Ok(name)) => Some(name),
        None => None,
    };
    Ok(Some(DiscussionQuery {
        pull_requests: request.pull_requests,
        open: request.open,
        author,
        search: request.search.as_deref().map(search).transpose()?.filter(|text| !text.is_empty()),
        order: request.order,
        offset: request.page.saturating_mul(limit),
        limit,
    }))
}

fn search(text: &str) -> Result<String, Problem> {
    if text.chars().count() > MAX_SEARCH || text.contains('\0') {
        return Err(Problem::Invalid(format!(
            "a search has at most {MAX_SEARCH} characters, none of them zero"
        )));
    }
    Ok(text.trim().to_lowercase())
}

/// An event about a discussion, with what everybody who is told of it wants to know.
pub(crate) fn discussion_event<L: Level>(
    context: &Context,
    action: Action,
    access: &Access<L>,
    discussion: &Discussion,
) -> NewEvent {
    repo_event(context, action, access.repo_id(), &access.repo().path)
        .fact("num", discussion.num)
        .fact("discussion", discussion.id.to_string())
        .fact("pull_request", discussion.is_pull_request())
        .fact("title", discussion.title.as_str())
        .fact("status", discussion.status.as_str())
}
