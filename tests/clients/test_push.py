"""`git push`: what people do with it, and what nobody should be able to do with it. After every refusal nothing of the
push is left: no process, no file, no object that could be fetched."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

import huggingface_hub as hub
import pytest

import packs
from hub_process import soon
from packs import NONE, Pack, Pusher, copy, delta, insert, oid, with_files

HEAD = "refs/heads/main"
LARGE = 10 * 1024 * 1024


def ask(server, path, token=None, method="GET", body=None):
    headers = {"Authorization": f"Bearer {token or server.token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def refs(server, repo) -> dict[str, str]:
    found = ask(server, f"/api/models/{repo}/refs?include_prs=1")
    return {ref["ref"]: ref["targetCommit"] for group in found.values() for ref in group}


def children(pid: int) -> set[str]:
    """The programs that a process has started. Jobs of the hub may have some, too, for a moment."""
    done = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True)
    return {line.strip() for line in done.stdout.splitlines()}


def receiving(pid: int) -> list[int]:
    """Those that take a push apart."""
    return [int(line.split()[0]) for line in children(pid) if "index-pack" in line]


def files(folder: pathlib.Path) -> set[str]:
    kept = set()
    for part in ("blobs", "cache"):
        # Folders may go while they are looked through.
        for at, _, names in os.walk(folder / part):
            # Snapshots for those who fetch are links to what is there anyway.
            if "snapshots" not in pathlib.Path(at).parts:
                kept.update(os.path.relpath(os.path.join(at, name), folder) for name in names)
    return kept


class Trace:
    """Sees to it that what happens in between leaves nothing behind."""

    def __init__(self, server, repo):
        self.server, self.repo = server, repo

    def __enter__(self):
        self.files, self.refs = files(self.server.data), refs(self.server, self.repo)
        return self

    def left(self) -> set[str]:
        return (files(self.server.data) - self.files) | children(self.server.process.pid)

    def __exit__(self, kind, *_):
        if kind is not None:
            return
        soon(lambda: not self.left())
        left = self.left()
        assert not left, f"left behind: {left}"
        assert refs(self.server, self.repo) == self.refs


@pytest.fixture
def pusher(server, repo):
    return Pusher(server, repo, server.token)


@pytest.fixture
def base(server, repo):
    """The head of the repository's main branch."""
    return refs(server, repo)[HEAD]


class Work:
    """A folder of somebody who works with stock git."""

    def __init__(self, folder: pathlib.Path, server, repo, token=None):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.environment = {"HOME": str(folder.parent), "PATH": os.environ["PATH"], "LC_ALL": "C",
                            "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
        host = server.url.split("//")[1]
        self.url = f"http://ann:{token or server.token}@{host}/{repo}"

    def run(self, *words):
        return subprocess.run(["git", *words], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600)

    def git(self, *words) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"git {words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def fails(self, *words) -> str:
        done = self.run(*words)
        assert done.returncode != 0, f"git {words} did not fail: {done.stdout}{done.stderr}"
        return done.stderr

    def begin(self):
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "Ann")
        self.git("config", "user.email", "ann@example.org")
        self.git("remote", "add", "origin", self.url)
        return self

    def commit(self, message="a change", **contents) -> str:
        for name, content in contents.items():
            path = self.folder / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def work(tmp_path, server, repo):
    return Work(tmp_path / "work", server, repo).begin()


# What people do ---------------------------------------------------------------------------------


def test_a_history_from_elsewhere_takes_the_place_of_an_empty_start(server, repo, work):
    first = work.commit(README_dot_md="# A model\n", data__x="1")
    assert "fetch first" in work.fails("push", "origin", "main")
    work.git("push", "-f", "origin", "main")
    second = work.commit(data__x="2")
    work.git("tag", "-a", "v1", "-m", "a version")
    work.git("push", "origin", "main", "v1", "HEAD~1:refs/heads/old")
    found = refs(server, repo)
    assert found == {HEAD: second, "refs/heads/old": first, "refs/tags/v1": second}
    commits = ask(server, f"/api/models/{repo}/commits/main")
    assert [commit["id"] for commit in commits] == [second, first]
    tree = ask(server, f"/api/models/{repo}/tree/main?recursive=1&expand=1")
    last = {entry["path"]: entry["lastCommit"]["id"] for entry in tree}
    assert last == {"README.md": first, "data": second, "data/x": second}
    # Now there is something to lose.
    work.git("commit", "-q", "--amend", "-m", "another")
    assert "is not force-pushed" in work.fails("push", "-f", "origin", "main")
    assert refs(server, repo) == found


def test_branches_and_tags_come_move_and_go(server, repo, work):
    work.commit(a="1")
    work.git("push", "-f", "origin", "main")
    work.git("push", "origin", "main:refs/heads/x", "main:refs/tags/t")
    work.git("commit", "-q", "--amend", "-m", "another")
    moved = work.git("rev-parse", "HEAD")
    work.git("push", "-f", "origin", "HEAD:refs/heads/x", "HEAD:refs/tags/t")
    assert refs(server, repo)["refs/heads/x"] == refs(server, repo)["refs/tags/t"] == moved
    work.git("push", "origin", ":refs/heads/x", ":refs/tags/t")
    assert set(refs(server, repo)) == {HEAD}
    assert "Cannot delete" in work.fails("push", "origin", ":main")
    # A folder where a branch is.
    work.git("push", "origin", "HEAD~0:refs/heads/a")
    assert "conflicts" in work.fails("push", "origin", "HEAD:refs/heads/a/b")
    # In one push the way is made free first.
    work.git("push", "origin", ":refs/heads/a", "HEAD:refs/heads/a/b")


def test_all_or_nothing_when_it_is_asked_for(server, repo, work):
    work.commit(a="1")
    work.git("push", "-f", "origin", "main")
    before = refs(server, repo)
    bad = work.commit(b=b"x" * (LARGE + 1))
    said = work.fails("push", "--atomic", "origin", "HEAD~1:refs/heads/good", f"{bad}:refs/heads/bad")
    assert "atomic" in said and refs(server, repo) == before
    said = work.fails("push", "origin", "HEAD~1:refs/heads/good", f"{bad}:refs/heads/bad")
    assert set(refs(server, repo)) == {*before, "refs/heads/good"} and "b has 10485761 bytes" in said
    # What was refused cannot be had, though what came in the same pack can.
    assert unfetchable(work, bad)


def unfetchable(work, *ids) -> bool:
    other = Work(work.folder.parent / f"other-{time.monotonic_ns()}", FakeServer(work.url), "", None)
    other.url = work.url
    other.git("init", "-q")
    return all(other.run("fetch", "-q", work.url, commit).returncode != 0 for commit in ids)


class FakeServer:
    def __init__(self, url):
        self.url, self.token = "http://x", "x"


def test_large_files_are_refused_by_name_with_the_cure(server, repo, work):
    work.commit(a="1")
    work.git("push", "-f", "origin", "main")
    work.commit(weights_dot_bin=os.urandom(LARGE), fine="x")
    work.git("push", "origin", "main")
    work.commit(weights_dot_bin=os.urandom(LARGE + 1))
    with Trace(server, repo):
        said = work.fails("push", "origin", "main")
    assert "weights.bin has 10485761 bytes" in said
    assert "git lfs migrate import --include='weights.bin'" in said and "hf upload" in said


def test_pointers_need_their_content(server, repo, work, api):
    work.commit(a="1")
    work.git("push", "-f", "origin", "main")
    known = "0" * 63 + "1"
    work.commit(big="version https://git-lfs.github.com/spec/v1\noid sha256:" + known + "\nsize 3\n")
    with Trace(server, repo):
        said = work.fails("push", "origin", "main")
    assert "big points at content that is not in this repository" in said and "git lfs push --all origin" in said
    # Content of another repository is as good as none.
    api.create_repo(f"{repo}-other")
    api.upload_file(path_or_fileobj=os.urandom(LARGE + 5), path_in_repo="w.bin", repo_id=f"{repo}-other")
    info = api.get_paths_info(f"{repo}-other", ["w.bin"])[0]
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{info.lfs.sha256}\nsize {info.size}\n"
    work.git("commit", "-q", "--allow-empty", "-m", "x")
    work.git("reset", "-q", "--hard", "origin/main")
    work.commit(big=pointer)
    assert "not in this repository" in work.fails("push", "origin", "main")
    # The same file here: then it is.
    api.upload_file(path_or_fileobj=api.hf_hub_download(f"{repo}-other", "w.bin"), path_in_repo="w.bin", repo_id=repo)
    work.git("fetch", "-q", "origin")
    work.git("reset", "-q", "--hard", "origin/main")
    work.commit(again=pointer)
    work.git("push", "origin", "main")
    assert [file.filename for file in api.list_lfs_files(repo)] == ["again"], "found by what stands there"
    path = api.hf_hub_download(repo, "again")
    assert pathlib.Path(path).stat().st_size == LARGE + 5
    wrong = pointer.replace(f"size {info.size}", "size 7")
    work.commit(wrong=wrong)
    assert "not the 7 that were named" in work.fails("push", "origin", "main")


def test_cards_have_to_be_readable(server, repo, work):
    work.commit(README_dot_md="---\nlicense: [\n---\n")
    with Trace(server, repo):
        assert "Invalid metadata in README.md" in work.fails("push", "-f", "origin", "main")
    # Older commits may have had another.
    work.commit(README_dot_md="---\nlicense: mit\n---\n")
    work.git("push", "-f", "origin", "main")
    assert "license:mit" in ask(server, f"/api/models/{repo}")["tags"]


def test_two_that_push_at_once(server, repo, tmp_path, work):
    work.commit(a="1")
    work.git("push", "-f", "origin", "main")
    others = []
    for n in range(6):
        other = Work(tmp_path / f"racer{n}", server, repo)
        other.git("clone", "-q", other.url, ".")
        other.git("config", "user.name", "Bob")
        other.git("config", "user.email", "b@example.org")
        other.commit(**{f"file{n}": str(n)})
        others.append(other)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda other: other.run("push", "origin", "HEAD:main"), others))
    assert sum(one.returncode == 0 for one in done) == 1, done
    assert all("fetch first" in one.stderr or "rejected" in one.stderr for one in done if one.returncode != 0)


def test_shallow_clones_push(server, repo, tmp_path, work):
    for n in range(3):
        work.commit(a=str(n))
    work.git("push", "-f", "origin", "main")
    other = Work(tmp_path / "shallow", server, repo)
    other.git("clone", "-q", "--depth", "1", other.url, ".")
    other.git("config", "user.name", "Bob")
    other.git("config", "user.email", "b@example.org")
    commit = other.commit(b="1")
    other.git("push", "origin", "HEAD:main")
    assert refs(server, repo)[HEAD] == commit


def test_rules_for_branches_bind_everybody(server, repo, work, bob):
    rules = f"/api/models/{repo}/branch-rules"
    work.commit(a="1")
    work.git("push", "-f", "origin", "main", "main:refs/heads/release/1")
    ask(server, f"{rules}/release/*", method="PUT", body={})
    assert ask(server, rules) == [{"branch": "release/*", "allowForce": False, "allowDelete": False}]
    work.git("commit", "-q", "--amend", "-m", "another")
    assert "the rule for 'release/*' forbids it" in work.fails("push", "-f", "origin", "HEAD:refs/heads/release/1")
    assert "the rule for 'release/*' forbids it" in work.fails("push", "origin", ":refs/heads/release/1")
    ask(server, f"{rules}/main", method="PUT", body={"allowForce": True})
    work.git("push", "-f", "origin", "main")
    ask(server, f"{rules}/release/*", method="DELETE")
    work.git("push", "origin", ":refs/heads/release/1")


def test_who_may_not_push_is_told_why(server, repo, tmp_path, bob):
    stranger = Work(tmp_path / "s" / "w", server, repo, token=bob.token).begin()
    stranger.commit(a="1")
    with Trace(server, repo):
        assert "pull requests of your own" in stranger.fails("push", "-f", "origin", "main")
        read = server.command("token", "create", "--user", "ann", "--role", "read")["token"]
        reader = Work(tmp_path / "r" / "w", server, repo, token=read).begin()
        reader.commit(a="1")
        said = reader.fails("push", "-f", "origin", "main")
        assert "remote: Your token has the role 'read'" in said, said
        anonymous = Pusher(server, repo, None)
        assert anonymous.send(b"0000").status == 401


# What nobody should -----------------------------------------------------------------------------


def refused(server, pusher, pack, commit, *words, ref="refs/heads/x", old=NONE, **options):
    with Trace(server, pusher.repo):
        answer = pusher.push(pack, (ref, old, commit), **options)
        assert not any(line.startswith("ok ") for line in answer.lines), answer
        assert answer.status in (200, 400), answer
        for word in words:
            assert word in answer.text, answer
    return answer


def test_a_pack_by_hand_is_taken_when_it_is_good(server, pusher, base):
    pack, commit = with_files(("100644", "a", b"1"), parents=(base,))
    answer = pusher.push(pack, (HEAD, base, commit))
    assert answer.lines == ["unpack ok", f"ok {HEAD}"], answer
    # Without bands, as old clients have it.
    pack, commit = with_files(("100644", "a", b"2"), parents=(commit,))
    answer = pusher.push(pack, ("refs/heads/y", NONE, commit), capabilities="report-status")
    assert answer.lines == ["unpack ok", "ok refs/heads/y"], answer
    assert pusher.send(b"0000").status == 200


ENTRIES = [
    ([("100644", ".git", b"x")], "git"),
    ([("100644", ".GIT", b"x")], "git"),
    ([("100644", "git~1", b"x")], "git"),
    ([("100644", ".git\u200c", b"x")], "git"),
    ([("100644", "..", b"x")], ""),
    ([("100644", ".", b"x")], ""),
    ([("100644", "", b"x")], ""),
    ([("100644", "a/b", b"x")], ""),
    ([("100644", "a\\..\\b", b"x")], "not allowed"),
    ([("100644", "a\nb", b"x")], "control characters"),
    ([("100644", "a\x1b[2Jb", b"x")], "control characters"),
    ([("100644", b"a\xffb", b"x")], "not valid UTF-8"),
    ([("100644", "x" * 300, b"x")], "255 bytes"),
    ([("100644", "README", b"x"), ("100644", "readme", b"x")], "only in case"),
    ([("100644", "a", b"1"), ("100644", "a", b"2")], ""),
    ([("100644", "b", b"1"), ("100644", "a", b"2")], ""),
    ([("100600", "a", b"x")], "mode 100600"),
    ([("100664", "a", b"x")], "mode 100664"),
    ([("0100644", "a", b"x")], ""),
    ([("777", "a", b"x")], ""),
    ([("120000", "a", b"../x")], "out of the repository"),
    ([("120000", "a", b"/etc/passwd")], "absolute"),
    ([("120000", ".gitmodules", b"x")], ""),
    ([("120000", ".gitattributes", b"x")], ""),
    ([("100644", ".gitmodules", b'[submodule "../x"]\n\tpath = x\n\turl = https://x.org/x\n')], ""),
    ([("100644", ".gitmodules", b'[submodule "x"]\n\tpath = x\n\turl = -u./x\n')], ""),
    ([("100644", ".gitmodules", b'[submodule "x"]\n\tpath = x\n\turl = https://x.org\n\tupdate = !sh\n')], ""),
    ([("100644", ".gitattributes", b"x" * 3000)], ""),
    ([("100644", "GITMOD~1", b"x")], ""),
    ([("100644", "big", b"0" * (LARGE + 1))], "10485761 bytes"),
]


@pytest.mark.parametrize("entries, word", ENTRIES, ids=[f"{n}-{e[0][0]}" for n, (e, _) in enumerate(ENTRIES)])
def test_trees_that_nobody_may_have(server, pusher, entries, word):
    pack, commit = with_files(*entries)
    refused(server, pusher, pack, commit, word)


def test_submodules_are_refused(server, pusher):
    pack = Pack()
    commit = pack.commit(pack.tree(("160000", "lib", "1" * 40)))
    refused(server, pusher, pack, commit, "submodule")


def test_hidden_in_the_middle_of_a_history(server, pusher):
    pack, first = with_files(("100644", "a", b"1"))
    bad = pack.commit(pack.tree(("120000", "a", pack.add("blob", b"../../x"))), first)
    last = pack.commit(pack.tree(("100644", "a", oid("blob", b"1"))), bad)
    refused(server, pusher, pack, last, "out of the repository")


def test_folders_too_deep(server, pusher):
    pack = Pack()
    tree = pack.tree(("100644", "a", pack.add("blob", b"x")))
    for _ in range(200):
        tree = pack.tree(("40000", "d", tree))
    refused(server, pusher, pack, pack.commit(tree), "segments")


COMMITS = [
    {"message": b"a\x1b[2Jb"},
    {"message": b"a\0b"},
    {"message": b"x" * 2000},
    {"message": b"x\n\n" + b"y" * 70_000},
    {"author": b"A\x07 <a@x.org>"},
    {"author": b"A" * 600 + b" <a@x.org>"},
    {"author": b"no address"},
    {"time": b"99999999999999999 +0000"},
    {"time": b"253402300800 +0000"},
    {"time": b"x"},
]


@pytest.mark.parametrize("words", COMMITS, ids=[str(n) for n in range(len(COMMITS))])
def test_commits_that_nobody_may_have(server, pusher, words):
    pack, commit = with_files(("100644", "a", b"1"), **words)
    refused(server, pusher, pack, commit)


@pytest.mark.parametrize("late", ["tree", "parent", "author"])
def test_what_git_does_not_look_at_is_not_what_is_judged(server, pusher, base, late):
    """Git takes the first tree, and no parent after the author: what comes later is a header that it does not know."""
    pack, commit = with_files(("100644", "a", b"shown"), parents=(base,))
    hidden = "7" * 40
    shown = pack.tree(("100644", "a", pack.add("blob", b"shown")))
    people = b"author A <a@x.org> 1700000000 +0000\ncommitter A <a@x.org> 1700000000 +0000\n"
    first, second = {
        "tree": (f"tree {hidden}\nparent {base}\n", f"tree {shown}\n"),
        "parent": (f"tree {shown}\n", f"parent {base}\n"),
        "author": (f"tree {shown}\nparent {base}\n", "author B <b@x.org> 1700000000 +0000\n"),
    }[late]
    commit = pack.add("commit", first.encode() + people + second.encode() + b"\na change\n")
    refused(server, pusher, pack, commit)
    if late == "parent":
        # It would have been a step forward to nobody but us.
        refused(server, pusher, pack, commit, ref=HEAD, old=base)


def test_an_object_comes_once(server, pusher):
    pack, commit = with_files(("100644", "a", b"twice"))
    blob = pack.add("blob", b"twice")
    pack.known.discard(blob)
    pack.add("blob", b"twice")
    refused(server, pusher, pack, commit, "twice")


def test_the_heads_of_commits_count_as_well(server, pusher, base):
    """Little on the wire, much in memory: every name of the author is megabytes."""
    pack, commit = Pack(), base
    tree = pack.tree(("100644", "a", pack.add("blob", b"1")))
    for n in range(40):
        commit = pack.commit(tree, commit, author=b"%02d" % n + b"A" * 4_000_000 + b" <a@x.org>")
    refused(server, pusher, pack, commit, "older commits first")


def test_letters_that_are_not_utf8_break_nothing(server, pusher, repo):
    pack, commit = with_files(("100644", "a", b"1"), message=b"gr\xfc\xdfe\r\n", author=b"J\xf6rg <j@x.org>")
    answer = pusher.push(pack, ("refs/heads/latin", NONE, commit))
    assert answer.lines == ["unpack ok", "ok refs/heads/latin"], answer
    found = ask(server, f"/api/models/{repo}/commits/latin")
    assert found[0]["authors"] == [{"user": "J\ufffdrg (unverified)", "name": "J\ufffdrg"}]


def test_broken_packs(server, pusher):
    pack, commit = with_files(("100644", "a", b"1" * 5000))
    good = pack.bytes()
    for bad in [b"", b"PACK", good[:-1], good[:-20] + bytes(20), good[:100], good[:50] + b"\0" + good[51:],
                b"JUNK" + good[4:], pack.bytes(count=2), pack.bytes(count=4),
                pack.bytes(count=0xFFFFFFFF), good[:4] + b"\0\0\0\x09" + good[8:], os.urandom(5000)]:
        refused(server, pusher, bad, commit)


def test_sizes_that_are_lies(server, pusher):
    for size in (0, 4, 6, 1 << 20, 1 << 40, 1 << 60):
        pack = Pack()
        blob = pack.add("blob", b"12345", size=size)
        refused(server, pusher, pack, pack.commit(pack.tree(("100644", "a", blob))))


def test_what_a_pack_builds_upon_has_to_be_here(server, pusher):
    pack = Pack()
    pack.ref_delta("1" * 40, delta(5, insert(b"abc"), result=3))
    blob = oid("blob", b"abc")
    refused(server, pusher, pack, pack.commit(pack.tree(("100644", "a", blob))))
    # Objects that are named and not sent.
    for mode, name in [("100644", "a"), ("40000", "a"), ("120000", "a"), ("100644", ".gitmodules")]:
        pack = Pack()
        refused(server, pusher, pack, pack.commit(pack.tree((mode, name, "2" * 40))), f"object {'2' * 40} is missing")
    pack = Pack()
    refused(server, pusher, pack, pack.commit(pack.tree(("100644", ".gitattributes", "2" * 40))), "2" * 40)
    pack = Pack()
    refused(server, pusher, pack, pack.commit("3" * 40), f"object {'3' * 40} is missing")
    pack, commit = with_files(("100644", "a", b"1"), parents=("4" * 40,))
    refused(server, pusher, pack, commit, f"object {'4' * 40} is missing")
    refused(server, pusher, Pack(), "5" * 40, "does not have all that the ref needs")
    # Deep in a folder of a commit that others stand upon.
    pack = Pack()
    folder = pack.tree(("40000", "b", pack.tree(("100644", "c", "6" * 40))))
    first = pack.commit(pack.tree(("40000", "a", folder)))
    second = pack.commit(pack.tree(("100644", "x", pack.add("blob", b"x"))), first)
    refused(server, pusher, pack, second, f"object {'6' * 40} is missing")


def test_objects_are_what_they_are_named_as(server, pusher):
    for name in ["a", ".gitmodules"]:
        pack = Pack()
        refused(server, pusher, pack, pack.commit(pack.tree(("40000", name, pack.add("blob", b"x")))))
        refused(server, pusher, pack, pack.commit(pack.tree(("100644", name, pack.tree(("100644", "x", pack.add("blob", b"x")))))))
    pack, commit = with_files(("100644", "a", b"1"))
    refused(server, pusher, pack, pack.commit(pack.tree(("40000", "a", commit))))
    refused(server, pusher, pack, pack.commit(pack.add("blob", b"a blob")))
    refused(server, pusher, pack, pack.commit(commit))
    for parent in [pack.add("blob", b"no commit"), pack.tree(("100644", "a", pack.add("blob", b"1")))]:
        refused(server, pusher, pack, pack.commit(pack.tree(("100644", "a", pack.add("blob", b"1"))), parent))


def test_a_file_of_gits_is_looked_at_wherever_its_bytes_are(server, pusher, base):
    bad = b'[submodule "x"]\n\tpath = x\n\turl = -u./x\n'
    pack, commit = with_files(("100644", "harmless", bad), parents=(base,))
    assert pusher.push(pack, (HEAD, base, commit)).lines[1] == f"ok {HEAD}"
    # The bytes are here, and do not come again.
    pack = Pack()
    refused(server, pusher, pack, pack.commit(pack.tree(("100644", ".gitmodules", oid("blob", bad))), commit))


def test_a_thin_pack_is_completed(server, pusher, base, repo):
    pack, first = with_files(("100644", "a", b"0123456789" * 500), parents=(base,))
    assert pusher.push(pack, (HEAD, base, first)).lines[1] == f"ok {HEAD}"
    pack = Pack()
    pack.ref_delta(oid("blob", b"0123456789" * 500), delta(5000, copy(0, 5000), insert(b"!"), result=5001))
    blob = oid("blob", b"0123456789" * 500 + b"!")
    second = pack.commit(pack.tree(("100644", "a", blob)), first)
    assert pusher.push(pack, (HEAD, first, second)).lines == ["unpack ok", f"ok {HEAD}"]
    with urllib.request.urlopen(f"{server.url}/{repo}/resolve/main/a") as answer:
        assert len(answer.read()) == 5001


def test_bombs(server, pusher):
    # A delta of some kilobytes that comes to gigabytes.
    pack = Pack()
    pack.add("blob", b"\0" * 0xFFFFFF)
    pack.ofs_delta(delta(0xFFFFFF, *[copy(0, 0xFFFFFF)] * 200, result=200 * 0xFFFFFF))
    commit = pack.commit(pack.tree(("100644", "a", "6" * 40)))
    refused(server, pusher, pack, commit)
    # Deltas that grow with each other.
    pack = Pack()
    pack.add("blob", b"\0" * 1_000_000)
    size = 1_000_000
    for _ in range(12):
        pack.ofs_delta(delta(size, *[copy(0, min(size, 0xFFFFFF))] * 2, result=2 * min(size, 0xFFFFFF)))
        size = 2 * min(size, 0xFFFFFF)
    refused(server, pusher, pack, pack.commit(pack.tree(("100644", "a", "6" * 40))))
    # Zeros that pack well: refused for the size of the file.
    pack, commit = with_files(("100644", "a", bytes(200_000_000)))
    refused(server, pusher, pack, commit, "200000000 bytes")


def test_deep_chains_are_packed_anew(server, pusher, base, repo):
    pack, data = Pack(), b"x" * 100
    pack.add("blob", data)
    for n in range(3000):
        add = str(n % 10).encode()
        pack.ofs_delta(delta(len(data), copy(0, len(data)), insert(add), result=len(data) + 1))
        data += add
    blob = oid("blob", data)
    commit = pack.commit(pack.tree(("100644", "a", blob)), base)
    began = time.monotonic()
    assert pusher.push(pack, (HEAD, base, commit)).lines == ["unpack ok", f"ok {HEAD}"]
    assert time.monotonic() - began < 30
    with urllib.request.urlopen(f"{server.url}/{repo}/resolve/main/a") as answer:
        assert answer.read() == data


def test_objects_that_no_ref_needs_are_not_kept(server, pusher, base, work):
    pack, commit = with_files(("100644", "a", b"1"), parents=(base,))
    secret, hidden = pack.add("blob", os.urandom(1000)), with_files(("100644", "z", b"z"))[1]
    other = pack.commit(oid("tree", b""), message=b"hidden\n")
    pack.add("tree", b"")
    assert pusher.push(pack, (HEAD, base, commit)).lines == ["unpack ok", f"ok {HEAD}"]
    assert unfetchable(work, secret, hidden, other)
    assert not unfetchable(work, commit)


def test_names_of_refs(server, pusher, base):
    for ref in ["refs/heads/a..b", "refs/heads/.a", "refs/heads/a.lock", "refs/heads/refs/heads/x", "refs/heads/",
                "refs/heads/HEAD", "refs/heads/" + "a" * 40, "refs/heads/" + "x" * 300, "refs/notes/x", "HEAD",
                "refs/convert/x", "refs/pr/1", "refs/pr/01", "refs/pr/99999999999999999999", "main", "refs/heads/a~1",
                "refs/heads/a\\b", "refs/tags/../x", "refs/heads/a@{1}", "refs/hidden/x"]:
        answer = refused(server, pusher, Pack(), base, ref=ref)
        assert answer.lines[0] == "unpack ok" and answer.lines[1].startswith(f"ng {ref} "), answer
    for ref in ["refs/heads/a b", "refs/heads/a\tb", "refs/heads/a\x1bb", "refs/heads/a\nb", "", "x" * 2000]:
        assert refused(server, pusher, Pack(), base, ref=ref).status == 400


def test_what_is_no_push(server, repo, pusher, base):
    pack, commit = with_files(("100644", "a", b"1"), parents=(base,))
    with Trace(server, repo):
        for body in [b"", b"0001", b"zzzz", b"0003", b"0032abc", b"fff1", packs.packet(b"x"), packs.packet(b"shallow x"),
                     packs.commands((HEAD, base, commit))[:-4]]:
            assert pusher.send(body).status == 400, body
        body = packs.commands((HEAD, base, commit)) + pack.bytes()
        assert pusher.send(body, **{"Content-Type": "text/plain"}).status == 400
        assert pusher.send(body, **{"Content-Encoding": "gzip"}).status == 400
        assert pusher.push(pack, (HEAD, base, commit), capabilities="push-options").status == 400
        assert pusher.push(pack, (HEAD, base, commit), capabilities="object-format=sha256").status == 400


def test_so_many_refs_and_no_more(server, pusher, base):
    moves = [(f"refs/heads/many/{n}", NONE, base) for n in range(1001)]
    with Trace(server, pusher.repo):
        answer = pusher.push(Pack(), *moves)
        assert answer.lines[0].startswith("unpack one push moves at most 1000 refs"), answer.lines[:2]
        answer = pusher.push(Pack(), *[(f"refs/heads/many/{n}", NONE, base) for n in range(10_000)])
        assert answer.lines[0].startswith("unpack one push moves at most 1000 refs")
    began = time.monotonic()
    answer = pusher.push(Pack(), *moves[1:])
    assert sum(line.startswith("ok ") for line in answer.lines) == 1000, answer.lines[:5]
    assert time.monotonic() - began < 30


def test_refs_come_to_commits(server, pusher, base):
    pack, commit = with_files(("100644", "a", b"1"))
    blob, tree = oid("blob", b"1"), pack.tree()
    for target in (blob, tree):
        for ref in ("refs/heads/x", "refs/tags/x"):
            refused(server, pusher, pack, target, "comes to a commit", ref=ref)
    text = f"object {commit}\ntype commit\ntag x\ntagger A <a@x.org> 1700000000 +0000\n\nx\n"
    tag = pack.add("tag", text.encode())
    refused(server, pusher, pack, tag, "annotated tag", ref="refs/heads/x")
    for n in range(6):
        tag = pack.add("tag", f"object {tag}\ntype tag\ntag x{n}\ntagger A <a@x.org> 1700000000 +0000\n\nx\n".encode())
    refused(server, pusher, pack, tag, "tags of tags", ref="refs/tags/x")
    tag = pack.add("tag", text.replace("\n\nx", "\n\nx\x1b[2J").encode())
    refused(server, pusher, pack, tag, "control characters", ref="refs/tags/x")


def test_stale_ids_and_refs_named_twice(server, pusher, base):
    pack, commit = with_files(("100644", "a", b"1"), parents=(base,))
    refused(server, pusher, pack, commit, "fetch first", ref=HEAD, old="7" * 40)
    refused(server, pusher, pack, commit, "already exists", ref=HEAD)
    refused(server, pusher, Pack(), NONE, "fetch first", ref="refs/heads/none", old="7" * 40)
    with Trace(server, pusher.repo):
        answer = pusher.push(pack, ("refs/heads/x", NONE, commit), ("refs/heads/x", NONE, base), capabilities="report-status atomic")
        assert not any(line.startswith("ok") for line in answer.lines), answer


def test_commits_of_other_repositories_are_not_here(server, pusher, api, repo):
    api.create_repo(f"{repo}-secret", private=True)
    secret = Pusher(server, f"{repo}-secret", server.token)
    start = refs(server, f"{repo}-secret")[HEAD]
    pack, commit = with_files(("100644", "a", os.urandom(100)), parents=(start,))
    assert secret.push(pack, (HEAD, start, commit)).lines[1] == f"ok {HEAD}"
    refused(server, pusher, Pack(), commit)
    child, new = with_files(("100644", "a", b"x"), parents=(commit,))
    refused(server, pusher, child, new)


def test_an_object_that_says_another_thing_than_the_one_that_is_here(server, pusher, base):
    # A pack cannot say which id an object has; a delta upon what is here comes to what it comes to.
    pack, commit = with_files(("100644", "a", b"1"), parents=(base,))
    assert pusher.push(pack, (HEAD, base, commit)).lines[1] == f"ok {HEAD}"
    again = pusher.push(pack, ("refs/heads/again", NONE, commit))
    assert again.lines == ["unpack ok", "ok refs/heads/again"], again


def test_a_client_that_goes_away(server, repo, pusher, base):
    pack, commit = with_files(("100644", "a", os.urandom(3_000_000)), parents=(base,))
    body = packs.commands((HEAD, base, commit)) + pack.bytes()
    head = "".join(f"{name}: {value}\r\n" for name, value in pusher.headers().items())
    head = f"POST /{repo}/git-receive-pack HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode()
    with Trace(server, repo):
        for part in (10, 300, 1000, len(body) // 2, len(body) - 1):
            with socket.create_connection(pusher.host.split(":")) as connection:
                connection.sendall(head + body[:part])
                time.sleep(0.2)
    # At the very end it may have come through, whole.
    with socket.create_connection(pusher.host.split(":")) as connection:
        connection.sendall(head + body)
    time.sleep(1)
    assert refs(server, repo)[HEAD] in (base, commit)
    assert soon(lambda: not children(server.process.pid) and not list((server.data / "cache/tmp").iterdir()))


def test_a_token_that_ends_in_the_middle(server, repo, pusher, base):
    made = server.command("token", "create", "--user", "ann", "--role", "write", "--name", "short")
    mine = Pusher(server, repo, made["token"])
    pack, commit = with_files(("100644", "a", os.urandom(100_000)), parents=(base,))
    body = packs.commands((HEAD, base, commit)) + pack.bytes()
    head = "".join(f"{name}: {value}\r\n" for name, value in mine.headers().items())
    head = f"POST /{repo}/git-receive-pack HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{head}\r\n"
    with Trace(server, repo), socket.create_connection(pusher.host.split(":")) as connection:
        connection.sendall(head.encode() + body[:5000])
        time.sleep(0.3)
        revoke(server)
        connection.sendall(body[5000:])
        answer = b""
        while part := connection.recv(65536):
            answer += part
        assert b"Invalid credentials" in answer and b"ok refs" not in answer, answer


def revoke(server, name="short"):
    listed = json.dumps(server.command("token", "list", "--user", "ann"))
    tokens = json.loads(listed)
    tokens = tokens if isinstance(tokens, list) else tokens["tokens"]
    found = [token["id"] for token in tokens if token["name"] == name and not token.get("revokedAt")]
    server.command("token", "revoke", "--user", "ann", str(found[-1]))


def test_the_ledger_says_who_pushed_what(server, repo, pusher, base, tmp_path):
    pack, commit = with_files(("100644", "a", b"ledger"), parents=(base,))
    assert pusher.push(pack, (HEAD, base, commit), ("refs/heads/l", NONE, commit)).lines[2] == "ok refs/heads/l"
    server.command("ledger", "export", str(tmp_path / "book"))
    lines = [line for path in (tmp_path / "book").rglob("*") if path.is_file() for line in path.read_bytes().splitlines()]
    pushes = (json.loads(line) for line in lines if b'"git.push"' in line)
    # The hub serves the whole run: others push to repositories of theirs.
    events = [event for event in pushes if event["subject_name"] == f"models/{repo}"]
    facts = [json.loads(event["facts"]) for event in events]
    moved = {(fact["ref"], fact["before"], fact["after"]) for fact in facts}
    assert {(HEAD, base, commit), ("refs/heads/l", "", commit)} <= moved
    assert all(event["actor_name"] == "ann" and event["credential_id"] for event in events)


# Pull requests ----------------------------------------------------------------------------------


@pytest.fixture
def pull(server, repo, bob, tmp_path):
    """A pull request of bob's, who may only read, with his folder."""
    number = bob.create_pull_request(repo, title="A change of mine").num
    mine = Work(tmp_path / "bob" / "w", server, repo, token=bob.token).begin()
    ref = f"refs/pr/{number}"
    mine.git("fetch", "-q", "origin", f"{ref}:work")
    mine.git("switch", "-q", "work")
    mine.ref = ref
    return mine


def test_a_pull_request_is_pushed_to_by_its_author_and_by_writers(server, repo, pull, work):
    commit = pull.commit(change="1")
    head = refs(server, repo)[HEAD]
    said = pull.fails("push", "origin", f"HEAD:{pull.ref}", "HEAD:refs/heads/main", "HEAD:refs/heads/x", "HEAD:refs/tags/t")
    found = refs(server, repo)
    assert found[pull.ref] == commit and found[HEAD] == head and "pull requests of your own" in said
    assert set(found) == {HEAD, pull.ref}
    # Told in the discussion.
    number = pull.ref.rsplit("/", 1)[1]
    details = ask(server, f"/api/models/{repo}/discussions/{number}")
    assert commit in json.dumps(details["events"])
    # Its author may push anything to it; a writer goes forward.
    pull.git("commit", "-q", "--amend", "-m", "another")
    pull.git("push", "-f", "origin", f"HEAD:{pull.ref}")
    work.git("fetch", "-q", "origin", f"{pull.ref}:theirs")
    work.git("switch", "-q", "theirs")
    mine = work.commit(review="ok")
    work.git("push", "origin", f"HEAD:{pull.ref}")
    assert refs(server, repo)[pull.ref] == mine
    work.git("commit", "-q", "--amend", "-m", "another")
    assert "only its author" in work.fails("push", "-f", "origin", f"HEAD:{pull.ref}")
    assert "close it" in work.fails("push", "origin", f":{pull.ref}")


def test_a_pull_request_keeps_a_commit_in_common_with_its_branch(server, repo, pull):
    before = refs(server, repo)[pull.ref]
    pull.git("switch", "-q", "--orphan", "apart")
    commit = pull.commit(hidden="all of it")
    with Trace(server, repo):
        said = pull.fails("push", "-f", "origin", f"HEAD:{pull.ref}")
    assert "shares no commit with main" in said and "git rebase --onto origin/main" in said, said
    assert refs(server, repo)[pull.ref] == before and unfetchable(pull, commit)


def test_pull_requests_of_others_and_none(server, repo, pull, tmp_path, bob, api):
    other = Work(tmp_path / "eve" / "w", server, repo, token=server.user(f"eve{time.monotonic_ns() % 10**9}")).begin()
    other.git("fetch", "-q", "origin", pull.ref)
    other.git("switch", "-q", "-c", "w", "FETCH_HEAD")
    commit = other.commit(a="1")
    with Trace(server, repo):
        assert "Only its author" in other.fails("push", "origin", f"HEAD:{pull.ref}")
        assert "no such pull request" in other.fails("push", "origin", "HEAD:refs/pr/999")
        assert "pull requests of your own" in other.fails("push", "origin", "HEAD:refs/heads/mine")
    assert unfetchable(other, commit)
    api.change_discussion_status(repo, int(pull.ref.rsplit("/", 1)[1]), "closed")
    pull.commit(b="1")
    assert "is closed" in pull.fails("push", "origin", f"HEAD:{pull.ref}")
    # The rules are those of every commit.
    api.change_discussion_status(repo, int(pull.ref.rsplit("/", 1)[1]), "open")
    pull.commit(big=b"0" * (LARGE + 1))
    assert "big has 10485761 bytes" in pull.fails("push", "origin", f"HEAD:{pull.ref}")


# Whose a commit is --------------------------------------------------------------------------------

NOREPLY = "users.noreply.bastide.invalid"


def authors(server, repo, revision="main"):
    return [commit["authors"][0]["user"] for commit in ask(server, f"/api/models/{repo}/commits/{revision}")]


def test_only_the_credential_that_brings_a_commit_proves_its_author(server, repo, api, bob, work):
    def commit(author: str) -> str:
        work.commit(f_dot_txt=author)
        work.git("commit", "-q", "--amend", "--author", author, "-m", author)
        return work.git("rev-parse", "HEAD")

    work.commit(README_dot_md="# A model\n")
    # Ann is the one who pushes, whatever the committer is called.
    own = [commit("Ann <ann@example.org>"), commit(f"whoever <ANN@{NOREPLY}>")]
    forged = [commit(author) for author in (f"bob <bob@{NOREPLY}>", "bob <bob@example.org>", "ann <a@x.org>",
                                            "bob\u202e\u200b <b@x.org>", f"bob{' ' * 200}b <b@x.org>")]
    work.git("push", "-f", "origin", "main")
    names = ["bob (unverified)", "bob (unverified)", "ann (unverified)", "bob (unverified)", "bob b (unverified)"]
    assert authors(server, repo) == [*reversed(names), "ann", "ann", "ann"]
    listed = [commit.authors for commit in api.list_repo_commits(repo)]
    assert listed == [[name] for name in [*reversed(names), "ann", "ann", "ann"]]
    detail = ask(server, f"/api/models/{repo}/commit/{forged[0]}")
    assert detail["authors"] == [{"user": "bob (unverified)", "name": "bob"}]
    assert detail["pushedBy"]["user"] == "ann" and detail["pushedBy"]["_id"]
    shown = ask(server, f"/api/models/{repo}/commit/{own[1]}")["authors"]
    assert shown == [{"user": "ann", "_id": detail["pushedBy"]["_id"]}]
    blame = ask(server, f"/api/models/{repo}/blame/{forged[0]}/f.txt")
    assert [commit["authors"][0]["user"] for commit in blame["commits"].values()] == ["bob (unverified)"]
    # What bob really does is bob's, and a copy that ann pushes of it elsewhere is not.
    bob.create_commit(repo, [hub.CommitOperationAdd("b.txt", b"b")], commit_message="bob's", create_pr=True)
    assert authors(server, repo, "refs%2Fpr%2F1")[0] == "bob"
    work.git("fetch", "-q", "origin", "refs/pr/1")
    other = f"{repo}-copy"
    api.create_repo(other)
    work.git("push", "-f", work.url.replace(repo, other), "FETCH_HEAD:refs/heads/main")
    assert authors(server, other)[0] == "bob (unverified)"
    # In the repository where he has proved it, it stays his.
    work.git("push", "origin", "FETCH_HEAD:refs/heads/main")
    assert authors(server, repo)[0] == "bob"


def test_a_forged_author_is_no_co_author_of_a_squash(server, repo, api, pull):
    pull.git("config", "user.email", "bob@example.org")
    pull.commit(own="1", message="own")
    pull.git("config", "user.name", "ann")
    for number, address in enumerate((f"ann@{NOREPLY}", f"Ann@{NOREPLY}.", "ann@example.org")):
        pull.git("config", "user.email", address)
        pull.commit(**{f"forged{number}": "1"})
    pull.git("push", "origin", f"HEAD:{pull.ref}")
    number = int(pull.ref.rsplit("/", 1)[1])
    api.change_discussion_status(repo, number, "open")
    ask(server, f"/api/models/{repo}/discussions/{number}/merge", method="POST", body={"squash": True})
    message = ask(server, f"/api/models/{repo}/commits/main")[0]["message"]
    named = [line for line in message.splitlines() if line.startswith("Co-authored-by")]
    assert named == [f"Co-authored-by: bob <bob@{NOREPLY}>", "Co-authored-by: ann (unverified) <ann@example.org>"]


# What a tag has brought before -------------------------------------------------------------------


def test_a_tag_is_no_way_around_the_card(server, repo, work):
    work.commit(README_dot_md="---\nlicense: mit\n---\n")
    work.git("push", "-f", "origin", "main")
    work.commit(README_dot_md="---\nlicense: [\n---\n")
    work.git("push", "origin", "HEAD:refs/tags/t")
    with Trace(server, repo):
        assert "Invalid metadata in README.md" in work.fails("push", "origin", "main")
        assert "Invalid metadata in README.md" in work.fails("push", "origin", "main:other")
        # Nor is the route that makes branches, from a tag as from a commit.
        for start in ("t", "refs/tags/t", work.git("rev-parse", "HEAD")):
            for branch, more in (("made", {}), ("main", {"overwrite": True})):
                with pytest.raises(urllib.error.HTTPError) as no:
                    ask(server, f"/api/models/{repo}/branch/{branch}", method="POST", body={"startingPoint": start, **more})
                assert no.value.code in (400, 422) and b"Invalid metadata" in no.value.read(), no.value.code
    work.git("push", "origin", "HEAD~1:refs/heads/other")


def test_cards_of_any_size_are_read(server, repo, work):
    work.commit(README_dot_md="---\nlicense: [\n---\n" + "x" * (3 * 1024 * 1024))
    with Trace(server, repo):
        assert "Invalid metadata in README.md" in work.fails("push", "-f", "origin", "main")


def test_a_merge_does_not_bring_two_names_that_are_one(server, pusher, base):
    pack, one = with_files(("100644", "Foo.txt", b"1"), parents=(base,))
    two = pack.commit(pack.tree(("100644", "foo.txt", pack.add("blob", b"1"))), base)
    blob = pack.add("blob", b"1")
    both = pack.commit(pack.tree(("100644", "Foo.txt", blob), ("100644", "foo.txt", blob)), one, two)
    refused(server, pusher, pack, both, "only in case")


# What costs little to send and much to look at ----------------------------------------------------


def test_long_paths_are_told_once_and_briefly(server, pusher):
    pack = Pack()
    blob = pack.add("blob", b"x")
    tree = pack.tree(*(("100600", f"f{n:02}", blob) for n in range(25)))
    for _ in range(62):
        tree = pack.tree(("40000", "d" * 4003, tree))
    commit = pack.commit(tree)
    moves = [(f"refs/heads/b{n}", NONE, commit) for n in range(100)]
    answer = pusher.push(pack, *moves)
    assert sum(line.startswith("ng ") for line in answer.lines) == 100, answer
    assert len(answer.remarks) < 50_000 and max(map(len, answer.lines)) < 2000
    assert answer.remarks.count(b"error: commit") <= 100


def test_chains_that_no_git_makes(server, pusher, base):
    pack, data = Pack(), b"x" * 100
    pack.add("blob", data)
    names = []
    for n in range(4200):
        add = str(n % 10).encode()
        pack.ofs_delta(delta(len(data), copy(0, len(data)), insert(add), result=len(data) + 1))
        data += add
        names.append(oid("blob", data))
    commit = pack.commit(pack.tree(*(("100644", f"{n:05}", name) for n, name in enumerate(names))), base)
    refused(server, pusher, pack, commit, "git repack")


@pytest.mark.parametrize("change", [
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("git-lfs.github.com", "hawser.github.com"),
    lambda text: text.replace("https://git-lfs.github.com/spec/v1", "http://git-media.io/v/2"),
    lambda text: "\n" + text,
    lambda text: text + "\n",
    lambda text: text + "x-mine 1\n",
])
def test_pointers_that_only_others_take(server, pusher, change):
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'1' * 64}\nsize 12\n"
    pack, commit = with_files(("100644", "a.bin", change(text).encode()))
    refused(server, pusher, pack, commit, "looks like a pointer")


def test_messages_that_pack_well_are_bounded_together(server, pusher):
    pack = Pack()
    tree = pack.tree(("100644", "a", pack.add("blob", b"1")))
    commit = pack.commit(tree)
    for n in range(30):
        commit = pack.commit(tree, commit, message=f"x{n}\n\n".encode() + b"y\n" * 3_900_000)
    refused(server, pusher, pack, commit, "128 MiB of messages")


def test_half_of_the_pushes_is_left_for_others_and_time_is_given_by_size(server, repo, pusher, base, bob):
    pack, commit = with_files(("100644", "a", os.urandom(3_000_000)), parents=(base,))
    body = packs.commands(("refs/heads/slow", NONE, commit)) + pack.bytes()
    head = "".join(f"{name}: {value}\r\n" for name, value in pusher.headers().items())
    head = f"POST /{repo}/git-receive-pack HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode()
    slow = []
    try:
        for part in (2_200_000, 2_200_000, 1000):
            slow.append(socket.create_connection(pusher.host.split(":")))
            slow[-1].sendall(head + body[:part])
            assert soon(lambda: len(receiving(server.process.pid)) >= min(len(slow), 2)), children(server.process.pid)
        # The third of them waits, though there are four places.
        time.sleep(1)
        at_work = receiving(server.process.pid)
        assert len(at_work) == 2, at_work
        for pid in at_work:
            assert soon(lambda: processor_seconds(pid) == "24"), processor_seconds(pid)
        while_others_are_slow(server, repo, bob)
    finally:
        for connection in slow:
            connection.close()


def processor_seconds(pid: int) -> str:
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
    return next(line.split()[3] for line in limits.splitlines() if line.startswith("Max cpu time"))


def while_others_are_slow(server, repo, bob):
    number = bob.create_pull_request(repo, title="Meanwhile").num
    mine, new = with_files(("100644", "b", b"1"), parents=(refs(server, repo)[f"refs/pr/{number}"],))
    answer = Pusher(server, repo, bob.token).push(mine, (f"refs/pr/{number}", refs(server, repo)[f"refs/pr/{number}"], new))
    assert answer.lines[1] == f"ok refs/pr/{number}", answer


def test_folders_that_are_many_times_in_a_tree_cost_readers_little(server, pusher, repo):
    pack = Pack()
    tree = pack.tree(*(("100644", f"f{n}", pack.add("blob", b"x")) for n in range(10)))
    for _ in range(4):
        tree = pack.tree(*(("40000", f"d{n}", tree) for n in range(10)))
    commit = pack.commit(pack.tree(*(("40000", f"r{n}", tree) for n in range(4))))
    assert pusher.push(pack, ("refs/heads/many", NONE, commit)).lines[1] == "ok refs/heads/many"
    began = time.monotonic()
    assert ask(server, f"/api/models/{repo}/treesize/many/")["size"] == 400_000
    assert time.monotonic() - began < 5, "each folder is looked at once, not where it stands"
    assert 50_000 < len(ask(server, f"/api/models/{repo}/revision/many")["siblings"]) <= 100_000
