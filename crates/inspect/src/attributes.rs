//! `.gitattributes` and `.gitignore`: which paths go to large-file storage, which are left out.

/// Patterns whose files are stored as large files in a new repository, as other hubs have them.
const LARGE: &[&str] = &[
    "*.7z",
    "*.arrow",
    "*.bin",
    "*.bz2",
    "*.ckpt",
    "*.ftz",
    "*.gz",
    "*.h5",
    "*.joblib",
    "*.lfs.*",
    "*.mlmodel",
    "*.model",
    "*.msgpack",
    "*.npy",
    "*.npz",
    "*.onnx",
    "*.ot",
    "*.parquet",
    "*.pb",
    "*.pickle",
    "*.pkl",
    "*.pt",
    "*.pth",
    "*.rar",
    "*.safetensors",
    "saved_model/**/*",
    "*.tar.*",
    "*.tar",
    "*.tflite",
    "*.tgz",
    "*.wasm",
    "*.xz",
    "*.zip",
    "*.zst",
    "*tfevents*",
];
const LARGE_IN_DATASETS: &[&str] = &[
    "*.pcm", "*.sam", "*.raw", "*.aac", "*.flac", "*.mp3", "*.ogg", "*.wav", "*.bmp", "*.gif", "*.png",
    "*.tiff", "*.jpg", "*.jpeg", "*.webp", "*.mp4", "*.webm",
];
const LARGE_ATTRIBUTES: &str = "filter=lfs diff=lfs merge=lfs -text";

/// The `.gitattributes` of a new repository.
pub fn default_attributes(dataset: bool) -> String {
    let more = if dataset { LARGE_IN_DATASETS } else { &[] };
    LARGE.iter().chain(more).map(|pattern| line(pattern)).collect()
}

/// What git splits a line at: no other white space.
const BLANKS: [char; 3] = [' ', '\t', '\r'];

/// A line that makes a pattern a large file. Blanks in a pattern need quotes.
pub fn line(pattern: &str) -> String {
    if !pattern.starts_with('"') && !pattern.contains(BLANKS) && !pattern.contains('\n') {
        return format!("{pattern} {LARGE_ATTRIBUTES}\n");
    }
    let quoted = pattern.chars().fold(String::with_capacity(pattern.len()), |mut text, c| {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            '\n' => text.push_str("\\n"),
            _ => text.push(c),
        }
        text
    });
    format!("\"{quoted}\" {LARGE_ATTRIBUTES}\n")
}

/// A path as a pattern that matches it alone: one without a slash would match at any depth, and
/// at the start of a line `#` is a comment and `!` a refusal.
pub fn literal(path: &str) -> String {
    let root = if path.contains('/') { "" } else { "/" };
    let mut text = String::with_capacity(path.len() + 1);
    text.push_str(root);
    for (at, c) in path.chars().enumerate() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') || at == 0 && matches!(c, '#' | '!' | '"') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// Lines beyond this many are not read: the file is hostile.
const MAX_LINES: usize = 10_000;

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    /// What a match means: large or not, ignored or not.
    yes: bool,
}

/// Which paths are large files: the last rule that says anything about `filter` wins.
#[derive(Debug, Clone, Default)]
pub struct Attributes(Vec<Rule>);

impl Attributes {
    pub fn parse(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self(text.split('\n').take(MAX_LINES).filter_map(attribute_rule).collect())
    }

    pub fn is_large(&self, path: &str) -> bool {
        self.0.iter().rev().find(|rule| rule.pattern.matches(path, false)).is_some_and(|rule| rule.yes)
    }
}

fn attribute_rule(line: &str) -> Option<Rule> {
    let line = line.trim_start_matches(BLANKS);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    // What is no proper quotation is taken as it stands, as git does.
    let (pattern, rest) = match line.strip_prefix('"').and_then(unquote) {
        Some(unquoted) => unquoted,
        None => line.split_once(BLANKS).map(|(pattern, rest)| (pattern.to_owned(), rest))?,
    };
    // A macro is no pattern, and git takes no pattern that refuses.
    if pattern.starts_with("[attr]") || pattern.starts_with('!') {
        return None;
    }
    let yes = rest.split(BLANKS).rev().find_map(|attribute| match attribute {
        "filter=lfs" => Some(true),
        "-filter" | "!filter" => Some(false),
        other if other.starts_with("filter=") => Some(false),
        _ => None,
    })?;
    Some(Rule { pattern: Pattern::parse(&pattern), yes })
}

/// The text up to the closing quote, and what follows: the quotation of C, as git writes it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut pattern = Vec::new();
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((String::from_utf8(pattern).ok()?, text.get(at + 1..)?)),
            b'\\' => pattern.push(match bytes.next()?.1 {
                b'a' => 0x07,
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 0x0b,
                plain @ (b'"' | b'\\') => plain,
                high @ b'0'..=b'3' => {
                    let mut octal =
                        || bytes.next().map(|(_, digit)| digit).filter(|digit| (b'0'..=b'7').contains(digit));
                    let (middle, low) = (octal()?, octal()?);
                    (high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0')
                }
                _ => return None,
            }),
            other => pattern.push(other),
        }
    }
    None
}

/// Which paths are to be left out.
#[derive(Debug, Clone, Default)]
pub struct Ignores(Vec<Rule>);

impl Ignores {
    pub fn parse(text: &str) -> Self {
        Self(text.lines().take(MAX_LINES).filter_map(ignore_rule).collect())
    }

    /// A path is ignored when it or a folder above it is.
    pub fn is_ignored(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| (at, true)).chain([(path.len(), false)]);
        ends.into_iter().any(|(end, folder)| {
            let part = path.get(..end).unwrap_or(path);
            self.0.iter().rev().find(|rule| rule.pattern.matches(part, folder)).is_some_and(|rule| rule.yes)
        })
    }
}

fn ignore_rule(line: &str) -> Option<Rule> {
    let line = line.trim_end_matches(BLANKS);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (yes, pattern) = line.strip_prefix('!').map_or((true, line), |pattern| (false, pattern));
    Some(Rule { pattern: Pattern::parse(pattern), yes })
}

/// A pattern of git's: without an inner slash it matches a name at any depth.
#[derive(Debug, Clone)]
struct Pattern {
    segments: Vec<Vec<char>>,
    anchored: bool,
    folders_only: bool,
}

impl Pattern {
    fn parse(text: &str) -> Self {
        let (text, folders_only) = text.strip_suffix('/').map_or((text, false), |text| (text, true));
        let anchored = text.contains('/');
        let text = text.strip_prefix('/').unwrap_or(text);
        let segments = text.split('/').map(|segment| segment.chars().collect()).collect();
        Self { segments, anchored, folders_only }
    }

    fn matches(&self, path: &str, is_folder: bool) -> bool {
        if self.folders_only && !is_folder {
            return false;
        }
        let path: Vec<Vec<char>> = path.split('/').map(|segment| segment.chars().collect()).collect();
        if self.anchored {
            return match_path(&self.segments, &path);
        }
        match (self.segments.first(), path.last()) {
            (Some(pattern), Some(name)) => match_segment(pattern, name),
            _ => false,
        }
    }
}

/// `**` stands for any number of segments. Goes back to the last `**` only: no more is ever
/// needed, so time is bounded by the product of the lengths.
fn match_path(pattern: &[Vec<char>], path: &[Vec<char>]) -> bool {
    let (mut p, mut s, mut back) = (0, 0, None);
    while let Some(segment) = path.get(s) {
        match pattern.get(p) {
            Some(stars) if stars.as_slice() == ['*', '*'] => {
                back = Some((p, s));
                p += 1;
            }
            Some(one) if match_segment(one, segment) => {
                p += 1;
                s += 1;
            }
            _ => match back {
                Some((stars, from)) => {
                    back = Some((stars, from + 1));
                    p = stars + 1;
                    s = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|rest| rest.as_slice() == ['*', '*'])
}

fn match_segment(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut s, mut back) = (0, 0, None);
    while let Some(c) = name.get(s) {
        if pattern.get(p) == Some(&'*') {
            back = Some((p, s));
            p += 1;
        } else if let Some(next) = match_one(pattern, p, *c) {
            p = next;
            s += 1;
        } else if let Some((star, from)) = back {
            back = Some((star, from + 1));
            p = star + 1;
            s = from + 1;
        } else {
            return false;
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|rest| *rest == '*')
}

/// Matches one character; answers where the pattern goes on.
fn match_one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match pattern.get(p)? {
        '?' => Some(p + 1),
        '\\' => (pattern.get(p + 1) == Some(&c)).then_some(p + 2),
        '[' => match_class(pattern, p, c),
        plain => (*plain == c).then_some(p + 1),
    }
}

fn match_class(pattern: &[char], open: usize, c: char) -> Option<usize> {
    let rest = pattern.get(open + 1..)?;
    let (negated, rest) = match rest.split_first() {
        Some(('!' | '^', rest)) => (true, rest),
        _ => (false, rest),
    };
    let close = rest.iter().skip(1).position(|c| *c == ']')? + 1;
    let class = rest.get(..close)?;
    let mut found = false;
    let mut at = 0;
    while let Some(low) = class.get(at) {
        let (high, step) = match (class.get(at + 1), class.get(at + 2)) {
            (Some('-'), Some(high)) => (high, 3),
            _ => (low, 1),
        };
        found |= (*low..=*high).contains(&c);
        at += step;
    }
    let end = open + 1 + usize::from(negated) + close + 1;
    (found != negated).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_patterns() {
        let attributes = Attributes::parse(&default_attributes(false));
        for large in
            ["model.safetensors", "a/b/x.bin", "saved_model/v/x", "x.tar.gz", "runs/events.tfevents.1"]
        {
            assert!(attributes.is_large(large), "{large}");
        }
        for small in ["config.json", "README.md", "bin", "x.png", "saved_models/x"] {
            assert!(!attributes.is_large(small), "{small}");
        }
        assert!(Attributes::parse(&default_attributes(true)).is_large("x.png"));
    }

    #[test]
    fn the_last_match_wins_and_quotes_and_literals_work() {
        let attributes = Attributes::parse(
            "*.bin filter=lfs -text\nsmall.bin -filter\n\"a b\" filter=lfs\n/x/*.q filter=lfs",
        );
        assert!(attributes.is_large("big.bin"));
        assert!(!attributes.is_large("small.bin"));
        assert!(attributes.is_large("a b"));
        assert!(attributes.is_large("x/1.q"));
        assert!(!attributes.is_large("y/x/1.q"));
        let odd = "we[i]rd *na\"me?";
        assert!(Attributes::parse(&line(&literal(odd))).is_large(odd));
        assert!(!Attributes::parse(&line(&literal(odd))).is_large("weird xna\"me1"));
        assert!(!Attributes::parse(&line(&literal(odd))).is_large(&format!("folder/{odd}")));
    }

    #[test]
    fn lines_are_split_where_git_splits_them() {
        let wide = "\u{3000}wide\u{a0}name\u{2028}.bin";
        assert!(Attributes::parse(&format!("{wide} filter=lfs")).is_large(wide));
        assert!(Attributes::parse("\u{feff}*.bin\tfilter=lfs\r\n").is_large("x.bin"));
        assert!(Attributes::parse("\"\\303\\274\\tx\" filter=lfs").is_large("ü\tx"));
        assert!(!Attributes::parse("\"not closed filter=lfs").is_large("not closed"));
        for none in ["!x filter=lfs", "\"!x\" filter=lfs", "[attr]x filter=lfs", "#x filter=lfs"] {
            assert!(
                !Attributes::parse(none).is_large("x") && !Attributes::parse(none).is_large("!x"),
                "{none}"
            );
        }
    }

    #[test]
    fn ignores() {
        let ignores = Ignores::parse("*.log\n!keep.log\nbuild/\n/top\n# note\na/**/z");
        for path in ["x.log", "a/x.log", "build/x", "c/build/y", "top", "a/z", "a/b/c/z"] {
            assert!(ignores.is_ignored(path), "{path}");
        }
        for path in ["keep.log", "build", "c/top", "a/zz", "b/a/z"] {
            assert!(!ignores.is_ignored(path), "{path}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = "*a".repeat(200) + "b";
        let attributes = Attributes::parse(&format!("{pattern} filter=lfs"));
        assert!(!attributes.is_large(&"a".repeat(1000)));
        let deep = Attributes::parse(&format!("{}x filter=lfs", "**/a/".repeat(100)));
        assert!(!deep.is_large(&["a"; 500].join("/")));
    }

    proptest! {
        #[test]
        fn a_line_for_a_path_covers_it_and_no_other(path in "[ #!\"\\\\*?\\[\\]ab\u{3000}ü-]{1,12}") {
            let attributes = Attributes::parse(&line(&literal(&path)));
            prop_assert!(attributes.is_large(&path));
            for other in [format!("x{path}"), format!("d/{path}")] {
                prop_assert!(!attributes.is_large(&other), "{}", other);
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,80}", path in "\\PC{0,40}") {
            let _ = Attributes::parse(&text).is_large(&path);
            let _ = Ignores::parse(&text).is_ignored(&path);
        }
    }
}
