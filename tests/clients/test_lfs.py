"""Large files by the clients that people have: stock git-lfs, and the calls of huggingface_hub about them."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.utils import EntryNotFoundError, HfHubHTTPError
from huggingface_hub.utils import _xet as hub_xet
from huggingface_hub.utils._runtime import is_xet_available

MB = 1024 * 1024


def noise(size: int) -> bytes:
    return os.urandom(size)


class Git:
    """Stock git and git-lfs in a folder, as a user who has a token, without the settings of this machine."""

    def __init__(self, folder: pathlib.Path, home: pathlib.Path) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": "Ann",
            "GIT_AUTHOR_EMAIL": "ann@example.org",
            "GIT_COMMITTER_NAME": "Ann",
            "GIT_COMMITTER_EMAIL": "ann@example.org",
        }

    def run(self, *words: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            ["git", *words], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert status is None or result.returncode == status, f"{words}: {result.stdout}{result.stderr}"
        return result

    def __call__(self, *words: str) -> str:
        return self.run(*words).stdout


@pytest.fixture
def clone(server, tmp_path):
    """Makes a clone of a repository for somebody's token."""
    if shutil.which("git-lfs") is None:
        pytest.fail("git-lfs is not installed")

    def make(repo: str, name: str, token: str, user: str = "ann", *, smudge: bool = True) -> Git:
        home = tmp_path / f"home-{name}"
        home.mkdir()
        git = Git(tmp_path, home)
        git("lfs", "install", *([] if smudge else ["--skip-smudge"]))
        git("clone", server.url.replace("://", f"://{user}:{token}@") + f"/{repo}", name)
        git.folder = tmp_path / name
        git("config", "lfs.locksverify", "true")
        return git

    return make


def test_git_lfs_pushes_and_pulls(api, server, repo, clone):
    git = clone(repo, "one", server.token)
    files = {"a.bin": noise(3 * MB), "deep/er/b.bin": noise(100_000), "empty.bin": b""}
    git("lfs", "track", "*.bin")
    for path, data in files.items():
        (git.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (git.folder / path).write_bytes(data)
    git("add", "-A")
    git("commit", "-q", "-m", "by git-lfs")
    # The objects alone, then the commit.
    git("lfs", "push", "origin", "main")
    git("push", "-q", "origin", "HEAD:main")
    for path, data in files.items():
        assert pathlib.Path(api.hf_hub_download(repo, path)).read_bytes() == data
    # One that is there is not sent again: without its local copy there would be nothing to send.
    (git.folder / "again.bin").write_bytes(files["a.bin"])
    git("add", "-A")
    git("commit", "-q", "-m", "again")
    git("push", "-q", "origin", "HEAD:main")
    other = clone(repo, "two", server.token, smudge=False)
    assert (other.folder / "a.bin").read_text().startswith("version https://git-lfs")
    other("lfs", "pull")
    for path, data in files.items():
        assert (other.folder / path).read_bytes() == data
    other("lfs", "fetch", "--all")
    listed = {line.split(" ", 2)[2] for line in other("lfs", "ls-files").splitlines()}
    assert listed == {"a.bin", "again.bin", "deep/er/b.bin"}
    other("lfs", "fsck")


def test_git_lfs_reads_what_the_api_committed(api, server, repo, clone):
    data = noise(12 * MB)
    api.upload_file(path_or_fileobj=data, path_in_repo="w/model.safetensors", repo_id=repo)
    git = clone(repo, "one", server.token)
    assert (git.folder / "w/model.safetensors").read_bytes() == data
    assert "w/model.safetensors" in git("lfs", "ls-files")


def test_large_objects_go_in_one_or_in_parts_as_the_client_can(api, server, repo, clone):
    git = clone(repo, "one", server.token)
    data = noise(25 * MB)
    git("lfs", "track", "*.bin")
    (git.folder / "x.bin").write_bytes(data)
    git("add", "-A")
    git("commit", "-q", "-m", "large")
    git("push", "-q", "origin", "HEAD:main")
    assert pathlib.Path(api.hf_hub_download(repo, "x.bin")).read_bytes() == data


@pytest.fixture(scope="module")
def lab(server):
    """An organization with ann and another writer; the other's token."""
    token = server.user("will")
    server.command("org", "add", "lab", "--owner", "ann")
    server.command("org", "member", "lab", "will", "write")
    return token


def test_locks(api, server, lab, clone):
    api.create_repo("lab/locks", exist_ok=True)
    ann = clone("lab/locks", "ann", server.token)
    ann("lfs", "track", "--lockable", "*.bin")
    (ann.folder / "a.bin").write_bytes(b"one")
    (ann.folder / "b.bin").write_bytes(b"one")
    ann("add", "-A")
    ann("commit", "-q", "-m", "first")
    ann("push", "-q", "origin", "HEAD:main")
    will = clone("lab/locks", "will", lab, "will")
    ann("lfs", "lock", "a.bin")
    locks = json.loads(will("lfs", "locks", "--json"))
    assert [(lock["path"], lock["owner"]["name"]) for lock in locks] == [("a.bin", "ann")]
    verified = json.loads(ann("lfs", "locks", "--verify", "--json"))
    assert ([lock["path"] for lock in verified["ours"]], verified["theirs"]) == (["a.bin"], [])
    taken = will.run("lfs", "lock", "a.bin", status=None)
    assert taken.returncode != 0 and "locked already, by ann" in taken.stderr
    # The client keeps its own user from pushing; whoever comes another way is refused by the hub.
    (will.folder / "a.bin").chmod(0o644)
    (will.folder / "a.bin").write_bytes(b"two")
    will("commit", "-q", "-am", "against a lock")
    refused = will.run("push", "origin", "HEAD:main", status=None)
    assert refused.returncode != 0 and "a.bin" in refused.stdout + refused.stderr
    will("-c", "lfs.locksverify=false", "lfs", "push", "origin", "main")
    refused = will.run("push", "--no-verify", "origin", "HEAD:main", status=None)
    assert refused.returncode != 0 and "a.bin by ann" in refused.stderr, refused.stderr
    with pytest.raises(HfHubHTTPError, match="a.bin by ann"):
        HfApi(token=lab).upload_file(path_or_fileobj=b"two", path_in_repo="a.bin", repo_id="lab/locks")
    assert will.run("lfs", "unlock", "a.bin", status=None).returncode != 0
    will("lfs", "unlock", "--force", "a.bin")
    will("push", "-q", "origin", "HEAD:main")
    assert json.loads(ann("lfs", "locks", "--json")) == []


def test_a_quota_is_told_before_anything_is_sent(api, server, clone):
    token = server.user("small")
    small = HfApi(token=token)
    small.create_repo("small/m")
    git = clone("small/m", "small", token, "small")
    git("lfs", "track", "*.bin")
    (git.folder / "x.bin").write_bytes(noise(3 * MB))
    git("add", "-A")
    git("commit", "-q", "-m", "too much")
    server.command("quota", "set", "small", "2MB")
    refused = git.run("push", "origin", "HEAD:main", status=None)
    assert refused.returncode != 0 and "its quota of 2.0 MB" in refused.stderr, refused.stderr
    with pytest.raises(HfHubHTTPError, match="quota") as error:
        small.upload_file(path_or_fileobj=noise(3 * MB), path_in_repo="y.bin", repo_id="small/m")
    assert error.value.response.status_code == 402
    shown = server.command("quota", "show", "small")
    assert shown["quotaBytes"] == 2_000_000 and 0 < shown["usedBytes"] < 100_000
    server.command("quota", "clear", "small")
    git("push", "-q", "origin", "HEAD:main")
    assert server.command("quota", "show", "small")["usedBytes"] > 3 * MB
    assert {row["name"] for row in server.command("quota", "list")} >= {"ann", "small"}
    info = small.model_info("small/m", expand=["usedStorage"])
    # Older clients do not read it.
    if hasattr(info, "used_storage"):
        assert info.used_storage == server.command("quota", "show", "small/m")["usedBytes"]


def test_large_files_are_listed_and_deleted_for_good(api, server, repo, clone):
    gone, kept = noise(2 * MB), noise(1 * MB)
    api.upload_file(path_or_fileobj=gone, path_in_repo="w/gone.bin", repo_id=repo, commit_message="one")
    api.upload_file(path_or_fileobj=kept, path_in_repo="kept.bin", repo_id=repo, commit_message="two")
    api.create_tag(repo, tag="v1", tag_message="words")
    before = [(commit.title, commit.created_at) for commit in api.list_repo_commits(repo)]
    files = list(api.list_lfs_files(repo))
    assert [(file.filename, file.size, file.ref) for file in files] == [
        ("kept.bin", 1 * MB, "refs/heads/main"),
        ("w/gone.bin", 2 * MB, "refs/heads/main"),
    ]
    api.permanently_delete_lfs_files(repo, [file for file in files if file.filename == "w/gone.bin"])
    assert [file.filename for file in api.list_lfs_files(repo)] == ["kept.bin"]
    assert [(commit.title, commit.created_at) for commit in api.list_repo_commits(repo)] == before
    for revision in ["main", "v1"]:
        assert "w/gone.bin" not in api.list_repo_files(repo, revision=revision)
    git = clone(repo, "after", server.token)
    git("lfs", "fetch", "--all")
    assert (git.folder / "kept.bin").read_bytes() == kept
    # Without rewriting: the pointer stays, and says what has become of it.
    api.permanently_delete_lfs_files(repo, list(api.list_lfs_files(repo)), rewrite_history=False)
    assert "kept.bin" in api.list_repo_files(repo)
    with pytest.raises(EntryNotFoundError, match="deleted from this repository for good"):
        api.hf_hub_download(repo, "kept.bin", force_download=True)
    forget = getattr(hub_xet, "reset_xet_connection_info_cache_for_repo", None)
    if forget and is_xet_available():
        # This generation keeps the address of the Xet store for as long as its token lives, and with it
        # what it believes to be there: refused, until it asks for the address anew.
        with pytest.raises(RuntimeError, match="400 Bad Request"):
            api.upload_file(path_or_fileobj=kept, path_in_repo="new.bin", repo_id=repo)
        assert "new.bin" not in api.list_repo_files(repo)
        forget("model", repo)
    api.upload_file(path_or_fileobj=kept, path_in_repo="new.bin", repo_id=repo)
    path = api.hf_hub_download(repo, "kept.bin", force_download=True)
    assert pathlib.Path(path).read_bytes() == kept


def test_copies_within_a_repository(api, repo):
    data = noise(2 * MB)
    first = api.create_commit(
        repo,
        [CommitOperationAdd("w.bin", data), CommitOperationAdd("a.txt", b"text")],
        commit_message="first",
    )
    api.create_commit(
        repo,
        [CommitOperationCopy("w.bin", "w2.bin"), CommitOperationCopy("a.txt", "b/a.txt"), CommitOperationDelete("w.bin")],
        commit_message="copied and renamed",
    )
    api.create_commit(
        repo,
        [CommitOperationCopy("w.bin", "old.bin", src_revision=first.oid)],
        commit_message="from the past",
    )
    assert {"w2.bin", "b/a.txt", "old.bin"} <= set(api.list_repo_files(repo))
    assert "w.bin" not in api.list_repo_files(repo)
    for path, content in [("w2.bin", data), ("old.bin", data), ("b/a.txt", b"text")]:
        assert pathlib.Path(api.hf_hub_download(repo, path)).read_bytes() == content


@pytest.mark.skipif(
    "src_repo_id" not in {field.name for field in dataclasses.fields(CommitOperationCopy)},
    reason="this client copies within a repository only",
)
def test_copies_between_repositories(api, bob, repo):
    data = noise(2 * MB)
    api.upload_file(path_or_fileobj=data, path_in_repo="w/x.bin", repo_id=repo)
    api.upload_file(path_or_fileobj=b"text", path_in_repo="a.txt", repo_id=repo)
    bob.create_repo("bob/copies", repo_type="dataset", exist_ok=True)
    # The client sends no empty commit, and hashes nothing: what it copies is the hub's to find.
    bob.create_commit(
        "bob/copies",
        [
            CommitOperationCopy("w/x.bin", "y.bin", src_repo_id=repo, src_repo_type="model"),
            CommitOperationCopy("a.txt", "b.txt", src_repo_id=repo, src_repo_type="model"),
        ],
        commit_message="from elsewhere",
        repo_type="dataset",
    )
    for path, content in [("y.bin", data), ("b.txt", b"text")]:
        found = bob.hf_hub_download("bob/copies", path, repo_type="dataset")
        assert pathlib.Path(found).read_bytes() == content
    if hasattr(bob, "copy_files"):
        bob.copy_files(f"hf://{repo}/w", "hf://datasets/bob/copies/all")
        files = bob.list_repo_files("bob/copies", repo_type="dataset")
        assert any(name.startswith("all/") and name.endswith("x.bin") for name in files), files
    # What bob may not read he cannot copy, and is not told of.
    api.update_repo_settings(repo, private=True)
    with pytest.raises(HfHubHTTPError):
        bob.create_commit(
            "bob/copies",
            [CommitOperationCopy("w/x.bin", "z.bin", src_repo_id=repo, src_repo_type="model")],
            commit_message="from behind the wall",
            repo_type="dataset",
        )
