//! Stock git is the judge of differences, of where histories part, and of whose line is whose.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bastide_core::{Oid, RepoId};
use bastide_git::{
    Blame, Budget, Cache, Content, FileDiff, FileStatus, GitError, Repo, blame, blame_within, brought,
    changed_files, diff_contents, raw_line, unified,
};

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// A repository that stock git writes, read by ours as a pack.
struct Stock {
    folder: tempfile::TempDir,
    time: i64,
}

impl Stock {
    fn new() -> Self {
        let stock = Self { folder: tempfile::tempdir().unwrap(), time: 1_700_000_000 };
        std::fs::create_dir(stock.work()).unwrap();
        stock.git(&["init", "-q", "-b", "main"]);
        stock
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command
            .current_dir(self.work())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        let date = format!("{} +0000", self.time);
        for (key, value) in [("NAME", "Ann"), ("EMAIL", "ann@example.org"), ("DATE", date.as_str())] {
            command.env(format!("GIT_AUTHOR_{key}"), value).env(format!("GIT_COMMITTER_{key}"), value);
        }
        command.args(["-c", "core.quotePath=false", "-c", "core.autocrlf=false"]);
        command
    }

    fn bytes(&self, args: &[&str]) -> Vec<u8> {
        let output = self.command().args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn git(&self, args: &[&str]) -> String {
        String::from_utf8_lossy(&self.bytes(args)).trim().to_owned()
    }

    fn try_git(&self, args: &[&str]) -> bool {
        self.command().args(args).output().unwrap().status.success()
    }

    fn write(&self, path: &str, data: impl AsRef<[u8]>) {
        let path = self.work().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, data).unwrap();
    }

    fn commit(&mut self) -> Oid {
        self.time += 60;
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "a change"]);
        self.head()
    }

    fn head(&self) -> Oid {
        self.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    fn commits(&self) -> Vec<Oid> {
        self.git(&["rev-list", "--all"]).lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Everything so far, as our own repository.
    fn repo(&self) -> Repo {
        self.git(&["repack", "-q", "-a", "-d"]);
        let cache = Cache::new(self.folder.path().join(format!("cache{}", self.time)));
        let repo = cache.repo(RepoId::from_i64(7)).unwrap();
        let packs = self.work().join(".git/objects/pack");
        for entry in std::fs::read_dir(packs).unwrap() {
            let pack = entry.unwrap().path();
            if pack.extension().is_some_and(|ending| ending == "pack") {
                let name = pack.file_stem().unwrap().to_str().unwrap();
                repo.add_pack(name, &pack, &pack.with_extension("idx")).unwrap();
            }
        }
        repo
    }

    /// Does `git apply` make the tree of `new` out of that of `old` with this patch?
    fn applies(&self, patch: &[u8], old: Oid, new: Oid) -> Result<(), String> {
        let index = self.folder.path().join("index");
        let _ = std::fs::remove_file(&index);
        let run = |args: &[&str], input: &[u8]| {
            let mut command = self.command();
            let command = command.args(args).env("GIT_INDEX_FILE", &index);
            let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
            child.wait_with_output().unwrap()
        };
        run(&["read-tree", &old.to_string()], b"");
        if !patch.is_empty() {
            let applied = run(&["apply", "--cached", "--whitespace=nowarn"], patch);
            if !applied.status.success() {
                return Err(String::from_utf8_lossy(&applied.stderr).into_owned());
            }
        }
        let tree = String::from_utf8(run(&["write-tree"], b"").stdout).unwrap();
        let wanted = self.git(&["rev-parse", &format!("{new}^{{tree}}")]);
        if tree.trim() == wanted { Ok(()) } else { Err(format!("{tree} is not {wanted}")) }
    }
}

fn diff(repo: &Repo, old: Option<Oid>, new: Oid) -> Vec<FileDiff> {
    let tree = |commit| repo.commit(commit).unwrap().tree;
    let changed = changed_files(repo, old.map(tree), Some(tree(new))).unwrap();
    assert!(changed.complete);
    diff_contents(repo, &changed.files, &mut Budget::default()).unwrap()
}

fn patch(files: &[FileDiff]) -> Vec<u8> {
    files.iter().flat_map(unified).collect()
}

fn some_text(random: &mut Random) -> String {
    let lines = random.below(40);
    (0..lines).map(|_| line(random)).collect()
}

fn line(random: &mut Random) -> String {
    let end = *random.pick(&["\n", "\n", "\n", "\n", "\r\n"]);
    let start = *random.pick(&["", "  ", "fn ", "    ", "\t", "}"]);
    format!("{start}{}{end}", random.pick(&["a", "b", "", "{", "}", "let x = 1;", "ünï 🤗", "return"]))
}

/// Some lines of a text removed, added and changed.
fn edited(text: &[u8], random: &mut Random) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    for _ in 0..=random.below(4) {
        let at = usize::try_from(random.below(lines.len() as u64 + 1)).unwrap();
        match random.below(3) {
            0 if at < lines.len() => drop(lines.remove(at)),
            1 if at < lines.len() => lines[at] = line(random).into_bytes(),
            _ => lines.insert(at, line(random).into_bytes()),
        }
    }
    let mut text = lines.concat();
    if random.below(4) == 0 {
        text.extend_from_slice(b"no end of line");
    }
    text
}

/// One random change of the files of a repository.
fn change(stock: &Stock, files: &mut Vec<String>, random: &mut Random) {
    let names =
        ["a", "b c", "dir/a", "dir/sub/ü.txt", "dir/x y/z", "q\"uote", "back\\slash", "tab\there", "k.md"];
    let at =
        |random: &mut Random, files: &[String]| usize::try_from(random.below(files.len() as u64)).unwrap();
    match random.below(10) {
        0..=3 if !files.is_empty() => {
            let name = &files[at(random, files)];
            let text = std::fs::read(stock.work().join(name)).unwrap();
            stock.write(name, edited(&text, random));
        }
        4 if !files.is_empty() => {
            let name = files.remove(at(random, files));
            std::fs::remove_file(stock.work().join(name)).unwrap();
        }
        5 if !files.is_empty() => {
            let place = at(random, files);
            let new = format!("moved/{}", random.below(1000));
            let text = std::fs::read(stock.work().join(&files[place])).unwrap();
            std::fs::remove_file(stock.work().join(&files[place])).unwrap();
            stock.write(&new, if random.below(2) == 0 { text } else { edited(&text, random) });
            files[place] = new;
        }
        6 => {
            let name = format!("bin{}", random.below(3));
            stock.write(&name, [0, 1, 2, u8::try_from(random.below(250)).unwrap()]);
        }
        7 => {
            let name = format!("empty{}", random.below(3));
            if stock.work().join(&name).exists() {
                std::fs::remove_file(stock.work().join(&name)).unwrap();
            } else {
                stock.write(&name, "");
            }
        }
        8 if !files.is_empty() => {
            let mode = random.pick(&[0o755, 0o644]).to_owned();
            let path = stock.work().join(&files[at(random, files)]);
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, permissions).unwrap();
        }
        _ => {
            let name = format!("{}{}", random.pick(&names), random.below(4));
            stock.write(&name, some_text(random));
            if !files.contains(&name) {
                files.push(name);
            }
        }
    }
}

#[test]
fn differences_are_those_of_git_and_can_be_applied() {
    let (mut stock, mut random, mut files) = (Stock::new(), Random(42), Vec::new());
    let mut commits = vec![stock.commit()];
    for _ in 0..120 {
        for _ in 0..=random.below(3) {
            change(&stock, &mut files, &mut random);
        }
        commits.push(stock.commit());
    }
    let repo = stock.repo();
    let mut different = 0;
    for pair in commits.windows(2) {
        let (old, new) = (pair[0], pair[1]);
        let found = diff(&repo, Some(old), new);
        let ours = patch(&found);
        stock.applies(&ours, old, new).unwrap_or_else(|error| {
            panic!("{error}\n{}", String::from_utf8_lossy(&ours));
        });
        let (old, new) = (old.to_string(), new.to_string());
        let theirs = stock.bytes(&["diff", "--full-index", "-M", &old, &new]);
        // Which of several equal files was renamed, and in what order lines moved, is a matter of taste.
        if ours != theirs {
            different += 1;
            if std::env::var_os("SHOW_DIFFERENT").is_some() {
                println!(
                    "OURS\n{}\nTHEIRS\n{}\n",
                    String::from_utf8_lossy(&ours),
                    String::from_utf8_lossy(&theirs)
                );
            }
        }
    }
    assert!(different * 10 <= commits.len(), "{different} of {} are not git's", commits.len());
    // Far apart, and from nothing.
    let (first, last) = (commits[0], *commits.last().unwrap());
    stock.applies(&patch(&diff(&repo, Some(first), last)), first, last).unwrap();
    stock.applies(&patch(&diff(&repo, Some(last), first)), last, first).unwrap();
    let empty: Oid = "4b825dc642cb6eb9a060e54bf8d69288fbee4904".parse().unwrap();
    stock.git(&["hash-object", "-t", "tree", "-w", "/dev/null"]);
    stock.applies(&patch(&diff(&repo, None, last)), empty, last).unwrap();
}

#[test]
fn special_things_are_said_as_git_says_them() {
    let mut stock = Stock::new();
    stock.write("link-to-be", "target");
    stock.write("program", "#!/bin/sh\n");
    stock.write("last", "one\ntwo");
    stock.write("crlf", "a\r\nb\r\n");
    stock.write("folder/file", "x\n");
    stock.write("moved", "1\n2\n3\n4\n5\n6\n7\n8\n");
    let old = stock.commit();
    std::fs::remove_file(stock.work().join("link-to-be")).unwrap();
    std::os::unix::fs::symlink("target", stock.work().join("link-to-be")).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(stock.work().join("program"), permissions).unwrap();
    stock.write("last", "one\ntwo\n");
    stock.write("crlf", "a\nb\r\n");
    std::fs::remove_dir_all(stock.work().join("folder")).unwrap();
    stock.write("folder", "now a file\n");
    std::fs::rename(stock.work().join("moved"), stock.work().join("new name")).unwrap();
    stock.write("new name", "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    let new = stock.commit();
    let repo = stock.repo();
    let found = diff(&repo, Some(old), new);
    let (one, two) = (old.to_string(), new.to_string());
    let theirs = stock.git(&["diff", "--full-index", "-M", &one, &two]);
    assert_eq!(String::from_utf8(patch(&found)).unwrap().trim(), theirs);
    stock.applies(&patch(&found), old, new).unwrap();
    let status = |path: &str| {
        found.iter().filter(|file| file.path() == path).map(|file| file.status).collect::<Vec<_>>()
    };
    assert_eq!(status("link-to-be"), [FileStatus::Deleted, FileStatus::Added]);
    assert_eq!(status("new name"), [FileStatus::Renamed]);
    let short: Vec<String> = found.iter().map(raw_line).collect();
    assert!(
        short
            .iter()
            .any(|line| line.starts_with("T 18\t:100644 100644 ") && line.ends_with("\tmoved\tnew name\n")),
        "{short:?}"
    );
}

#[test]
fn large_files_are_sizes_and_hashes() {
    let mut stock = Stock::new();
    let pointer = |size: u64, digit: &str| {
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {size}\n", digit.repeat(64))
    };
    stock.write("w.bin", pointer(1000, "a"));
    stock.write("gone.bin", pointer(5, "b"));
    stock.write("same.bin", pointer(7, "c"));
    let old = stock.commit();
    stock.write("w.bin", pointer(2000, "d"));
    std::fs::remove_file(stock.work().join("gone.bin")).unwrap();
    stock.write("other.bin", pointer(6, "e"));
    std::fs::rename(stock.work().join("same.bin"), stock.work().join("renamed.bin")).unwrap();
    let new = stock.commit();
    let repo = stock.repo();
    let found = diff(&repo, Some(old), new);
    let text = String::from_utf8(patch(&found)).unwrap();
    let (a, d) = ("a".repeat(64), "d".repeat(64));
    assert!(
        text.contains(&format!("Large file: 1000 bytes (sha256 {a}) -> 2000 bytes (sha256 {d})\n")),
        "{text}"
    );
    assert!(!text.contains("version https"), "{text}");
    let by = |path: &str| found.iter().find(|file| file.path() == path).unwrap();
    // Pointers look alike; the files behind them do not.
    assert_eq!(by("gone.bin").status, FileStatus::Deleted);
    assert_eq!(by("other.bin").status, FileStatus::Added);
    assert_eq!(by("renamed.bin").status, FileStatus::Renamed);
    assert_eq!(by("renamed.bin").content, Content::Same);
    assert_eq!(by("w.bin").new.as_ref().unwrap().size, 2000);
    assert!(raw_line(by("w.bin")).starts_with("B 2000\t:100644 100644 "));
    // Where git has the pointers it can apply this by their ids; elsewhere it refuses.
    stock.applies(text.as_bytes(), old, new).unwrap();
    let mut other = Stock::new();
    for (name, size, digit) in [("w.bin", 1000, "a"), ("gone.bin", 5, "b"), ("same.bin", 7, "c")] {
        other.write(name, pointer(size, digit));
    }
    let elsewhere = other.commit();
    assert!(other.applies(text.as_bytes(), elsewhere, elsewhere).unwrap_err().contains("binary"));
}

#[test]
fn hostile_texts_take_bounded_time() {
    let mut stock = Stock::new();
    let (mut one, mut two) = (Random(1), Random(2));
    let noise =
        |random: &mut Random| (0..20_000).map(|_| format!("{}\n", random.below(40))).collect::<String>();
    stock.write("noise", noise(&mut one));
    stock.write("alternating", "a\nb\n".repeat(9_999));
    stock.write("same", "x\n".repeat(20_000));
    stock.write("one line", "y".repeat(2 * 1024 * 1024));
    stock.write("long", "z\n".repeat(20_001));
    stock.write("huge", "h".repeat(2 * 1024 * 1024 + 1));
    stock.write("indented", (0..19_000).map(|n| format!("{}\n", " ".repeat(n % 60))).collect::<String>());
    let old = stock.commit();
    stock.write("noise", noise(&mut two));
    stock.write("alternating", "b\na\n".repeat(9_999));
    stock.write("same", "x\n".repeat(10_000));
    stock.write("one line", "w".repeat(2 * 1024 * 1024));
    stock.write("long", "z\n".repeat(20_002));
    stock.write("huge", "i".repeat(2 * 1024 * 1024 + 1));
    stock.write(
        "indented",
        (0..19_000).map(|n| format!("{}\n", " ".repeat((n * 7) % 60))).collect::<String>(),
    );
    let new = stock.commit();
    let repo = stock.repo();
    let begin = Instant::now();
    let found = diff(&repo, Some(old), new);
    let text = patch(&found);
    let taken = begin.elapsed();
    assert!(taken < Duration::from_secs(20), "{taken:?}");
    let content = |path: &str| &found.iter().find(|file| file.path() == path).unwrap().content;
    assert!(matches!(content("noise"), Content::Text(_)));
    assert!(matches!(content("one line"), Content::Text(text) if (text.additions, text.deletions) == (1, 1)));
    assert_eq!((content("long"), content("huge")), (&Content::TooLarge, &Content::TooLarge));
    assert!(String::from_utf8_lossy(&text).contains("Too large to be compared: 2097153 -> 2097153 bytes"));
    // What is left of the patch is right.
    let fits: Vec<FileDiff> =
        found.into_iter().filter(|file| matches!(file.content, Content::Text(_))).collect();
    for name in ["long", "huge"] {
        stock.git(&["checkout", "-q", &old.to_string(), "--", name]);
    }
    let without = stock.commit();
    stock.applies(&patch(&fits), old, without).unwrap();
}

#[test]
fn a_full_answer_says_so() {
    let mut stock = Stock::new();
    let old = stock.commit();
    for n in 0..5 {
        stock.write(&format!("f{n}"), "text\n");
    }
    let new = stock.commit();
    let repo = stock.repo();
    let tree = |commit| repo.commit(commit).unwrap().tree;
    let changed = changed_files(&repo, Some(tree(old)), Some(tree(new))).unwrap();
    let omitted = |budget: &mut Budget| {
        let found = diff_contents(&repo, &changed.files, budget).unwrap();
        found.iter().filter(|file| file.content == Content::Omitted).count()
    };
    assert_eq!(omitted(&mut Budget::default()), 0);
    assert_eq!(omitted(&mut Budget { files: 3, ..Budget::default() }), 2);
    assert_eq!(omitted(&mut Budget { bytes: 14, ..Budget::default() }), 3);
    assert_eq!(omitted(&mut Budget { lines: 4, ..Budget::default() }), 1);
    let found = diff_contents(&repo, &changed.files, &mut Budget { files: 0, ..Budget::default() }).unwrap();
    assert!(
        String::from_utf8(patch(&found)).unwrap().contains("Left out: this answer is as long as it may be")
    );
}

#[test]
fn trees_that_unfold_without_end_are_cut() {
    let mut stock = Stock::new();
    stock.write("f", "x");
    stock.commit();
    let make = |lines: String| {
        let mut command = stock.command();
        let mut child = command.arg("mktree").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), lines.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    };
    for leaf in [format!("100644 blob {}\tf\n", stock.git(&["rev-parse", "HEAD:f"])), String::new()] {
        let mut tree = make(leaf);
        for _ in 0..30 {
            tree = make((0..10).map(|n| format!("040000 tree {tree}\tn{n}\n")).collect());
        }
        let commit = stock.git(&["commit-tree", "-m", "a bomb", &tree]);
        stock.git(&["update-ref", "refs/heads/bomb", &commit]);
        let repo = stock.repo();
        let begin = Instant::now();
        let found = changed_files(&repo, None, Some(tree.parse().unwrap())).unwrap();
        assert!(!found.complete && found.files.len() <= bastide_git::MAX_CHANGED_FILES);
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
}

/// A history with branches and merges, of which some are criss-cross.
fn tangle(stock: &mut Stock, random: &mut Random) {
    stock.write("base", (0..60).map(|n| format!("line {n}\n")).collect::<String>());
    stock.commit();
    for name in ["one", "two", "three"] {
        stock.git(&["branch", name]);
    }
    for step in 0..60 {
        let branch = *random.pick(&["main", "one", "two", "three"]);
        stock.git(&["checkout", "-q", branch]);
        if random.below(4) == 0 {
            stock.time += 60;
            let other = *random.pick(&["main", "one", "two", "three"]);
            if !stock.try_git(&["merge", "-q", "--no-edit", "-X", "theirs", other]) {
                stock.git(&["merge", "--abort"]);
            }
        } else {
            let path = stock.work().join("base");
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
            let at = usize::try_from(random.below(lines.len() as u64)).unwrap();
            lines[at] = format!("changed in {step}");
            if random.below(3) == 0 {
                lines.insert(at, format!("added in {step}"));
            }
            stock.write("base", lines.iter().map(|line| format!("{line}\n")).collect::<String>());
            stock.commit();
        }
    }
}

#[test]
fn histories_part_where_git_says() {
    for seed in 0..4 {
        let (mut stock, mut random) = (Stock::new(), Random(seed));
        tangle(&mut stock, &mut random);
        stock.git(&["checkout", "-q", "--orphan", "apart"]);
        let apart = stock.commit();
        let repo = stock.repo();
        let commits = stock.commits();
        for _ in 0..150 {
            let (one, two) = (*random.pick(&commits), *random.pick(&commits));
            let args = [one.to_string(), two.to_string()];
            let output = stock.command().args(["merge-base", "--all"]).args(&args).output().unwrap();
            let mut theirs: Vec<Oid> =
                String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();
            let ours = repo.merge_bases(one, two).unwrap();
            if let Some(first) = ours.first() {
                assert!(theirs.contains(first));
            }
            let mut sorted = ours.clone();
            sorted.sort();
            theirs.sort();
            assert_eq!(sorted, theirs, "{one} {two}");
            let is = stock.try_git(&["merge-base", "--is-ancestor", &args[0], &args[1]]);
            assert_eq!(repo.is_ancestor(one, two).unwrap(), is);
        }
        assert_eq!(repo.merge_base(apart, commits[commits.len() - 1]).unwrap(), None);
    }
}

/// Every commit that a move brings, once, and the first on the branch's own line that has it.
#[test]
fn a_move_brings_what_git_lists_by_the_line_of_first_parents() {
    const LIMIT: Duration = Duration::from_secs(20);
    for seed in 0..3 {
        let (mut stock, mut random) = (Stock::new(), Random(seed));
        tangle(&mut stock, &mut random);
        let (repo, commits) = (stock.repo(), stock.commits());
        let list = |words: &[&str]| -> Vec<Oid> {
            stock.git(words).lines().map(|line| line.parse().unwrap()).collect()
        };
        for _ in 0..12 {
            let (before, after) = (*random.pick(&commits), *random.pick(&commits));
            let range = [after.to_string(), format!("^{before}")];
            let found = brought(&repo, (Some(before), after), 1000, LIMIT).unwrap();
            let mut line = list(&["rev-list", "--first-parent", &range[0]]);
            line.retain(|commit| found.contains_key(commit));
            for commit in list(&["rev-list", &range[0], &range[1]]) {
                let first = line.iter().rev().find(|by| repo.is_ancestor(commit, **by).unwrap());
                assert_eq!(found.get(&commit), first, "{before} {after} {commit}");
            }
            assert_eq!(found.len(), list(&["rev-list", &range[0], &range[1]]).len());
        }
        let head = stock.head();
        let all = brought(&repo, (None, head), 1000, LIMIT).unwrap();
        assert_eq!(all.len(), list(&["rev-list", "HEAD"]).len());
        // The newest alone, where there are more than may be looked at.
        assert_eq!(brought(&repo, (None, head), 3, LIMIT).unwrap().get(&head), Some(&head));
        assert!(brought(&repo, (None, head), 3, LIMIT).unwrap().len() <= 3);
        assert!(matches!(brought(&repo, (None, head), 1000, Duration::ZERO), Err(GitError::TooSlow)));
    }
}

/// Each line's commit and name, as `git blame` has it.
fn git_blame(stock: &Stock, commit: Oid, path: &str) -> Vec<(Oid, String)> {
    let text = stock.git(&["blame", "--line-porcelain", &commit.to_string(), "--", path]);
    let (mut lines, mut id, mut name) = (Vec::new(), None, String::new());
    for line in text.lines() {
        if let Some(file) = line.strip_prefix("filename ") {
            name = file.to_owned();
        } else if line.starts_with('\t') {
            lines.push((id.take().unwrap(), name.clone()));
        } else if id.is_none() {
            id = Some(line[..40].parse().unwrap());
        }
    }
    lines
}

fn our_blame(repo: &Repo, commit: Oid, path: &str) -> Vec<(Oid, String)> {
    let Blame::Lines(ranges) = blame(repo, commit, &path.parse().unwrap()).unwrap() else { panic!("{path}") };
    let mut lines = Vec::new();
    for range in ranges {
        assert!(range.exact);
        assert_eq!(range.start as usize, lines.len() + 1, "no gap");
        lines.extend((0..range.lines).map(|_| (range.commit, range.path.clone())));
    }
    lines
}

#[test]
fn lines_are_from_the_commits_that_git_names() {
    for seed in 10..13 {
        let (mut stock, mut random) = (Stock::new(), Random(seed));
        tangle(&mut stock, &mut random);
        stock.git(&["checkout", "-q", "main"]);
        stock.git(&["mv", "base", "renamed file"]);
        let renamed = stock.commit();
        let text = std::fs::read_to_string(stock.work().join("renamed file")).unwrap();
        stock.write("deep/er", format!("first\n{text}last without end"));
        std::fs::remove_file(stock.work().join("renamed file")).unwrap();
        let last = stock.commit();
        let repo = stock.repo();
        assert_eq!(our_blame(&repo, last, "deep/er"), git_blame(&stock, last, "deep/er"));
        assert_eq!(our_blame(&repo, renamed, "renamed file"), git_blame(&stock, renamed, "renamed file"));
        for branch in ["one", "two", "three"] {
            let head: Oid = stock.git(&["rev-parse", branch]).parse().unwrap();
            assert_eq!(our_blame(&repo, head, "base"), git_blame(&stock, head, "base"), "{seed} {branch}");
        }
    }
}

/// Lines that are slow to compare: few different ones in no order.
fn slow_text(random: &mut Random) -> String {
    (0..19_000).map(|_| format!("{}\n", random.below(40))).collect()
}

#[test]
fn blame_ends_in_time_and_says_where() {
    let (mut stock, mut random) = (Stock::new(), Random(5));
    let mut last = None;
    // Other words each time, and another name every second time.
    for round in 0..60 {
        if round > 1 && round % 2 == 0 {
            std::fs::remove_file(stock.work().join(format!("f{}", round / 2 - 1))).unwrap();
        }
        stock.write(&format!("f{}", round / 2), slow_text(&mut random) + "the end\n");
        stock.write(&format!("d{}/g", round / 20), slow_text(&mut random));
        last = Some(stock.commit());
    }
    let (repo, last) = (stock.repo(), last.unwrap());
    let path = "f29".parse().unwrap();
    let begin = Instant::now();
    let Blame::Lines(found) = blame(&repo, last, &path).unwrap() else { panic!() };
    // Nothing here is optimized in a test.
    let limit = if cfg!(debug_assertions) { 15 } else { 2 };
    assert!(begin.elapsed() < Duration::from_secs(limit), "{:?}", begin.elapsed());
    assert!(found.iter().any(|range| !range.exact), "there is more than time for");
    let lines: u32 = found.iter().map(|range| range.lines).sum();
    assert_eq!(lines, 19_001, "each line is somewhere");
    // Without any time all lines stay where they were asked for.
    let Blame::Lines(none) = blame_within(&repo, last, &path, Duration::ZERO).unwrap() else { panic!() };
    assert_eq!((none.len(), none[0].lines, none[0].commit, none[0].exact), (1, 19_001, last, false));
}

#[test]
fn what_has_no_lines_is_said() {
    let mut stock = Stock::new();
    stock.write("bin", [0, 1]);
    stock.write(
        "w",
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1\n", "a".repeat(64)),
    );
    stock.write("long", "x\n".repeat(20_001));
    stock.write("d/f", "");
    let head = stock.commit();
    let repo = stock.repo();
    let of = |path: &str| blame(&repo, head, &path.parse().unwrap()).unwrap();
    assert_eq!((of("bin"), of("w"), of("long")), (Blame::NotText, Blame::NotText, Blame::TooLarge));
    assert_eq!((of("d"), of("none"), of("d/f")), (Blame::Missing, Blame::Missing, Blame::Lines(vec![])));
    assert!(Path::new(&stock.work()).exists());
}
