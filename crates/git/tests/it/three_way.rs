//! Merging, judged by what stock git would have made of it.

use std::time::Duration;

use bastide_core::Oid;
use bastide_git::{GitError, Merge, Op, commits_ahead, merge_bases, merge_commits, shares_commit};

use crate::Lab;

const LIMIT: Duration = Duration::from_secs(20);

fn merge(lab: &Lab, ours: Oid, theirs: Oid) -> Merge {
    merge_commits(&lab.repo, (ours, theirs), lab.folder.path(), LIMIT).unwrap()
}

/// What edits do, as text: `path` is put, `-path` removed.
fn edits(merge: Merge) -> Vec<String> {
    let Merge::Clean { edits, .. } = merge else { panic!("{merge:?}") };
    let shown = edits.iter().map(|edit| match edit.op {
        Op::Put { .. } => edit.path.to_string(),
        Op::Remove => format!("-{}", edit.path),
    });
    shown.collect()
}

/// Two lines of work: a base, then ours, then theirs beside it.
fn two(
    base: &[(&str, &str)],
    ours: &[(&str, Option<&str>)],
    theirs: &[(&str, Option<&str>)],
) -> (Lab, Oid, Oid) {
    fn bytes<'a>(edits: &[(&'a str, Option<&'a str>)]) -> Vec<(&'a str, Option<&'a [u8]>)> {
        edits.iter().map(|(path, text)| (*path, text.map(str::as_bytes))).collect()
    }
    let mut lab = Lab::new();
    let base: Vec<_> = base.iter().map(|(path, text)| (*path, Some(*text))).collect();
    let start = lab.commit(&bytes(&base)).unwrap();
    let ours = lab.commit(&bytes(ours)).unwrap();
    lab.head = Some(start);
    let theirs = lab.commit(&bytes(theirs)).unwrap();
    (lab, ours, theirs)
}

#[test]
fn what_is_ahead_is_taken_and_what_is_contained_is_said() {
    let mut lab = Lab::new();
    let one = lab.commit(&[("a", Some(b"1")), ("d/x", Some(b"1"))]).unwrap();
    let two = lab.commit(&[("b", Some(b"2")), ("d", None)]).unwrap();
    assert_eq!(edits(merge(&lab, one, two)), ["-d", "b"]);
    assert!(matches!(merge(&lab, two, one), Merge::Contained));
    assert!(matches!(merge(&lab, one, one), Merge::Contained));
    assert_eq!(merge_bases(&lab.repo, one, two, LIMIT).unwrap(), [one]);
    assert_eq!(commits_ahead(&lab.repo, one, two, 10).unwrap(), [two]);
    assert!(commits_ahead(&lab.repo, two, one, 10).unwrap().is_empty());
    assert_eq!(lab.repo.only_from(two, &[one], (10, 10)).unwrap(), Some(vec![two]));
    assert_eq!(lab.repo.only_from(two, &[], (1, 10)).unwrap(), None);
    assert_eq!(lab.repo.only_from(two, &[two], (10, 1)).unwrap(), None);
}

#[test]
fn both_sides_are_merged_by_lines_where_they_do_not_meet() {
    let text = |first: &str, last: &str| format!("{first}\n{}{last}\n", "line\n".repeat(10));
    let (base, mine, yours) = (text("a", "b"), text("A", "b"), text("a", "B"));
    let (lab, ours, theirs) = two(
        &[("f", &base), ("g", "g")],
        &[("f", Some(&mine)), ("x", Some("x"))],
        &[("f", Some(&yours)), ("g", None)],
    );
    let Merge::Clean { edits, files } = merge(&lab, ours, theirs) else { panic!("clean") };
    assert_eq!(edits.len(), 2);
    assert_eq!(files.values().collect::<Vec<_>>(), [&text("A", "B")]);
    // Nothing is left behind, here or in the repository.
    assert!(
        std::fs::read_dir(lab.folder.path())
            .unwrap()
            .flatten()
            .all(|file| { !file.file_name().to_string_lossy().starts_with("merge-") })
    );
}

/// In a copy there may be what no ref reaches, and what will be gone with the next pruning.
#[test]
fn what_a_merge_finds_by_chance_is_brought_all_the_same() {
    let text = |first: &str, last: &str| format!("{first}\n{}{last}\n", "line\n".repeat(10));
    let (base, mine, yours) = (text("a", "b"), text("A", "b"), text("a", "B"));
    let moved = "moved\n".repeat(20);
    let (mut lab, ours, theirs) = two(
        &[("f", &base), ("old", &moved)],
        &[("f", Some(&mine)), ("old", None), ("new", Some(&moved))],
        &[("f", Some(&yours)), ("old", Some(&moved.replacen("moved", "other", 1))), ("e", Some("e"))],
    );
    lab.head = None;
    lab.commit(&[("elsewhere", Some(text("A", "B").as_bytes()))]).unwrap();
    let Merge::Clean { edits, files } = merge(&lab, ours, theirs) else { panic!("clean") };
    let paths: Vec<_> = edits.iter().map(|edit| edit.path.as_str()).collect();
    assert_eq!(paths, ["e", "f", "new"]);
    // What one of the sides has stays with it, wherever it stands.
    assert_eq!(files.values().collect::<Vec<_>>(), [&text("A", "B")]);
}

#[test]
fn conflicts_are_named_with_every_kind_of_path() {
    let odd = "odd \u{fc}/\"it's\".txt";
    let (lab, ours, theirs) = two(
        &[(odd, "0"), ("b", "0"), ("c", "0")],
        &[(odd, Some("1")), ("b", Some("1")), ("d/x", Some("1"))],
        &[(odd, Some("2")), ("b", None), ("d", Some("2"))],
    );
    let Merge::Conflicts(paths) = merge(&lab, ours, theirs) else { panic!("conflicts") };
    assert!(paths.contains(&odd.to_owned()) && paths.contains(&"b".to_owned()), "{paths:?}");
    // A file where the other side has a folder: by its own name.
    assert!(paths.contains(&"d".to_owned()), "{paths:?}");
    assert!(!paths.iter().any(|path| path.contains('~')), "{paths:?}");
    assert!(!paths.contains(&"c".to_owned()));
}

#[test]
fn attributes_of_both_sides_are_kept() {
    let (lab, ours, theirs) = two(
        &[(".gitattributes", "*.bin filter=lfs\n")],
        &[(".gitattributes", Some("*.bin filter=lfs\na filter=lfs\n"))],
        &[(".gitattributes", Some("*.bin filter=lfs\nb filter=lfs\n"))],
    );
    let Merge::Clean { files, .. } = merge(&lab, ours, theirs) else { panic!("clean") };
    let text = String::from_utf8(files.into_values().next().unwrap().to_vec()).unwrap();
    assert_eq!(text, "*.bin filter=lfs\na filter=lfs\nb filter=lfs\n");
}

#[test]
fn a_pointer_is_never_put_together() {
    let pointer = |oid: char, size: u32, more: &str| {
        let oid = oid.to_string().repeat(64);
        format!("version https://git-lfs.github.com/spec/v1\n{more}oid sha256:{oid}\nsize {size}\n")
    };
    // One side changes a line at the top, the other one at the bottom: to git a clean merge, if it only had room.
    let gap: String = (0..8).map(|n| format!("ext-{n}-x sha256:{}\n", "0".repeat(64))).collect();
    let first = gap.replacen('0', "1", 2);
    let (base, mine, yours) = (pointer('a', 1, &gap), pointer('a', 1, &first), pointer('b', 2, &gap));
    let (lab, ours, theirs) = two(&[("w", &base)], &[("w", Some(&mine))], &[("w", Some(&yours))]);
    let Merge::Conflicts(paths) = merge(&lab, ours, theirs) else { panic!("conflicts") };
    assert_eq!(paths, ["w"]);
}

#[test]
fn what_takes_too_long_ends() {
    let (lab, ours, theirs) = two(&[("a", "1")], &[("b", Some("2"))], &[("c", Some("3"))]);
    let ended = merge_commits(&lab.repo, (ours, theirs), lab.folder.path(), Duration::ZERO);
    assert!(matches!(ended, Err(GitError::TooSlow)), "{ended:?}");
    let ended = merge_bases(&lab.repo, ours, theirs, Duration::ZERO);
    assert!(matches!(ended, Err(GitError::TooSlow)), "{ended:?}");
}

#[test]
fn a_file_that_is_called_as_git_calls_moved_ones_keeps_its_name() {
    let mut lab = Lab::new();
    let start = lab.commit(&[("a", Some(b"1"))]).unwrap();
    let ours = lab.commit(&[("d/x", Some(b"1"))]).unwrap();
    lab.head = Some(start);
    let odd = format!("d~{ours}");
    let theirs = lab.commit(&[("d", Some(b"2")), (&odd, Some(b"3"))]).unwrap();
    let Merge::Conflicts(paths) = merge(&lab, ours, theirs) else { panic!("conflicts") };
    assert_eq!(paths, ["d"]);
}

#[test]
fn histories_without_a_common_start() {
    let mut lab = Lab::new();
    let one = lab.commit(&[("same", Some(b"s")), ("mine", Some(b"1"))]).unwrap();
    lab.head = None;
    let two = lab.commit(&[("same", Some(b"s")), ("yours", Some(b"2"))]).unwrap();
    assert!(merge_bases(&lab.repo, one, two, LIMIT).unwrap().is_empty());
    assert!(matches!(merge(&lab, one, two), Merge::Unrelated));
    let more = lab.commit(&[("more", Some(b"3"))]).unwrap();
    assert!(!shares_commit(&lab.repo, one, &[], LIMIT).unwrap());
    assert!(!shares_commit(&lab.repo, one, &[two, more], LIMIT).unwrap());
    // One of several is enough.
    assert!(shares_commit(&lab.repo, two, &[one, more], LIMIT).unwrap());
}
