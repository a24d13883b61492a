//! What differs between commits, and whose line is whose.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bastide_core::{EntryPath, Oid};
use bastide_git::{Blame, GitError, Repo};
use bastide_store::git::{self, Makers};
use tokio::sync::OwnedSemaphorePermit;

pub use bastide_git::{
    Budget, ChangedFile, ChangedFiles, Content, FileDiff, FileSide, FileStatus, Hunk, Line, LineKind,
    MAX_CHANGED_FILES, Side, TextDiff, raw_line, unified,
};

use crate::access::{Access, Includes, Read, See, Seen};
use crate::authors::Author;
use crate::history::CommitItem;
use crate::{Hub, Problem};

/// Git's id of a tree without files: what everything can be compared with.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
/// Files that a patch names.
const MAX_PATCH_FILES: usize = 10_000;

/// Comparisons and blames that are worked out at the same time: each may keep a core busy for seconds.
pub(crate) const CONCURRENT_COMPARISONS: usize = 4;
/// How long somebody waits for a place among them.
const PLACE_WAIT: Duration = Duration::from_secs(5);
const RETRY_SECONDS: u32 = 10;

/// What two sides of a comparison are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// The empty tree without one.
    pub base: Option<Oid>,
    pub head: Oid,
}

/// Some of the files that differ.
#[derive(Debug, Clone)]
pub struct DiffPage {
    pub files: Vec<FileDiff>,
    /// How many differ, as far as they were counted.
    pub total: usize,
    /// False when more differ than were counted.
    pub complete: bool,
}

/// Which files of a difference are wanted, and how much of them.
#[derive(Debug, Clone, Copy)]
pub struct DiffQuery {
    pub skip: usize,
    pub limit: usize,
    pub budget: Budget,
}

/// A commit with what it needs to be shown.
#[derive(Debug, Clone)]
pub struct CommitDetail {
    pub item: CommitItem,
    pub parents: Vec<Oid>,
}

/// Lines that follow each other and are from one commit.
#[derive(Debug, Clone)]
pub struct BlameLines {
    pub start: u32,
    pub lines: u32,
    pub path: String,
    /// False where the lines were not followed further back than to this commit.
    pub exact: bool,
    pub commit: CommitItem,
}

impl Hub {
    /// What differs between two commits, with contents.
    pub async fn diff(
        &self,
        access: &Access<Read>,
        compared: Compared,
        query: DiffQuery,
    ) -> Result<DiffPage, Problem> {
        self.compare(access, compared, query).await
    }

    /// The files that differ between two commits, as far as listings tell of them.
    pub async fn diff_names(
        &self,
        access: &Access<See>,
        compared: Compared,
        (skip, limit): (usize, usize),
    ) -> Result<DiffPage, Problem> {
        let budget = Budget { files: 0, ..Budget::default() };
        self.compare(access, compared, DiffQuery { skip, limit, budget }).await
    }

    async fn compare<L: Includes<See>>(
        &self,
        access: &Access<L>,
        Compared { base, head }: Compared,
        query: DiffQuery,
    ) -> Result<DiffPage, Problem> {
        let place = self.comparison_place().await?;
        self.objects_blocking(access, move |repo| {
            let _place = &place;
            let tree = |commit| Ok::<_, GitError>(repo.commit(commit)?.tree);
            let changed = bastide_git::changed_files(repo, base.map(tree).transpose()?, Some(tree(head)?))?;
            let total = changed.files.len();
            let start = query.skip.min(total);
            let page = changed.files.get(start..total.min(start.saturating_add(query.limit)));
            let files =
                bastide_git::diff_contents(repo, page.unwrap_or_default(), &mut query.budget.clone())?;
            Ok(DiffPage { files, total, complete: changed.complete })
        })
        .await
    }

    /// A place among the comparisons that are worked out. It is kept by the work itself, which goes on when
    /// whoever asked has gone.
    async fn comparison_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = tokio::time::timeout(PLACE_WAIT, Arc::clone(&self.comparisons).acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or(Problem::Busy { seconds: RETRY_SECONDS })
    }

    /// A difference as a patch that `git apply` takes, but for what cannot be in one.
    pub async fn patch(&self, access: &Access<Read>, compared: Compared) -> Result<Vec<u8>, Problem> {
        let query = DiffQuery { skip: 0, limit: MAX_PATCH_FILES, budget: Budget::default() };
        let page = self.diff(access, compared, query).await?;
        let mut text: Vec<u8> = Vec::new();
        page.files.iter().for_each(|file| text.extend(unified(file)));
        let more = page.total - page.files.len();
        if more > 0 || !page.complete {
            let least = if page.complete { "" } else { "at least " };
            text.extend(format!("Not shown: {least}{more} more files differ\n").as_bytes());
        }
        Ok(text)
    }

    /// The files that differ, one line each. A list that had to be cut is none.
    pub async fn raw_diff(&self, seen: &Seen, compared: Compared) -> Result<String, Problem> {
        let page = match seen {
            Seen::Open(access) => {
                // Enough to tell text from other things.
                let budget = Budget { lines: 0, ..Budget::default() };
                let query = DiffQuery { skip: 0, limit: MAX_CHANGED_FILES, budget };
                self.diff(access, compared, query).await?
            }
            Seen::Gated(access) => self.diff_names(access, compared, (0, MAX_CHANGED_FILES)).await?,
        };
        if !page.complete {
            return Err(Problem::Unprocessable(format!(
                "more than {MAX_CHANGED_FILES} files differ: compare commits that are closer to each other"
            )));
        }
        Ok(page.files.iter().map(raw_line).collect())
    }

    /// The sides of `a...b` (from where the two part), of `a..b` (as they are), or of a commit
    /// alone and its first parent.
    pub async fn compared<L: Includes<See>>(
        &self,
        access: &Access<L>,
        text: &str,
    ) -> Result<Compared, Problem> {
        let from_parting = text.split_once("...").map(|sides| (sides, true));
        let Some(((one, two), from_parting)) = from_parting.or_else(|| Some((text.split_once("..")?, false)))
        else {
            let head = self.resolve_revision(access, text).await?;
            return Ok(Compared { base: self.first_parent(access, head).await?, head });
        };
        if one.is_empty() || two.is_empty() {
            return Err(Problem::Invalid("a comparison has two revisions: main...branch".into()));
        }
        if one == EMPTY_TREE {
            return Ok(Compared { base: None, head: self.resolve_revision(access, two).await? });
        }
        let base = self.resolve_revision(access, one).await?;
        let head = self.resolve_revision(access, two).await?;
        if !from_parting {
            return Ok(Compared { base: Some(base), head });
        }
        let parting = self.merge_base(access, base, head).await?.ok_or_else(|| {
            Problem::Unprocessable(format!(
                "{one:.80} and {two:.80} share no commit: compare them with two dots"
            ))
        })?;
        Ok(Compared { base: Some(parting), head })
    }

    /// The best common ancestor of two commits of the repository.
    pub async fn merge_base<L: Includes<See>>(
        &self,
        access: &Access<L>,
        one: Oid,
        two: Oid,
    ) -> Result<Option<Oid>, Problem> {
        self.objects_blocking(access, move |repo| repo.merge_base(one, two)).await
    }

    pub async fn first_parent<L: Includes<See>>(
        &self,
        access: &Access<L>,
        commit: Oid,
    ) -> Result<Option<Oid>, Problem> {
        Ok(self.read_commit(access, commit).await?.parents.first().copied())
    }

    /// A commit as it is shown alone.
    pub async fn commit_detail<L: Includes<See>>(
        &self,
        access: &Access<L>,
        commit: Oid,
    ) -> Result<CommitDetail, Problem> {
        let found = self.read_commit(access, commit).await?;
        let mut items = vec![CommitItem::new(commit, &found)];
        self.name_authors(access, &mut items).await?;
        let item = items.pop().ok_or_else(|| Problem::internal("a commit is lost"))?;
        Ok(CommitDetail { item, parents: found.parents.clone() })
    }

    /// The commit that each line of a file is from.
    pub async fn blame(
        &self,
        access: &Access<Read>,
        commit: Oid,
        path: &EntryPath,
    ) -> Result<Vec<BlameLines>, Problem> {
        let (wanted, place) = (path.clone(), self.comparison_place().await?);
        let found = self.objects_blocking(access, move |repo| {
            let _place = &place;
            let blame = bastide_git::blame(repo, commit, &wanted)?;
            let commits = match &blame {
                Blame::Lines(ranges) => known_commits(repo, ranges.iter().map(|range| range.commit))?,
                Blame::Missing | Blame::NotText | Blame::TooLarge => HashMap::new(),
            };
            Ok((blame, commits))
        });
        let (blame, commits) = found.await?;
        let ranges = match blame {
            Blame::Lines(ranges) => ranges,
            Blame::Missing => {
                return Err(Problem::EntryNotFound {
                    message: "Entry not found".into(),
                    commit: Some(commit),
                });
            }
            Blame::NotText => {
                return Err(Problem::Unprocessable(format!("{path} is no text: it has no lines")));
            }
            Blame::TooLarge => {
                return Err(Problem::TooLarge(format!("{path} is too long for its lines to be followed")));
            }
        };
        let mut items: Vec<CommitItem> = commits.into_values().collect();
        self.name_authors(access, &mut items).await?;
        let items: HashMap<Oid, CommitItem> = items.into_iter().map(|item| (item.id, item)).collect();
        let lines = ranges.into_iter().filter_map(|range| {
            let commit = items.get(&range.commit)?.clone();
            let bastide_git::BlameRange { start, lines, path, exact, .. } = range;
            Some(BlameLines { start, lines, path, exact, commit })
        });
        Ok(lines.collect())
    }

    /// Says who made commits, where this hub knows: its users, by their names of today.
    pub(crate) async fn name_authors<L: Includes<See>>(
        &self,
        access: &Access<L>,
        items: &mut [CommitItem],
    ) -> Result<(), Problem> {
        let ids: Vec<Oid> = items.iter().map(|item| item.id).collect();
        let mut makers = git::makers(&mut self.db.read().await?, access, &ids).await?;
        for item in items {
            let Some(Makers { author, pusher }) = makers.remove(&item.id) else { continue };
            item.pusher = pusher;
            if let Some(user) = author {
                item.author = Author::User(user);
            }
        }
        Ok(())
    }
}

fn known_commits(repo: &Repo, ids: impl Iterator<Item = Oid>) -> Result<HashMap<Oid, CommitItem>, GitError> {
    let mut found = HashMap::new();
    for id in ids {
        if let std::collections::hash_map::Entry::Vacant(place) = found.entry(id) {
            place.insert(CommitItem::new(id, repo.commit(id)?.as_ref()));
        }
    }
    Ok(found)
}
