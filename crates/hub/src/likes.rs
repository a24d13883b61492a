//! Likes: who likes which repository, and what somebody likes.

use bastide_core::NamespaceId;
use bastide_core::limits::{MAX_LIKES, PEOPLE_PAGE};
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::likes::{self, Liked};
use bastide_store::people::{Page, Person, Place};
use bastide_store::{WriteTx, lists};

use crate::access::{Access, Includes, Namespace, Propose, See};
use crate::{Hub, Problem};

pub use bastide_store::likes::Liked as LikedRepo;

/// Rows, and where the next ones start.
#[derive(Debug)]
pub struct Paged<T> {
    pub rows: Vec<T>,
    pub next: Option<Place>,
}

/// Asks for one row more than is shown, to know whether there are more.
pub(crate) fn page(context: &Context, after: Option<Place>) -> Page {
    let limit = u32::try_from(PEOPLE_PAGE + 1).unwrap_or(u32::MAX);
    Page { viewer: context.user_id(), after, limit }
}

/// Cuts off the row that only tells that there are more.
pub(crate) fn paged<T>(mut rows: Vec<T>, place: impl Fn(&T) -> Place) -> Paged<T> {
    let more = rows.len() > PEOPLE_PAGE;
    rows.truncate(PEOPLE_PAGE);
    let next = rows.last().filter(|_| more).map(place);
    Paged { rows, next }
}

pub(crate) fn person_place(person: &Person) -> Place {
    Place { since: person.since, id: person.id.as_i64() }
}

impl Hub {
    /// Likes a repository; how many do then. Twice is once.
    pub async fn like(&self, context: &Context, access: &Access<Propose>) -> Result<i64, Problem> {
        let user = liker(context)?;
        let mut tx = self.write_to(context, access).await?;
        if likes::count_of(&mut tx, user).await? >= MAX_LIKES {
            return Err(Problem::Unprocessable(format!(
                "a user likes at most {MAX_LIKES} repositories: unlike some first"
            )));
        }
        let changed = likes::like(&mut tx, access, user, context.now()).await?;
        finish_like(tx, context, access, Action::RepoLike, changed).await
    }

    pub async fn unlike(&self, context: &Context, access: &Access<Propose>) -> Result<i64, Problem> {
        let user = liker(context)?;
        let mut tx = self.write_to(context, access).await?;
        let changed = likes::unlike(&mut tx, access, user).await?;
        finish_like(tx, context, access, Action::RepoUnlike, changed).await
    }

    /// Who likes a repository, newest first.
    pub async fn likers<L: Includes<See>>(
        &self,
        context: &Context,
        access: &Access<L>,
        after: Option<Place>,
    ) -> Result<Paged<Person>, Problem> {
        let rows = likes::likers(&mut self.db.read().await?, access, page(context, after)).await?;
        Ok(paged(rows, person_place))
    }

    /// What somebody likes, as far as the caller may see it, newest first.
    pub async fn liked_by<L: Includes<See>>(
        &self,
        context: &Context,
        user: &Access<L, Namespace>,
        after: Option<Place>,
    ) -> Result<Paged<Liked>, Problem> {
        let rows = likes::liked_by(&mut self.db.read().await?, user, page(context, after)).await?;
        Ok(paged(rows, |liked| Place { since: liked.since, id: liked.id.as_i64() }))
    }
}

/// Only users like; jobs and the operator have nobody to do it as.
fn liker(context: &Context) -> Result<NamespaceId, Problem> {
    context.user_id().ok_or(Problem::SignInNeeded)
}

/// What changed is told; what did not is dropped.
async fn finish_like(
    mut tx: WriteTx,
    context: &Context,
    access: &Access<Propose>,
    action: Action,
    changed: bool,
) -> Result<i64, Problem> {
    let info = lists::info_of(&mut tx, access).await?.ok_or(Problem::RepoNotFound { anonymous: false })?;
    if changed {
        let repo = access.repo();
        let event =
            NewEvent::new(context, action).subject("repo", Some(repo.id.as_i64()), &repo.path.to_string());
        tx.commit(event).await?;
    }
    Ok(info.likes)
}
