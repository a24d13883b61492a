//! Before an upload: which files are large, which are ignored, which are there already.

use bastide_core::limits::{MAX_PREUPLOAD_FILES, MAX_REGULAR_FILE_BYTES};
use bastide_core::{EntryPath, Oid, RefName};
use bastide_git::{GitError, Repo};
use bastide_inspect::attributes::{self, Attributes, Ignores, Steps, TooMuchWork};
use bastide_inspect::is_binary;

use crate::access::{Access, Read};
use crate::{Hub, Problem};

/// Longest file of rules that is read from a repository.
const MAX_RULES_FILE_BYTES: u64 = 1024 * 1024;

/// A file that somebody wants to upload.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub path: String,
    pub size: u64,
    pub sample: Vec<u8>,
}

/// What to do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub path: String,
    pub large: bool,
    pub ignore: bool,
    /// What stands there now: a blob's id, or the SHA-256 of a large file.
    pub oid: Option<String>,
    /// Bytes that are certainly new: what stands at its path already may be sent again as it is.
    pub new_bytes: u64,
}

impl Hub {
    pub async fn preupload(
        &self,
        access: &Access<Read>,
        revision: &str,
        candidates: Vec<Candidate>,
        attributes: Option<String>,
        ignores: Option<String>,
    ) -> Result<(Option<Oid>, Vec<Verdict>), Problem> {
        if candidates.len() > MAX_PREUPLOAD_FILES {
            return Err(Problem::Unprocessable(format!("at most {MAX_PREUPLOAD_FILES} files in one call")));
        }
        for candidate in &candidates {
            let path: Result<EntryPath, _> = candidate.path.parse();
            path.map_err(|error| Problem::Unprocessable(error.to_string()))?;
        }
        for (name, given) in [(".gitattributes", &attributes), (".gitignore", &ignores)] {
            let Some(text) = given else { continue };
            let refused = |why| Problem::Unprocessable(format!("the {name} that was sent {why}"));
            attributes::check_size(text).map_err(refused)?;
        }
        let commit = match self.resolve_revision(access, revision).await {
            // The first commit is on its way: there is nothing to compare with.
            Err(Problem::RevisionNotFound(_)) if is_main(revision) && self.is_unborn(access).await? => None,
            found => Some(found?),
        };
        let verdicts = self.objects_blocking(access, move |repo| {
            let root = commit.map(|commit| repo.commit(commit)).transpose()?.map(|commit| commit.tree);
            let text = |name: &str, given: &Option<String>| match given {
                Some(text) => Ok(text.clone()),
                None => rules(repo, root, name),
            };
            let mut rules = Judge {
                attributes: Attributes::parse(&text(".gitattributes", &attributes)?),
                ignores: Ignores::parse(&text(".gitignore", &ignores)?),
                steps: Steps::default(),
            };
            let judged = candidates.iter().map(|candidate| rules.judge(candidate));
            let Ok(judged) = judged.collect::<Result<Vec<_>, TooMuchWork>>() else { return Ok(None) };
            let all = candidates
                .iter()
                .zip(judged)
                .map(|(candidate, judged)| verdict(repo, root, candidate, judged));
            all.collect::<Result<Vec<_>, GitError>>().map(Some)
        });
        let verdicts = verdicts.await?.ok_or_else(|| Problem::Unprocessable(TooMuchWork.to_string()))?;
        Ok((commit, verdicts))
    }
}

/// The rules that files are judged by, and the work that this may take.
struct Judge {
    attributes: Attributes,
    ignores: Ignores,
    steps: Steps,
}

/// What the rules say of a file.
struct Judged {
    large: bool,
    ignore: bool,
}

impl Judge {
    fn judge(&mut self, candidate: &Candidate) -> Result<Judged, TooMuchWork> {
        let Candidate { path, size, sample } = candidate;
        let large = *size > 0
            && (*size > MAX_REGULAR_FILE_BYTES
                || self.attributes.is_large(path, &mut self.steps)?
                || is_binary(sample));
        Ok(Judged { large, ignore: self.ignores.is_ignored(path, &mut self.steps)? })
    }
}

fn is_main(revision: &str) -> bool {
    matches!(revision, "main" | "HEAD") || RefName::main().as_str() == revision
}

fn rules(repo: &Repo, root: Option<Oid>, name: &str) -> Result<String, GitError> {
    let (Some(root), Ok(path)) = (root, name.parse::<EntryPath>()) else { return Ok(String::new()) };
    match repo.find(root, &path)? {
        Some(entry) if !entry.is_tree() => {
            Ok(String::from_utf8_lossy(&repo.blob(entry.oid, MAX_RULES_FILE_BYTES)?).into_owned())
        }
        _ => Ok(String::new()),
    }
}

fn verdict(
    repo: &Repo,
    root: Option<Oid>,
    candidate: &Candidate,
    judged: Judged,
) -> Result<Verdict, GitError> {
    let path = &candidate.path;
    let entry = match root.zip(path.parse::<EntryPath>().ok()) {
        Some((root, parsed)) => repo.find(root, &parsed)?.filter(|entry| !entry.is_tree()),
        None => None,
    };
    let oid = match entry {
        Some(entry) => Some(match repo.pointer(entry.oid)? {
            Some(pointer) => pointer.sha256.to_string(),
            None => entry.oid.to_string(),
        }),
        None => None,
    };
    let new_bytes = if oid.is_none() && !judged.ignore { candidate.size } else { 0 };
    Ok(Verdict { path: path.clone(), large: judged.large, ignore: judged.ignore, oid, new_bytes })
}
