//! The walk over everything: does each row have its bytes, does each file have its chunks, does
//! each commit have its objects, does everything hash to its name, and do the rows that say a
//! thing twice say the same. One fault does not end the search for others.

mod git;
mod large;

use std::collections::HashMap;

use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::{check, collect, discussions, prune, storage};
use bastide_xet::xorb::validate;

use crate::access::{Access, Read};
use crate::accounts::require_operator;
use crate::{Hub, Problem};

/// Faults of one kind that are named one by one.
const NAMED: usize = 20;

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub struct Checked {
    pub repos: u64,
    pub packs: u64,
    pub xorbs: u64,
    pub files: u64,
    /// Blobs that no row names: what crashes left, and what is on its way. Not wrong.
    pub orphans: u64,
    pub orphan_bytes: u64,
    /// Repositories whose packs hold what collection has dropped: to be pruned. Not wrong.
    pub unpruned: u64,
    pub problems: Vec<String>,
}

impl Checked {
    /// Notes what a check found in `place`, or why it could not go on.
    fn note(&mut self, place: &str, outcome: Result<Vec<String>, Problem>) {
        let found = outcome.unwrap_or_else(|problem| vec![problem.detail()]);
        let more = found.len().saturating_sub(NAMED);
        self.problems.extend(found.into_iter().take(NAMED).map(|what| format!("{place}: {what}")));
        if more > 0 {
            self.problems.push(format!("{place}: and {more} more of this kind"));
        }
    }
}

impl Hub {
    /// Checks everything; with `deep`, reads and hashes every stored byte again, and has damaged
    /// xorbs replaced by the next upload of the same.
    pub async fn check_all(
        &self,
        context: &Context,
        deep: bool,
        progress: impl Fn(&str, usize, usize),
    ) -> Result<Checked, Problem> {
        require_operator(context)?;
        let mut done = Checked::default();
        if deep {
            let found = check::integrity(&mut self.db.read().await?).await;
            done.note("the database", found.map_err(Problem::from));
        }
        let counts = check::count_faults(&mut self.db.read().await?).await;
        done.note("the numbers of repositories", counts.map_err(Problem::from));
        let outcome = self.check_xorbs(context, deep, &progress, &mut done).await;
        done.note("xorbs", outcome.map(|()| Vec::new()));
        let repos = collect::repo_ids(&mut self.db.read().await?).await?;
        for (at, id) in repos.iter().enumerate() {
            progress("repositories", at, repos.len());
            match self.access(context).repo_by_id::<Read>(*id).await {
                Ok(access) => self.check_repo(&access, deep, &mut done).await,
                // Deleted since the list was made.
                Err(Problem::RepoNotFound { .. }) => continue,
                Err(problem) => done.note(&format!("repository {id}"), Err(problem)),
            }
            done.repos += 1;
        }
        let miscounted = storage::miscounted(&mut self.db.read().await?).await?;
        let text = |name: String| format!("what {name} uses is not the sum over its repositories");
        done.note("namespaces", Ok(miscounted.into_iter().map(text).collect()));
        let orphans = self.orphans().await?;
        done.orphans = orphans.len() as u64;
        done.orphan_bytes = orphans.iter().map(|blob| blob.size).sum();
        done.unpruned = prune::unpruned(&mut self.db.read().await?).await?;
        Ok(done)
    }

    async fn check_repo(&self, access: &Access<Read>, deep: bool, done: &mut Checked) {
        let path = access.repo().path.to_string();
        let rows = self.check_repo_row(access).await;
        done.note(&path, rows);
        let pointers = self.check_git(access, deep, done).await;
        let content = self.check_pointers(access, pointers).await;
        done.note(&path, content);
        let rights = self.check_rights(access).await;
        done.note(&path, rights);
        let files = self.check_files(access, deep, done).await;
        done.note(&path, files);
    }

    async fn check_repo_row(&self, access: &Access<Read>) -> Result<Vec<String>, Problem> {
        let mut read = self.db.read().await?;
        let mut faults = check::repo_faults(&mut read, access).await?;
        faults.extend(discussions::faults(&mut read, access).await?);
        Ok(faults)
    }

    async fn check_xorbs(
        &self,
        context: &Context,
        deep: bool,
        progress: impl Fn(&str, usize, usize),
        done: &mut Checked,
    ) -> Result<(), Problem> {
        let xorbs = collect::xorbs(&mut self.db.read().await?).await?;
        // Xorbs may share a blob: its bytes are read once.
        let mut read: HashMap<String, Option<String>> = HashMap::new();
        for (at, xorb) in xorbs.iter().enumerate() {
            progress("xorbs", at, xorbs.len());
            done.xorbs += 1;
            let place = format!("xorb {}", xorb.hash);
            let mut fault = self.look_at_xorb(xorb).await;
            if deep && matches!(fault, Ok(None)) {
                fault = match read.get(&xorb.blob_key) {
                    Some(known) => Ok(known.clone()),
                    None => self.read_xorb(xorb).await,
                };
                if let Ok(found) = &fault {
                    read.insert(xorb.blob_key.clone(), found.clone());
                }
            }
            if !matches!(fault, Ok(None)) && !collect::is_current(&mut self.db.read().await?, xorb).await? {
                // Collected or replaced since the list was made.
                continue;
            }
            if let (true, Ok(found)) = (deep, &fault) {
                self.mark_xorb(context, xorb, found.is_some()).await?;
            }
            done.note(&place, fault.map(|found| found.into_iter().collect()));
        }
        Ok(())
    }

    /// What is wrong with a xorb, as far as its row, its index and the length of its blob tell.
    async fn look_at_xorb(&self, xorb: &collect::XorbFacts) -> Result<Option<String>, Problem> {
        let reader = match self.blobs.open(&xorb.blob_key.parse()?).await {
            Ok(reader) => reader,
            Err(error @ bastide_blobs::BlobError::NotFound(_)) => return Ok(Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        if reader.len() != xorb.stored_bytes {
            return Ok(Some(format!("{} bytes are stored, {} were", reader.len(), xorb.stored_bytes)));
        }
        let index = match self.blobs.get(&xorb.index_key.parse()?, crate::large::MAX_INDEX_BYTES).await {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Some(format!("its index: {error}"))),
        };
        let index = match bastide_xet::xorb::XorbIndex::decode(&index) {
            Ok(index) => index,
            Err(error) => return Ok(Some(format!("its index: {error}"))),
        };
        let says =
            (u64::from(index.stored_bytes()), u64::from(index.raw_bytes()), index.chunk_count().into());
        if index.hash != xorb.hash || says.0 != xorb.stored_bytes {
            return Ok(Some("its index is that of another xorb".to_owned()));
        }
        let wrong = says != (xorb.stored_bytes, xorb.raw_bytes, xorb.chunks);
        Ok(wrong.then(|| format!("its row and its index differ on its sizes: {says:?}")))
    }

    /// What is wrong with the stored bytes themselves.
    async fn read_xorb(&self, xorb: &collect::XorbFacts) -> Result<Option<String>, Problem> {
        let reader = self.blobs.open(&xorb.blob_key.parse()?).await?;
        let len = usize::try_from(reader.len()).map_err(Problem::internal)?;
        let (bytes, hash) = (reader.read_at(0, len).await?, xorb.hash);
        let index = self.xorb_index(&xorb.index_key).await?;
        let found = tokio::task::spawn_blocking(move || validate(&bytes[..], &hash)).await?;
        Ok(match found {
            Err(error) => Some(format!("its bytes: {error}")),
            Ok((found, _)) if found != *index => Some("its index does not fit its bytes".to_owned()),
            Ok(_) => None,
        })
    }

    async fn mark_xorb(
        &self,
        context: &Context,
        xorb: &collect::XorbFacts,
        damaged: bool,
    ) -> Result<(), Problem> {
        if xorb.damaged == damaged {
            return Ok(());
        }
        let mut tx = self.write(context).await?;
        if collect::set_damaged(&mut tx, xorb, damaged, context.now()).await? {
            let event = NewEvent::new(context, Action::XorbDamage)
                .subject("xorb", Some(xorb.id.as_i64()), &xorb.hash.to_string())
                .fact("damaged", damaged);
            tx.commit(event).await?;
        }
        Ok(())
    }
}
