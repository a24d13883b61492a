//! Comments: saying, editing with every version kept, hiding for good.

use bastide_core::NamespaceId;
use bastide_core::id::RowId;
use bastide_core::limits::MAX_COMMENT_VERSIONS;
use bastide_ledger::{Action, Context};
use bastide_store::WriteTx;
use bastide_store::discussions::{self, EventRow, NewVersion, Participant};
use bastide_store::webhooks::deliveries;

use super::{Turn, discussion_event, pace, text};
use crate::access::{Access, Propose};
use crate::{Hub, Problem};

impl Hub {
    pub async fn comment(
        &self,
        context: &Context,
        access: &Access<Propose>,
        num: u64,
        content: &str,
    ) -> Result<EventRow, Problem> {
        let content = text::comment(content)?;
        let mut turn = self.turn(context, access, num).await?;
        turn.for_unlocked()?;
        turn.check_saying(context, access, content.len()).await?;
        let event = self.say(&mut turn.tx, context, access, turn.discussion.id, &content).await?;
        turn.end(context, access, Action::CommentCreate, event).await
    }

    /// Adds a comment whose text was checked to a transaction, and whom it makes take part.
    pub(crate) async fn say(
        &self,
        tx: &mut WriteTx,
        context: &Context,
        access: &Access<Propose>,
        discussion: RowId,
        content: &str,
    ) -> Result<RowId, Problem> {
        let new = NewVersion { content, author: context.user_id(), now: context.now() };
        let event = discussions::add_comment(tx, access, discussion, &new).await?;
        note_participants(tx, context, access, discussion, content).await?;
        Ok(event)
    }

    /// Another text for a comment, by who wrote it. What it said stays readable.
    pub async fn edit_comment(
        &self,
        context: &Context,
        access: &Access<Propose>,
        (num, event): (u64, RowId),
        content: &str,
    ) -> Result<EventRow, Problem> {
        let content = text::comment(content)?;
        let mut turn = self.turn(context, access, num).await?;
        let comment = turn.comment(access, event).await?;
        if context.user_id().is_none() || comment.author_id != context.user_id() {
            return Err(Problem::Forbidden("Only who wrote a comment can edit it.".into()));
        }
        turn.for_unlocked()?;
        turn.check_saying(context, access, content.len()).await?;
        if comment.comment.as_ref().is_some_and(|comment| comment.versions >= MAX_COMMENT_VERSIONS) {
            return Err(Problem::Unprocessable(format!(
                "a comment can have {MAX_COMMENT_VERSIONS} versions: write a new one"
            )));
        }
        let new = NewVersion { content: &content, author: context.user_id(), now: context.now() };
        let place = (turn.discussion.id, event);
        if !discussions::add_version(&mut turn.tx, access, place, &new).await? {
            return Err(hidden());
        }
        note_participants(&mut turn.tx, context, access, turn.discussion.id, &content).await?;
        turn.end(context, access, Action::CommentEdit, event).await
    }

    /// Takes the text of a comment out of all answers, for good: by who wrote it, or who may write.
    pub async fn hide_comment(
        &self,
        context: &Context,
        access: &Access<Propose>,
        (num, event): (u64, RowId),
    ) -> Result<EventRow, Problem> {
        let mut turn = self.turn(context, access, num).await?;
        let comment = turn.comment(access, event).await?;
        let own = context.user_id().is_some() && comment.author_id == context.user_id();
        if !own && !turn.writes {
            let text = "Only who wrote a comment and those with write access can hide it.";
            return Err(Problem::Forbidden(text.into()));
        }
        let place = (turn.discussion.id, event);
        if !discussions::hide(&mut turn.tx, access, place, context.user_id(), context.now()).await? {
            return Err(hidden());
        }
        deliveries::forget_said(&mut turn.tx, turn.discussion.id, Some(event)).await?;
        turn.end(context, access, Action::CommentHide, event).await
    }
}

impl Turn {
    /// Whether this caller may say so much more here.
    pub(super) async fn check_saying(
        &mut self,
        context: &Context,
        access: &Access<Propose>,
        bytes: usize,
    ) -> Result<(), Problem> {
        // Who may write can always end it.
        if !self.writes || bytes > 0 {
            text::check_room(&self.discussion, bytes)?;
        }
        if self.writes {
            return Ok(());
        }
        pace::check_saying(&mut self.tx, context, access).await
    }

    async fn comment(&mut self, access: &Access<Propose>, event: RowId) -> Result<EventRow, Problem> {
        let found = discussions::event(&mut self.tx, access, self.discussion.id, event).await?;
        let found = found.filter(|found| found.comment.is_some());
        found.ok_or_else(|| Problem::NotFound("there is no such comment in this discussion".into()))
    }

    /// Commits what was done by an event of the discussion, and says how that reads now.
    async fn end(
        mut self,
        context: &Context,
        access: &Access<Propose>,
        action: Action,
        event: RowId,
    ) -> Result<EventRow, Problem> {
        let row = discussions::event(&mut self.tx, access, self.discussion.id, event).await?;
        let row = row.ok_or_else(|| Problem::internal("an event that is not there"))?;
        let versions = row.comment.as_ref().map_or(0, |comment| comment.versions);
        let author = row.author_id.map(|author| author.to_string()).unwrap_or_default();
        let fact = discussion_event(context, action, access, &self.discussion)
            .fact("event", event.to_string())
            .fact("comment_author", author)
            .fact("version", versions);
        self.tx.commit(fact).await?;
        Ok(row)
    }
}

fn hidden() -> Problem {
    Problem::Forbidden("This comment is hidden: that cannot be taken back.".into())
}

async fn note_participants(
    tx: &mut WriteTx,
    context: &Context,
    access: &Access<Propose>,
    discussion: RowId,
    content: &str,
) -> Result<(), Problem> {
    let mut users: Vec<(NamespaceId, Participant)> =
        context.user_id().map(|user| (user, Participant::Wrote)).into_iter().collect();
    let named = discussions::users_named(tx, access, &text::mentions(content)).await?;
    users.extend(named.into_iter().map(|user| (user, Participant::Mentioned)));
    Ok(discussions::note_participants(tx, access, discussion, &users, context.now()).await?)
}
