//! What is in a commit: listings, facts about paths, the last commit of each.

use std::collections::HashMap;

use bastide_core::limits::{MAX_PATH_SEGMENTS, TREE_PAGE, TREE_PAGE_EXPANDED};
use bastide_core::{EntryPath, Oid, Sha256, Timestamp, XetHash};
use bastide_git::{Commit, Entry, GitError, Pointer, Repo, Walked};
use bastide_store::{Reader, xet};

use crate::access::{Access, Includes, See, Seen};
use crate::{Hub, Problem};

/// A commit of no more entries than this is listed at once; others are on the blocking pool.
const INLINE_ENTRIES: usize = 256;

/// Files of a commit that are named beside other facts: clients that see more than 50,000 ask for the tree, page by page.
const MAX_NAMED_FILES: usize = 100_000;

/// A path of a commit, with what clients want to know of it.
#[derive(Debug, Clone)]
pub struct TreeItem {
    pub path: String,
    pub oid: Oid,
    pub kind: ItemKind,
    pub last_commit: Option<LastCommit>,
}

impl TreeItem {
    /// The size of the file itself, not that of a pointer.
    pub fn size(&self) -> u64 {
        match &self.kind {
            ItemKind::Folder => 0,
            ItemKind::File { size } => *size,
            ItemKind::Large { pointer, .. } => pointer.size,
        }
    }
}

/// The bytes of files together. Sizes in pointers are what somebody wrote there.
pub fn total_size<'a>(items: impl Iterator<Item = &'a TreeItem>) -> u64 {
    items.map(TreeItem::size).fold(0, u64::saturating_add)
}

#[derive(Debug, Clone)]
pub enum ItemKind {
    Folder,
    File { size: u64 },
    Large { pointer: Pointer, pointer_size: u64, xet_hash: ShownHash },
}

/// What a listing says of a large file's Xet hash. With the hash a client asks for the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownHash {
    /// The file is not here: nothing is promised.
    Absent,
    /// It is here, for those who may read it.
    Masked,
    Hash(XetHash),
}

#[derive(Debug, Clone)]
pub struct LastCommit {
    pub id: Oid,
    pub title: String,
    pub time: Timestamp,
}

#[derive(Debug, Default, Clone)]
pub struct TreeQuery {
    pub recursive: bool,
    pub expand: bool,
    pub limit: Option<usize>,
    /// The last path of the page before.
    pub after: Option<String>,
}

/// A page of a listing; `next` is where the following one starts.
#[derive(Debug)]
pub struct TreePage {
    pub items: Vec<TreeItem>,
    pub next: Option<String>,
}

impl Hub {
    /// Lists a folder of a commit; the root without a path.
    pub async fn list_tree(
        &self,
        seen: &Seen,
        commit: Oid,
        path: Option<&EntryPath>,
        query: TreeQuery,
    ) -> Result<TreePage, Problem> {
        let most = if query.expand { TREE_PAGE_EXPANDED } else { TREE_PAGE };
        let limit = query.limit.unwrap_or(most).clamp(1, most);
        let missing = Problem::EntryNotFound { message: "Entry not found".into(), commit: Some(commit) };
        let (path, after, recursive) = (path.cloned(), query.after, query.recursive);
        let access = &seen.see();
        let listed = self.objects_blocking(access, move |repo| {
            let Some((tree, prefix)) = folder(repo, commit, path.as_ref())? else { return Ok(None) };
            let mut found = repo.list(tree, &prefix, recursive, after.as_deref(), limit + 1)?;
            let more = found.len() > limit;
            found.truncate(limit);
            let items = found.into_iter().map(|walked| item(repo, walked)).collect::<Result<Vec<_>, _>>()?;
            Ok(Some((items, more)))
        });
        let (mut items, more) = listed.await?.ok_or(missing)?;
        let next = items.last().filter(|_| more).map(|item| item.path.clone());
        self.complete(seen, commit, &mut items, query.expand).await?;
        Ok(TreePage { items, next })
    }

    /// Facts about paths; those that are not there are left out.
    pub async fn paths_info(
        &self,
        seen: &Seen,
        commit: Oid,
        paths: Vec<String>,
        expand: bool,
    ) -> Result<Vec<TreeItem>, Problem> {
        let access = seen.see();
        let found = self.objects_blocking(&access, move |repo| {
            let root = repo.commit(commit)?.tree;
            let mut items = Vec::new();
            for path in &paths {
                let Ok(parsed) = path.trim_end_matches('/').parse::<EntryPath>() else { continue };
                if let Some(entry) = repo.find(root, &parsed)? {
                    items.push(item(repo, Walked { path: parsed.as_str().to_owned(), entry })?);
                }
            }
            Ok(items)
        });
        let mut items = found.await?;
        self.complete(seen, commit, &mut items, expand).await?;
        Ok(items)
    }

    /// Every file of a commit, sorted, without folders.
    pub async fn all_files<L: Includes<See>>(
        &self,
        access: &Access<L>,
        commit: Oid,
    ) -> Result<Vec<TreeItem>, Problem> {
        self.files(access, commit, usize::MAX).await
    }

    /// The first files of a commit, as many as are named beside other facts.
    pub async fn named_files<L: Includes<See>>(
        &self,
        access: &Access<L>,
        commit: Oid,
    ) -> Result<Vec<TreeItem>, Problem> {
        self.files(access, commit, MAX_NAMED_FILES).await
    }

    /// The files among the first `most` entries of a commit. Where there are few, nobody waits for another thread.
    async fn files<L: Includes<See>>(
        &self,
        access: &Access<L>,
        commit: Oid,
        most: usize,
    ) -> Result<Vec<TreeItem>, Problem> {
        match self.objects(access, move |repo| few_files(repo, commit)).await? {
            Some(files) => Ok(files),
            None => self.objects_blocking(access, move |repo| first_files(repo, commit, most)).await,
        }
    }

    /// Bytes of a file, or of all files below a folder; of everything without a path.
    pub async fn tree_size<L: Includes<See>>(
        &self,
        access: &Access<L>,
        commit: Oid,
        path: Option<&EntryPath>,
    ) -> Result<u64, Problem> {
        let Some(path) = path else {
            let size = move |repo: &Repo| size_below(repo, repo.commit(commit)?.tree, &mut HashMap::new(), 0);
            return self.objects_blocking(access, size).await;
        };
        let files = self.all_files(access, commit).await?;
        let folder = format!("{path}/");
        let wanted = |file: &&TreeItem| file.path == path.as_str() || file.path.starts_with(&folder);
        let found: Vec<&TreeItem> = files.iter().filter(wanted).collect();
        if found.is_empty() {
            return Err(Problem::EntryNotFound { message: "Entry not found".into(), commit: Some(commit) });
        }
        Ok(total_size(found.into_iter()))
    }

    /// Adds what is in the database: Xet hashes, and last commits when they are asked for.
    async fn complete(
        &self,
        seen: &Seen,
        commit: Oid,
        items: &mut [TreeItem],
        expand: bool,
    ) -> Result<(), Problem> {
        let mut read = self.db.read().await?;
        for item in items.iter_mut() {
            if let ItemKind::Large { pointer, xet_hash, .. } = &mut item.kind {
                *xet_hash = shown_hash(&mut read, seen, pointer.sha256).await?;
            }
        }
        if expand {
            self.add_last_commits(&mut read, &seen.see(), commit, items).await?;
        }
        Ok(())
    }

    pub(crate) async fn read_commit<L: Includes<See>>(
        &self,
        access: &Access<L>,
        commit: Oid,
    ) -> Result<std::sync::Arc<Commit>, Problem> {
        self.objects(access, move |repo| repo.commit(commit)).await
    }
}

/// The hash is a promise that the file can be had: none is given for what is not there.
async fn shown_hash(read: &mut Reader, seen: &Seen, sha256: Sha256) -> Result<ShownHash, Problem> {
    Ok(match seen {
        Seen::Open(access) => {
            let found = xet::file_hash(read, access, sha256).await?;
            found.map_or(ShownHash::Absent, |(hash, _)| ShownHash::Hash(hash))
        }
        Seen::Gated(access) => {
            let found = xet::file_size(read, access, sha256).await?;
            found.map_or(ShownHash::Absent, |_| ShownHash::Masked)
        }
    })
}

/// The tree of a folder and its path as a prefix; `None` when there is no such folder.
fn folder(repo: &Repo, commit: Oid, path: Option<&EntryPath>) -> Result<Option<(Oid, String)>, GitError> {
    let root = repo.commit(commit)?.tree;
    let Some(path) = path else { return Ok(Some((root, String::new()))) };
    let entry = repo.find(root, path)?.filter(Entry::is_tree);
    Ok(entry.map(|entry| (entry.oid, path.as_str().to_owned())))
}

fn item(repo: &Repo, walked: Walked) -> Result<TreeItem, GitError> {
    let Walked { path, entry } = walked;
    let kind = match entry.mode {
        bastide_git::Mode::Tree => ItemKind::Folder,
        bastide_git::Mode::Submodule => ItemKind::File { size: 0 },
        _ => {
            let size = repo.blob_size(entry.oid)?;
            match repo.pointer(entry.oid)? {
                Some(pointer) => ItemKind::Large { pointer, pointer_size: size, xet_hash: ShownHash::Absent },
                None => ItemKind::File { size },
            }
        }
    };
    Ok(TreeItem { path, oid: entry.oid, kind, last_commit: None })
}

/// Bytes below a folder. Each folder is read once, however often it stands in the tree.
fn size_below(repo: &Repo, tree: Oid, known: &mut HashMap<Oid, u64>, depth: usize) -> Result<u64, GitError> {
    if let Some(size) = known.get(&tree) {
        return Ok(*size);
    }
    if depth > MAX_PATH_SEGMENTS {
        return Err(GitError::Damaged { oid: tree, what: "folders nested too deep" });
    }
    let mut size = 0u64;
    for entry in &repo.tree(tree)?.entries {
        let more = if entry.is_tree() {
            size_below(repo, entry.oid, known, depth + 1)?
        } else {
            item(repo, Walked { path: String::new(), entry: entry.clone() })?.size()
        };
        size = size.saturating_add(more);
    }
    known.insert(tree, size);
    Ok(size)
}

/// Every file, where there are few entries.
fn few_files(repo: &Repo, commit: Oid) -> Result<Option<Vec<TreeItem>>, GitError> {
    let found = repo.list(repo.commit(commit)?.tree, "", true, None, INLINE_ENTRIES + 1)?;
    if found.len() > INLINE_ENTRIES { Ok(None) } else { files_among(repo, found).map(Some) }
}

/// The files among the first `most` entries.
fn first_files(repo: &Repo, commit: Oid, most: usize) -> Result<Vec<TreeItem>, GitError> {
    files_among(repo, repo.list(repo.commit(commit)?.tree, "", true, None, most)?)
}

fn files_among(repo: &Repo, found: Vec<Walked>) -> Result<Vec<TreeItem>, GitError> {
    found.into_iter().filter(|walked| !walked.entry.is_tree()).map(|walked| item(repo, walked)).collect()
}
