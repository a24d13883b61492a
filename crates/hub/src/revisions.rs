//! From what a caller wrote to a commit, and to a path in it.

use bastide_core::{EntryPath, Oid, RefName, Revision};
use bastide_store::{Reader, git, refs};

use crate::access::{Access, Includes, See};
use crate::{Hub, Problem};

/// Fewest digits of a short commit id.
const MIN_SHORT_ID: usize = 4;
/// Segments of a branch name that are tried when an address does not encode its slashes.
const MAX_REF_SEGMENTS: usize = 8;

impl Hub {
    /// The commit that a revision means in a repository.
    pub async fn resolve_revision<L: Includes<See>>(
        &self,
        access: &Access<L>,
        revision: &str,
    ) -> Result<Oid, Problem> {
        let mut read = self.db.read().await?;
        let found = find(&mut read, access, revision).await?;
        found.ok_or_else(|| Problem::RevisionNotFound(revision.to_owned()))
    }

    /// The commit that an id or the start of one means; `None` for one that is not here. Names are
    /// refused: what they mean moves on, and with it whatever is to be compared.
    pub(crate) async fn resolve_commit_id<L: Includes<See>>(
        &self,
        access: &Access<L>,
        text: &str,
    ) -> Result<Option<Oid>, Problem> {
        if let Ok(oid) = text.parse::<Oid>() {
            return Ok(Some(oid));
        }
        let (from, to) = id_range(text).ok_or_else(|| {
            Problem::Invalid(format!("parentCommit has to be a commit id, of which {text:.80} is none"))
        })?;
        let found = git::commits_between(&mut self.db.read().await?, access, from, to).await?;
        Ok(found.first().copied().filter(|_| found.len() == 1))
    }

    /// Splits the tail of an address into a revision and a path. An encoded revision is one
    /// segment; a raw one may be several, and the longest that exists wins.
    pub async fn resolve_tail<L: Includes<See>>(
        &self,
        access: &Access<L>,
        tail: &[String],
    ) -> Result<(Oid, Option<EntryPath>), Problem> {
        let first = tail.first().map(String::as_str).unwrap_or_default();
        let mut read = self.db.read().await?;
        // Nothing is longer than an encoded revision or a whole commit id.
        let whole = first.contains('/') || first.parse::<Oid>().is_ok() || tail.len() == 1;
        let named = if whole { None } else { longest_ref(&mut read, access, tail).await? };
        let (commit, used) = match named {
            Some(found) => found,
            None => match find(&mut read, access, first).await? {
                Some(commit) => (commit, 1),
                None => return Err(Problem::RevisionNotFound(first.to_owned())),
            },
        };
        Ok((commit, path(tail, used, commit)?))
    }

    /// True until the first commit has come.
    pub(crate) async fn is_unborn<L: Includes<See>>(&self, access: &Access<L>) -> Result<bool, Problem> {
        Ok(refs::list(&mut self.db.read().await?, access).await?.is_empty())
    }
}

/// The branch, tag or other ref that the most segments of a raw tail name, and how many they are.
async fn longest_ref<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    tail: &[String],
) -> Result<Option<(Oid, usize)>, Problem> {
    let mut names: Vec<(RefName, usize)> = Vec::new();
    for used in (1..=tail.len().min(MAX_REF_SEGMENTS)).rev() {
        let text = tail.get(..used).unwrap_or_default().join("/");
        match Revision::parse(&text) {
            Revision::Ref(name) => names.push((name, used)),
            // A branch before a tag of the same name, as everywhere.
            Revision::Short(text) => {
                let both = [RefName::branch(&text), RefName::tag(&text)].into_iter().flatten();
                names.extend(both.map(|name| (name, used)));
            }
            Revision::Commit(_) | Revision::Head => {}
        }
    }
    let wanted: Vec<RefName> = names.iter().map(|(name, _)| name.clone()).collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let found = refs::named(read, access, &wanted).await?;
    let first = names.iter().find_map(|(name, used)| {
        let found = found.iter().find(|found| found.name == *name)?;
        Some((found.commit, *used))
    });
    Ok(first)
}

/// What comes after the revision. A path that cannot be is one that is not there.
fn path(tail: &[String], from: usize, commit: Oid) -> Result<Option<EntryPath>, Problem> {
    let rest = tail.get(from..).unwrap_or_default().join("/");
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() {
        return Ok(None);
    }
    let missing = |_| Problem::EntryNotFound { message: "Entry not found".into(), commit: Some(commit) };
    rest.parse().map(Some).map_err(missing)
}

async fn find<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    revision: &str,
) -> Result<Option<Oid>, Problem> {
    match Revision::parse(revision) {
        Revision::Head => by_ref(read, access, &RefName::main()).await,
        Revision::Ref(name) => by_ref(read, access, &name).await,
        // A commit of the repository itself, whatever else its packs hold.
        Revision::Commit(oid) => Ok(git::has_commit(read, access, oid).await?.then_some(oid)),
        Revision::Short(text) => by_short(read, access, &text).await,
    }
}

async fn by_ref<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    name: &RefName,
) -> Result<Option<Oid>, Problem> {
    Ok(refs::get(read, access, name).await?.map(|found| found.commit))
}

/// A branch, else a tag, else the start of a commit id.
async fn by_short<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    text: &str,
) -> Result<Option<Oid>, Problem> {
    for name in [RefName::branch(text), RefName::tag(text)].into_iter().flatten() {
        if let Some(commit) = by_ref(read, access, &name).await? {
            return Ok(Some(commit));
        }
    }
    let Some((from, to)) = id_range(text) else { return Ok(None) };
    match git::commits_between(read, access, from, to).await?.as_slice() {
        [only] => Ok(Some(*only)),
        _ => Ok(None),
    }
}

/// The ids that start with these digits.
fn id_range(text: &str) -> Option<(Oid, Oid)> {
    let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex || !(MIN_SHORT_ID..40).contains(&text.len()) {
        return None;
    }
    Some((format!("{text:0<40}").parse().ok()?, format!("{text:f<40}").parse().ok()?))
}
