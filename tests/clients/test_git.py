"""Stock `git` against the hub: what the API made is what git gets, in every way that git can ask for it."""

from __future__ import annotations

import pathlib
import subprocess
import urllib.error
import urllib.request

import pytest

hub = pytest.importorskip("huggingface_hub")
from git_client import Git, files_of  # noqa: E402
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi  # noqa: E402

COUNTER = iter(range(10_000))
KINDS = [("model", ""), ("dataset", "datasets/"), ("space", "spaces/")]
PROTOCOLS = ["0", "1", "2"]


@pytest.fixture
def git(tmp_path, server):
    return Git(tmp_path / "home", server, server.token)


@pytest.fixture
def nobody(tmp_path, server):
    return Git(tmp_path / "nobody", server, None)


def commit(api: HfApi, repo: str, files: dict[str, bytes | None], revision: str = "main", **more) -> str:
    operations = [
        CommitOperationDelete(path) if data is None else CommitOperationAdd(path, data) for path, data in files.items()
    ]
    made = api.create_commit(repo, operations, commit_message=f"Change {', '.join(files)}", revision=revision, **more)
    return made.oid


FIRST = {"config.json": b'{"a": 1}', "folder/deep/a.txt": b"a\n", "folder/b.txt": b"b\n" * 1000, "odd ?#%+ ü.txt": b"odd"}


@pytest.fixture
def filled(api):
    """A repository with three commits, and their ids."""
    repo = f"ann/git-{next(COUNTER)}"
    api.create_repo(repo)
    commits = [
        commit(api, repo, FIRST),
        commit(api, repo, {"config.json": b'{"a": 2}', "new.txt": b"new"}),
        commit(api, repo, {"folder/b.txt": None}),
    ]
    return repo, commits


def expected(api: HfApi, repo: str, revision: str = "main", kind: str = "model") -> dict[str, str]:
    """The blob ids of every file, as the API says."""
    tree = api.list_repo_tree(repo, recursive=True, revision=revision, repo_type=kind)
    return {entry.path: entry.blob_id for entry in tree if hasattr(entry, "blob_id")}


def tree_of(git: Git, folder: pathlib.Path, revision: str = "HEAD") -> dict[str, str]:
    lines = git("ls-tree", "-r", "-z", revision, at=folder).split("\0")
    return {path: meta.split()[2] for meta, path in (line.split("\t", 1) for line in lines if line)}


def status_of(url: str, **headers: str) -> tuple[int, dict, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.headers, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


# -- cloning -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_clone_is_what_the_api_says(api, git, filled, protocol):
    repo, commits = filled
    folder = git.home / "c"
    git("-c", f"protocol.version={protocol}", "clone", "-q", git.url(repo), folder)
    assert git("rev-parse", "HEAD", at=folder) == commits[-1]
    assert git("symbolic-ref", "HEAD", at=folder) == "refs/heads/main"
    assert tree_of(git, folder) == expected(api, repo)
    for number, oid in enumerate(reversed(commits)):
        assert git("rev-parse", f"HEAD~{number}", at=folder) == oid
        assert tree_of(git, folder, oid) == expected(api, repo, oid)
    files = files_of(folder)
    assert files["odd ?#%+ ü.txt"] == b"odd" and files["config.json"] == b'{"a": 2}' and "folder/b.txt" not in files
    git("fsck", "--strict", at=folder)


@pytest.mark.parametrize(("kind", "prefix"), KINDS)
@pytest.mark.parametrize("ending", ["", ".git", "/"])
def test_every_kind_by_every_address(api, git, kind, prefix, ending):
    repo = f"ann/kind-{next(COUNTER)}"
    api.create_repo(repo, repo_type=kind, **({"space_sdk": "static"} if kind == "space" else {}))
    commit(api, repo, {"a.txt": b"a"}, repo_type=kind)
    folder = git.clone(prefix + repo + ending)
    assert tree_of(git, folder) == expected(api, repo, kind=kind)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_empty_repository(api, git, protocol):
    repo = f"ann/empty-{next(COUNTER)}"
    api.create_repo(repo)
    folder = git.home / "c"
    git("-c", f"protocol.version={protocol}", "clone", "-q", git.url(repo), folder)
    # A new repository has one commit, its .gitattributes, or none.
    assert set(files_of(folder)) <= {".gitattributes"}
    assert git("symbolic-ref", "HEAD", at=folder) == "refs/heads/main"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_shallow_clone_that_is_deepened(git, filled, protocol):
    repo, commits = filled
    git("config", "--global", "protocol.version", protocol)
    folder = git.clone(repo, "--depth=1")
    assert git("rev-list", "HEAD", at=folder).split() == commits[:-2:-1]
    git("fetch", "-q", "--deepen=1", at=folder)
    assert git("rev-list", "HEAD", at=folder).split() == commits[:0:-1]
    git("fetch", "-q", "--unshallow", at=folder)
    assert commits[0] in git("rev-list", "HEAD", at=folder).split()
    git("fsck", "--strict", at=folder)


@pytest.mark.parametrize("filter", ["blob:none", "blob:limit=100", "tree:0"])
def test_a_partial_clone_gets_the_rest_when_it_needs_it(api, git, filled, filter):
    repo, commits = filled
    folder = git.clone(repo, f"--filter={filter}", "--no-checkout")
    missing = git("rev-list", "--objects", "--all", "--missing=print", at=folder)
    assert "\n?" in f"\n{missing}"
    git("checkout", "-q", "main", at=folder)
    assert tree_of(git, folder) == expected(api, repo)
    assert git("show", f"{commits[0]}:config.json", at=folder) == '{"a": 1}'


def test_filters_that_name_objects_are_refused(git, filled):
    said = git.fails("clone", "--filter=sparse:oid=main:config.json", git.url(filled[0]), git.home / "c")
    assert "filter 'sparse:oid' not supported" in said


def test_one_branch_alone(api, git, filled):
    repo, commits = filled
    api.create_branch(repo, branch="dev", revision=commits[0])
    api.create_branch(repo, branch="feature/x")
    folder = git.clone(repo, "--single-branch", "--branch=dev")
    assert git("rev-parse", "HEAD", at=folder) == commits[0]
    assert git("branch", "-r", at=folder) == "origin/dev"
    everything = git.clone(repo)
    branches = git("for-each-ref", "--format=%(refname)", "refs/remotes/origin", at=everything).split()
    assert branches == [f"refs/remotes/origin/{name}" for name in ["HEAD", "dev", "feature/x", "main"]]


def test_tags_light_and_annotated(api, git, filled):
    repo, commits = filled
    api.create_tag(repo, tag="light", revision=commits[0])
    api.create_tag(repo, tag="v1", revision=commits[1], tag_message="The first")
    folder = git.clone(repo)
    assert git("tag", at=folder).split() == ["light", "v1"]
    assert git("cat-file", "-t", "v1", at=folder) == "tag"
    assert git("rev-parse", "v1^{commit}", at=folder) == commits[1]
    assert "The first" in git("cat-file", "tag", "v1", at=folder)
    assert git("rev-parse", "HEAD", at=git.clone(repo, "--branch=v1", "--depth=1")) == commits[1]
    listed = git("ls-remote", "--tags", "origin", at=folder)
    assert f"{commits[1]}\trefs/tags/v1^{{}}" in listed and f"{commits[0]}\trefs/tags/light" in listed


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_lists_of_refs(git, filled, protocol):
    repo, commits = filled
    git("config", "--global", "protocol.version", protocol)
    listed = git("ls-remote", "--symref", git.url(repo))
    assert listed.splitlines() == [f"ref: refs/heads/main\tHEAD", f"{commits[-1]}\tHEAD", f"{commits[-1]}\trefs/heads/main"]
    assert git("ls-remote", git.url(repo), "nothing") == ""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_fetch_brings_what_is_new_and_forgets_what_is_gone(api, git, filled, protocol):
    repo, _ = filled
    git("config", "--global", "protocol.version", protocol)
    api.create_branch(repo, branch="old")
    folder = git.clone(repo)
    new = commit(api, repo, {"later.txt": b"later"})
    api.delete_branch(repo, branch="old")
    git("pull", "-q", "--prune", at=folder)
    assert git("rev-parse", "HEAD", at=folder) == new and (folder / "later.txt").read_bytes() == b"later"
    assert "origin/old" not in git("branch", "-r", at=folder)
    # Nothing new.
    git("pull", "-q", at=folder)
    api.super_squash_history(repo)
    git("fetch", "-q", at=folder)
    assert git("rev-list", "--count", "origin/main", at=folder) == "1"
    assert tree_of(git, folder, "origin/main") == tree_of(git, folder)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_shallow_clone_without_what_a_tag_has(api, git, filled, protocol):
    repo, commits = filled
    api.create_tag(repo, tag="start", revision=commits[0])
    git("config", "--global", "protocol.version", protocol)
    folder = git.clone(repo, "--shallow-exclude=start", "--no-tags")
    assert git("rev-list", "HEAD", at=folder).split() == commits[:0:-1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_commit_by_its_id(git, filled, protocol):
    repo, commits = filled
    git("config", "--global", "protocol.version", protocol)
    git("init", "-q", git.home / "c")
    folder = git.home / "c"
    git("fetch", "-q", "--depth=1", git.url(repo), commits[1], at=folder)
    assert git("rev-parse", "FETCH_HEAD", at=folder) == commits[1]
    assert "not our ref" in git.fails("fetch", git.url(repo), "1" * 40, at=folder)


def test_many_haves_are_packed_by_the_client(api, git, filled):
    repo, _ = filled
    folder = git.clone(repo)
    for number in range(300):
        git("commit", "-q", "--allow-empty", "-m", f"mine {number}", at=folder)
    new = commit(api, repo, {"later.txt": b"later"})
    said = git.run("fetch", "origin", at=folder, GIT_CURL_VERBOSE="1", GIT_TRACE_CURL_NO_DATA="1").stderr
    assert "Content-Encoding: gzip" in said or "content-encoding: gzip" in said
    assert git("rev-parse", "origin/main", at=folder) == new


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_requests_in_pieces_of_unknown_length(api, git, filled, protocol):
    repo, _ = filled
    folder = git.clone(repo)
    mine = "".join(
        f"commit refs/heads/mine\ncommitter Ann <ann@example.org> {1_700_000_000 + number} +0000\ndata 1\nx\n"
        for number in range(6000)
    )
    subprocess.run(["git", "fast-import", "--quiet"], cwd=folder, env=git.environment, input=mine, text=True, check=True)
    new = commit(api, repo, {"later.txt": b"later"})
    smallest = {"http.postBuffer": "65536", "protocol.version": protocol}
    options = [word for key, value in smallest.items() for word in ("-c", f"{key}={value}")]
    said = git.run(*options, "fetch", "origin", at=folder, GIT_CURL_VERBOSE="1", GIT_TRACE_CURL_NO_DATA="1").stderr
    assert "transfer-encoding: chunked" in said.lower()
    assert git("rev-parse", "origin/main", at=folder) == new


# -- who may ----------------------------------------------------------------------------------------------------


def test_a_private_repository_asks_for_a_token(api, git, nobody, server):
    repo = f"ann/private-{next(COUNTER)}"
    api.create_repo(repo, private=True)
    commit(api, repo, {"a.txt": b"a"})
    assert "could not read Username" in nobody.fails("clone", nobody.url(repo), nobody.home / "c")
    assert nobody.fails("clone", nobody.url("ann/none"), nobody.home / "c").replace("none", "") == nobody.fails(
        "clone", nobody.url(repo), nobody.home / "c"
    ).replace(repo.removeprefix("ann/"), "")
    assert files_of(git.clone(repo)).keys() == {".gitattributes", "a.txt"}


def test_a_token_by_a_credential_helper(api, nobody, server):
    repo = f"ann/private-{next(COUNTER)}"
    api.create_repo(repo, private=True)
    commit(api, repo, {"a.txt": b"a"})
    nobody("config", "--global", "credential.helper", "store")
    host = server.url.removeprefix("http://")
    store = nobody.home / ".git-credentials"
    store.write_text(f"http://hf_user:{server.token}@{host}\n")
    assert (nobody.clone(repo) / "a.txt").read_bytes() == b"a"
    # A token that is wrong is taken out of the store: git has understood the answer.
    store.write_text(f"http://hf_user:hf_wrong@{host}\n")
    said = nobody.fails("clone", nobody.url(repo), nobody.home / "d")
    assert "remote: Invalid credentials in Authorization header" in said and "Authentication failed" in said
    assert store.read_text() == ""


def test_what_others_keep_is_not_there(api, bob, git, server, tmp_path):
    repo = f"ann/private-{next(COUNTER)}"
    api.create_repo(repo, private=True)
    other = Git(tmp_path / "bob", server, bob.token)
    said = other.fails("clone", other.url(repo), other.home / "c")
    assert "remote: Repository not found" in said and "not found" in said
    assert said.replace(repo, "X") == other.fails("clone", other.url("ann/none"), other.home / "c").replace("ann/none", "X")


def test_a_gated_repository_says_so(api, bob, nobody, server, tmp_path):
    repo = f"ann/gated-{next(COUNTER)}"
    api.create_repo(repo)
    api.update_repo_settings(repo, gated="auto")
    other = Git(tmp_path / "bob", server, bob.token)
    said = other.fails("clone", other.url(repo), other.home / "c")
    assert f"remote: Access to model {repo} is restricted and you are not in the authorized list." in said


def test_a_renamed_repository_is_found_and_its_new_name_told(api, git, filled):
    repo, commits = filled
    folder = git.clone(repo)
    new = f"ann/renamed-{next(COUNTER)}"
    api.move_repo(repo, new)
    later = commit(api, new, {"later.txt": b"later"})
    said = git.run("pull", at=folder)
    assert said.returncode == 0 and f"redirecting to" in said.stderr and new in said.stderr
    assert git("rev-parse", "HEAD", at=folder) == later
    # Another spelling is the same repository.
    shouted = git.clone(new.upper().replace("ANN/", "ann/"))
    assert git("rev-parse", "HEAD", at=shouted) == later


# -- what is not served -------------------------------------------------------------------------------------------


def test_the_old_protocol_is_told_what_to_do(server, filled):
    for path in ("info/refs", "HEAD", "objects/info/packs"):
        status, headers, text = status_of(f"{server.url}/{filled[0]}/{path}")
        assert status in (403, 404) and headers["Content-Type"].startswith("text/plain"), path
        assert "use git" in text


def test_answers_are_not_kept_by_anybody(server, filled):
    url = f"{server.url}/{filled[0]}/info/refs?service=git-upload-pack"
    status, headers, _ = status_of(url)
    assert status == 200 and headers["Content-Type"] == "application/x-git-upload-pack-advertisement"
    assert headers["Cache-Control"].startswith("no-cache")


def test_a_clone_that_is_broken_off_leaves_nothing_running(api, git, server):
    import os
    import signal
    import time

    repo = f"ann/big-{next(COUNTER)}"
    api.create_repo(repo)
    commit(api, repo, {f"noise-{number}.txt": os.urandom(2_000_000).hex().encode() for number in range(8)})
    for _ in range(3):
        url = git.url(repo)
        # Slowly, so that it is under way when it is killed.
        clone = subprocess.Popen(
            ["git", "clone", "-q", url, git.home / f"killed-{time.time_ns()}"],
            env=git.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(0.15)
        os.killpg(clone.pid, signal.SIGKILL)
        clone.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and children_of(server.process.pid):
        time.sleep(0.1)
    assert children_of(server.process.pid) == []


def children_of(pid: int) -> list[str]:
    """The command lines of a process's children, dead ones that nobody has waited for too."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    pids = [child for task in tasks for child in (task / "children").read_text().split()]
    return [pathlib.Path(f"/proc/{child}/comm").read_text().strip() for child in pids]
