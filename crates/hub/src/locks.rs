//! Locks of git-lfs: a file that somebody works on alone. A lock holds in every branch, for everybody
//! but its owner, and however a change comes: the client looks before a push, the hub at every change.

use bastide_core::{Actor, EntryPath, NamespaceId, Oid, id::RowId};
use bastide_ledger::{Action, Context};
use bastide_store::{Reader, locks};

pub use bastide_store::locks::{Lock, Wanted};

use crate::access::{Access, Includes, See, Write};
use crate::history::replaced_paths;
use crate::repos::repo_event;
use crate::{Hub, Problem};

/// Locks that a repository may have: all of them are looked at when somebody pushes.
pub const MAX_LOCKS: u64 = 10_000;
/// Locks of one page.
pub const LOCK_PAGE: usize = 100;
pub const LOCK_PAGE_MAX: usize = 1000;
/// Locks that are named in a refusal.
const NAMED: usize = 5;
/// Longest branch name that is kept with a lock.
const MAX_BRANCH: usize = bastide_core::limits::MAX_REF_BYTES;

/// What became of a wish to lock.
#[derive(Debug)]
pub enum Locking {
    Locked(Lock),
    /// Somebody, perhaps the caller, has locked the path already.
    Taken(Lock),
}

/// A page of locks, and where the next begins.
#[derive(Debug)]
pub struct LockPage {
    pub locks: Vec<Lock>,
    pub next: Option<RowId>,
}

impl Hub {
    pub async fn lock_file(
        &self,
        context: &Context,
        access: &Access<Write>,
        path: EntryPath,
        branch: Option<&str>,
    ) -> Result<Locking, Problem> {
        let Actor::User { id: owner_id, name } = context.actor() else { return Err(Problem::SignInNeeded) };
        let branch = branch.filter(|name| name.len() <= MAX_BRANCH && !name.chars().any(char::is_control));
        let mut tx = self.write_to(context, access).await?;
        if let Some(taken) = locks::at(&mut tx, access, &path).await? {
            return Ok(Locking::Taken(taken));
        }
        if locks::count(&mut tx, access).await? >= MAX_LOCKS {
            return Err(Problem::Unprocessable(format!(
                "a repository has at most {MAX_LOCKS} locks: unlock what nobody works on"
            )));
        }
        let (id, created_at) = (RowId::new(context.now()), context.now());
        let lock = Lock { id, path, owner_id: *owner_id, owner: name.to_string(), created_at };
        locks::add(&mut tx, access, &lock, branch).await?;
        let event = repo_event(context, Action::LockCreate, access.repo_id(), &access.repo().path);
        tx.commit(event.fact("path", lock.path.as_str()).fact("lock", lock.id.to_string())).await?;
        Ok(Locking::Locked(lock))
    }

    pub async fn list_locks<L: Includes<See>>(
        &self,
        access: &Access<L>,
        wanted: Wanted,
    ) -> Result<LockPage, Problem> {
        let limit = wanted.limit.clamp(1, LOCK_PAGE_MAX);
        let wanted = Wanted { limit: limit + 1, ..wanted };
        let mut found = locks::list(&mut self.db.read().await?, access, &wanted).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|lock| lock.id);
        Ok(LockPage { locks: found, next })
    }

    /// Unlocks a file: one's own, or with `force` that of somebody else.
    pub async fn unlock_file(
        &self,
        context: &Context,
        access: &Access<Write>,
        id: RowId,
        force: bool,
    ) -> Result<Lock, Problem> {
        let mut tx = self.write_to(context, access).await?;
        let lock = locks::by_id(&mut tx, access, id).await?;
        let lock = lock.ok_or_else(|| Problem::NotFound("there is no such lock".into()))?;
        let own = context.user_id() == Some(lock.owner_id);
        if !own && !force {
            return Err(Problem::Forbidden(format!(
                "{} is locked by {}: ask them to unlock it, or use --force",
                lock.path, lock.owner
            )));
        }
        locks::remove(&mut tx, access, id).await?;
        let event = repo_event(context, Action::LockRemove, access.repo_id(), &access.repo().path)
            .fact("path", lock.path.as_str())
            .fact("lock", lock.id.to_string())
            .fact("owner", lock.owner.as_str())
            .fact("forced", !own);
        tx.commit(event).await?;
        Ok(lock)
    }

    /// Those locks of others than `user` that a change of these paths would break: files that change,
    /// and folders that go with all that is in them. Not the folders above what changes.
    pub async fn locked_by_others<'a, L: Includes<See>>(
        &self,
        access: &Access<L>,
        user: Option<NamespaceId>,
        paths: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Lock>, Problem> {
        broken_locks(&mut self.db.read().await?, access, user, paths).await
    }

    /// Refuses a change of paths that others have locked. Cheap where nobody locks.
    pub(crate) async fn refuse_locked<'a, L: Includes<See>>(
        &self,
        read: &mut Reader,
        context: &Context,
        access: &Access<L>,
        paths: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Problem> {
        let broken = broken_locks(read, access, context.user_id(), paths).await?;
        if broken.is_empty() {
            return Ok(());
        }
        let named = broken.iter().take(NAMED).map(|lock| format!("{} by {}", lock.path, lock.owner));
        let more = broken.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Err(Problem::Forbidden(format!(
            "locked by others: {}{more}. Ask them to unlock, or unlock with `git lfs unlock --force`.",
            named.collect::<Vec<_>>().join(", ")
        )))
    }

    /// Refuses that a branch goes with files that others have locked: who deletes it could make it anew from
    /// where those were others.
    pub(crate) async fn refuse_lost<L: Includes<See>>(
        &self,
        context: &Context,
        access: &Access<L>,
        head: Oid,
    ) -> Result<(), Problem> {
        if locks::of_others(&mut self.db.read().await?, access, context.user_id()).await?.is_empty() {
            return Ok(());
        }
        let paths = self.objects_blocking(access, move |repo| replaced_paths(repo, head, None)).await?;
        let paths = paths.iter().map(String::as_str);
        self.refuse_locked(&mut self.db.read().await?, context, access, paths).await
    }
}

async fn broken_locks<'a, L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    user: Option<NamespaceId>,
    paths: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Lock>, Problem> {
    let mut held = locks::of_others(read, access, user).await?;
    if held.is_empty() {
        return Ok(held);
    }
    let paths: std::collections::HashSet<&str> = paths.into_iter().collect();
    held.retain(|lock| breaks(lock.path.as_str(), |path| paths.contains(path)));
    Ok(held)
}

/// Whether the path itself, or a folder above it, is among what changes.
fn breaks(locked: &str, changes: impl Fn(&str) -> bool) -> bool {
    let mut path = locked;
    loop {
        if changes(path) {
            return true;
        }
        let Some((folder, _)) = path.rsplit_once('/') else { return false };
        path = folder;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_goes_takes_the_locked_file_with_it_and_a_neighbour_does_not() {
        let changes = |changed: &'static str| breaks("a/b/c.bin", move |path| path == changed);
        for broken in ["a/b/c.bin", "a/b", "a"] {
            assert!(changes(broken), "{broken}");
        }
        for other in ["a/b/c", "a/b/c.bin/d", "b", "c.bin", ""] {
            assert!(!changes(other), "{other}");
        }
    }
}
