"""History as `huggingface_hub` reads it: commits, the last commit of each file, and patches that git takes."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request

import pytest

hub = pytest.importorskip("huggingface_hub")
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi  # noqa: E402
from huggingface_hub.errors import RevisionNotFoundError  # noqa: E402


@pytest.fixture(scope="module")
def repo(api: HfApi) -> str:
    name = "ann/history"
    api.create_repo(name)

    def commit(title: str, *operations, **more) -> str:
        return api.create_commit(name, operations=list(operations), commit_message=title, **more).oid

    def put(path: str, text: str) -> CommitOperationAdd:
        return CommitOperationAdd(path, text.encode())

    commit("first", put("a.txt", "1\n2\n3\n"), put("d/b.txt", "b\n"))
    commit("second", put("a.txt", "1\n2\n3\n4\n"))
    api.create_branch(name, branch="dev/x")
    commit("on dev", put("d/b.txt", "dev\n"), revision="dev/x")
    commit("third", put("d/c with space.txt", "c"), CommitOperationDelete("d/b.txt"), commit_description="why <it>")
    return name


def test_commits_are_listed_with_their_authors(api: HfApi, repo: str) -> None:
    found = list(api.list_repo_commits(repo, formatted=True))
    assert [commit.title for commit in found][:3] == ["third", "second", "first"]
    assert found[0].authors == ["ann"] and found[0].message == "why <it>"
    assert found[0].formatted_message == "why &lt;it&gt;"
    assert [commit.title for commit in api.list_repo_commits(repo, revision="dev/x")][0] == "on dev"
    with pytest.raises(RevisionNotFoundError):
        list(api.list_repo_commits(repo, revision="none"))


def test_each_entry_has_its_last_commit(api: HfApi, repo: str) -> None:
    def last(**more) -> dict[str, str]:
        tree = api.list_repo_tree(repo, expand=True, recursive=True, **more)
        return {entry.path: entry.last_commit.title for entry in tree}

    main = last()
    assert (main["a.txt"], main["d"], main["d/c with space.txt"]) == ("second", "third", "third")
    assert "d/b.txt" not in main
    dev = last(revision="dev/x")
    assert (dev["a.txt"], dev["d"], dev["d/b.txt"]) == ("second", "on dev", "on dev")
    found = api.get_paths_info(repo, ["a.txt", "d"], expand=True)
    assert {entry.path: entry.last_commit.title for entry in found} == {"a.txt": "second", "d": "third"}
    assert found[0].last_commit.oid in [commit.commit_id for commit in api.list_repo_commits(repo)]


def get(server, path: str) -> str:
    headers = {"Authorization": f"Bearer {server.token}"}
    with urllib.request.urlopen(urllib.request.Request(server.url + path, headers=headers)) as answer:
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        return answer.read().decode()


def test_git_applies_what_is_compared(server, api: HfApi, repo: str, tmp_path) -> None:
    api.snapshot_download(repo, revision="dev/x", local_dir=tmp_path)
    patch = get(server, f"/api/models/{repo}/compare/dev%2Fx..main")
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=patch.encode(), check=True)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.txt")}
    assert files == {"a.txt", "d/c with space.txt"}
    assert get(server, f"/{repo}/commit/main.diff") == get(server, f"/api/models/{repo}/compare/main")
    rows = get(server, f"/api/models/{repo}/compare/main...dev/x?raw=true").splitlines()
    assert [row.split("\t", 1)[0] for row in rows] == ["T 4"] and rows[0].endswith("M\td/b.txt")
    with pytest.raises(urllib.error.HTTPError) as error:
        get(server, f"/api/models/{repo}/compare/main...none")
    assert (error.value.code, error.value.headers["X-Error-Code"]) == (404, "RevisionNotFound")
