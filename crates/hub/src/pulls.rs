//! The git side of pull requests: opening one by a commit, adding commits to it, giving its ref up.
//!
//! `refs/pr/{num}` is moved by `refs::swap_pull_request` alone, for those who may propose: no permit of theirs
//! moves anything else. Who may add to a pull request, and when, is decided here, also for `git push`.

mod base;
mod conflicts;
mod merge;
mod renamed;
mod squash;
mod storage;

use bastide_core::{DiscussionEventKind, DiscussionStatus, Oid, RefName, Revision};
use bastide_ledger::{Action, Context};
use bastide_store::discussions::{self, Discussion, PullRequest};
use bastide_store::proposals::CommitCharge;
use bastide_store::refs::{self, Target};
use bastide_store::{Reader, WriteTx, proposals, prune};
use serde_json::json;

pub use conflicts::Conflicts;
pub use merge::{MergeRequest, MergedPull};
pub use storage::PullStorage;

pub(crate) use conflicts::ConflictCache;
pub(crate) use renamed::rename_commits;

use crate::access::{Access, Includes, Level, Propose, Read, Write};
use crate::commits::{CommitBuilder, CommitHeader, Committed, Draft, Prepared, check_header, message};
use crate::discussions::{OpenRequest, add_event, check_room, discussion_event};
use crate::uploads::{Uploader, keep_file, proposer, take_over};
use crate::{Hub, Problem};

/// Longest title that a commit's first line becomes.
const MAX_TITLE_CHARS: usize = 200;
/// How long it may take to find out where two histories part.
pub(crate) const SHARE_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);
/// Shortest title; a shorter line is given more words.
const MIN_TITLE_CHARS: usize = 3;

/// A pull request that was opened by its first commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedPull {
    pub number: u64,
    pub commit: Oid,
}

/// A commit that is to be added to a pull request, wherever it comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PullCommit<'a> {
    pub id: Oid,
    pub title: &'a str,
}

impl Hub {
    /// Opens a pull request for a branch with a commit: everything in one transaction, its number too.
    pub async fn open_pull(
        &self,
        context: &Context,
        by: &Uploader,
        base: &str,
        header: &CommitHeader,
        mut builder: CommitBuilder,
    ) -> Result<OpenedPull, Problem> {
        let access = by.permit();
        check_header(header)?;
        self.check_card(&access, &builder)?;
        self.may_open_pull(&mut self.db.read().await?, context, by).await?;
        let (base, parent) = self.pull_base(&access, base, header.parent.as_deref()).await?;
        let changes = self.add_pointers(&access.lower(), &mut builder).await?;
        let draft = Draft {
            // Its number is given in the transaction; none is 0.
            target: RefName::pull_request(0),
            head: Some(parent),
            title: header.title.trim().to_owned(),
            message: message(header),
            builder,
            changes,
        };
        let prepared = self.prepare_objects(context, &access, draft).await?;
        let prepared = prepared.ok_or_else(|| Problem::Invalid("the commit changes nothing".into()))?;
        let published = self.publish_pull(context, by, (&base, header), &prepared).await;
        let number = self.keep_if(published, &prepared.pack).await?;
        Ok(OpenedPull { number, commit: prepared.commit })
    }

    /// The transaction of a pull request that begins with a commit.
    async fn publish_pull(
        &self,
        context: &Context,
        by: &Uploader,
        (base, header): (&RefName, &CommitHeader),
        prepared: &Prepared,
    ) -> Result<u64, Problem> {
        let access = by.permit();
        let mut tx = self.write_by(context, by).await?;
        if refs::get(&mut tx, &access, base).await?.is_none() {
            return Err(Problem::RevisionNotFound(base.short().to_owned()));
        }
        let request = OpenRequest {
            title: pull_title(&header.title),
            description: header.description.clone(),
            pull_request: Some((base.clone(), DiscussionStatus::Open)),
        };
        let (pull, description) = self.open_discussion(&mut tx, context, &access, request).await?;
        self.write_pull_commit(&mut tx, context, by, (pull.num, None), prepared).await?;
        let commit = PullCommit { id: prepared.commit, title: &prepared.title };
        note_commit(&mut tx, context, &access, &pull, commit).await?;
        tx.record(pull_commit_event(context, &access, &pull, prepared));
        let event = discussion_event(context, Action::DiscussionCreate, &access, &pull)
            .fact("event", description.to_string())
            .fact("base", base.as_str())
            .fact("ref", RefName::pull_request(pull.num).as_str())
            .fact("commit", prepared.commit.to_string());
        crate::crash::point("commit.before");
        tx.commit(event).await?;
        crate::crash::point("commit.after");
        Ok(pull.num)
    }

    /// Adds a commit to a pull request that is open or a draft.
    pub async fn commit_to_pull(
        &self,
        context: &Context,
        by: &Uploader,
        number: u64,
        header: &CommitHeader,
        mut builder: CommitBuilder,
    ) -> Result<Committed, Problem> {
        let access = by.permit();
        check_header(header)?;
        self.check_card(&access, &builder)?;
        let changes = self.add_pointers(&access.lower(), &mut builder).await?;
        let _turn = self.locks.lock(access.repo_id()).await;
        let target = RefName::pull_request(number);
        let mut read = self.db.read().await?;
        let pull = self.pull_for_commits(&mut read, context, by, number).await?;
        let head = refs::get(&mut read, &access, &target).await?;
        drop(read);
        let head = head.ok_or_else(|| Problem::RevisionNotFound(target.to_string()))?.commit;
        if !self.shares_base(&access, &pull, vec![head]).await? {
            return Err(unrelated(&pull));
        }
        if let Some(parent) = &header.parent
            && self.resolve_commit_id(&access, parent).await? != Some(head)
        {
            return Err(Problem::Stale);
        }
        let (title, message) = (header.title.trim().to_owned(), message(header));
        let draft = Draft { target, head: Some(head), title, message, builder, changes };
        let Some(prepared) = self.prepare_objects(context, &access, draft).await? else {
            return Ok(Committed { id: head });
        };
        let published = self.publish_to_pull(context, by, (number, head), &prepared).await;
        self.keep_if(published, &prepared.pack).await?;
        Ok(Committed { id: prepared.commit })
    }

    async fn publish_to_pull(
        &self,
        context: &Context,
        by: &Uploader,
        (number, head): (u64, Oid),
        prepared: &Prepared,
    ) -> Result<(), Problem> {
        let access = by.permit();
        let mut tx = self.write_by(context, by).await?;
        let pull = self.pull_for_commits(&mut tx, context, by, number).await?;
        self.write_pull_commit(&mut tx, context, by, (number, Some(head)), prepared).await?;
        let commit = PullCommit { id: prepared.commit, title: &prepared.title };
        note_commit(&mut tx, context, &access, &pull, commit).await?;
        crate::crash::point("commit.before");
        tx.commit(pull_commit_event(context, &access, &pull, prepared)).await?;
        crate::crash::point("commit.after");
        Ok(())
    }

    /// The part of a transaction that puts a commit on a pull request's ref.
    async fn write_pull_commit(
        &self,
        tx: &mut WriteTx,
        context: &Context,
        by: &Uploader,
        (number, head): (u64, Option<Oid>),
        prepared: &Prepared,
    ) -> Result<(), Problem> {
        let (access, now) = (by.permit(), context.now());
        if let Some(parent) = prepared.head
            && !bastide_store::git::has_commit(tx, &access, parent).await?
        {
            // Collected since it was looked up.
            return Err(Problem::Stale);
        }
        for sha256 in &prepared.large {
            if !keep_file(tx, by, *sha256, now).await? {
                return Err(Problem::Invalid(format!("the content {sha256} was collected: upload it again")));
            }
        }
        let target = Some(Target::commit(prepared.commit));
        if !refs::swap_pull_request(tx, &access, number, head, target, now).await? {
            return Err(Problem::Stale);
        }
        let added = self.write_commit_rows(tx, context, &access, prepared).await?;
        match by {
            Uploader::Writer(access) => {
                take_over(tx, access, prepared.large.iter().copied()).await?;
                if prepared.brings { self.quota_in(tx, access, 0).await } else { Ok(()) }
            }
            Uploader::Proposer(access) => {
                let rows =
                    prepared.changes.iter().map(|(path, _)| path.len() as u64 + ROW_BYTES).sum::<u64>();
                let pack_bytes = if added { prepared.pack.bytes } else { 0 };
                let charge = CommitCharge { price: prepared.pack.bytes + rows, pack_bytes };
                self.put_proposal(tx, context, access, number, charge).await
            }
        }
    }

    /// The pull request that a caller may add commits to: one that is open or a draft, whose author it is or in
    /// whose repository it may write. For `git push` as well.
    pub(crate) async fn pull_for_commits(
        &self,
        read: &mut Reader,
        context: &Context,
        by: &Uploader,
        number: u64,
    ) -> Result<Discussion, Problem> {
        let access = by.permit();
        if discussions::summary(read, &access).await?.disabled {
            return Err(crate::discussions::disabled());
        }
        let missing = || Problem::RevisionNotFound(RefName::pull_request(number).to_string());
        let found = discussions::get(read, &access, number).await?.ok_or_else(missing)?;
        let pull = found.pull_request.as_ref().ok_or_else(missing)?;
        if matches!(by, Uploader::Proposer(_)) && !found.is_author(context.user_id()) {
            return Err(Problem::Forbidden(format!(
                "Only its author and those with write access can add commits to pull request {number}."
            )));
        }
        if pull.ref_deleted_at.is_some() {
            return Err(Problem::Forbidden(format!(
                "the commits of pull request {number} were deleted: open a new one"
            )));
        }
        if found.locked && matches!(by, Uploader::Proposer(_)) {
            return Err(Problem::Forbidden(format!(
                "pull request {number} is locked: only those with write access can add commits to it"
            )));
        }
        check_room(&found, 0)?;
        match found.status {
            DiscussionStatus::Open | DiscussionStatus::Draft => Ok(found),
            DiscussionStatus::Closed => Err(Problem::Forbidden(format!(
                "pull request {number} is closed: reopen it before you add commits"
            ))),
            DiscussionStatus::Merged => Err(Problem::Forbidden(format!(
                "pull request {number} is merged: open a new one for more commits"
            ))),
        }
    }

    /// Whether a caller may open one more pull request here: those who cannot write have a bound of their own.
    pub(crate) async fn may_open_pull(
        &self,
        read: &mut Reader,
        context: &Context,
        by: &Uploader,
    ) -> Result<(), Problem> {
        let access = by.permit();
        if discussions::summary(read, &access).await?.disabled {
            return Err(crate::discussions::disabled());
        }
        match by {
            Uploader::Writer(_) => Ok(()),
            Uploader::Proposer(access) => self.check_proposals(read, context, access).await,
        }
    }

    /// The bounds of pull requests by those who cannot write: for those that begin empty as well.
    pub(crate) async fn check_proposals(
        &self,
        read: &mut Reader,
        context: &Context,
        access: &Access<Propose>,
    ) -> Result<(), Problem> {
        self.check_open_pulls(read, context, access).await?;
        let (user, day) = (proposer(context)?, context.now().plus_seconds(-DAY));
        let (today, first) = bastide_store::proposals::pulls_since(read, access, user, day).await?;
        if today >= self.config.proposals_per_day {
            let ends = first.map_or(context.now(), |first| first.plus_seconds(DAY));
            let wait = (ends.as_millis() - context.now().as_millis()).max(0) / 1000 + 1;
            return Err(Problem::TooMany {
                message: format!(
                    "You have opened {today} pull requests in a day, which is what those without write access may: \
                     try again later."
                ),
                seconds: u32::try_from(wait).unwrap_or(u32::MAX),
            });
        }
        Ok(())
    }

    /// Pull requests that are open at a time.
    pub(crate) async fn check_open_pulls(
        &self,
        read: &mut Reader,
        context: &Context,
        access: &Access<Propose>,
    ) -> Result<(), Problem> {
        let open = bastide_store::proposals::open_pulls(read, access, proposer(context)?).await?;
        if open >= self.config.proposals_open {
            return Err(Problem::Forbidden(format!(
                "You have {open} open pull requests in this repository, and those without write access may have {}: \
                 close one, or add commits to one of them.",
                self.config.proposals_open
            )));
        }
        Ok(())
    }

    /// Gives the commits of a closed or merged pull request up, for good. What only they have is left to
    /// collection.
    pub async fn delete_pull_ref(
        &self,
        context: &Context,
        access: &Access<Write>,
        number: u64,
    ) -> Result<(), Problem> {
        let mut tx = self.write_to(context, access).await?;
        let (found, pull) = pull_of(&mut tx, access, number).await?;
        if found.status.is_open() {
            return Err(Problem::Conflict {
                message: format!(
                    "pull request {number} is {}: close it before its ref is deleted",
                    found.status
                ),
                paths: Vec::new(),
            });
        }
        let name = RefName::pull_request(number);
        let old = refs::get(&mut tx, access, &name).await?;
        let old = old.filter(|_| pull.ref_deleted_at.is_none());
        let old = old.ok_or_else(|| Problem::RevisionNotFound(name.to_string()))?;
        if !refs::swap_pull_request(&mut tx, access, number, Some(old.target), None, context.now()).await? {
            return Err(Problem::Stale);
        }
        discussions::set_ref_deleted(&mut tx, access, found.id, context.now()).await?;
        // Its bytes count until they are gone.
        proposals::leave_commits(&mut tx, access, (number, old.commit)).await?;
        prune::hurry(&mut tx, access, context.now()).await?;
        let kind = DiscussionEventKind::RefDeletion;
        let data = json!({ "ref": name.as_str(), "oid": old.commit });
        add_event(&mut tx, context, access, &found, kind, &data).await?;
        let event = discussion_event(context, Action::PullRefDelete, access, &found)
            .fact("ref", name.as_str())
            .fact("commit", old.commit.to_string());
        Ok(tx.commit(event).await?)
    }

    /// Is this the caller's own pull request?
    pub(crate) async fn is_author(
        &self,
        context: &Context,
        access: &Access<Propose>,
        number: u64,
    ) -> Result<bool, Problem> {
        let found = discussions::get(&mut self.db.read().await?, access, number).await?;
        Ok(found.is_some_and(|found| found.is_pull_request() && found.is_author(context.user_id())))
    }
}

/// What a row of a changed path takes besides the path.
pub(crate) const ROW_BYTES: u64 = 128;
const DAY: i64 = 24 * 3600;

/// A pull request by its number, in a repository that has not switched them off.
async fn pull_of<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    number: u64,
) -> Result<(Discussion, PullRequest), Problem> {
    if discussions::summary(read, access).await?.disabled {
        return Err(crate::discussions::disabled());
    }
    let found = discussions::get(read, access, number).await?;
    let found = found.ok_or_else(|| {
        Problem::NotFound(format!("Discussion not found: there is no number {number} here"))
    })?;
    match found.pull_request.clone() {
        Some(pull) => Ok((found, pull)),
        None => Err(Problem::Invalid(format!("number {number} is a discussion, not a pull request"))),
    }
}

/// Says in a pull request that it has got a commit. For `git push` as well.
pub(crate) async fn note_commit<L: Includes<Propose>>(
    tx: &mut WriteTx,
    context: &Context,
    access: &Access<L>,
    pull: &Discussion,
    commit: PullCommit<'_>,
) -> Result<(), Problem> {
    let data = json!({ "subject": commit.title, "oid": commit.id });
    add_event(tx, context, access, pull, DiscussionEventKind::Commit, &data).await.map(drop)
}

fn pull_commit_event<L: Level>(
    context: &Context,
    access: &Access<L>,
    pull: &Discussion,
    prepared: &Prepared,
) -> bastide_ledger::NewEvent {
    crate::repos::repo_event(context, Action::CommitCreate, access.repo_id(), &access.repo().path)
        .fact("commit", prepared.commit.to_string())
        .fact("parent", prepared.head.map(|head| head.to_string()).unwrap_or_default())
        .fact("ref", RefName::pull_request(pull.num).as_str())
        .fact("pull_request", pull.num)
        .fact("paths", prepared.changes.len() as u64)
}

/// What is to be done about a pull request whose commits and its base's have none in common: what it changes could
/// be told from no diff, and merging would bring back all that its base has given up.
pub(crate) fn unrelated(pull: &Discussion) -> Problem {
    let number = pull.num;
    let base = pull.pull_request.as_ref().map_or("main", |pull| pull.base.short());
    Problem::Conflict {
        message: format!(
            "pull request {number} shares no commit with {base}: bring its commits onto it (`git rebase --onto \
             origin/{base} OLD-BASE`, where OLD-BASE is the commit before the first of them) and force-push them to \
             refs/pr/{number}, or open a new pull request"
        ),
        paths: Vec::new(),
    }
}

/// The branch that a pull request can be for.
fn base_branch(revision: &str) -> Result<RefName, Problem> {
    let missing = || Problem::RevisionNotFound(revision.to_owned());
    match Revision::parse(revision) {
        Revision::Head => Ok(RefName::main()),
        Revision::Ref(name) if name.is_branch() => Ok(name),
        Revision::Short(name) => RefName::branch(&name).map_err(|_| missing()),
        Revision::Ref(_) | Revision::Commit(_) => Err(missing()),
    }
}

/// Not one of the characters that a title cannot have, for all that a commit's summary can.
const fn is_plain(c: &char) -> bool {
    !matches!(*c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A commit's summary as a title, which has bounds of its own.
fn pull_title(summary: &str) -> String {
    let summary: String = summary.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(is_plain).collect();
    let summary = summary.trim();
    let chars = summary.chars().count();
    if chars > MAX_TITLE_CHARS {
        let cut: String = summary.chars().take(MAX_TITLE_CHARS - 1).collect();
        return format!("{}…", cut.trim_end());
    }
    if chars < MIN_TITLE_CHARS { format!("Change: {summary}") } else { summary.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_become_titles() {
        assert_eq!(pull_title(" Add weights "), "Add weights");
        assert_eq!(pull_title("x"), "Change: x");
        let long = pull_title(&"ü".repeat(MAX_TITLE_CHARS + 1));
        assert_eq!(long.chars().count(), MAX_TITLE_CHARS);
        assert_eq!(pull_title(&"ü".repeat(MAX_TITLE_CHARS)).chars().count(), MAX_TITLE_CHARS);
    }

    #[test]
    fn pull_requests_are_for_branches() {
        assert_eq!(base_branch("HEAD").unwrap(), RefName::main());
        assert_eq!(base_branch("refs/heads/x/y").unwrap().as_str(), "refs/heads/x/y");
        for bad in ["refs/pr/1", "refs/tags/v1", "0123456789012345678901234567890123456789", "refs/convert/x"]
        {
            assert!(base_branch(bad).is_err(), "{bad}");
        }
    }
}
