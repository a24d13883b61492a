//! Differences as text: the unified form that `git apply` and `patch` take, and the short form
//! that has one line for each file.

use bastide_core::Oid;
use bytes::Bytes;

use super::content::{Content, FileDiff, Side};
use super::files::FileStatus;
use super::lines::{Hunk, TextDiff};

const NOWHERE: &str = "/dev/null";
const NO_OBJECT: Oid = Oid::from_bytes([0; 20]);

/// One file in the unified form.
pub fn unified(file: &FileDiff) -> Vec<u8> {
    let mut out = header(file).into_bytes();
    let (old, new) = (label("a/", file.old.as_ref()), label("b/", file.new.as_ref()));
    let differ = format!("{old} and {new} differ\n");
    match &file.content {
        Content::Same => {}
        Content::Text(text) => hunks(&mut out, text, &old, &new),
        Content::Binary => out.extend_from_slice(format!("Binary files {differ}").as_bytes()),
        // `git apply` reads this line as "content that is not here", and refuses. The next says why.
        Content::Large => out.extend_from_slice(format!("Files {differ}{}\n", large(file)).as_bytes()),
        Content::TooLarge => {
            let text = format!("Files {differ}Too large to be compared: {}\n", sizes(file));
            out.extend_from_slice(text.as_bytes());
        }
        Content::Omitted => {
            let text = format!("Files {differ}Left out: this answer is as long as it may be\n");
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// Everything above the lines.
fn header(file: &FileDiff) -> String {
    let (old, new) = (file.old.as_ref(), file.new.as_ref());
    fn path_of<'a>(one: Option<&'a Side>, other: Option<&'a Side>) -> &'a str {
        one.or(other).map_or("", |side| side.path.as_str())
    }
    let (from, to) = (path_of(old, new), path_of(new, old));
    let mut text = format!("diff --git {} {}\n", quote(&format!("a/{from}")), quote(&format!("b/{to}")));
    match (old, new) {
        (None, Some(new)) => text.push_str(&format!("new file mode {}\n", new.mode.as_str())),
        (Some(old), None) => text.push_str(&format!("deleted file mode {}\n", old.mode.as_str())),
        (Some(old), Some(new)) if old.mode != new.mode => {
            text.push_str(&format!("old mode {}\nnew mode {}\n", old.mode.as_str(), new.mode.as_str()));
        }
        _ => {}
    }
    if file.status == FileStatus::Renamed {
        text.push_str(&format!(
            "similarity index {}%\nrename from {}\nrename to {}\n",
            file.similarity,
            quote(from),
            quote(to)
        ));
    }
    if file.content != Content::Same {
        let oid = |side: Option<&Side>| side.map_or(NO_OBJECT, |side| side.oid);
        let same = old.zip(new).filter(|(old, new)| old.mode == new.mode);
        let mode = same.map(|(old, _)| format!(" {}", old.mode.as_str())).unwrap_or_default();
        text.push_str(&format!("index {}..{}{mode}\n", oid(old), oid(new)));
    }
    text
}

fn hunks(out: &mut Vec<u8>, text: &TextDiff, old: &str, new: &str) {
    if text.hunks.is_empty() {
        return;
    }
    // A name with a space is ended by a tab, or programs would take the rest for a date.
    let end = |name: &str| if name.contains(' ') { "\t" } else { "" };
    out.extend_from_slice(format!("--- {old}{}\n+++ {new}{}\n", end(old), end(new)).as_bytes());
    for hunk in &text.hunks {
        out.extend_from_slice(hunk_header(hunk).as_bytes());
        out.extend_from_slice(&section(&hunk.section));
        for line in &hunk.lines {
            out.push(line.kind.sign() as u8);
            out.extend_from_slice(&line.text);
            if !line.text.ends_with(b"\n") {
                out.extend_from_slice(b"\n\\ No newline at end of file\n");
            }
        }
    }
}

fn hunk_header(hunk: &Hunk) -> String {
    let range =
        |start: u32, lines: u32| if lines == 1 { start.to_string() } else { format!("{start},{lines}") };
    format!("@@ -{} +{} @@", range(hunk.old_start, hunk.old_lines), range(hunk.new_start, hunk.new_lines))
}

fn section(heading: &Bytes) -> Vec<u8> {
    if heading.is_empty() { b"\n".to_vec() } else { [b" ", heading.as_ref(), b"\n"].concat() }
}

fn label(prefix: &str, side: Option<&Side>) -> String {
    side.map_or_else(|| NOWHERE.to_owned(), |side| quote(&format!("{prefix}{}", side.path)))
}

fn large(file: &FileDiff) -> String {
    let one = |side: &Side| match side.pointer {
        Some(pointer) => format!("{} bytes (sha256 {})", pointer.size, pointer.sha256),
        None => format!("{} bytes", side.size),
    };
    match (&file.old, &file.new) {
        (Some(old), Some(new)) => format!("Large file: {} -> {}", one(old), one(new)),
        (Some(old), None) => format!("Large file deleted: {}", one(old)),
        (None, Some(new)) => format!("Large file added: {}", one(new)),
        (None, None) => String::new(),
    }
}

fn sizes(file: &FileDiff) -> String {
    let size = |side: &Option<Side>| side.as_ref().map_or(0, |side| side.size);
    format!("{} -> {} bytes", size(&file.old), size(&file.new))
}

/// One file in the short form: whether it is text, its size, then as `git diff --raw` has it.
pub fn raw_line(file: &FileDiff) -> String {
    let (old, new) = (file.old.as_ref(), file.new.as_ref());
    let shown = |side: Option<&Side>| side.map_or("000000", |side| side.mode.as_str());
    let oid = |side: Option<&Side>| side.map_or(NO_OBJECT, |side| side.oid);
    let letter = match &file.content {
        Content::Text(_) | Content::Same | Content::TooLarge | Content::Omitted => 'T',
        Content::Binary | Content::Large => 'B',
    };
    let size = new.or(old).map_or(0, |side| side.size);
    let names = match (file.status, old, new) {
        (FileStatus::Renamed, Some(old), Some(new)) => {
            format!("{}\t{}\t{}", file.similarity, quote(&old.path), quote(&new.path))
        }
        _ => format!("\t{}", quote(file.path())),
    };
    format!(
        "{letter} {size}\t:{} {} {}... {}... {}{names}\n",
        shown(old),
        shown(new),
        oid(old),
        oid(new),
        file.status.letter()
    )
}

/// A name as git writes it: in quotes when it has what would end a line or a quote.
fn quote(name: &str) -> String {
    if !name.chars().any(|c| c.is_ascii_control() || matches!(c, '"' | '\\')) {
        return name.to_owned();
    }
    let mut text = "\"".to_owned();
    for c in name.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            c if c.is_ascii_control() => text.push_str(&format!("\\{:03o}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
