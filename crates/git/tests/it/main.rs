//! Stock git is the judge: ids, packs, trees and history have to be those that it makes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and run git themselves"
)]

mod history;
mod three_way;

use std::collections::BTreeMap;
use std::process::Command;

use bastide_core::limits::{MAX_COMMIT_FOLDERS, MAX_PATH_SEGMENTS};
use bastide_core::{EntryPath, Oid, RefName, RepoId, Timestamp};
use bastide_git::{
    Cache, Edit, GitError, Mode, NewCommit, Op, PackWriter, Person, Repo, diff_trees, edit_tree, merge_packs,
};

struct Lab {
    folder: tempfile::TempDir,
    repo: Repo,
    head: Option<Oid>,
    packs: Vec<String>,
    count: i64,
}

fn path(text: &str) -> EntryPath {
    text.parse().unwrap()
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repo = Cache::new(folder.path().join("cache")).repo(RepoId::from_i64(7)).unwrap();
        Self { folder, repo, head: None, packs: Vec::new(), count: 0 }
    }

    fn tree(&self) -> Option<Oid> {
        self.head.map(|head| self.repo.commit(head).unwrap().tree)
    }

    /// One commit: `None` removes a path.
    fn commit(&mut self, edits: &[(&str, Option<&[u8]>)]) -> Result<Oid, GitError> {
        let mut pack = PackWriter::new(self.folder.path())?;
        let mut ops = Vec::new();
        for (name, data) in edits {
            let op = match data {
                Some(data) => Op::Put { oid: pack.blob(data)?, mode: Mode::File },
                None => Op::Remove,
            };
            ops.push(Edit { path: path(name), op });
        }
        let edited = edit_tree(&self.repo, self.tree(), &ops, &mut pack)?;
        let author = Person { name: "Ann".into(), email: "ann@example.org".into() };
        let parents: Vec<Oid> = self.head.into_iter().collect();
        self.count += 1;
        let time = Timestamp::from_millis(1_700_000_000_000).plus_seconds(self.count);
        let commit =
            NewCommit { tree: edited.tree, parents: &parents, author: &author, time, message: "a change\n" };
        let commit = pack.commit(&commit)?;
        let new = pack.finish(self.folder.path())?;
        self.repo.add_pack(&new.name, &new.pack, &new.index)?;
        self.packs.push(new.name);
        self.head = Some(commit);
        self.repo.write_refs(&[(RefName::main(), commit, None)])?;
        Ok(commit)
    }

    fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git").arg("-C").arg(self.repo.folder()).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fsck(&self) {
        let mut command = Command::new("git");
        let command = command.arg("-C").arg(self.repo.folder());
        let mut output = command.args(["fsck", "--strict", "--full", "--no-dangling"]).output().unwrap();
        output.stderr.extend(output.stdout);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !text.contains("error"), "{text}");
    }

    fn list(&self) -> Vec<String> {
        let found = self.repo.list(self.tree().unwrap(), "", true, None, usize::MAX).unwrap();
        found.into_iter().map(|walked| walked.path).collect()
    }
}

#[test]
fn git_agrees_after_a_random_life() {
    let mut lab = Lab::new();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut seed = 12345u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for step in 0..60 {
        let mut edits: Vec<(String, Option<Vec<u8>>)> = Vec::new();
        for _ in 0..=random(5) {
            let folder = ["", "a/", "a/b/", "a.b/", "a-b/", "z/ü/"][usize::try_from(random(6)).unwrap()];
            let name = format!("{folder}f{}", random(12));
            if edits.iter().any(|(other, _)| *other == name) {
                continue;
            }
            if random(4) == 0 && files.contains_key(&name) {
                files.remove(&name);
                edits.push((name, None));
            } else {
                let data = format!("{step} {}", random(1000)).into_bytes();
                files.insert(name.clone(), data.clone());
                edits.push((name, Some(data)));
            }
        }
        let edits: Vec<_> = edits.iter().map(|(name, data)| (name.as_str(), data.as_deref())).collect();
        lab.commit(&edits).unwrap();
    }
    lab.fsck();
    let theirs = lab.git(&["-c", "core.quotePath=false", "ls-tree", "-r", "--name-only", "main"]);
    let mut theirs: Vec<_> = theirs.lines().map(ToOwned::to_owned).collect();
    theirs.sort();
    assert_eq!(theirs, files.keys().cloned().collect::<Vec<_>>());
    for (name, data) in &files {
        let entry = lab.repo.find(lab.tree().unwrap(), &path(name)).unwrap().unwrap();
        assert_eq!(lab.repo.blob(entry.oid, 100).unwrap(), data);
    }
    let log = lab.git(&["rev-list", "main"]);
    let ours = lab.repo.history(lab.head.unwrap(), 0, 1000).unwrap();
    assert_eq!(
        log.lines().collect::<Vec<_>>(),
        ours.iter().map(|(oid, _)| oid.to_string()).collect::<Vec<_>>()
    );
    assert!(lab.repo.check(&[lab.head.unwrap()], |_, _| {}).is_empty());

    let names: Vec<&str> = lab.packs.iter().map(String::as_str).collect();
    let merged = merge_packs(&lab.repo, &names, lab.folder.path()).unwrap();
    lab.repo.add_pack(&merged.name, &merged.pack, &merged.index).unwrap();
    lab.repo.remove_packs(&lab.packs).unwrap();
    // A repository that is open goes on, from objects that it has not read yet too.
    for (name, data) in &files {
        let entry = lab.repo.find(lab.tree().unwrap(), &path(name)).unwrap().unwrap();
        assert_eq!(lab.repo.blob(entry.oid, 100).unwrap(), data);
    }
    lab.fsck();
    let fresh = Cache::new(lab.folder.path().join("cache")).repo(RepoId::from_i64(7)).unwrap();
    assert!(fresh.check(&[lab.head.unwrap()], |_, _| {}).is_empty());
}

#[test]
fn ids_are_those_of_git() {
    let mut lab = Lab::new();
    lab.commit(&[("x/y", Some(b"hello\n")), ("a", Some(b""))]).unwrap();
    assert_eq!(lab.git(&["rev-parse", "main:x/y"]).trim(), "ce013625030ba8dba906f756967f9e9ca394464a");
    assert_eq!(lab.git(&["rev-parse", "main:a"]).trim(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}

#[test]
fn lists_are_sorted_by_full_path_and_can_be_paged_anywhere() {
    let mut lab = Lab::new();
    let names = ["a", "a.b/x", "a-b", "a0", "b/c/d", "b/c.d", "b.c/e", "b/c/d2", "c"];
    let mut edits: Vec<(&str, Option<&[u8]>)> = names.iter().map(|name| (*name, Some(&b"x"[..]))).collect();
    edits.retain(|(name, _)| *name != "a");
    edits.push(("a/z", Some(b"x")));
    lab.commit(&edits).unwrap();
    let all = lab.list();
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(all, sorted);
    assert_eq!(all.len(), 14);
    for limit in 1..=all.len() {
        let mut paged: Vec<String> = Vec::new();
        loop {
            let after = paged.last().map(String::as_str);
            let page = lab.repo.list(lab.tree().unwrap(), "", true, after, limit).unwrap();
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= limit);
            paged.extend(page.into_iter().map(|walked| walked.path));
        }
        assert_eq!(paged, all, "pages of {limit}");
    }
}

#[test]
fn impossible_edits_are_named() {
    let mut lab = Lab::new();
    lab.commit(&[("a", Some(b"1")), ("d/e", Some(b"1")), ("Keep", Some(b"1"))]).unwrap();
    let mut fails = |edits: &[(&str, Option<&[u8]>)]| lab.commit(edits).unwrap_err();
    assert!(matches!(fails(&[("none", None)]), GitError::NotFound(path) if path == "none"));
    assert!(matches!(fails(&[("a/b", Some(b"1"))]), GitError::PathConflict(path) if path == "a"));
    assert!(matches!(fails(&[("d", Some(b"1"))]), GitError::PathConflict(path) if path == "d"));
    assert!(matches!(fails(&[("A", Some(b"1"))]), GitError::CaseClash { .. }));
    assert!(matches!(fails(&[("D/x", Some(b"1"))]), GitError::CaseClash { .. }));
    // A removal first makes room.
    lab.commit(&[("a", None), ("a/b", Some(b"1")), ("d", None), ("d", Some(b"2"))]).unwrap();
    assert_eq!(lab.list(), ["Keep", "a", "a/b", "d"]);
    // The last file gone: an empty tree, not an error.
    lab.commit(&[("a", None), ("d", None), ("Keep", None)]).unwrap();
    assert!(lab.list().is_empty());
    lab.fsck();
}

#[test]
fn differences_name_files_and_folders() {
    let mut lab = Lab::new();
    lab.commit(&[("a/x", Some(b"1")), ("a/y", Some(b"1")), ("b", Some(b"1"))]).unwrap();
    let old = lab.tree();
    lab.commit(&[("a/x", Some(b"2")), ("b", None), ("c/d", Some(b"3"))]).unwrap();
    let changes = diff_trees(&lab.repo, old, lab.tree()).unwrap();
    let paths: Vec<_> = changes.iter().map(|change| (change.path.as_str(), change.is_tree)).collect();
    assert_eq!(paths, [("a", true), ("a/x", false), ("b", false), ("c", true), ("c/d", false)]);
}

#[test]
fn damaged_packs_are_errors_not_panics() {
    let mut lab = Lab::new();
    let commit = lab.commit(&[("a", Some(&[7; 5000])), ("b", Some(b"tiny"))]).unwrap();
    let (pack, _) = lab.repo.pack_paths(&lab.packs[0]);
    let bytes = std::fs::read(&pack).unwrap();
    for cut in [0, 4, 11, 12, 13, 30, bytes.len() / 2, bytes.len() - 21] {
        std::fs::remove_file(&pack).unwrap();
        std::fs::write(&pack, &bytes[..cut]).unwrap();
        let fresh = Cache::new(lab.folder.path().join("cache")).repo(RepoId::from_i64(7)).unwrap();
        assert!(!fresh.check(&[commit], |_, _| {}).is_empty(), "cut at {cut}");
    }
    let missing = Oid::from_bytes([1; 20]);
    assert!(matches!(lab.repo.commit(missing), Err(GitError::Missing(_))));
}

#[test]
fn a_blob_is_never_read_beyond_its_limit() {
    let mut lab = Lab::new();
    lab.commit(&[("bomb", Some(&vec![0; 3_000_000]))]).unwrap();
    let entry = lab.repo.find(lab.tree().unwrap(), &path("bomb")).unwrap().unwrap();
    assert!(matches!(lab.repo.blob(entry.oid, 2_999_999), Err(GitError::TooLarge { .. })));
    assert_eq!(lab.repo.blob(entry.oid, 3_000_000).unwrap().len(), 3_000_000);
    assert_eq!(lab.repo.blob_size(entry.oid).unwrap(), 3_000_000);
}

#[test]
fn stock_git_complains_of_a_repository_that_it_would_not_take() {
    let mut lab = Lab::new();
    lab.commit(&[("a", Some(b"1")), (".gitmodules", Some(b"[submodule \"a\"]\n\turl = ../a\n"))]).unwrap();
    assert_eq!(lab.repo.strict_complaints().unwrap(), [""; 0]);
    lab.commit(&[(".gitmodules", Some(b"[submodule \"../../x\"]\n\turl = -u./x\n"))]).unwrap();
    let complaints = lab.repo.strict_complaints().unwrap().join("\n");
    assert!(complaints.contains("gitmodulesName") && complaints.contains("gitmodulesUrl"), "{complaints}");
}

#[test]
fn a_commit_over_too_many_folders_is_refused_before_any_is_made() {
    let mut lab = Lab::new();
    let mut pack = PackWriter::new(lab.folder.path()).unwrap();
    let oid = pack.blob(b"1").unwrap();
    let edit = |name: String| Edit { path: path(&name), op: Op::Put { oid, mode: Mode::File } };
    let deep = ["a"; 49].join("/");
    // Each has 50 folders of its own.
    let edits: Vec<Edit> = (0..MAX_COMMIT_FOLDERS / 50).map(|n| edit(format!("{n}/{deep}/x"))).collect();
    let mut over = edits.clone();
    over.push(edit("one/more".into()));
    assert!(matches!(edit_tree(&lab.repo, None, &over, &mut pack), Err(GitError::TooManyFolders)));
    assert!(edit_tree(&lab.repo, None, &edits, &mut pack).is_ok());
    lab.commit(&[("a", Some(b"1"))]).unwrap();
}

#[test]
fn the_deepest_path_can_be_listed_and_compared() {
    let mut lab = Lab::new();
    let deepest = ["a"; MAX_PATH_SEGMENTS].join("/");
    lab.commit(&[(&deepest, Some(b"1"))]).unwrap();
    assert_eq!(lab.list().len(), MAX_PATH_SEGMENTS);
    assert_eq!(diff_trees(&lab.repo, None, lab.tree()).unwrap().len(), MAX_PATH_SEGMENTS);
    lab.fsck();
}

#[test]
fn one_name_in_two_forms_of_unicode_is_a_clash() {
    let mut lab = Lab::new();
    lab.commit(&[("d/caf\u{e9}", Some(b"1"))]).unwrap();
    for twin in ["d/cafe\u{301}", "d/CAFE\u{301}", "d/CAF\u{c9}"] {
        assert!(matches!(lab.commit(&[(twin, Some(b"2"))]), Err(GitError::CaseClash { .. })), "{twin}");
    }
    lab.commit(&[("cafe\u{301}", Some(b"2")), ("d/cafe", Some(b"3"))]).unwrap();
}
