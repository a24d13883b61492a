//! Changes of a discussion as a whole: title, status, pin, lock, removal.

use bastide_core::{DiscussionEventKind, DiscussionStatus, RefName};
use bastide_ledger::{Action, Context};
use bastide_store::discussions::{self, Discussion, EventRow, NewDiscussionEvent};
use bastide_store::webhooks::deliveries;
use bastide_store::{WriteTx, prune, refs};
use serde_json::{Value, json};

use super::{Turn, discussion_event, enabled, text};
use crate::access::{Access, Admin, Includes, Propose, Write};
use crate::{Hub, Problem};

/// Where a discussion is to stand, and what is said about it.
#[derive(Debug, Clone)]
pub struct StatusRequest {
    pub status: DiscussionStatus,
    pub comment: Option<String>,
}

impl Hub {
    pub async fn rename_discussion(
        &self,
        context: &Context,
        access: &Access<Propose>,
        num: u64,
        title: &str,
    ) -> Result<EventRow, Problem> {
        let title = text::title(title)?;
        let mut turn = self.turn(context, access, num).await?;
        turn.for_author_or_writer(context, "rename")?;
        turn.for_unlocked()?;
        turn.check_saying(context, access, title.len()).await?;
        if turn.discussion.title == title {
            return Err(Problem::Invalid("it has this title already".into()));
        }
        let before = std::mem::replace(&mut turn.discussion.title, title);
        let (id, now) = (turn.discussion.id, context.now());
        discussions::set_title(&mut turn.tx, access, id, &turn.discussion.title, now).await?;
        let data = json!({ "from": before, "to": turn.discussion.title });
        turn.end_with(context, access, DiscussionEventKind::TitleChange, data).await
    }

    /// Opens, closes or reopens; publishes a draft.
    pub async fn set_discussion_status(
        &self,
        context: &Context,
        access: &Access<Propose>,
        num: u64,
        request: StatusRequest,
    ) -> Result<EventRow, Problem> {
        let comment = request.comment.filter(|comment| !comment.trim().is_empty());
        let comment = comment.map(|comment| text::comment(&comment)).transpose()?;
        let mut turn = self.turn(context, access, num).await?;
        turn.for_author_or_writer(context, "change the status of")?;
        check_status(&turn.discussion, request.status)?;
        if request.status == DiscussionStatus::Open {
            turn.for_unlocked()?;
        }
        turn.check_saying(context, access, comment.as_ref().map_or(0, String::len)).await?;
        let reopens = turn.discussion.status == DiscussionStatus::Closed && turn.discussion.is_pull_request();
        if reopens && !turn.writes {
            self.check_open_pulls(&mut turn.tx, context, access).await?;
        }
        if let Some(comment) = comment {
            turn.for_unlocked()?;
            let event = self.say(&mut turn.tx, context, access, turn.discussion.id, &comment).await?;
            let said = discussion_event(context, Action::CommentCreate, access, &turn.discussion);
            turn.tx.record(said.fact("event", event.to_string()));
        }
        let now = context.now();
        discussions::set_status(&mut turn.tx, access, &turn.discussion, request.status, now).await?;
        turn.discussion.status = request.status;
        let data = json!({ "status": request.status.as_str() });
        turn.end_with(context, access, DiscussionEventKind::StatusChange, data).await
    }

    /// Puts a discussion before all others in the list, or back among them.
    pub async fn pin_discussion(
        &self,
        context: &Context,
        access: &Access<Write>,
        num: u64,
        pinned: bool,
    ) -> Result<(), Problem> {
        let proposer = access.lower::<Propose>();
        let mut turn = self.turn(context, &proposer, num).await?;
        turn.for_writer()?;
        if turn.discussion.pinned == pinned {
            return Ok(());
        }
        discussions::set_pinned(&mut turn.tx, access, turn.discussion.id, pinned, context.now()).await?;
        let data = json!({ "pinned": pinned });
        turn.end_with(context, &proposer, DiscussionEventKind::PinningChange, data).await.map(drop)
    }

    /// Keeps those without write access from saying more, or lets them again. What is said stays readable.
    pub async fn lock_discussion(
        &self,
        context: &Context,
        access: &Access<Write>,
        num: u64,
        locked: bool,
    ) -> Result<(), Problem> {
        let proposer = access.lower::<Propose>();
        let mut turn = self.turn(context, &proposer, num).await?;
        turn.for_writer()?;
        if turn.discussion.locked == locked {
            return Ok(());
        }
        discussions::set_locked(&mut turn.tx, access, turn.discussion.id, locked, context.now()).await?;
        let data = json!({ "locked": locked });
        turn.end_with(context, &proposer, DiscussionEventKind::LockingChange, data).await.map(drop)
    }

    /// Removes a discussion with all that was said in it, and the ref of a pull request. For those who could
    /// remove the whole repository: it takes the words of others away.
    pub async fn delete_discussion(
        &self,
        context: &Context,
        access: &Access<Admin>,
        num: u64,
    ) -> Result<(), Problem> {
        let mut tx = self.write_to(context, access).await?;
        let found = enabled(&mut tx, access, num).await?;
        let name = RefName::pull_request(num);
        let old = if found.is_pull_request() { refs::get(&mut tx, access, &name).await? } else { None };
        if let Some(old) = &old
            && !refs::swap_pull_request(&mut tx, access, num, Some(old.target), None, context.now()).await?
        {
            return Err(Problem::Stale);
        }
        discussions::remove(&mut tx, access, &found).await?;
        bastide_store::proposals::release_commits(&mut tx, access, num).await?;
        if old.is_some() {
            prune::hurry(&mut tx, &access.lower::<Write>(), context.now()).await?;
        }
        deliveries::forget_said(&mut tx, found.id, None).await?;
        let mut event = discussion_event(context, Action::DiscussionDelete, access, &found)
            .fact("author", found.author_id.map(|author| author.to_string()).unwrap_or_default())
            .fact("comments", found.comments);
        if let Some(old) = old {
            event = event.fact("ref", name.as_str()).fact("commit", old.commit.to_string());
        }
        Ok(tx.commit(event).await?)
    }
}

/// What can become of what.
fn check_status(discussion: &Discussion, to: DiscussionStatus) -> Result<(), Problem> {
    use DiscussionStatus::{Closed, Draft, Merged, Open};
    let refused = |text: &str| Err(Problem::Invalid(text.to_owned()));
    match (discussion.status, to) {
        (_, Draft) => refused("a pull request that was published does not become a draft again"),
        (_, Merged) => refused("a pull request is merged by merging it"),
        (Merged, _) => refused("this pull request is merged: that is final"),
        (Open, Open) => refused("it is open already"),
        (Closed, Closed) => refused("it is closed already"),
        (Draft | Closed, Open) if ref_is_deleted(discussion) => {
            refused("the commits of this pull request were deleted: it stays closed")
        }
        (Draft | Closed, Open) | (Draft | Open, Closed) => Ok(()),
    }
}

fn ref_is_deleted(discussion: &Discussion) -> bool {
    discussion.pull_request.as_ref().is_some_and(|pull| pull.ref_deleted_at.is_some())
}

impl Turn {
    /// The permit said so a moment ago; the transaction says so now.
    fn for_writer(&self) -> Result<(), Problem> {
        if self.writes {
            return Ok(());
        }
        Err(Problem::Forbidden("Only those with write access can do this.".into()))
    }

    /// Adds the event that tells of a change, and commits.
    async fn end_with(
        mut self,
        context: &Context,
        access: &Access<Propose>,
        kind: DiscussionEventKind,
        data: Value,
    ) -> Result<EventRow, Problem> {
        let event = add_event(&mut self.tx, context, access, &self.discussion, kind, &data).await?;
        let fact = discussion_event(context, Action::DiscussionUpdate, access, &self.discussion)
            .fact("change", kind.as_str())
            .fact("event", event.id.to_string())
            .fact("data", event.data.as_str());
        self.tx.commit(fact).await?;
        Ok(event)
    }
}

/// Adds an event that is no comment to a discussion.
pub(crate) async fn add_event<L: Includes<Propose>>(
    tx: &mut WriteTx,
    context: &Context,
    access: &Access<L>,
    discussion: &Discussion,
    kind: DiscussionEventKind,
    data: &Value,
) -> Result<EventRow, Problem> {
    let data = data.to_string();
    let new = NewDiscussionEvent { kind, author: context.user_id(), data: &data, now: context.now() };
    let id = discussions::add_event(tx, access, discussion.id, &new).await?;
    let author = match context.actor() {
        bastide_core::Actor::User { name, .. } => Some(name.clone()),
        _ => None,
    };
    let (author_id, created_at) = (context.user_id(), context.now());
    Ok(EventRow { id, kind, author_id, author, created_at, data, comment: None })
}
