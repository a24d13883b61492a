//! Opening discussions, and pull requests that begin empty.

use bastide_core::id::RowId;
use bastide_core::{DiscussionStatus, RefName};
use bastide_ledger::{Action, Context};
use bastide_store::discussions::{self, Discussion, NewDiscussion};
use bastide_store::refs::{self, Target};
use bastide_store::{Reader, WriteTx};

use super::{disabled, discussion_event, pace, text};
use crate::access::{Access, Propose};
use crate::{Hub, Problem};

/// What somebody opens.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    pub title: String,
    /// The first comment.
    pub description: String,
    /// The branch that a pull request is for, and how it begins.
    pub pull_request: Option<(RefName, DiscussionStatus)>,
}

impl Hub {
    /// Opens a discussion, or a pull request that is a draft without commits of its own yet.
    pub async fn create_discussion(
        &self,
        context: &Context,
        access: &Access<Propose>,
        request: OpenRequest,
    ) -> Result<Discussion, Problem> {
        let mut tx = self.write_to(context, access).await?;
        let base = request.pull_request.as_ref().map(|(base, _)| base.clone());
        let (opened, description) = self.open_discussion(&mut tx, context, access, request).await?;
        let event = discussion_event(context, Action::DiscussionCreate, access, &opened)
            .fact("event", description.to_string());
        let Some(base) = base else { return Ok(tx.commit(event).await.map(|()| opened)?) };
        let head = refs::get(&mut tx, access, &base).await?;
        let head = head.ok_or_else(|| Problem::RevisionNotFound(base.short().to_owned()))?.commit;
        let target = Some(Target::commit(head));
        if !refs::swap_pull_request(&mut tx, access, opened.num, None, target, context.now()).await? {
            return Err(Problem::Exists {
                message: format!("Reference refs/pr/{} already exists", opened.num),
                url: None,
            });
        }
        let pull = RefName::pull_request(opened.num);
        tx.commit(event.fact("ref", pull.as_str()).fact("commit", head.to_string())).await?;
        Ok(opened)
    }

    /// Adds a discussion or a pull request with its description to a transaction, and says what it is and which
    /// event the description. The ref of a pull request is the caller's to place, and the event to commit.
    pub(crate) async fn open_discussion(
        &self,
        tx: &mut WriteTx,
        context: &Context,
        access: &Access<Propose>,
        request: OpenRequest,
    ) -> Result<(Discussion, RowId), Problem> {
        let (title, description) = (text::title(&request.title)?, text::content(&request.description)?);
        self.may_open(tx, context, access).await?;
        if request.pull_request.is_some() && !self.may_write(tx, context, access).await? {
            self.check_proposals(tx, context, access).await?;
        }
        let (base, status) = request
            .pull_request
            .map_or((None, DiscussionStatus::Open), |(base, status)| (Some(base), status));
        let new = NewDiscussion {
            id: RowId::new(context.now()),
            title: &title,
            status,
            author: context.user_id(),
            base: base.as_ref(),
            now: context.now(),
        };
        let num = discussions::create(tx, access, &new).await?;
        let description = self.say(tx, context, access, new.id, &description).await?;
        let opened = discussions::get(tx, access, num).await?;
        let opened = opened.ok_or_else(|| Problem::internal("a discussion that is not there"))?;
        Ok((opened, description))
    }

    /// Whether a caller may open one more: asked also before work is done for it.
    pub(crate) async fn may_open(
        &self,
        read: &mut Reader,
        context: &Context,
        access: &Access<Propose>,
    ) -> Result<(), Problem> {
        if discussions::summary(read, access).await?.disabled {
            return Err(disabled());
        }
        if self.may_write(read, context, access).await? {
            return Ok(());
        }
        pace::check_opening(read, context, access).await
    }
}
