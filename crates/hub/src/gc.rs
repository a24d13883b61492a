//! Collection, in two phases with grace between them: what nothing points at loses its rights,
//! xorbs that nobody may use are condemned, and only what stayed condemned is removed. Whoever
//! sends or uses a condemned xorb in the meantime takes it back.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bastide_blobs::Class;
use bastide_core::Sha256;
use bastide_git::Pointer;
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::{collect, git, refs};

use crate::access::{Access, Admin};
use crate::accounts::require_operator;
use crate::{Hub, Problem};

/// What a collection did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Collected {
    pub repos: u64,
    /// Files and rights that repositories lost.
    pub dropped: u64,
    pub condemned: u64,
    pub removed_xorbs: u64,
    pub removed_blobs: u64,
    pub freed_bytes: u64,
}

impl Hub {
    /// Collects once. Says where it is through `progress`: (done, of so many repositories).
    pub async fn collect(
        &self,
        context: &Context,
        progress: impl Fn(usize, usize),
    ) -> Result<Collected, Problem> {
        require_operator(context)?;
        let mut done = Collected::default();
        let repos = collect::repo_ids(&mut self.db.read().await?).await?;
        for (at, id) in repos.iter().enumerate() {
            progress(at, repos.len());
            match self.access(context).repo_by_id::<Admin>(*id).await {
                Ok(access) => done.dropped += self.collect_repo(context, &access).await?,
                // Deleted since the list was made.
                Err(Problem::RepoNotFound { .. }) => {}
                Err(problem) => return Err(problem),
            }
            done.repos += 1;
        }
        self.condemn(context, &mut done).await?;
        self.remove_condemned(context, &mut done).await?;
        self.remove_orphans(&mut done).await?;
        Ok(done)
    }

    async fn collect_repo(&self, context: &Context, access: &Access<Admin>) -> Result<u64, Problem> {
        // Before the walk: what is committed after it counts as touched.
        let before = context.now().plus_seconds(-self.config.gc_grace_seconds);
        let used = self.used_content(access).await?;
        let mut tx = self.write_to(context, access).await?;
        let dropped = collect::drop_unused(&mut tx, access, &used, before).await?;
        if dropped > 0 {
            let event =
                crate::repos::repo_event(context, Action::GcCollect, access.repo_id(), &access.repo().path)
                    .fact("dropped", dropped);
            tx.commit(event).await?;
        }
        Ok(dropped)
    }

    /// The content of every large file that any ref of a repository reaches.
    async fn used_content(&self, access: &Access<Admin>) -> Result<HashSet<Sha256>, Problem> {
        let refs = refs::list(&mut self.db.read().await?, access).await?;
        let roots: Vec<_> = refs.iter().map(|found| found.target).collect();
        let used = Arc::new(Mutex::new(HashSet::new()));
        let found = Arc::clone(&used);
        let faults = self.objects_blocking(access, move |repo| {
            Ok(repo.check(&roots, |_, data| {
                if let Some(pointer) = Pointer::parse(data) {
                    found.lock().unwrap_or_else(PoisonError::into_inner).insert(pointer.sha256);
                }
            }))
        });
        // With a hole in the walk nothing can be said to be unused.
        if let Some(fault) = faults.await?.first() {
            let path = &access.repo().path;
            return Err(Problem::Internal(format!(
                "{path}: object {}: {}: run fsck first",
                fault.oid, fault.what
            )));
        }
        Ok(used.lock().map(|mut used| std::mem::take(&mut *used)).unwrap_or_default())
    }

    async fn condemn(&self, context: &Context, done: &mut Collected) -> Result<(), Problem> {
        let mut tx = self.write(context).await?;
        done.condemned = collect::condemn(&mut tx, context.now()).await?;
        done.dropped += collect::drop_uploads(&mut tx, context.now()).await?;
        if done.condemned > 0 {
            let event = NewEvent::new(context, Action::GcCondemn)
                .subject("xorbs", None, "")
                .fact("count", done.condemned);
            tx.commit(event).await?;
        }
        Ok(())
    }

    async fn remove_condemned(&self, context: &Context, done: &mut Collected) -> Result<(), Problem> {
        let before = context.now().plus_seconds(-self.config.gc_grace_seconds);
        for xorb in collect::condemned(&mut self.db.read().await?, before).await? {
            let mut tx = self.write(context).await?;
            if !collect::remove_xorb(&mut tx, xorb.id).await? {
                continue;
            }
            let event = NewEvent::new(context, Action::GcCollect)
                .subject("xorb", Some(xorb.id.as_i64()), &xorb.hash.to_string())
                .fact("bytes", xorb.stored_bytes);
            tx.commit(event).await?;
            self.blobs.delete(&xorb.blob_key.parse()?).await?;
            self.blobs.delete(&xorb.index_key.parse()?).await?;
            done.removed_xorbs += 1;
            done.freed_bytes += xorb.stored_bytes;
        }
        Ok(())
    }

    /// Removes blobs that no row names: left by crashes, lost races and deleted repositories.
    async fn remove_orphans(&self, done: &mut Collected) -> Result<(), Problem> {
        let oldest = self.clock.now().plus_seconds(-self.config.gc_grace_seconds).as_millis();
        for class in Class::ALL {
            // Listed first, so that everything listed that has a row now is kept.
            let listed = self.blobs.list(class).await?;
            let kept = self.kept_keys().await?;
            for blob in listed {
                if blob.modified_ms < oldest && !kept.contains(&blob.key.to_string()) {
                    self.blobs.delete(&blob.key).await?;
                    done.removed_blobs += 1;
                    done.freed_bytes += blob.size;
                }
            }
        }
        Ok(())
    }

    async fn kept_keys(&self) -> Result<HashSet<String>, Problem> {
        let mut read = self.db.read().await?;
        let mut kept: HashSet<String> = git::all_pack_keys(&mut read).await?.into_iter().collect();
        for xorb in collect::xorbs(&mut read).await? {
            kept.insert(xorb.blob_key);
            kept.insert(xorb.index_key);
        }
        Ok(kept)
    }
}
