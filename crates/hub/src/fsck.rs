//! The walk over everything: does each row have its bytes, does each file have its chunks, does
//! each commit have its objects, does everything hash to its name.

use bastide_git::Cache;
use bastide_ledger::Context;
use bastide_store::{collect, git, refs, xet};
use bastide_xet::plan;
use bastide_xet::xorb::validate;
use futures_util::StreamExt;
use sha2::Digest;

use crate::access::{Access, Read};
use crate::accounts::require_operator;
use crate::{Hub, Problem};

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub struct Checked {
    pub repos: u64,
    pub packs: u64,
    pub xorbs: u64,
    pub files: u64,
    pub problems: Vec<String>,
}

impl Hub {
    /// Checks everything; with `deep`, hashes every stored byte again.
    pub async fn check_all(
        &self,
        context: &Context,
        deep: bool,
        progress: impl Fn(&str, usize, usize),
    ) -> Result<Checked, Problem> {
        require_operator(context)?;
        let mut done = Checked::default();
        let xorbs = collect::xorbs(&mut self.db.read().await?).await?;
        for (at, xorb) in xorbs.iter().enumerate() {
            progress("xorbs", at, xorbs.len());
            if let Err(problem) = self.check_xorb(xorb, deep).await {
                done.problems.push(format!("xorb {}: {}", xorb.hash, what(&problem)));
            }
            done.xorbs += 1;
        }
        let repos = collect::repo_ids(&mut self.db.read().await?).await?;
        for (at, id) in repos.iter().enumerate() {
            progress("repositories", at, repos.len());
            let Ok(access) = self.access(context).repo_by_id::<Read>(*id).await else { continue };
            if let Err(problem) = self.check_repo(&access, deep, &mut done).await {
                done.problems.push(format!("{}: {}", access.repo().path, what(&problem)));
            }
            done.repos += 1;
        }
        Ok(done)
    }

    async fn check_xorb(&self, xorb: &collect::XorbFacts, deep: bool) -> Result<(), Problem> {
        let wrong = |text: String| Problem::Internal(text);
        let reader = self.blobs.open(&xorb.blob_key.parse()?).await?;
        if reader.len() != xorb.stored_bytes {
            return Err(wrong(format!("{} bytes are stored, {} were", reader.len(), xorb.stored_bytes)));
        }
        let index = self.xorb_index(&xorb.index_key).await?;
        if index.hash != xorb.hash || u64::from(index.stored_bytes()) != xorb.stored_bytes {
            return Err(wrong("its index is that of another xorb".to_owned()));
        }
        if deep {
            let len = usize::try_from(reader.len()).map_err(Problem::internal)?;
            let (bytes, hash) = (reader.read_at(0, len).await?, xorb.hash);
            let (found, _) = tokio::task::spawn_blocking(move || validate(&bytes[..], &hash)).await??;
            if found != *index {
                return Err(wrong("its index does not fit its bytes".to_owned()));
            }
        }
        Ok(())
    }

    async fn check_repo(&self, access: &Access<Read>, deep: bool, done: &mut Checked) -> Result<(), Problem> {
        let mut read = self.db.read().await?;
        let path = access.repo().path.to_string();
        for pack in git::packs(&mut read, access).await? {
            for key in [&pack.pack_key, &pack.index_key] {
                if let Err(error) = self.blobs.open(&key.parse()?).await {
                    done.problems.push(format!("{path}: {}: {error}", pack.name));
                }
            }
            done.packs += 1;
        }
        let refs = refs::list(&mut read, access).await?;
        for found in &refs {
            if !git::has_commit(&mut read, access, found.commit).await? {
                done.problems.push(format!("{path}: {} names a commit without a row", found.name));
            }
        }
        drop(read);
        self.check_objects(access, &refs, &path, done).await?;
        for hash in collect::files(&mut self.db.read().await?, access).await? {
            if let Err(problem) = self.check_file(access, hash, deep).await {
                done.problems.push(format!("{path}: file {hash}: {}", what(&problem)));
            }
            done.files += 1;
        }
        Ok(())
    }

    async fn check_objects(
        &self,
        access: &Access<Read>,
        refs: &[refs::Ref],
        path: &str,
        done: &mut Checked,
    ) -> Result<(), Problem> {
        let roots: Vec<_> = refs.iter().map(|found| found.target).collect();
        // A copy made anew from the blobs, apart from the one in use: a copy that is right would
        // hide packs that are not.
        // A folder for this check alone: another may be running. It goes when it is dropped.
        let folder = self.check_folder()?;
        let cache = Cache::new(folder.path().to_owned());
        let repo = cache.repo(access.repo_id())?;
        self.fetch_packs(access, &repo).await?;
        let named: Vec<_> = refs
            .iter()
            .map(|found| {
                (found.name.clone(), found.target, (found.target != found.commit).then_some(found.commit))
            })
            .collect();
        let faults = tokio::task::spawn_blocking(move || {
            repo.write_refs(&named)?;
            Ok::<_, bastide_git::GitError>(repo.check(&roots, |_, _| {}))
        });
        let faults = faults.await??;
        done.problems
            .extend(faults.iter().map(|fault| format!("{path}: object {}: {}", fault.oid, fault.what)));
        Ok(())
    }

    async fn check_file(
        &self,
        access: &Access<Read>,
        hash: bastide_core::XetHash,
        deep: bool,
    ) -> Result<(), Problem> {
        let file = xet::file_by_hash(&mut self.db.read().await?, access, hash).await?;
        let Some(file) = file else { return Ok(()) };
        let (size, sha256) = (file.size, file.sha256);
        let open = self.open_file(access, file).await?;
        if plan::size(&open.terms) != size {
            return Err(Problem::Internal("its terms have another length than it".to_owned()));
        }
        plan::pieces(&open.terms, &(0..size), |hash| open.index(hash))?;
        if !deep {
            return Ok(());
        }
        let mut hasher = sha2::Sha256::new();
        let mut stream = self.stream_file(open, 0..size)?;
        while let Some(part) = stream.next().await {
            hasher.update(&part?);
        }
        let found = bastide_core::Sha256::from_bytes(hasher.finalize().into());
        if sha256.is_some_and(|sha256| sha256 != found) {
            return Err(Problem::Internal(format!("its content has the SHA-256 {found}")));
        }
        Ok(())
    }
}

/// For the operator, who may know all.
fn what(problem: &Problem) -> String {
    match problem {
        Problem::Internal(detail) => detail.clone(),
        other => other.to_string(),
    }
}
