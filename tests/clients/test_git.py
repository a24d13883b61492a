"""Stock `git` against the hub: what the API made is what git gets, in every way that git can ask for it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

hub = pytest.importorskip("huggingface_hub")
from git_client import Git, files_of  # noqa: E402
from hub_process import soon  # noqa: E402
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


# -- journeys ---------------------------------------------------------------------------------------------------


def write(folder: pathlib.Path, git: Git, message: str, **files: str) -> str:
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    git("add", "-A", at=folder)
    git("commit", "-q", "-m", message, at=folder)
    return git("rev-parse", "HEAD", at=folder)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_people_take_turns(api, git, filled, protocol):
    repo, _ = filled
    git("config", "--global", "protocol.version", protocol)
    one, two = git.clone(repo, name="one"), git.clone(repo, name="two")
    first = write(one, git, "From one", one="1")
    git("push", "-q", at=one)
    assert api.list_repo_commits(repo)[0].commit_id == first
    write(two, git, "From two", two="2")
    assert "fetch first" in git.fails("push", at=two)
    git("pull", "-q", "--rebase", at=two)
    git("push", "-q", at=two)
    git("pull", "-q", at=one)
    assert files_of(one) == files_of(two) and {"one.txt", "two.txt"} <= files_of(one).keys()
    by_api = commit(api, repo, {"three.txt": b"3"})
    git("pull", "-q", at=one)
    assert git("rev-parse", "HEAD", at=one) == by_api and tree_of(git, one) == expected(api, repo)


def test_branches_and_tags_of_ones_own(api, git, filled):
    repo, commits = filled
    one, two = git.clone(repo, name="one"), git.clone(repo, name="two")
    git("checkout", "-q", "-b", "feature/a", at=one)
    write(one, git, "A feature", feature="x")
    git("tag", "light", at=one)
    git("tag", "-a", "v1", "-m", "The first", at=one)
    git("push", "-q", "origin", "feature/a", "light", "v1", at=one)
    refs = api.list_repo_refs(repo)
    tip = git("rev-parse", "HEAD", at=one)
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"light": tip, "v1": tip}
    git("fetch", "-q", "--tags", at=two)
    assert git("cat-file", "-t", "v1", at=two) == "tag" and git("rev-parse", "origin/feature/a", at=two) == tip
    # A history that is written anew, which the other one follows.
    git("commit", "-q", "--amend", "-m", "A better feature", at=one)
    assert "rejected" in git.fails("push", "origin", "feature/a", at=one)
    git("push", "-q", "--force-with-lease", "origin", "feature/a", at=one)
    git("fetch", "-q", at=two)
    assert git("rev-parse", "origin/feature/a", at=two) == git("rev-parse", "HEAD", at=one) != tip
    git("push", "-q", "origin", "--delete", "feature/a", "light", at=one)
    git("fetch", "-q", "--prune", at=two)
    assert git("branch", "-r", "--list", "origin/feature/*", at=two) == ""
    assert [ref.name for ref in api.list_repo_refs(repo).branches] == ["main"]
    assert "Cannot delete refs/heads/main" in git.fails("push", "origin", "--delete", "main", at=one)
    assert git("rev-parse", "origin/main", at=two) == commits[-1]


@pytest.mark.parametrize("depth", [["--depth=1"], ["--filter=blob:none"], ["--filter=tree:0"]])
def test_a_push_from_a_clone_that_has_not_all(api, git, filled, depth):
    repo, _ = filled
    folder = git.clone(repo, *depth)
    new = write(folder, git, "From little", little="1")
    git("push", "-q", at=folder)
    assert api.list_repo_commits(repo)[0].commit_id == new and "little.txt" in expected(api, repo)
    git("fsck", "--strict", at=git.clone(repo, name="whole"))


def test_a_repository_that_was_elsewhere(api, git):
    repo = f"ann/moved-in-{next(COUNTER)}"
    api.create_repo(repo, exist_ok=True)
    elsewhere = git.home / "elsewhere"
    git("init", "-q", elsewhere)
    for number in range(40):
        write(elsewhere, git, f"Change {number}", **{f"file{number % 7}": str(number)})
    git("push", "-q", "--force", git.url(repo), "main", at=elsewhere)
    folder = git.clone(repo)
    assert git("rev-list", "HEAD", at=folder) == git("rev-list", "HEAD", at=elsewhere)
    assert tree_of(git, folder) == tree_of(git, elsewhere) == expected(api, repo)


def test_a_pull_request_from_git(api, bob, git, filled, server, tmp_path):
    repo, _ = filled
    pull = bob.create_commit(repo, [CommitOperationAdd("theirs.txt", b"1")], commit_message="Propose", create_pr=True)
    number = pull.pr_num
    folder = git.clone(repo)
    git("fetch", "-q", "origin", f"refs/pr/{number}:pr", at=folder)
    assert git("rev-parse", "pr", at=folder) == pull.oid and git("show", "pr:theirs.txt", at=folder) == "1"
    # Its author goes on with git.
    other = Git(tmp_path / "bob", server, bob.token)
    theirs = other.clone(repo)
    other("fetch", "-q", "origin", f"refs/pr/{number}:pr", at=theirs)
    other("checkout", "-q", "pr", at=theirs)
    more = write(theirs, other, "More", theirs="2")
    other("push", "-q", "origin", f"pr:refs/pr/{number}", at=theirs)
    other.fails("push", "origin", "pr:main", at=theirs)
    git("fetch", "-q", "origin", f"+refs/pr/{number}:pr", at=folder)
    assert git("rev-parse", "pr", at=folder) == more
    api.merge_pull_request(repo, number)
    git("pull", "-q", at=folder)
    assert (folder / "theirs.txt").read_text() == "2"


def test_a_token_that_hf_has_stored(api, nobody, server):
    repo = f"ann/private-{next(COUNTER)}"
    api.create_repo(repo, private=True)
    nobody("config", "--global", "credential.helper", "store")
    login = f"import huggingface_hub as h; h.login(token={server.token!r}, add_to_git_credential=True)"
    environment = {**nobody.environment, "HF_ENDPOINT": server.url, "HF_HOME": str(nobody.home / "hf")}
    subprocess.run([sys.executable, "-c", login], env=environment, check=True, capture_output=True)
    nobody.clone(repo)


# -- large files --------------------------------------------------------------------------------------------------


@pytest.fixture
def lfs(git):
    if git.run("lfs", "version").returncode != 0:
        pytest.skip("git-lfs is not installed")
    git("lfs", "install", "--skip-repo")
    return git


def test_large_files_by_git_and_by_hf(api, lfs, filled, tmp_path):
    repo, _ = filled
    one, two = lfs.clone(repo, name="one"), lfs.clone(repo, name="two")
    lfs("lfs", "track", "*.weights", at=one)
    data = os.urandom(11 * 1024 * 1024)
    (one / "model.weights").write_bytes(data)
    (one / "small.weights").write_bytes(b"small")
    lfs("add", "-A", at=one)
    lfs("commit", "-q", "-m", "Weights", at=one)
    lfs("push", "-q", at=one)
    lfs("pull", "-q", at=two)
    assert (two / "model.weights").read_bytes() == data and (two / "small.weights").read_bytes() == b"small"
    path = hub.hf_hub_download(repo, "model.weights", cache_dir=tmp_path / "cache")
    assert pathlib.Path(path).read_bytes() == data
    info = {file.rfilename: file for file in api.model_info(repo, files_metadata=True).siblings}
    assert info["model.weights"].lfs["sha256"] == hashlib.sha256(data).hexdigest()
    # The other way round, and a change of a part.
    changed = data[:5_000_000] + b"changed" + data[5_000_000:]
    api.upload_file(path_or_fileobj=changed, path_in_repo="model.weights", repo_id=repo)
    lfs("pull", "-q", at=one)
    assert (one / "model.weights").read_bytes() == changed
    assert lfs("status", "--porcelain", at=one) == ""
    pointers = lfs.home / "pointers"
    lfs("clone", "-q", lfs.url(repo), pointers, GIT_LFS_SKIP_SMUDGE="1")
    assert (pointers / "model.weights").read_bytes().startswith(b"version https://git-lfs.github.com/spec/v1")
    lfs("lfs", "pull", at=pointers)
    assert (pointers / "model.weights").read_bytes() == changed
    lfs("lfs", "fsck", at=pointers)
    assert lfs("lfs", "fetch", "--all", at=pointers) is not None


def test_a_file_that_is_too_large_becomes_a_large_one(api, lfs, filled):
    repo, _ = filled
    folder = lfs.clone(repo)
    (folder / "big.txt").write_bytes(os.urandom(6_000_000).hex().encode())
    lfs("add", "-A", at=folder)
    lfs("commit", "-q", "-m", "Big", at=folder)
    said = lfs.fails("push", at=folder)
    assert "big.txt" in said and "git lfs migrate import" in said
    lfs("lfs", "migrate", "import", "--yes", "--include=big.txt", "--include-ref=main", "--exclude-ref=origin/main", at=folder)
    lfs("push", "-q", at=folder)
    assert (lfs.clone(repo, name="again") / "big.txt").stat().st_size == 12_000_000


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
    assert soon(lambda: not children_of(server.process.pid)), children_of(server.process.pid)


def children_of(pid: int) -> list[str]:
    """The command lines of a process's children, dead ones that nobody has waited for too."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    pids = [child for task in tasks for child in (task / "children").read_text().split()]
    names = []
    for child in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It has ended meanwhile.
            names.append(pathlib.Path(f"/proc/{child}/comm").read_text().strip())
    return names
