"""Pull requests as people use them: by the owner, by a stranger with a token of its own, with and without Xet."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time

import pytest

hub = pytest.importorskip("huggingface_hub")
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, hf_hub_download  # noqa: E402
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from git_client import Git  # noqa: E402

LARGE = 11_000_000


def content(repo, path, revision="main"):
    fresh = pathlib.Path(os.environ["HF_HOME"]) / f"fresh-{os.urandom(6).hex()}"
    return pathlib.Path(hf_hub_download(repo, path, revision=revision, cache_dir=fresh)).read_bytes()


def run(token, script, *words, xet=True):
    """A client in a process of its own, with one token and with or without Xet."""
    environment = {**os.environ, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "0" if xet else "1"}
    words = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=180)


def test_what_a_stranger_proposes_takes_nothing_of_the_owners_quota(bob, server):
    owner = hub.HfApi(token=server.user("thrifty"))
    owner.create_repo("thrifty/m")
    owner.upload_file(path_or_fileobj=b"one", path_in_repo="a.txt", repo_id="thrifty/m")
    server.command("quota", "set", "thrifty", "2MB")
    before = server.command("quota", "show", "thrifty")
    bob.create_commit(
        "thrifty/m",
        [CommitOperationAdd("large.bin", os.urandom(LARGE))],
        commit_message="Much more than the owner may have",
        create_pr=True,
    )
    shown = server.command("quota", "show", "thrifty")
    assert shown["usedBytes"] == before["usedBytes"] and shown["proposedBytes"] > LARGE, shown
    owner.upload_file(path_or_fileobj=os.urandom(1_500_000), path_in_repo="own.bin", repo_id="thrifty/m")
    with pytest.raises(HfHubHTTPError, match="quota of 2.0 MB") as refused:
        owner.merge_pull_request("thrifty/m", 1)
    assert refused.value.response.status_code == 402
    server.command("quota", "clear", "thrifty")
    owner.merge_pull_request("thrifty/m", 1)
    shown = server.command("quota", "show", "thrifty/m")
    assert shown["proposedBytes"] == 0 and shown["usedBytes"] > LARGE + 1_500_000, shown
    assert len(content("thrifty/m", "large.bin")) == LARGE


def test_a_commit_opens_a_pull_request_that_takes_more_and_is_merged(api, bob, repo):
    api.upload_file(path_or_fileobj=b"one", path_in_repo="a.txt", repo_id=repo)
    opened = bob.create_commit(
        repo,
        [CommitOperationAdd("b.txt", b"two")],
        commit_message="Add b",
        commit_description="because",
        create_pr=True,
    )
    assert opened.pr_num == 1 and opened.pr_revision == "refs/pr/1", opened
    assert opened.pr_url == f"{api.endpoint}/{repo}/discussions/1"
    with pytest.raises(HfHubHTTPError) as refused:
        bob.merge_pull_request(repo, 1)
    assert refused.value.response.status_code == 403
    bob.create_commit(
        repo,
        [CommitOperationAdd("c.txt", b"three"), CommitOperationDelete("a.txt")],
        commit_message="And more",
        revision="refs/pr/1",
    )
    details = api.get_discussion_details(repo, 1)
    assert (details.title, details.status, details.author) == ("Add b", "open", "bob")
    assert details.target_branch == "refs/heads/main" and not details.conflicting_files
    assert [event.type for event in details.events] == ["comment", "commit", "commit"]
    assert [event.summary for event in details.events[1:]] == ["Add b", "And more"]
    api.merge_pull_request(repo, 1, comment="thanks")
    details = api.get_discussion_details(repo, 1)
    assert details.status == "merged" and details.merge_commit_oid == api.model_info(repo).sha
    assert content(repo, "c.txt") == b"three"
    assert not api.file_exists(repo, "a.txt")
    refs = api.list_repo_refs(repo, include_pull_requests=True)
    assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1"]


def test_a_base_has_to_be_a_branch(api, repo):
    api.upload_file(path_or_fileobj=b"one", path_in_repo="a.txt", repo_id=repo)
    for revision in (api.model_info(repo).sha, "nowhere"):
        with pytest.raises(RevisionNotFoundError):
            api.upload_file(
                path_or_fileobj=b"x", path_in_repo="x", repo_id=repo, revision=revision, create_pr=True
            )


def test_drafts(api, bob, repo):
    api.upload_file(path_or_fileobj=b"one", path_in_repo="a.txt", repo_id=repo)
    draft = bob.create_pull_request(repo, title="A draft")
    assert (draft.status, draft.git_reference) == ("draft", "refs/pr/1")
    bob.upload_file(path_or_fileobj=b"two", path_in_repo="b.txt", repo_id=repo, revision="refs/pr/1")
    with pytest.raises(HfHubHTTPError) as refused:
        api.merge_pull_request(repo, 1)
    assert "draft" in str(refused.value)
    bob.change_discussion_status(repo, 1, "open")
    api.merge_pull_request(repo, 1)
    assert content(repo, "b.txt") == b"two"


def test_conflicts_are_named(api, bob, repo):
    api.upload_file(path_or_fileobj=b"one\n", path_in_repo="a.txt", repo_id=repo)
    bob.upload_file(path_or_fileobj=b"bob\n", path_in_repo="a.txt", repo_id=repo, create_pr=True)
    api.upload_file(path_or_fileobj=b"ann\n", path_in_repo="a.txt", repo_id=repo)
    assert api.get_discussion_details(repo, 1).conflicting_files == ["a.txt"]
    with pytest.raises(HfHubHTTPError) as refused:
        api.merge_pull_request(repo, 1)
    assert refused.value.response.status_code == 409 and "a.txt" in str(refused.value)


@pytest.fixture(scope="session")
def token(bob):
    return bob.token


@pytest.mark.parametrize("xet", [True, False])
def test_a_stranger_uploads_a_folder_with_large_files(api, token, repo, tmp_path, xet):
    api.upload_file(path_or_fileobj=b"one", path_in_repo="a.txt", repo_id=repo)
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "small.txt").write_text("small")
    data = os.urandom(LARGE)
    (folder / "below" / "weights.bin").write_bytes(data)
    script = (
        "import sys; from huggingface_hub import HfApi; "
        "print(HfApi().upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2], create_pr=True).pr_num)"
    )
    done = run(token, script, repo, folder, xet=xet)
    assert done.returncode == 0 and done.stdout.strip() == "1", done.stderr[-2000:]
    assert content(repo, "below/weights.bin", "refs/pr/1") == data
    more = os.urandom(LARGE)
    (folder / "more.bin").write_bytes(more)
    script = script.replace("create_pr=True", "revision='refs/pr/1'").replace(".pr_num", ".oid")
    done = run(token, script, repo, folder, xet=xet)
    assert done.returncode == 0, done.stderr[-2000:]
    # Not to the branch, and not to anything of others.
    for revision in ("main", "other"):
        refused = run(token, script.replace("refs/pr/1", revision), repo, folder, xet=xet)
        assert refused.returncode != 0
    # Newer generations open a draft and add to it: it is published like any other.
    if api.get_discussion_details(repo, 1).status == "draft":
        api.change_discussion_status(repo, 1, "open")
    api.merge_pull_request(repo, 1)
    assert content(repo, "below/weights.bin") == data
    assert content(repo, "more.bin") == more


def test_hf_upload_create_pr(api, token, repo, tmp_path):
    api.upload_file(path_or_fileobj=b"one", path_in_repo="a.txt", repo_id=repo)
    (tmp_path / "b.txt").write_text("two")
    hf = pathlib.Path(sys.executable).with_name("hf")
    if not hf.exists():
        pytest.skip("this generation has no hf")
    words = [hf, "upload", repo, tmp_path / "b.txt", "b.txt", "--create-pr"]
    environment = {**os.environ, "HF_TOKEN": token}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert content(repo, "b.txt", "refs/pr/1") == b"two"


def test_a_private_repository_takes_nothing_of_a_stranger(api, bob, repo):
    api.upload_file(path_or_fileobj=b"one", path_in_repo="a.txt", repo_id=repo)
    api.update_repo_settings(repo, private=True)
    with pytest.raises(HfHubHTTPError) as refused:
        bob.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo, create_pr=True)
    assert refused.value.response.status_code == 404


def eventually(read, wanted):
    for _ in range(100):
        if read() == wanted:
            return
        time.sleep(0.1)
    assert read() == wanted


def test_commits_that_are_pushed_merge_their_pull_request(api, bob, repo, server, tmp_path):
    api.upload_file(path_or_fileobj=b"one", path_in_repo="a.txt", repo_id=repo)
    opened = [
        bob.create_commit(
            repo, [CommitOperationAdd(f"{name}.txt", b"two")], commit_message=f"Add {name}", create_pr=True
        )
        for name in ("merged", "forwarded", "picked")
    ]
    draft = bob.create_pull_request(repo, title="Empty")
    git = Git(tmp_path / "home", server, server.token)
    folder = git.clone(repo)
    git("fetch", "-q", "origin", *(f"refs/pr/{n}:refs/remotes/pr/{n}" for n in (1, 2, 3)), at=folder)
    # As a maintainer does at home: merges one, and puts the changes of another upon it.
    git("merge", "-q", "--no-ff", "-m", "Merge it", "pr/1", at=folder)
    merge = git("rev-parse", "HEAD", at=folder)
    git("cherry-pick", "pr/3", at=folder)
    git("push", "-q", "origin", "main", at=folder)
    eventually(lambda: api.get_discussion_details(repo, 1).status, "merged")
    details = api.get_discussion_details(repo, 1)
    assert details.merge_commit_oid == merge
    assert (details.events[-1].type, details.events[-1].author) == ("status-change", "ann")
    assert details.events[-1].new_status == "merged"
    assert [api.get_discussion_details(repo, n).status for n in (2, 3, draft.num)] == ["open", "open", "draft"]
    # Rebased by its author, and pushed forward.
    theirs = Git(tmp_path / "bob", server, bob.token)
    work = theirs.clone(repo)
    theirs("fetch", "-q", "origin", "refs/pr/2", at=work)
    theirs("checkout", "-q", "FETCH_HEAD", at=work)
    theirs("rebase", "-q", "origin/main", at=work)
    theirs("push", "-q", "--force", "origin", "HEAD:refs/pr/2", at=work)
    head = theirs("rev-parse", "HEAD", at=work)
    assert head != opened[1].oid
    git("fetch", "-q", "origin", "refs/pr/2", at=folder)
    git("merge", "-q", "--ff-only", "FETCH_HEAD", at=folder)
    git("push", "-q", "origin", "main", at=folder)
    eventually(lambda: api.get_discussion_details(repo, 2).status, "merged")
    assert api.get_discussion_details(repo, 2).merge_commit_oid == head == api.model_info(repo).sha
    assert "forwarded.txt" in api.get_discussion_details(repo, 2).diff
    with pytest.raises(HfHubHTTPError) as refused:
        api.merge_pull_request(repo, 2)
    assert refused.value.response.status_code == 409
    assert api.get_discussion_details(repo, 3).status == "open"
