//! Two texts line by line: git's own algorithm (Myers with its heuristics, which keep it from taking
//! quadratic time), and what changed as hunks with context.

use std::ops::Range;

use bytes::Bytes;
use imara_diff::{Algorithm, Diff, InternedInput};

use super::CONTEXT_LINES;

/// Longest heading of a hunk, in bytes.
const MAX_SECTION: usize = 80;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    Context,
    Added,
    Removed,
}

impl LineKind {
    pub const fn sign(self) -> char {
        match self {
            Self::Context => ' ',
            Self::Added => '+',
            Self::Removed => '-',
        }
    }
}

/// A line with its end, as the file has it: the last one may have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub kind: LineKind,
    pub text: Bytes,
}

/// Changes that lie close together. Lines count from 1; of a side without lines, `start` is the
/// line before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hunk {
    pub old_start: u32,
    pub old_lines: u32,
    pub new_start: u32,
    pub new_lines: u32,
    /// The last line before that looks like a heading.
    pub section: Bytes,
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextDiff {
    pub additions: u32,
    pub deletions: u32,
    pub hunks: Vec<Hunk>,
}

/// Lines of the old text, and those of the new one that are there instead.
pub(crate) type Replaced = (Range<u32>, Range<u32>);

/// The lines of a text, with their ends.
pub(crate) fn split(text: &Bytes) -> Vec<Bytes> {
    text.split_inclusive(|byte| *byte == b'\n').map(|line| text.slice_ref(line)).collect()
}

/// What comparing two texts takes, in lines: equal ones at both ends cost next to nothing.
pub(crate) fn cost(old: &[Bytes], new: &[Bytes]) -> usize {
    let same = |(one, two): &(&Bytes, &Bytes)| one == two;
    let start = old.iter().zip(new).take_while(same).count();
    let rest = |lines: &[Bytes]| lines.len() - start;
    let end = old.iter().rev().zip(new.iter().rev()).take(rest(old).min(rest(new))).take_while(same).count();
    rest(old) + rest(new) - 2 * end
}

/// Lines that were replaced by others, in order.
pub(crate) fn changed_ranges(old: &[Bytes], new: &[Bytes]) -> Vec<Replaced> {
    let mut input: InternedInput<&[u8]> = InternedInput::default();
    input.update_before(old.iter().map(AsRef::as_ref));
    input.update_after(new.iter().map(AsRef::as_ref));
    let mut diff = Diff::compute(Algorithm::Myers, &input);
    diff.postprocess_lines(&input);
    diff.hunks().map(|hunk| (hunk.before, hunk.after)).collect()
}

pub(super) fn diff_lines(old: &[Bytes], new: &[Bytes]) -> TextDiff {
    let changes = changed_ranges(old, new);
    let count = |range: fn(&Replaced) -> &Range<u32>| {
        changes
            .iter()
            .map(|change| range(change).len())
            .map(|len| u32::try_from(len).unwrap_or(u32::MAX))
            .sum()
    };
    let mut writer = Writer { old, new, section: Bytes::new(), searched: 0 };
    let hunks = groups(&changes).into_iter().map(|group| writer.hunk(group)).collect();
    TextDiff { additions: count(|change| &change.1), deletions: count(|change| &change.0), hunks }
}

/// Changes whose contexts touch are one hunk.
fn groups(changes: &[Replaced]) -> Vec<&[Replaced]> {
    changes.chunk_by(|one, two| two.0.start - one.0.end <= 2 * CONTEXT_LINES).collect()
}

struct Writer<'a> {
    old: &'a [Bytes],
    new: &'a [Bytes],
    /// The last heading, and up to which line it was looked for.
    section: Bytes,
    searched: u32,
}

impl Writer<'_> {
    fn hunk(&mut self, changes: &[Replaced]) -> Hunk {
        let (Some(first), Some(last)) = (changes.first(), changes.last()) else { return empty_hunk() };
        let before = CONTEXT_LINES.min(first.0.start).min(first.1.start);
        let length = |lines: &[Bytes]| u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let after = CONTEXT_LINES
            .min(length(self.old).saturating_sub(last.0.end))
            .min(length(self.new).saturating_sub(last.1.end));
        let old = first.0.start - before..last.0.end + after;
        let new = first.1.start - before..last.1.end + after;
        let mut lines = Vec::new();
        let mut at = old.start;
        for (removed, added) in changes {
            push(&mut lines, LineKind::Context, self.old, at..removed.start);
            push(&mut lines, LineKind::Removed, self.old, removed.clone());
            push(&mut lines, LineKind::Added, self.new, added.clone());
            at = removed.end;
        }
        push(&mut lines, LineKind::Context, self.old, at..old.end);
        let start = |range: &Range<u32>| if range.is_empty() { range.start } else { range.start + 1 };
        Hunk {
            old_start: start(&old),
            old_lines: old.end - old.start,
            new_start: start(&new),
            new_lines: new.end - new.start,
            section: self.section_before(old.start),
            lines,
        }
    }

    /// As git finds it: the last line before the hunk that begins with a letter, `_` or `$`.
    fn section_before(&mut self, line: u32) -> Bytes {
        let range = self.searched as usize..line as usize;
        self.searched = line;
        let found = self.old.get(range).unwrap_or_default().iter().rev().find(|line| {
            line.first().is_some_and(|first| first.is_ascii_alphabetic() || matches!(first, b'_' | b'$'))
        });
        if let Some(found) = found {
            let heading = found.get(..found.len().min(MAX_SECTION)).unwrap_or_default().trim_ascii_end();
            self.section = found.slice_ref(heading);
        }
        self.section.clone()
    }
}

const fn empty_hunk() -> Hunk {
    let section = Bytes::new();
    Hunk { old_start: 0, old_lines: 0, new_start: 0, new_lines: 0, section, lines: Vec::new() }
}

fn push(lines: &mut Vec<Line>, kind: LineKind, from: &[Bytes], range: Range<u32>) {
    let range = range.start as usize..range.end as usize;
    lines.extend(from.get(range).unwrap_or_default().iter().map(|text| Line { kind, text: text.clone() }));
}
