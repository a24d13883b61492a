//! Who brings content to a repository, by which right, and how much of it somebody may bring who cannot
//! write there.
//!
//! A writer's uploads belong to the repository at once. Those of somebody who may only propose wait for a
//! pull request: they are counted against a quota of their own, they never take the place of anything
//! that is there, and they bring back nothing that is on its way out.

use bastide_core::{NamespaceId, RepoId, RepoPath, Sha256, Timestamp, id::RowId};
use bastide_ledger::Context;
use bastide_store::permit::Repo;
use bastide_store::proposals::CommitCharge;
use bastide_store::xet::{self, NewFile, NewXorb, Received};
use bastide_store::{Reader, StoreError, WriteTx, proposals, repos, storage};

use crate::access::{Access, Gate, Propose, Read, Write};
use crate::{Hub, Problem};

/// What the smallest thing counts: a row, a blob and an event cost more than its bytes.
const LEAST_BYTES: u64 = 64 * 1024;

/// The right that content comes by. What is derived from it (a token, a link) names it, and it is decided
/// anew at every use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    Write,
    Propose,
}

/// What content is brought for, as far as the caller has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A branch: for writers.
    Branch,
    NewPull,
    /// The pull request with this number: for its author, and for writers.
    Pull(u64),
    /// LFS does not say. Whatever it is, a branch can be had by writers only.
    Unknown,
}

/// Somebody who may bring content.
#[derive(Debug, Clone)]
pub enum Uploader {
    Writer(Access<Write>),
    Proposer(Access<Propose>),
}

impl Uploader {
    pub const fn right(&self) -> Right {
        match self {
            Self::Writer(_) => Right::Write,
            Self::Proposer(_) => Right::Propose,
        }
    }

    /// What both may do.
    pub fn permit(&self) -> Access<Propose> {
        match self {
            Self::Writer(access) => access.lower(),
            Self::Proposer(access) => access.clone(),
        }
    }

    pub fn reader(&self) -> Access<Read> {
        self.permit().lower()
    }

    pub fn repo(&self) -> &Repo {
        match self {
            Self::Writer(access) => access.repo(),
            Self::Proposer(access) => access.repo(),
        }
    }

    pub fn repo_id(&self) -> RepoId {
        self.repo().id
    }
}

impl Gate<'_> {
    /// The right by which the caller may bring content for a purpose: a writer's wherever it is one.
    pub async fn uploader(&self, path: &RepoPath, purpose: Purpose) -> Result<Uploader, Problem> {
        let refused = match self.repo(path).await {
            Ok(access) => return Ok(Uploader::Writer(access)),
            Err(problem @ Problem::Forbidden(_)) if purpose != Purpose::Branch => problem,
            Err(problem) => return Err(problem),
        };
        let access = self.repo::<Propose>(path).await?;
        match purpose {
            Purpose::Pull(number) if !self.hub().is_author(self.context(), &access, number).await? => {
                Err(refused)
            }
            _ => {
                self.hub().refuse_if_closed(&access).await?;
                Ok(Uploader::Proposer(access))
            }
        }
    }
}

impl Hub {
    /// A transaction of somebody who may still bring content by the right that was shown.
    pub(crate) async fn write_by(&self, context: &Context, by: &Uploader) -> Result<WriteTx, Problem> {
        match by {
            Uploader::Writer(access) => self.write_to(context, access).await,
            Uploader::Proposer(access) => self.write_to(context, access).await,
        }
    }

    /// The permit of somebody who has once been found to have a right, as it is now.
    pub(crate) async fn uploader_by_id(
        &self,
        context: &Context,
        repo: RepoId,
        right: Right,
    ) -> Result<Uploader, Problem> {
        let gate = self.access(context);
        Ok(match right {
            Right::Write => Uploader::Writer(gate.repo_by_id(repo).await?),
            Right::Propose => Uploader::Proposer(gate.repo_by_id(repo).await?),
        })
    }

    /// A repository whose owner wants no discussions takes no pull requests either.
    async fn refuse_if_closed(&self, access: &Access<Propose>) -> Result<(), Problem> {
        let closed = repos::settings_of(&mut self.db.read().await?, access).await?.discussions_disabled;
        if closed == Some(true) {
            return Err(Problem::Forbidden(
                "this repository takes no discussions and no pull requests".into(),
            ));
        }
        Ok(())
    }

    /// Before bytes move: has a proposer room for so many more? Says how much room there is; a writer has
    /// no such bound.
    pub async fn upload_room(
        &self,
        context: &Context,
        by: &Uploader,
        more: u64,
    ) -> Result<Option<ProposalRoom>, Problem> {
        let Uploader::Proposer(access) = by else { return Ok(None) };
        let bounds = self.proposal_bounds(&mut self.db.read().await?, context, access).await?;
        let tightest = bounds.into_iter().min_by_key(ProposalRoom::left);
        match tightest {
            Some(room) if more > room.left() || room.left() == 0 => Err(room.refused()),
            tightest => Ok(tightest),
        }
    }

    /// The bounds of what is proposed: by this user here, by everybody here, and in all that the owner has.
    async fn proposal_bounds(
        &self,
        read: &mut Reader,
        context: &Context,
        access: &Access<Propose>,
    ) -> Result<[ProposalRoom; 3], Problem> {
        let own = proposals::used_bytes(read, access, proposer(context)?).await?;
        let usage = storage::usage(read, access).await?;
        let config = &self.config;
        let room = |of, used, limit| ProposalRoom { of, used, limit };
        Ok([
            room(ProposalsOf::User, own, config.proposal_bytes),
            room(ProposalsOf::Repo, usage.repo.price, config.proposal_bytes_repo),
            room(ProposalsOf::Owner, usage.namespace_used.price, config.proposal_bytes_owner),
        ])
    }

    /// After something was counted, in its transaction: what is too much never happened.
    pub(crate) async fn check_room(
        &self,
        tx: &mut WriteTx,
        context: &Context,
        access: &Access<Propose>,
    ) -> Result<(), Problem> {
        let bounds = self.proposal_bounds(tx, context, access).await?;
        bounds.iter().find(|room| room.used > room.limit).map_or(Ok(()), |room| Err(room.refused()))
    }

    /// The row of a xorb that has come, and its count.
    pub(crate) async fn put_xorb(
        &self,
        tx: &mut WriteTx,
        context: &Context,
        by: &Uploader,
        new: &NewXorb<'_>,
    ) -> Result<Received, Problem> {
        let access = match by {
            Uploader::Writer(access) => {
                return Ok(xet::receive_xorb(tx, access, new, context.now()).await?);
            }
            Uploader::Proposer(access) => access,
        };
        let received = xet::receive_xorb(tx, access, new, context.now()).await?;
        if let Received::New(id) = &received {
            let bytes = new.stored_bytes.max(LEAST_BYTES);
            proposals::charge_xorb(tx, access, (proposer(context)?, *id), bytes).await?;
            self.check_room(tx, context, access).await?;
        }
        Ok(received)
    }

    /// The row of a file that was checked, and its count.
    pub(crate) async fn put_file(
        &self,
        tx: &mut WriteTx,
        context: &Context,
        by: &Uploader,
        (new, is_new): (&NewFile<'_>, bool),
    ) -> Result<bool, Problem> {
        let access = match by {
            Uploader::Writer(access) => return Ok(xet::add_file(tx, access, new, context.now()).await?),
            Uploader::Proposer(access) => access,
        };
        if new.replace {
            return Err(damaged());
        }
        let added = xet::add_file(tx, access, new, context.now()).await?;
        if let (true, true, Some(sha256)) = (added, is_new, new.sha256) {
            let bytes = (new.terms.len() as u64).max(LEAST_BYTES);
            proposals::charge_file(tx, access, (proposer(context)?, sha256), bytes).await?;
            self.check_room(tx, context, access).await?;
        }
        Ok(added)
    }

    /// Counts a commit to a pull request.
    pub(crate) async fn put_proposal(
        &self,
        tx: &mut WriteTx,
        context: &Context,
        access: &Access<Propose>,
        number: u64,
        charge: CommitCharge,
    ) -> Result<(), Problem> {
        let charge = CommitCharge { price: charge.price.max(LEAST_BYTES), ..charge };
        proposals::charge_commit(tx, access, (proposer(context)?, number), charge).await?;
        self.check_room(tx, context, access).await
    }
}

/// Whose proposals together have a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProposalsOf {
    User,
    Repo,
    Owner,
}

/// What a bound of proposals leaves.
#[derive(Debug, Clone, Copy)]
pub struct ProposalRoom {
    of: ProposalsOf,
    used: u64,
    limit: u64,
}

impl ProposalRoom {
    pub const fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    pub(crate) fn refused(&self) -> Problem {
        let limit = self.limit;
        let cure = "ask a maintainer to merge or close old pull requests and to delete the refs of those that are closed";
        Problem::Quota(match self.of {
            ProposalsOf::User => format!(
                "what you bring to a repository by pull requests, without the right to write to it, may have {limit} \
                 bytes: have one merged or its ref deleted, or ask for the right to write"
            ),
            ProposalsOf::Repo => format!(
                "all that is proposed to this repository by those without the right to write to it may have {limit} \
                 bytes together, and there is no room for this: {cure}"
            ),
            ProposalsOf::Owner => format!(
                "all that is proposed to the repositories of this owner may have {limit} bytes together, and there is \
                 no room for this: {cure}"
            ),
        })
    }
}

/// What a writer points at is the owner's from then on, whoever has brought it. The quota is for the caller.
pub(crate) async fn take_over(
    tx: &mut WriteTx,
    access: &Access<Write>,
    contents: impl IntoIterator<Item = Sha256>,
) -> Result<(), StoreError> {
    if !proposals::any(tx, access).await? {
        return Ok(());
    }
    for sha256 in contents {
        proposals::release_file(tx, access, sha256).await?;
    }
    Ok(())
}

/// What points at a file is about to be written: it is kept from collection, if that has not taken it.
pub(crate) async fn keep_file(
    tx: &mut WriteTx,
    by: &Uploader,
    sha256: Sha256,
    now: Timestamp,
) -> Result<bool, StoreError> {
    match by {
        Uploader::Writer(access) => xet::touch_file(tx, access, sha256, now).await,
        Uploader::Proposer(access) => xet::is_in_use(tx, access, sha256).await,
    }
}

/// Takes back xorbs that came for a file that was refused.
pub(crate) async fn forget_xorbs(
    tx: &mut WriteTx,
    by: &Uploader,
    ids: &[RowId],
) -> Result<Vec<String>, StoreError> {
    xet::forget_xorbs(tx, &by.permit(), ids).await
}

/// Who is counted. A proposal without a user is none.
pub(crate) fn proposer(context: &Context) -> Result<NamespaceId, Problem> {
    context.user_id().ok_or(Problem::SignInNeeded)
}

pub(crate) fn damaged() -> Problem {
    Problem::Unprocessable(
        "the stored copy of a part of this file is damaged: somebody who may write to this repository has to upload \
         it again, then yours will do"
            .into(),
    )
}
