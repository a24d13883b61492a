//! Which commit each line of a file is from. Lines are followed from commit to parent, through
//! renames, for as far as the bounds go; what is not followed further is said.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use bastide_core::{EntryPath, Oid};
use bytes::Bytes;

use crate::diff::{MAX_DIFF_FILE_BYTES, MAX_DIFF_FILE_LINES, changed_files, changed_ranges, cost, split};
use crate::object::{Commit, Entry};
use crate::{GitError, Mode, Repo};

/// Commits that the lines of a file are followed through.
const MAX_COMMITS: usize = 10_000;
/// Lines that are compared for it, of all versions together, but for equal ones at both ends; and
/// bytes that are read.
const MAX_LINES: usize = 1_000_000;
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Commits in which the file is looked for under another name.
const MAX_RENAMES: usize = 50;

/// How long lines are followed: contents can be made to be slower than their counts let expect. What
/// was begun is ended, which takes half a second at worst.
const MAX_TIME: Duration = Duration::from_millis(1500);

/// Lines that follow each other and are from one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlameRange {
    /// The first line, from 1.
    pub start: u32,
    pub lines: u32,
    pub commit: Oid,
    /// What the file was called in that commit.
    pub path: String,
    /// Was it followed to its end? Otherwise the lines are from this commit or an earlier one.
    pub exact: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blame {
    Lines(Vec<BlameRange>),
    /// There is no file at the path.
    Missing,
    /// A large file, a binary one, or something else that has no lines.
    NotText,
    TooLarge,
}

/// The origin of each line of the file at `path` in `commit`.
pub fn blame(repo: &Repo, commit: Oid, path: &EntryPath) -> Result<Blame, GitError> {
    blame_within(repo, commit, path, MAX_TIME)
}

/// The same, for as long as somebody waits.
pub fn blame_within(repo: &Repo, commit: Oid, path: &EntryPath, time: Duration) -> Result<Blame, GitError> {
    let until = Instant::now() + time;
    let Some(entry) = repo.find(repo.commit(commit)?.tree, path)? else { return Ok(Blame::Missing) };
    if entry.is_tree() {
        return Ok(Blame::Missing);
    }
    let lines = match text(repo, &entry)? {
        Text::Lines(lines) => lines,
        Text::None => return Ok(Blame::NotText),
        Text::TooLarge => return Ok(Blame::TooLarge),
    };
    let length = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    let mut walk = Walk::new(repo, until);
    walk.suspect(commit, path.as_str(), entry.oid, vec![Span { here: 0, there: 0, lines: length }])?;
    walk.run()?;
    Ok(Blame::Lines(walk.ranges()))
}

enum Text {
    Lines(Vec<Bytes>),
    None,
    TooLarge,
}

fn text(repo: &Repo, entry: &Entry) -> Result<Text, GitError> {
    if !matches!(entry.mode, Mode::File | Mode::Executable | Mode::Symlink) {
        return Ok(Text::None);
    }
    if repo.pointer(entry.oid)?.is_some() {
        return Ok(Text::None);
    }
    if repo.blob_size(entry.oid)? > MAX_DIFF_FILE_BYTES {
        return Ok(Text::TooLarge);
    }
    let data = repo.blob(entry.oid, MAX_DIFF_FILE_BYTES)?;
    if crate::diff::is_binary(&data) {
        return Ok(Text::None);
    }
    let lines = split(&data);
    Ok(if lines.len() > MAX_DIFF_FILE_LINES { Text::TooLarge } else { Text::Lines(lines) })
}

/// Lines of the file that was asked for (`there`), and where a suspect has them (`here`).
#[derive(Debug, Clone, Copy)]
struct Span {
    here: u32,
    there: u32,
    lines: u32,
}

/// The file as a parent has it: the commit, the name there, the entry.
type Origin = (Oid, String, Entry);

/// A version of the file that may have brought lines.
struct Suspect {
    oid: Oid,
    spans: Vec<Span>,
}

struct Walk<'a> {
    repo: &'a Repo,
    queue: BinaryHeap<(i64, Reverse<usize>, Oid, String)>,
    open: HashMap<(Oid, String), Suspect>,
    order: usize,
    until: Instant,
    commits: usize,
    lines: usize,
    bytes: usize,
    renames: usize,
    /// By the first line.
    found: BTreeMap<u32, BlameRange>,
}

impl<'a> Walk<'a> {
    fn new(repo: &'a Repo, until: Instant) -> Self {
        let (queue, open, found) = (BinaryHeap::new(), HashMap::new(), BTreeMap::new());
        Self {
            repo,
            queue,
            open,
            order: 0,
            until,
            commits: MAX_COMMITS,
            lines: MAX_LINES,
            bytes: MAX_BYTES,
            renames: MAX_RENAMES,
            found,
        }
    }

    fn suspect(&mut self, commit: Oid, path: &str, oid: Oid, spans: Vec<Span>) -> Result<(), GitError> {
        if spans.is_empty() {
            return Ok(());
        }
        let key = (commit, path.to_owned());
        if let Some(suspect) = self.open.get_mut(&key) {
            suspect.spans.extend(spans);
            suspect.spans.sort_by_key(|span| span.here);
            return Ok(());
        }
        self.order += 1;
        let time = self.repo.commit(commit)?.time.as_millis();
        self.queue.push((time, Reverse(self.order), commit, path.to_owned()));
        self.open.insert(key, Suspect { oid, spans });
        Ok(())
    }

    fn run(&mut self) -> Result<(), GitError> {
        while let Some((_, _, commit, path)) = self.queue.pop() {
            let Some(suspect) = self.open.remove(&(commit, path.clone())) else { continue };
            if self.commits == 0 || self.lines == 0 || self.is_late() {
                self.settle(commit, &path, &suspect.spans, false);
                continue;
            }
            self.commits -= 1;
            let (rest, exact) = self.pass_on(commit, &path, suspect)?;
            self.settle(commit, &path, &rest, exact);
        }
        Ok(())
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    fn settle(&mut self, commit: Oid, path: &str, spans: &[Span], exact: bool) {
        for span in spans.iter().filter(|span| span.lines > 0) {
            let (start, path) = (span.there + 1, path.to_owned());
            self.found.insert(start, BlameRange { start, lines: span.lines, commit, path, exact });
        }
    }

    /// Gives the parents what they have had already; the rest stays, and whether it was possible
    /// to look everywhere.
    fn pass_on(&mut self, commit: Oid, path: &str, suspect: Suspect) -> Result<(Vec<Span>, bool), GitError> {
        let known = self.repo.commit(commit)?;
        let (origins, exact) = self.origins(&known, path)?;
        if let Some((parent, name, entry)) = origins.iter().find(|(_, _, entry)| entry.oid == suspect.oid) {
            self.suspect(*parent, name, entry.oid, suspect.spans)?;
            return Ok((Vec::new(), true));
        }
        let mut rest = suspect.spans;
        for (parent, name, entry) in origins {
            if rest.is_empty() {
                break;
            }
            let Some(kept) = self.unchanged(&entry, suspect.oid)? else { return Ok((rest, false)) };
            let (passed, left) = divide(&rest, &kept);
            self.suspect(parent, &name, entry.oid, passed)?;
            rest = left;
        }
        Ok((rest, exact))
    }

    /// The file in each parent that has it, by its name, else by the name that it had there.
    fn origins(&mut self, commit: &Commit, path: &str) -> Result<(Vec<Origin>, bool), GitError> {
        let (mut found, mut without, mut exact) = (Vec::new(), Vec::new(), true);
        let Ok(parsed) = path.parse::<EntryPath>() else { return Ok((found, false)) };
        for parent in &commit.parents {
            if self.is_late() {
                return Ok((found, false));
            }
            let tree = self.repo.commit(*parent)?.tree;
            match self.repo.find(tree, &parsed)?.filter(|entry| !entry.is_tree()) {
                Some(entry) => found.push((*parent, path.to_owned(), entry)),
                None => without.push((*parent, tree)),
            }
        }
        for (parent, tree) in without {
            let Some(left) = self.renames.checked_sub(1).filter(|_| !self.is_late()) else {
                exact = false;
                continue;
            };
            self.renames = left;
            let changed = changed_files(self.repo, Some(tree), Some(commit.tree))?;
            exact &= changed.complete;
            let here =
                changed.files.into_iter().find(|file| file.new.as_ref().is_some_and(|new| new.path == path));
            if let Some(old) = here.and_then(|file| file.old) {
                let name = old.path.rsplit('/').next().unwrap_or_default().to_owned();
                found.push((parent, old.path, Entry { name, mode: old.mode, oid: old.oid }));
            }
        }
        Ok((found, exact))
    }

    /// Lines that two versions share, as runs; `None` when no more may be compared.
    fn unchanged(&mut self, old: &Entry, new: Oid) -> Result<Option<Vec<Span>>, GitError> {
        if self.is_late() {
            return Ok(None);
        }
        let Text::Lines(old) = text(self.repo, old)? else { return Ok(Some(Vec::new())) };
        let new = split(&self.repo.blob(new, MAX_DIFF_FILE_BYTES)?);
        let bytes = old.iter().chain(&new).map(Bytes::len).sum();
        let left = (self.lines.checked_sub(cost(&old, &new)), self.bytes.checked_sub(bytes));
        let (Some(lines), Some(bytes)) = left else {
            self.lines = 0;
            return Ok(None);
        };
        (self.lines, self.bytes) = (lines, bytes);
        let (mut runs, mut here, mut there) = (Vec::new(), 0, 0);
        for (removed, added) in changed_ranges(&old, &new) {
            runs.push(Span { here, there, lines: added.start - here });
            (here, there) = (added.end, removed.end);
        }
        let end = u32::try_from(new.len()).unwrap_or(u32::MAX);
        runs.push(Span { here, there, lines: end.saturating_sub(here) });
        runs.retain(|run| run.lines > 0);
        Ok(Some(runs))
    }

    /// What was found, with neighbours from the same commit as one.
    fn ranges(self) -> Vec<BlameRange> {
        let mut ranges: Vec<BlameRange> = Vec::new();
        for next in self.found.into_values() {
            match ranges.last_mut() {
                Some(last)
                    if (last.commit, last.exact) == (next.commit, next.exact)
                        && last.path == next.path
                        && last.start + last.lines == next.start =>
                {
                    last.lines += next.lines;
                }
                _ => ranges.push(next),
            }
        }
        ranges
    }
}

/// Splits spans by the runs of lines that the parent has too: what goes to it, in its own numbers,
/// and what stays. Spans may overlap: a merge can have the same line of a parent twice.
fn divide(spans: &[Span], kept: &[Span]) -> (Vec<Span>, Vec<Span>) {
    let (mut passed, mut left) = (Vec::new(), Vec::new());
    for span in spans {
        let (mut at, end) = (span.here, span.here + span.lines);
        let part = |from: u32, to: u32| {
            let there = span.there + (from - span.here);
            Span { here: from, there, lines: to - from }
        };
        while at < end {
            match kept.get(kept.partition_point(|run| run.here + run.lines <= at)) {
                Some(run) if run.here <= at => {
                    let to = end.min(run.here + run.lines);
                    passed.push(Span { here: run.there + (at - run.here), ..part(at, to) });
                    at = to;
                }
                next => {
                    let to = next.map_or(end, |run| end.min(run.here));
                    left.push(part(at, to));
                    at = to;
                }
            }
        }
    }
    (passed, left)
}
