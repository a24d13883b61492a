//! Before an upload: which files are large, which are ignored, which are there already.

use bastide_core::limits::{MAX_PREUPLOAD_FILES, MAX_REGULAR_FILE_BYTES};
use bastide_core::{EntryPath, Oid};
use bastide_git::{GitError, Repo};
use bastide_inspect::attributes::{Attributes, Ignores};
use bastide_inspect::is_binary;

use crate::access::{Access, Write};
use crate::{Hub, Problem};

const MAX_RULES_BYTES: u64 = 1024 * 1024;

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
}

impl Hub {
    pub async fn preupload(
        &self,
        access: &Access<Write>,
        commit: Oid,
        candidates: Vec<Candidate>,
        attributes: Option<String>,
        ignores: Option<String>,
    ) -> Result<Vec<Verdict>, Problem> {
        if candidates.len() > MAX_PREUPLOAD_FILES {
            return Err(Problem::Unprocessable(format!("at most {MAX_PREUPLOAD_FILES} files in one call")));
        }
        for candidate in &candidates {
            let path: Result<EntryPath, _> = candidate.path.parse();
            path.map_err(|error| Problem::Unprocessable(error.to_string()))?;
        }
        self.objects(access, move |repo| {
            let root = repo.commit(commit)?.tree;
            let text = |name: &str, given: &Option<String>| match given {
                Some(text) => Ok(text.clone()),
                None => rules(repo, root, name),
            };
            let attributes = Attributes::parse(&text(".gitattributes", &attributes)?);
            let ignores = Ignores::parse(&text(".gitignore", &ignores)?);
            candidates.iter().map(|candidate| verdict(repo, root, candidate, &attributes, &ignores)).collect()
        })
        .await
    }
}

fn rules(repo: &Repo, root: Oid, name: &str) -> Result<String, GitError> {
    let Ok(path) = name.parse::<EntryPath>() else { return Ok(String::new()) };
    match repo.find(root, &path)? {
        Some(entry) if !entry.is_tree() => {
            Ok(String::from_utf8_lossy(&repo.blob(entry.oid, MAX_RULES_BYTES)?).into_owned())
        }
        _ => Ok(String::new()),
    }
}

fn verdict(
    repo: &Repo,
    root: Oid,
    candidate: &Candidate,
    attributes: &Attributes,
    ignores: &Ignores,
) -> Result<Verdict, GitError> {
    let Candidate { path, size, sample } = candidate;
    let large =
        *size > 0 && (*size > MAX_REGULAR_FILE_BYTES || attributes.is_large(path) || is_binary(sample));
    let entry = match path.parse::<EntryPath>() {
        Ok(parsed) => repo.find(root, &parsed)?.filter(|entry| !entry.is_tree()),
        Err(_) => None,
    };
    let oid = match entry {
        Some(entry) => Some(match repo.pointer(entry.oid)? {
            Some(pointer) => pointer.sha256.to_string(),
            None => entry.oid.to_string(),
        }),
        None => None,
    };
    Ok(Verdict { path: path.clone(), large, ignore: ignores.is_ignored(path), oid })
}
