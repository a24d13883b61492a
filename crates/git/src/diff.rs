//! What differs between two trees: which files, and of text files which lines. Everything here is
//! bounded, since both sides are what somebody sent; what a bound has cut is said.

mod content;
mod files;
mod lines;
mod renames;
mod text;

pub use content::{Budget, Content, FileDiff, Side, diff_contents};
pub use files::{ChangedFile, ChangedFiles, FileSide, FileStatus, changed_files, changed_paths};
pub use lines::{Hunk, Line, LineKind, TextDiff};
pub use text::{raw_line, unified};

pub(crate) use content::is_binary;
pub(crate) use lines::{changed_ranges, cost, split};

/// Files that a comparison names at most; folders that were entered count as well.
pub const MAX_CHANGED_FILES: usize = 100_000;
/// Files of one answer whose contents are compared.
pub const MAX_DIFF_FILES: usize = 3_000;
/// A text is compared up to this many bytes and lines on each side.
pub const MAX_DIFF_FILE_BYTES: u64 = 2 * 1024 * 1024;
pub const MAX_DIFF_FILE_LINES: usize = 20_000;
/// Bytes that are read for one answer, of both sides together.
pub const MAX_DIFF_BYTES: u64 = 24 * 1024 * 1024;
/// Lines that are compared for one answer, but for equal ones at both ends of a file: made to be slow,
/// a hundred thousand take about a second.
pub const MAX_DIFF_LINES: usize = 400_000;
/// Lines around a change that are shown with it.
pub const CONTEXT_LINES: u32 = 3;
