//! The part of the walk that looks at git: packs, refs, objects, and the rows made from them.

use std::collections::{BTreeMap, HashMap, HashSet};

use bastide_core::Oid;
use bastide_git::{Cache, Change, GitError, Pointer, Reached, Repo, diff_trees};
use bastide_store::check::{self, ChangeFacts, CommitFacts};
use bastide_store::git::{self, Pack};
use bastide_store::prune;
use bastide_store::refs::{self, Ref};

use super::Checked;
use crate::access::{Access, Read};
use crate::{Hub, Problem};

/// A pack and its index end with checksums of this length; an index has the number of its objects
/// after a head and 255 other counts.
const CHECKSUM_BYTES: usize = 20;
const OBJECT_COUNT_AT: u64 = 8 + 255 * 4;
/// Looks at a repository whose packs are pruned meanwhile.
const ATTEMPTS: usize = 3;

impl Hub {
    /// Checks a repository's packs, refs, objects and commits. Answers the pointers that it found.
    pub(super) async fn check_git(
        &self,
        access: &Access<Read>,
        deep: bool,
        done: &mut Checked,
    ) -> HashSet<Pointer> {
        let path = access.repo().path.to_string();
        let mut found = HashSet::new();
        for left in (0..ATTEMPTS).rev() {
            let before = self.prunings(access).await;
            let (packs, problems) = (done.packs, done.problems.len());
            let faults = self.check_packs(access, done).await;
            done.note(&path, faults);
            match self.check_copy(access, deep, done).await {
                Ok(pointers) => found = pointers,
                Err(problem) => done.note(&path, Err(problem)),
            }
            let is_right = done.problems.len() == problems;
            if is_right || left == 0 || self.prunings(access).await == before {
                break;
            }
            // What was listed first was gone from the packs that were read later.
            done.packs = packs;
            done.problems.truncate(problems);
        }
        found
    }

    async fn prunings(&self, access: &Access<Read>) -> Option<i64> {
        prune::prunings(&mut self.db.read().await.ok()?, access).await.ok()
    }

    async fn check_packs(&self, access: &Access<Read>, done: &mut Checked) -> Result<Vec<String>, Problem> {
        let mut faults = Vec::new();
        let packs = git::packs(&mut self.db.read().await?, access).await?;
        for pack in packs {
            done.packs += 1;
            match self.check_pack(&pack).await {
                Ok(None) => {}
                Ok(Some(what)) => faults.push(format!("{}: {what}", pack.name)),
                Err(problem) => faults.push(format!("{}: {}", pack.name, problem.detail())),
            }
        }
        Ok(faults)
    }

    /// Compares a pack's row with the ends of its blobs.
    async fn check_pack(&self, pack: &Pack) -> Result<Option<String>, Problem> {
        let (bytes, index) = (
            self.blobs.open(&pack.pack_key.parse()?).await?,
            self.blobs.open(&pack.index_key.parse()?).await?,
        );
        if bytes.len() != pack.bytes {
            return Ok(Some(format!("{} bytes are stored, its row says {}", bytes.len(), pack.bytes)));
        }
        let end = CHECKSUM_BYTES as u64;
        let trailer = bytes.read_at(bytes.len().saturating_sub(end), CHECKSUM_BYTES).await?;
        let named = index.read_at(index.len().saturating_sub(2 * end), CHECKSUM_BYTES).await?;
        let trailer: Oid = Oid::from_slice(&trailer).map_err(Problem::internal)?;
        if pack.name != format!("pack-{trailer}") || named[..] != trailer.as_bytes()[..] {
            return Ok(Some(format!("its bytes are those of pack-{trailer}")));
        }
        let count = index.read_at(OBJECT_COUNT_AT, 4).await?;
        let count = count[..].try_into().map_or(0, u32::from_be_bytes);
        let wrong = u64::from(count) != pack.objects;
        Ok(wrong.then(|| format!("it has {count} objects, its row says {}", pack.objects)))
    }

    async fn check_copy(
        &self,
        access: &Access<Read>,
        deep: bool,
        done: &mut Checked,
    ) -> Result<HashSet<Pointer>, Problem> {
        let path = access.repo().path.to_string();
        let before = done.problems.len();
        // A copy made anew from the blobs, apart from the one in use: a copy that is right would
        // hide packs that are not.
        // A folder for this check alone: another may be running. It goes when it is dropped.
        let folder = self.check_folder()?;
        let copy = &Cache::new(folder.path().to_owned()).repo(access.repo_id())?;
        // The hub may be at work meanwhile. What is in these lists has its objects in the packs that
        // are listed after them.
        let mut read = self.db.read().await?;
        let refs = refs::list(&mut read, access).await.unwrap_or_else(|error| {
            done.note(&path, Err(error.into()));
            Vec::new()
        });
        let commits = check::commits(&mut read, access).await;
        drop(read);
        let fetched = self.fetch_for_check(access, copy, deep).await;
        done.note(&path, fetched);
        let checked = self.check_refs(access, copy, &refs).await;
        done.note(&path, checked);
        let (repo, roots) = (copy.clone(), refs.iter().map(|found| found.target).collect::<Vec<_>>());
        let reached = tokio::task::spawn_blocking(move || repo.reach(&roots)).await?;
        let Reached { faults, commits: found, pointers } = reached;
        let faults = faults.iter().map(|fault| format!("object {}: {}", fault.oid, fault.what)).collect();
        done.note(&path, Ok(faults));
        let rows = match commits {
            Ok(commits) => self.check_commits(access, copy, commits, found).await,
            Err(error) => Err(error.into()),
        };
        done.note(&path, rows);
        // What is damaged has been named above in our own words: git is asked about the rest.
        if deep && done.problems.len() == before {
            done.note(&path, ask_git(copy).await);
        }
        Ok(pointers)
    }

    /// Brings the packs into the copy, as many as there are.
    async fn fetch_for_check(
        &self,
        access: &Access<Read>,
        copy: &Repo,
        deep: bool,
    ) -> Result<Vec<String>, Problem> {
        let mut faults = Vec::new();
        let packs = git::packs(&mut self.db.read().await?, access).await?;
        for pack in packs {
            let (to_pack, to_index) = copy.pack_paths(&pack.name);
            // What cannot be fetched was named before.
            let fetched = self.blobs.fetch_to(&pack.pack_key.parse()?, &to_pack).await.is_ok()
                && self.blobs.fetch_to(&pack.index_key.parse()?, &to_index).await.is_ok();
            if !fetched || !deep {
                continue;
            }
            let (repo, name) = (copy.clone(), pack.name.clone());
            if let Err(error) = tokio::task::spawn_blocking(move || repo.verify_pack(&name)).await? {
                faults.push(format!("{}: {error}", pack.name));
            }
        }
        Ok(faults)
    }

    async fn check_refs(
        &self,
        access: &Access<Read>,
        copy: &Repo,
        refs: &[Ref],
    ) -> Result<Vec<String>, Problem> {
        let mut faults = Vec::new();
        for found in refs {
            if !git::has_commit(&mut self.db.read().await?, access, found.commit).await? {
                faults.push(format!("{} names a commit without a row", found.name));
            }
        }
        let (copy, refs) = (copy.clone(), refs.to_vec());
        let wrong = move || refs.iter().filter_map(|found| wrong_target(&copy, found)).collect::<Vec<_>>();
        faults.extend(tokio::task::spawn_blocking(wrong).await?);
        Ok(faults)
    }

    /// Compares the rows of commits and of changed paths with the commits themselves.
    async fn check_commits(
        &self,
        access: &Access<Read>,
        copy: &Repo,
        mut commits: Vec<CommitFacts>,
        reached: HashSet<Oid>,
    ) -> Result<Vec<String>, Problem> {
        let mut read = self.db.read().await?;
        let changes = check::changes(&mut read, access).await?;
        // Those that collection took meanwhile do not count.
        let left: HashSet<Oid> =
            check::commits(&mut read, access).await?.into_iter().map(|row| row.id).collect();
        drop(read);
        commits.retain(|row| left.contains(&row.id));
        let copy = copy.clone();
        Ok(tokio::task::spawn_blocking(move || compare_commits(&copy, &commits, changes, &reached)).await?)
    }
}

/// A ref whose target does not come to the commit that its row has.
fn wrong_target(repo: &Repo, found: &Ref) -> Option<String> {
    match repo.peel(found.target) {
        Ok(commit) if commit == found.commit => None,
        Ok(commit) => Some(format!("{} comes to {commit}, its row says {}", found.name, found.commit)),
        Err(error) => Some(format!("{}: {error}", found.name)),
    }
}

fn compare_commits(
    repo: &Repo,
    commits: &[CommitFacts],
    changes: Vec<ChangeFacts>,
    reached: &HashSet<Oid>,
) -> Vec<String> {
    let generations: HashMap<Oid, i64> = commits.iter().map(|row| (row.id, row.generation)).collect();
    let mut by_commit: HashMap<Oid, Vec<ChangeFacts>> = HashMap::new();
    for change in changes {
        by_commit.entry(change.commit).or_default().push(change);
    }
    let mut faults: Vec<String> = reached
        .iter()
        .filter(|id| !generations.contains_key(id))
        .map(|id| format!("commit {id} has no row"))
        .collect();
    for row in commits {
        let changes = by_commit.remove(&row.id).unwrap_or_default();
        match compare_commit(repo, row, &generations, changes) {
            Ok(None) => {}
            Ok(Some(what)) => faults.push(format!("commit {}: its row has {what}", row.id)),
            Err(error) => faults.push(format!("commit {}: {error}", row.id)),
        }
    }
    // What is left over is of commits that collection has just taken, or that came meanwhile.
    faults
}

/// What of a commit's row is not as the commit has it.
fn compare_commit(
    repo: &Repo,
    row: &CommitFacts,
    generations: &HashMap<Oid, i64>,
    changes: Vec<ChangeFacts>,
) -> Result<Option<String>, GitError> {
    let commit = repo.commit(row.id)?;
    // A commit without parents is the first; a parent without a row counts as one.
    let above = row.parents.iter().map(|id| generations.get(id).map_or(1, |generation| generation + 1));
    let message = |text: &str| text.replace('\0', "");
    let same = [
        ("another tree", row.tree == commit.tree),
        ("other parents", row.parents == commit.parents),
        ("another generation", row.generation == above.max().unwrap_or(0)),
        ("another time", row.time.as_seconds() == commit.time.as_seconds()),
        ("another author", row.author == commit.author.name),
        ("another message", message(&row.message) == commit.message),
        ("another title", message(&row.message).starts_with(&message(&row.title))),
    ];
    if let Some((what, _)) = same.into_iter().find(|(_, same)| !same) {
        return Ok(Some(what.to_owned()));
    }
    // What a merge changed is a matter of the point of view.
    if row.parents.len() > 1 {
        return Ok(None);
    }
    let parent = commit.parents.first().map(|parent| repo.commit(*parent)).transpose()?;
    let diff = diff_trees(repo, parent.map(|parent| parent.tree), Some(commit.tree))?;
    Ok(compare_changes(diff, row.generation, changes))
}

/// Where the rows of changed paths differ from what two trees differ in.
fn compare_changes(diff: Vec<Change>, generation: i64, rows: Vec<ChangeFacts>) -> Option<String> {
    let ended: Vec<String> = diff
        .iter()
        .filter(|change| change.is_tree && change.new.is_none())
        .map(|change| format!("{}/", change.path))
        .collect();
    let mut expected: BTreeMap<String, Option<Oid>> = BTreeMap::new();
    for change in diff {
        let object = expected.entry(change.path).or_default();
        *object = change.new.or(*object);
    }
    for row in rows {
        let fits = row.generation == generation
            && expected.remove(&row.path).is_some_and(|object| object == row.object);
        if !fits {
            return Some(format!("another change of {}", row.path));
        }
    }
    // A folder that went as a whole stands for all that was in it.
    let covered = |path: &str| ended.iter().any(|folder| path.starts_with(folder));
    let left = expected.into_iter().find(|(path, object)| object.is_some() || !covered(path));
    left.map(|(path, _)| format!("no change of {path}"))
}

/// Whether stock git would take the repository: others clone and push with it.
async fn ask_git(copy: &Repo) -> Result<Vec<String>, Problem> {
    let copy = copy.clone();
    let complaints = tokio::task::spawn_blocking(move || copy.strict_complaints()).await??;
    Ok(complaints.into_iter().map(|line| format!("git fsck --strict: {line}")).collect())
}
