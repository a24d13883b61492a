//! Patterns of `.gitattributes` and `.gitignore`. Whoever writes the rules also names the paths,
//! so every comparison is paid for out of a budget of steps.

use std::collections::HashMap;
use std::ops::RangeInclusive;

/// Longest rule that is read: git's own limit for attributes.
pub const MAX_RULE_BYTES: usize = 2047;
/// Steps of matching for one request or commit: a fraction of a second.
const MATCH_STEPS: u64 = 50_000_000;

/// The rules and the paths together would take too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the patterns of .gitattributes or .gitignore take too long to match: write simpler ones")]
pub struct TooMuchWork;

/// What is left of the work that matching may take.
#[derive(Debug)]
pub struct Steps(u64);

impl Default for Steps {
    fn default() -> Self {
        Self(MATCH_STEPS)
    }
}

impl Steps {
    pub const fn left(&self) -> u64 {
        self.0
    }

    fn spend(&mut self, steps: usize) -> Result<(), TooMuchWork> {
        self.0 = self.0.checked_sub(steps as u64).ok_or(TooMuchWork)?;
        Ok(())
    }
}

/// Rules in order, with what a match means: the last one that matches decides.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// Rules for one file name at any depth, and for one path: by their text.
    names: HashMap<String, Last>,
    paths: HashMap<String, Last>,
    wild: Vec<(usize, Pattern, bool)>,
}

/// The last rule for a text, by its place: for files, and for folders.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    file: Option<(usize, bool)>,
    folder: Option<(usize, bool)>,
}

impl Last {
    fn set(&mut self, at: usize, folders_only: bool, yes: bool) {
        self.folder = Some((at, yes));
        if !folders_only {
            self.file = Some((at, yes));
        }
    }
}

impl Rules {
    /// Of the rules with wildcards the first `most` are kept.
    pub fn new(rules: impl Iterator<Item = (String, bool)>, most: usize) -> Self {
        let mut all = Self::default();
        for (at, (text, yes)) in rules.enumerate().filter(|(_, (text, _))| text.len() <= MAX_RULE_BYTES) {
            let pattern = Pattern::parse(&text);
            let texts = if pattern.anchored { &mut all.paths } else { &mut all.names };
            match pattern.literal() {
                Some(text) => texts.entry(text).or_default().set(at, pattern.folders_only, yes),
                None if all.wild.len() < most => all.wild.push((at, pattern, yes)),
                None => {}
            }
        }
        all
    }

    /// What the last rule says that matches a path, given with its segments.
    pub fn last_match(
        &self,
        path: &str,
        segments: &[&str],
        is_folder: bool,
        steps: &mut Steps,
    ) -> Result<Option<bool>, TooMuchWork> {
        let name = segments.last().copied().unwrap_or_default();
        let found = [self.names.get(name), self.paths.get(path)].into_iter().flatten();
        let found = found.filter_map(|last| if is_folder { last.folder } else { last.file });
        let literal = found.max_by_key(|(at, _)| *at);
        for (at, pattern, yes) in self.wild.iter().rev() {
            if literal.is_some_and(|(literal, _)| literal > *at) {
                break;
            }
            if pattern.matches(segments, is_folder, steps)? {
                return Ok(Some(*yes));
            }
        }
        Ok(literal.map(|(_, yes)| yes))
    }
}

/// A pattern of git's: without an inner slash it matches a name at any depth.
#[derive(Debug, Clone)]
struct Pattern {
    segments: Vec<Segment>,
    anchored: bool,
    folders_only: bool,
}

#[derive(Debug, Clone)]
enum Segment {
    /// `**`: any number of segments.
    Any,
    /// `*` and then this very text, as most patterns are.
    Ending(String),
    Tokens(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Star,
    Class {
        negated: bool,
        ranges: Vec<RangeInclusive<char>>,
    },
    /// A class that does not end, or a backslash at the end: matches nothing.
    Never,
}

impl Pattern {
    fn parse(text: &str) -> Self {
        let (text, folders_only) = text.strip_suffix('/').map_or((text, false), |text| (text, true));
        let anchored = text.contains('/');
        let text = text.strip_prefix('/').unwrap_or(text);
        Self { segments: text.split('/').map(Segment::parse).collect(), anchored, folders_only }
    }

    /// The only text that the pattern matches, if there is one.
    fn literal(&self) -> Option<String> {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Tokens(tokens) => plain(tokens),
            Segment::Any | Segment::Ending(_) => None,
        });
        Some(segments.collect::<Option<Vec<_>>>()?.join("/"))
    }

    fn matches(&self, path: &[&str], is_folder: bool, steps: &mut Steps) -> Result<bool, TooMuchWork> {
        steps.spend(1)?;
        if self.folders_only && !is_folder {
            return Ok(false);
        }
        if self.anchored {
            return match_path(&self.segments, path, steps);
        }
        match (self.segments.first(), path.last()) {
            (Some(pattern), Some(name)) => pattern.matches(name, steps),
            _ => Ok(false),
        }
    }
}

/// The text of tokens that are all characters.
fn plain(tokens: &[Token]) -> Option<String> {
    tokens.iter().map(|token| if let Token::Char(c) = token { Some(*c) } else { None }).collect()
}

impl Segment {
    fn parse(text: &str) -> Self {
        if text == "**" {
            return Self::Any;
        }
        let tokens = tokens(text);
        match tokens.split_first() {
            Some((Token::Star, rest)) => plain(rest).map_or(Self::Tokens(tokens), Self::Ending),
            _ => Self::Tokens(tokens),
        }
    }

    fn matches(&self, name: &str, steps: &mut Steps) -> Result<bool, TooMuchWork> {
        match self {
            // Where a name is expected, two stars are one.
            Self::Any => Ok(true),
            Self::Ending(end) => Ok(name.ends_with(end.as_str())),
            Self::Tokens(tokens) => match_tokens(tokens, name, steps),
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' if tokens.last() == Some(&Token::Star) => continue,
            '*' => Token::Star,
            '?' => Token::One,
            '\\' => chars.next().map_or(Token::Never, Token::Char),
            '[' => match class(chars.as_str()) {
                Some((class, rest)) => {
                    chars = rest.chars();
                    class
                }
                None => Token::Never,
            },
            plain => Token::Char(plain),
        });
    }
    tokens
}

/// A class after its `[`, and what follows its end.
fn class(text: &str) -> Option<(Token, &str)> {
    let inner = text.strip_prefix(['!', '^']);
    let (negated, inner) = (inner.is_some(), inner.unwrap_or(text));
    // The end is not the first character: that one stands for itself.
    let first = inner.chars().next()?.len_utf8();
    let close = inner.get(first..)?.find(']')? + first;
    let chars: Vec<char> = inner.get(..close)?.chars().collect();
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(low) = chars.get(at) {
        let (high, step) = match (chars.get(at + 1), chars.get(at + 2)) {
            (Some('-'), Some(high)) => (high, 3),
            _ => (low, 1),
        };
        ranges.push(*low..=*high);
        at += step;
    }
    Some((Token::Class { negated, ranges }, inner.get(close + 1..)?))
}

/// Goes back to the last `**` only: no more is ever needed, so time is bounded by the product of
/// the lengths.
fn match_path(pattern: &[Segment], path: &[&str], steps: &mut Steps) -> Result<bool, TooMuchWork> {
    let (mut p, mut s, mut back) = (0, 0, None);
    while let Some(segment) = path.get(s) {
        steps.spend(1)?;
        let matched = match pattern.get(p) {
            Some(Segment::Any) => {
                back = Some((p, s));
                p += 1;
                continue;
            }
            Some(one) => one.matches(segment, steps)?,
            None => false,
        };
        if matched {
            p += 1;
            s += 1;
        } else if let Some((stars, from)) = back {
            back = Some((stars, from + 1));
            p = stars + 1;
            s = from + 1;
        } else {
            return Ok(false);
        }
    }
    Ok(pattern.get(p..).unwrap_or_default().iter().all(|rest| matches!(rest, Segment::Any)))
}

fn match_tokens(pattern: &[Token], name: &str, steps: &mut Steps) -> Result<bool, TooMuchWork> {
    let (mut p, mut at, mut back) = (0, 0, None);
    while let Some(c) = name.get(at..).and_then(|rest| rest.chars().next()) {
        steps.spend(1)?;
        if pattern.get(p) == Some(&Token::Star) {
            back = Some((p, at));
            p += 1;
        } else if match_one(pattern.get(p), c, steps)? {
            p += 1;
            at += c.len_utf8();
        } else if let Some((star, from)) = back {
            let next = from + name.get(from..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
            back = Some((star, next));
            p = star + 1;
            at = next;
        } else {
            return Ok(false);
        }
    }
    Ok(pattern.get(p..).unwrap_or_default().iter().all(|rest| *rest == Token::Star))
}

fn match_one(token: Option<&Token>, c: char, steps: &mut Steps) -> Result<bool, TooMuchWork> {
    Ok(match token {
        Some(Token::Char(plain)) => *plain == c,
        Some(Token::One) => true,
        Some(Token::Class { negated, ranges }) => {
            steps.spend(ranges.len())?;
            ranges.iter().any(|range| range.contains(&c)) != *negated
        }
        Some(Token::Star | Token::Never) | None => false,
    })
}
