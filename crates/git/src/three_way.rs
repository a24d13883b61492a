//! Merging two commits: stock `git merge-tree` decides, in a folder of its own whose alternates are the repository's
//! objects. What comes of it are edits to the first commit's tree and the files that git has put together.
//!
//! Both sides are written by people who may be at odds: the time is bounded, pointers are never merged by lines.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bastide_core::limits::{MAX_PATH_SEGMENTS, MAX_REGULAR_FILE_BYTES};
use bastide_core::{EntryPath, Oid};
use bytes::Bytes;
use flate2::read::ZlibDecoder;

use crate::edit::{Edit, Op};
use crate::object::{Entry, Mode, Pointer, Tree};
use crate::process::{git, limit_process};
use crate::{GitError, Repo};

/// Paths that are named as conflicts.
pub const MAX_CONFLICTS: usize = 1000;
/// Files that one merge changes.
const MAX_EDITS: usize = 100_000;
/// Bytes of the objects that one merge makes, and of one of them.
const MAX_NEW_BYTES: u64 = 512 * 1024 * 1024;
const MAX_NEW_OBJECT: u64 = 64 * 1024 * 1024;
/// What git may say.
const MAX_OUTPUT: u64 = 8 * 1024 * 1024;
/// Commits that are looked at together for one that they share with another.
const MAX_STARTS: usize = 1000;
/// How often a program that runs is looked at.
const POLL: Duration = Duration::from_millis(2);

/// Both sides add lines to this file by themselves: neither is in the other's way.
const ATTRIBUTES: &str = ".gitattributes merge=union\n";

/// What merging comes to.
#[derive(Debug)]
pub enum Merge {
    /// The second commit is in the first already.
    Contained,
    /// They have no commit in common: what each has changed cannot be told.
    Unrelated,
    /// Edits to the first commit's tree, and the files among them that were not there before.
    Clean { edits: Vec<Edit>, files: HashMap<Oid, Bytes> },
    /// Paths that both sides have changed, each in its own way.
    Conflicts(Vec<String>),
}

/// The best common ancestors of two commits; none when they have nothing in common.
/// It ends after `limit`: whoever writes the history decides how long it takes.
pub fn merge_bases(repo: &Repo, one: Oid, two: Oid, limit: Duration) -> Result<Vec<Oid>, GitError> {
    common(repo, &["--all"], &[one, two], limit)
}

/// Does a commit share any with what `starts`, which are its parents to be, come from?
pub fn shares_commit(repo: &Repo, commit: Oid, starts: &[Oid], limit: Duration) -> Result<bool, GitError> {
    if starts.is_empty() {
        return Ok(false);
    }
    let commits: Vec<Oid> = std::iter::once(commit).chain(starts.iter().copied().take(MAX_STARTS)).collect();
    Ok(!common(repo, &[], &commits, limit)?.is_empty())
}

/// What `git merge-base` finds.
fn common(repo: &Repo, options: &[&str], commits: &[Oid], limit: Duration) -> Result<Vec<Oid>, GitError> {
    let mut answer = tempfile::tempfile()?;
    let mut command = git(repo.folder());
    command
        .arg("merge-base")
        .args(options)
        .args(commits.iter().map(Oid::to_string))
        .stdout(answer.try_clone()?);
    let (code, errors) = run(command, limit)?;
    // 1: there is none.
    if !matches!(code, Some(0 | 1)) {
        return Err(failed(&errors));
    }
    let mut text = String::new();
    answer.rewind()?;
    answer.take(MAX_OUTPUT).read_to_string(&mut text).map_err(GitError::Io)?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Commits that `head` has and `base` has not, the newest first: up to `limit`.
pub fn commits_ahead(repo: &Repo, base: Oid, head: Oid, limit: usize) -> Result<Vec<Oid>, GitError> {
    let output = git(repo.folder())
        .args(["rev-list", &format!("--max-count={limit}"), &head.to_string(), &format!("^{base}")])
        .output()?;
    if !output.status.success() {
        return Err(failed(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.parse().ok()).collect())
}

/// Merges the commit `theirs` into `ours`. `scratch` is for temporary folders; it ends after `limit`.
pub fn merge_commits(
    repo: &Repo,
    (ours, theirs): (Oid, Oid),
    scratch: &Path,
    limit: Duration,
) -> Result<Merge, GitError> {
    let ends = Instant::now() + limit;
    let bases = merge_bases(repo, ours, theirs, limit)?;
    if bases.is_empty() {
        return Ok(Merge::Unrelated);
    }
    if bases.contains(&theirs) {
        return Ok(Merge::Contained);
    }
    let (old, new) = (repo.commit(ours)?.tree, repo.commit(theirs)?.tree);
    if bases.contains(&ours) {
        let edits = Difference::between(repo, &HashMap::new(), old, new)?;
        return Ok(Merge::Clean { edits, files: HashMap::new() });
    }
    let work = Workspace::new(repo, scratch)?;
    match work.merge_tree((ours, theirs), ends.saturating_duration_since(Instant::now()))? {
        Said::Conflicts(paths) => Ok(Merge::Conflicts(real_paths(repo, &paths, (ours, theirs))?)),
        Said::Tree(tree) => {
            let mut made = work.objects()?;
            let edits = Difference::between(repo, &made, old, tree)?;
            add_found(repo, &edits, &mut made, (old, new))?;
            Ok(clean(edits, made))
        }
    }
}

/// A file that meets a folder is called `path~commit` by git: the path itself is what people look for.
fn real_paths(repo: &Repo, paths: &[String], (ours, theirs): (Oid, Oid)) -> Result<Vec<String>, GitError> {
    let trees = [repo.commit(ours)?.tree, repo.commit(theirs)?.tree];
    let marks = [format!("~{ours}"), format!("~{theirs}")];
    let mut real: Vec<String> = Vec::with_capacity(paths.len());
    for path in paths {
        let moved = marks.iter().find_map(|mark| path.split_once(mark.as_str()));
        // Git adds a number where there is such a file in truth.
        let moved =
            moved.filter(|(_, rest)| rest.trim_start_matches('_').chars().all(|c| c.is_ascii_digit()));
        let path = match moved {
            Some((real, _)) if !stands(repo, &trees, path)? => real,
            _ => path.as_str(),
        };
        if !real.iter().any(|known| known == path) {
            real.push(path.to_owned());
        }
    }
    Ok(real)
}

fn stands(repo: &Repo, trees: &[Oid], path: &str) -> Result<bool, GitError> {
    let Ok(path) = path.parse::<EntryPath>() else { return Ok(false) };
    for tree in trees {
        if repo.find(*tree, &path)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Git does not write what it finds in the copy: of a change that never came to be, or left in a pack that was pruned.
/// What neither side has is not kept for either of them, so it is made anew.
fn add_found(
    repo: &Repo,
    edits: &[Edit],
    made: &mut HashMap<Oid, Made>,
    (ours, theirs): (Oid, Oid),
) -> Result<(), GitError> {
    let mut found = Vec::new();
    for edit in edits {
        let Op::Put { oid, mode } = edit.op else { continue };
        let is_theirs =
            || Ok::<_, GitError>(repo.find(theirs, &edit.path)?.is_some_and(|entry| entry.oid == oid));
        if mode != Mode::Submodule && !made.contains_key(&oid) && !is_theirs()? {
            found.push(oid);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    // Most of it has been at another path.
    let mut kept = HashSet::new();
    for tree in [ours, theirs] {
        kept.extend(repo.list(tree, "", true, None, usize::MAX)?.into_iter().map(|walked| walked.entry.oid));
    }
    let mut room = MAX_NEW_BYTES;
    for oid in found.into_iter().filter(|oid| !kept.contains(oid)) {
        let data = repo.blob(oid, MAX_REGULAR_FILE_BYTES)?;
        let less = room.checked_sub(data.len() as u64);
        room = less.ok_or(GitError::TooLarge { oid, limit: MAX_NEW_BYTES })?;
        made.insert(oid, Made::File(data));
    }
    Ok(())
}

/// A pointer that was put together from two stands for nothing: that is a conflict.
fn clean(edits: Vec<Edit>, made: HashMap<Oid, Made>) -> Merge {
    let mut files = HashMap::new();
    let mut conflicts = Vec::new();
    for edit in &edits {
        let Op::Put { oid, .. } = edit.op else { continue };
        let Some(Made::File(data)) = made.get(&oid) else { continue };
        if Pointer::parse(data).is_some() {
            conflicts.push(edit.path.to_string());
        }
        files.insert(oid, data.clone());
    }
    if conflicts.is_empty() { Merge::Clean { edits, files } } else { Merge::Conflicts(conflicts) }
}

/// An object that git has made for a merge.
enum Made {
    File(Bytes),
    Folder(Tree),
}

enum Said {
    Tree(Oid),
    Conflicts(Vec<String>),
}

/// A bare repository that sees the objects of another and keeps its own apart.
struct Workspace {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Workspace {
    fn new(repo: &Repo, scratch: &Path) -> Result<Self, GitError> {
        let folder = tempfile::Builder::new().prefix("merge-").tempdir_in(scratch)?;
        let path = std::path::absolute(folder.path())?;
        for below in ["objects/info", "objects/pack", "refs/heads", "info"] {
            std::fs::create_dir_all(path.join(below))?;
        }
        let mut alternates =
            std::path::absolute(repo.folder())?.join("objects").into_os_string().into_encoded_bytes();
        alternates.push(b'\n');
        std::fs::write(path.join("objects/info/alternates"), alternates)?;
        std::fs::write(path.join("info/attributes"), ATTRIBUTES)?;
        std::fs::write(path.join("HEAD"), "ref: refs/heads/main\n")?;
        std::fs::write(path.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = true\n")?;
        Ok(Self { folder, path })
    }

    fn merge_tree(&self, (ours, theirs): (Oid, Oid), limit: Duration) -> Result<Said, GitError> {
        let answer = self.folder.path().join("answer");
        let mut command = git(&self.path);
        command
            .args([
                "-c",
                "core.fsync=none",
                "-c",
                "core.bigFileThreshold=12m",
                "-c",
                "merge.renameLimit=1000",
            ])
            .args(["-c", "merge.directoryRenames=false", "-c", "core.attributesFile=/dev/null"])
            .args(["-c", "core.packedGitWindowSize=16m", "-c", "core.packedGitLimit=256m"])
            .args(["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages"])
            .args([ours.to_string(), theirs.to_string()])
            .stdout(File::create(&answer)?);
        let (code, errors) = run(command, limit)?;
        let mut text = Vec::new();
        File::open(&answer)?.take(MAX_OUTPUT).read_to_end(&mut text)?;
        let mut parts = text.split(|byte| *byte == 0).filter(|part| !part.is_empty());
        match code {
            Some(0) => {
                let tree = parts.next().and_then(|id| std::str::from_utf8(id).ok()).map(str::trim);
                let tree = tree.and_then(|id| id.parse().ok());
                tree.map(Said::Tree).ok_or_else(|| GitError::Program("merge-tree names no tree".into()))
            }
            Some(1) => {
                let paths = parts.skip(1).take(MAX_CONFLICTS);
                Ok(Said::Conflicts(paths.map(|path| String::from_utf8_lossy(path).into_owned()).collect()))
            }
            _ => Err(failed(&errors)),
        }
    }

    /// What git has written here: loose objects.
    fn objects(&self) -> Result<HashMap<Oid, Made>, GitError> {
        let mut made = HashMap::new();
        let mut room = MAX_NEW_BYTES;
        for folder in std::fs::read_dir(self.path.join("objects"))? {
            let folder = folder?;
            let first = folder.file_name().to_string_lossy().into_owned();
            if first.len() != 2 {
                continue;
            }
            for file in std::fs::read_dir(folder.path())? {
                let file = file?;
                let Ok(oid) = format!("{first}{}", file.file_name().to_string_lossy()).parse::<Oid>() else {
                    continue;
                };
                let (object, bytes) = loose(oid, &file.path())?;
                room = room.checked_sub(bytes).ok_or(GitError::TooLarge { oid, limit: MAX_NEW_BYTES })?;
                made.extend(object.map(|object| (oid, object)));
            }
        }
        Ok(made)
    }
}

/// A loose object, and how long it is. Only files and folders are of interest.
fn loose(oid: Oid, path: &Path) -> Result<(Option<Made>, u64), GitError> {
    let mut data = Vec::new();
    ZlibDecoder::new(File::open(path)?).take(MAX_NEW_OBJECT + 1).read_to_end(&mut data)?;
    if data.len() as u64 > MAX_NEW_OBJECT {
        return Err(GitError::TooLarge { oid, limit: MAX_NEW_OBJECT });
    }
    let damaged = || GitError::Damaged { oid, what: "no header" };
    let end = data.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
    let (header, body) = data.split_at_checked(end).ok_or_else(damaged)?;
    let body = body.get(1..).unwrap_or_default();
    let bytes = body.len() as u64;
    let object = match header.split(|byte| *byte == b' ').next() {
        Some(b"blob") if bytes > MAX_REGULAR_FILE_BYTES => {
            return Err(GitError::TooLarge { oid, limit: MAX_REGULAR_FILE_BYTES });
        }
        Some(b"blob") => Some(Made::File(Bytes::copy_from_slice(body))),
        Some(b"tree") => Some(Made::Folder(Tree::parse(oid, body)?)),
        _ => None,
    };
    Ok((object, bytes))
}

/// Runs a program to its end, or to that of its time. Its exit status and what it says of errors.
pub(crate) fn run(mut command: Command, limit: Duration) -> Result<(Option<i32>, Vec<u8>), GitError> {
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    // What two people have written may be made to take all memory. One that has ended already has no limits.
    if let Err(error) = limit_process(child.id(), MAX_NEW_BYTES)
        && child.try_wait()?.is_none()
    {
        child.kill()?;
        child.wait()?;
        return Err(error);
    }
    let ends = Instant::now() + limit;
    loop {
        if Instant::now() >= ends {
            child.kill()?;
            child.wait()?;
            return Err(GitError::TooSlow);
        }
        if let Some(status) = child.try_wait()? {
            return Ok((status.code(), errors_of(&mut child)));
        }
        std::thread::sleep(POLL);
    }
}

/// The beginning of what a program that has ended has said.
fn errors_of(child: &mut Child) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(pipe) = child.stderr.take() {
        let _ = pipe.take(4096).read_to_end(&mut text);
    }
    text
}

pub(crate) fn failed(errors: &[u8]) -> GitError {
    GitError::Program(String::from_utf8_lossy(errors).trim().to_owned())
}

/// Finds the edits that make one tree another.
struct Difference<'a> {
    repo: &'a Repo,
    made: &'a HashMap<Oid, Made>,
    removed: Vec<Edit>,
    put: Vec<Edit>,
}

impl<'a> Difference<'a> {
    /// What is removed comes first: it makes room for what is put there.
    fn between(
        repo: &'a Repo,
        made: &'a HashMap<Oid, Made>,
        old: Oid,
        new: Oid,
    ) -> Result<Vec<Edit>, GitError> {
        let mut found = Self { repo, made, removed: Vec::new(), put: Vec::new() };
        found.folder(Some(old), new, "", 0)?;
        let Self { mut removed, put, .. } = found;
        removed.extend(put);
        Ok(removed)
    }

    fn tree(&self, oid: Oid) -> Result<Vec<Entry>, GitError> {
        match self.made.get(&oid) {
            Some(Made::Folder(tree)) => Ok(tree.entries.clone()),
            _ => Ok(self.repo.tree(oid)?.entries.clone()),
        }
    }

    fn folder(&mut self, old: Option<Oid>, new: Oid, prefix: &str, depth: usize) -> Result<(), GitError> {
        if old == Some(new) {
            return Ok(());
        }
        if depth > MAX_PATH_SEGMENTS || self.removed.len() + self.put.len() > MAX_EDITS {
            return Err(GitError::TooManyFolders);
        }
        let mut names: BTreeMap<String, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
        for entry in old.map(|old| self.tree(old)).transpose()?.unwrap_or_default() {
            let name = entry.name.clone();
            names.entry(name).or_default().0 = Some(entry);
        }
        for entry in self.tree(new)? {
            let name = entry.name.clone();
            names.entry(name).or_default().1 = Some(entry);
        }
        for (name, (old, new)) in names {
            if old != new {
                let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                self.entry(old, new, &path, depth)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        old: Option<Entry>,
        new: Option<Entry>,
        path: &str,
        depth: usize,
    ) -> Result<(), GitError> {
        let edit = |op| {
            let parsed = path.parse::<EntryPath>();
            parsed.map(|path| Edit { path, op }).map_err(|_| GitError::PathConflict(path.to_owned()))
        };
        let is_tree = |entry: &Option<Entry>| entry.as_ref().is_some_and(Entry::is_tree);
        if old.is_some() && (new.is_none() || is_tree(&old) != is_tree(&new)) {
            self.removed.push(edit(Op::Remove)?);
        }
        match new {
            Some(new) if new.is_tree() => {
                let old = old.filter(Entry::is_tree).map(|old| old.oid);
                self.folder(old, new.oid, path, depth + 1)
            }
            Some(new) => {
                self.put.push(edit(Op::Put { oid: new.oid, mode: new.mode })?);
                Ok(())
            }
            None => Ok(()),
        }
    }
}
