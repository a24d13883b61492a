//! `.gitattributes` and `.gitignore`: which paths go to large-file storage, which are left out.

mod pattern;

use std::collections::HashMap;

use pattern::Rules;
pub use pattern::{MAX_RULE_BYTES, Steps, TooMuchWork};

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

/// Longest text of rules that is taken from a request.
pub const MAX_RULES_BYTES: usize = 64 * 1024;
/// Rules with wildcards that are read of one file, and rules of any kind in a request. Each has to
/// be tried on every path; a rule that names one file is found by look-up and does not count.
pub const MAX_RULES: usize = 1000;

/// Refuses a text of rules that would take too much work, before anything is made of it.
pub fn check_size(text: &str) -> Result<(), String> {
    if text.len() > MAX_RULES_BYTES {
        return Err(format!("has more than {MAX_RULES_BYTES} bytes"));
    }
    let rules = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count();
    if rules > MAX_RULES {
        return Err(format!("has {rules} rules: at most {MAX_RULES} are read"));
    }
    Ok(())
}

/// Which paths are large files: the last rule that says anything about `filter` wins.
#[derive(Debug, Clone, Default)]
pub struct Attributes(Rules);

impl Attributes {
    pub fn parse(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self(Rules::new(text.split('\n').filter_map(attribute_rule), MAX_RULES))
    }

    pub fn is_large(&self, path: &str, steps: &mut Steps) -> Result<bool, TooMuchWork> {
        let segments: Vec<&str> = path.split('/').collect();
        Ok(self.0.last_match(path, &segments, false, steps)?.unwrap_or(false))
    }
}

/// A pattern, and whether its files are large.
fn attribute_rule(line: &str) -> Option<(String, bool)> {
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
    Some((pattern, yes))
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
pub struct Ignores {
    rules: Rules,
    /// Folders that were judged already: many files share them.
    folders: HashMap<String, bool>,
}

impl Ignores {
    pub fn parse(text: &str) -> Self {
        let rules = Rules::new(text.lines().filter_map(ignore_rule), MAX_RULES);
        Self { rules, folders: HashMap::new() }
    }

    /// A path is ignored when it or a folder above it is.
    pub fn is_ignored(&mut self, path: &str, steps: &mut Steps) -> Result<bool, TooMuchWork> {
        let segments: Vec<&str> = path.split('/').collect();
        for (depth, (end, _)) in path.match_indices('/').enumerate() {
            let (Some(folder), Some(above)) = (path.get(..end), segments.get(..=depth)) else { continue };
            if self.is_ignored_folder(folder, above, steps)? {
                return Ok(true);
            }
        }
        Ok(self.rules.last_match(path, &segments, false, steps)?.unwrap_or(false))
    }

    fn is_ignored_folder(
        &mut self,
        folder: &str,
        segments: &[&str],
        steps: &mut Steps,
    ) -> Result<bool, TooMuchWork> {
        if let Some(known) = self.folders.get(folder) {
            return Ok(*known);
        }
        let ignored = self.rules.last_match(folder, segments, true, steps)?.unwrap_or(false);
        self.folders.insert(folder.to_owned(), ignored);
        Ok(ignored)
    }
}

/// A pattern, and whether its files are ignored.
fn ignore_rule(line: &str) -> Option<(String, bool)> {
    let line = line.trim_end_matches(BLANKS);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (yes, pattern) = line.strip_prefix('!').map_or((true, line), |pattern| (false, pattern));
    Some((pattern.to_owned(), yes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn large_in(attributes: &Attributes, path: &str) -> bool {
        attributes.is_large(path, &mut Steps::default()).unwrap()
    }

    #[test]
    fn the_default_patterns() {
        let attributes = Attributes::parse(&default_attributes(false));
        for large in
            ["model.safetensors", "a/b/x.bin", "saved_model/v/x", "x.tar.gz", "runs/events.tfevents.1"]
        {
            assert!(large_in(&attributes, large), "{large}");
        }
        for small in ["config.json", "README.md", "bin", "x.png", "saved_models/x"] {
            assert!(!large_in(&attributes, small), "{small}");
        }
        assert!(large_in(&Attributes::parse(&default_attributes(true)), "x.png"));
    }

    #[test]
    fn the_last_match_wins_and_quotes_and_literals_work() {
        let attributes = Attributes::parse(
            "*.bin filter=lfs -text\nsmall.bin -filter\n\"a b\" filter=lfs\n/x/*.q filter=lfs",
        );
        assert!(large_in(&attributes, "big.bin"));
        assert!(!large_in(&attributes, "small.bin"));
        assert!(large_in(&attributes, "a b"));
        assert!(large_in(&attributes, "x/1.q"));
        assert!(!large_in(&attributes, "y/x/1.q"));
        let odd = "we[i]rd *na\"me?";
        assert!(large_in(&Attributes::parse(&line(&literal(odd))), odd));
        assert!(!large_in(&Attributes::parse(&line(&literal(odd))), "weird xna\"me1"));
        assert!(!large_in(&Attributes::parse(&line(&literal(odd))), &format!("folder/{odd}")));
    }

    #[test]
    fn lines_are_split_where_git_splits_them() {
        let wide = "\u{3000}wide\u{a0}name\u{2028}.bin";
        assert!(large_in(&Attributes::parse(&format!("{wide} filter=lfs")), wide));
        assert!(large_in(&Attributes::parse("\u{feff}*.bin\tfilter=lfs\r\n"), "x.bin"));
        assert!(large_in(&Attributes::parse("\"\\303\\274\\tx\" filter=lfs"), "ü\tx"));
        assert!(!large_in(&Attributes::parse("\"not closed filter=lfs"), "not closed"));
        for none in ["!x filter=lfs", "\"!x\" filter=lfs", "[attr]x filter=lfs", "#x filter=lfs"] {
            assert!(
                !large_in(&Attributes::parse(none), "x") && !large_in(&Attributes::parse(none), "!x"),
                "{none}"
            );
        }
    }

    #[test]
    fn ignores() {
        let mut ignores = Ignores::parse("*.log\n!keep.log\nbuild/\n/top\n# note\na/**/z");
        for path in ["x.log", "a/x.log", "build/x", "c/build/y", "top", "a/z", "a/b/c/z"] {
            assert!(ignores.is_ignored(path, &mut Steps::default()).unwrap(), "{path}");
        }
        for path in ["keep.log", "build", "c/top", "a/zz", "b/a/z"] {
            assert!(!ignores.is_ignored(path, &mut Steps::default()).unwrap(), "{path}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = "*a".repeat(200) + "b";
        let attributes = Attributes::parse(&format!("{pattern} filter=lfs"));
        assert!(!large_in(&attributes, &"a".repeat(1000)));
        let deep = Attributes::parse(&format!("{}x filter=lfs", "**/a/".repeat(100)));
        assert!(!large_in(&deep, &["a"; 500].join("/")));
    }

    #[test]
    fn texts_of_rules_have_a_limit_that_holds_at_its_edge() {
        assert!(check_size(&"x\n".repeat(MAX_RULES)).is_ok());
        assert!(check_size(&"x\n".repeat(MAX_RULES + 1)).is_err());
        assert!(check_size(&"#\n".repeat(MAX_RULES + 1)).is_ok());
        assert!(check_size(&"x".repeat(MAX_RULES_BYTES)).is_ok());
        assert!(check_size(&"x".repeat(MAX_RULES_BYTES + 1)).is_err());
    }

    #[test]
    fn a_wildcard_beyond_the_limit_is_not_read_and_a_name_is() {
        let text = format!("{}y*z filter=lfs\nname filter=lfs\n", "x*y filter=lfs\n".repeat(MAX_RULES));
        let attributes = Attributes::parse(&text);
        assert!(large_in(&attributes, "xy"));
        assert!(!large_in(&attributes, "yz"));
        assert!(large_in(&attributes, "a/name"));
    }

    #[test]
    fn work_that_is_too_long_is_refused_not_done() {
        let hostile = format!("{}b filter=lfs\n", "*a?".repeat(500)).repeat(40);
        let attributes = Attributes::parse(&hostile);
        let mut steps = Steps::default();
        let paths = (0..1000).map(|n| format!("{}{n}", "a".repeat(1000)));
        assert!(paths.map(|path| attributes.is_large(&path, &mut steps)).any(|answer| answer.is_err()));
        let ordinary = Attributes::parse(&default_attributes(true));
        let mut steps = Steps::default();
        for n in 0..25_000 {
            let path = format!("a/folder/of/data/part-{n:05}-of-25000");
            assert_eq!(ordinary.is_large(&path, &mut steps), Ok(false));
        }
    }

    #[test]
    fn a_folder_is_judged_once_for_all_its_files() {
        let mut ignores = Ignores::parse(&"x?y\n".repeat(MAX_RULES));
        let folder = ["a"; 60].join("/");
        let mut steps = Steps::default();
        assert_eq!(ignores.is_ignored(&format!("{folder}/0"), &mut steps), Ok(false));
        let first = Steps::default().left() - steps.left();
        let before = steps.left();
        assert_eq!(ignores.is_ignored(&format!("{folder}/1"), &mut steps), Ok(false));
        assert!((before - steps.left()) * 10 < first);
    }

    proptest! {
        #[test]
        fn a_line_for_a_path_covers_it_and_no_other(path in "[ #!\"\\\\*?\\[\\]ab\u{3000}ü-]{1,12}") {
            let attributes = Attributes::parse(&line(&literal(&path)));
            prop_assert!(large_in(&attributes, &path));
            for other in [format!("x{path}"), format!("d/{path}")] {
                prop_assert!(!large_in(&attributes, &other), "{}", other);
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,80}", path in "\\PC{0,40}") {
            let _ = large_in(&Attributes::parse(&text), &path);
            let _ = Ignores::parse(&text).is_ignored(&path, &mut Steps::default());
        }
    }
}
