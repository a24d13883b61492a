"""Discussions as `huggingface_hub` and `hf discussions` use them, and pull requests as conversations."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

hub = pytest.importorskip("huggingface_hub")
from huggingface_hub import HfApi  # noqa: E402
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError  # noqa: E402

GENERATION = tuple(int(part) for part in hub.__version__.split(".")[:2])
# `hf discussions` came with 1.x, and `edit` with 2.x: older ones have no such command to test.
with_command = pytest.mark.skipif(GENERATION < (1, 15), reason=f"{hub.__version__} has no `hf discussions`")
with_edit = pytest.mark.skipif(GENERATION < (2, 0), reason=f"{hub.__version__} has no `hf discussions edit`")


@pytest.fixture(scope="module")
def eve(server):
    return HfApi(token=server.user("eve"))


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_a_conversation(api, bob, kind):
    name = f"ann/talk-{kind}"
    api.create_repo(name, repo_type=kind, **({"space_sdk": "static"} if kind == "space" else {}))
    opened = bob.create_discussion(name, "It crashes", description="with *this* <b>file</b>", repo_type=kind)
    assert (opened.num, opened.title, opened.status, opened.author) == (1, "It crashes", "open", "bob")
    assert (opened.repo_id, opened.repo_type, opened.is_pull_request) == (name, kind, False)
    assert opened.git_reference is None and opened.target_branch is None and opened.diff is None
    first = opened.events[0]
    assert (first.type, first.author, first.content) == ("comment", "bob", "with *this* <b>file</b>")
    assert (first.edited, first.hidden, first.edit_history) == (False, False, [])
    assert "&lt;b&gt;" in first.rendered and "<b>" not in first.rendered

    said = api.comment_discussion(name, 1, "Which version?", repo_type=kind)
    assert (said.content, said.author, said.type) == ("Which version?", "ann", "comment")
    edited = bob.edit_discussion_comment(name, 1, first.id, "with that file", repo_type=kind)
    assert (edited.id, edited.content, edited.edited, edited.number_of_edits) == (first.id, "with that file", True, 1)
    assert edited.edit_history[0]["raw"] == "with *this* <b>file</b>" and edited.last_edited_by == "bob"
    assert edited.last_edited_at >= first.created_at
    renamed = bob.rename_discussion(name, 1, "It crashes on load", repo_type=kind)
    assert (renamed.old_title, renamed.new_title) == ("It crashes", "It crashes on load")
    hidden = api.hide_discussion_comment(name, 1, said.id, repo_type=kind)
    assert hidden.hidden and "Which version?" not in hidden.content
    closed = api.change_discussion_status(name, 1, "closed", comment="fixed", repo_type=kind)
    assert (closed.type, closed.new_status) == ("status-change", "closed")
    bob.change_discussion_status(name, 1, "open", repo_type=kind)

    details = api.get_discussion_details(name, 1, repo_type=kind)
    assert (details.title, details.status) == ("It crashes on load", "open")
    kinds = ["comment", "comment", "title-change", "comment", "status-change", "status-change"]
    assert [event.type for event in details.events] == kinds
    assert details.events[1].hidden and details.events[3].content == "fixed"


def test_lists_page_and_filter(api, bob, repo):
    for n in range(55):
        api.create_discussion(repo, f"number {n + 1}")
    bob.create_discussion(repo, "from bob")
    bob.create_pull_request(repo, "a change")
    api.change_discussion_status(repo, 3, "closed")
    every = list(api.get_repo_discussions(repo))
    assert [found.num for found in every] == list(range(57, 0, -1))
    assert {found.repo_id for found in every} == {repo} and every[0].repo_type == "model"
    ask = lambda **filters: [found.num for found in api.get_repo_discussions(repo, **filters)]  # noqa: E731
    assert ask(author="bob") == [57, 56]
    assert ask(discussion_type="pull_request") == [57]
    assert ask(discussion_type="discussion", author="bob") == [56]
    assert ask(discussion_status="closed") == [3]
    assert ask(discussion_status="open", discussion_type="discussion")[-3:] == [4, 2, 1]
    assert ask(author="nobody-of-that-name") == []


def test_an_empty_pull_request_is_a_draft_that_is_published_once(api, bob, eve, repo):
    opened = bob.create_pull_request(repo, "A better card", description="why")
    assert (opened.status, opened.is_pull_request, opened.git_reference) == ("draft", True, "refs/pr/1")
    assert opened.target_branch == "refs/heads/main" and opened.merge_commit_oid is None
    refs = api.list_repo_refs(repo, include_pull_requests=True)
    assert [(found.ref, found.target_commit) for found in refs.pull_requests] == [
        ("refs/pr/1", refs.branches[0].target_commit)
    ]
    assert api.list_repo_files(repo, revision="refs/pr/1") == api.list_repo_files(repo)
    with pytest.raises(HfHubHTTPError) as refused:
        eve.change_discussion_status(repo, 1, "open")
    assert refused.value.response.status_code == 403
    assert bob.change_discussion_status(repo, 1, "open").new_status == "open"
    assert api.get_discussion_details(repo, 1).status == "open"
    with pytest.raises(BadRequestError):
        bob.change_discussion_status(repo, 1, "open")


def test_who_may_what(api, bob, eve, repo):
    bob.create_discussion(repo, "a title", description="mine")
    first = api.get_discussion_details(repo, 1).events[0].id
    for client in (api, eve):
        with pytest.raises(HfHubHTTPError) as refused:
            client.edit_discussion_comment(repo, 1, first, "words in his mouth")
        assert refused.value.response.status_code == 403 and "Only who wrote a comment" in str(refused.value)
    for attempt in (
        lambda: eve.hide_discussion_comment(repo, 1, first),
        lambda: eve.rename_discussion(repo, 1, "another title"),
        lambda: eve.change_discussion_status(repo, 1, "closed"),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            attempt()
        assert refused.value.response.status_code == 403
    for title in ("ab", "x" * 201):
        with pytest.raises(BadRequestError, match="3 to 200 characters"):
            bob.create_discussion(repo, title)
    with pytest.raises(HfHubHTTPError, match="Discussion not found"):
        bob.get_discussion_details(repo, 99)
    api.update_repo_settings(repo, private=True)
    for attempt in (
        lambda: list(bob.get_repo_discussions(repo)),
        lambda: bob.get_discussion_details(repo, 1),
        lambda: bob.comment_discussion(repo, 1, "still here?"),
        lambda: bob.create_discussion(repo, "another"),
    ):
        with pytest.raises(RepositoryNotFoundError):
            attempt()


def test_a_renamed_repository_keeps_what_was_said(api, bob, repo):
    bob.create_discussion(repo, "before the move")
    api.move_repo(repo, f"{repo}-moved")
    assert [found.title for found in bob.get_repo_discussions(repo)] == ["before the move"]
    assert bob.comment_discussion(repo, 1, "after it").content == "after it"
    assert bob.get_discussion_details(repo, 1).repo_id == f"{repo}-moved"


def hf(token, *words, stdin=None):
    command = [pathlib.Path(sys.executable).parent / "hf", "discussions", *words]
    environment = {**os.environ, "HF_TOKEN": token}
    return subprocess.run(command, capture_output=True, text=True, env=environment, input=stdin)


def done(result):
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@with_command
def test_the_command(server, api, repo):
    token = server.token
    done(hf(token, "create", repo, "--title", "From the shell", "--body", "hello"))
    done(hf(token, "create", repo, "--title", "A pull request", "--pull-request"))
    done(hf(token, "comment", repo, "1", "--body-file", "-", stdin="from stdin\nin two lines"))
    done(hf(token, "rename", repo, "1", "From the terminal"))
    done(hf(token, "close", repo, "1", "--yes", "--comment", "done"))
    rows = json.loads(done(hf(token, "list", repo, "--status", "all", "--format", "json")))
    assert [(row["num"], row["title"], row["status"]) for row in rows] == [
        (2, "A pull request", "draft"),
        (1, "From the terminal", "closed"),
    ]
    assert [row["num"] for row in json.loads(done(hf(token, "list", repo, "--format", "json")))] == [2]
    drafts = done(hf(token, "list", repo, "--status", "draft", "--kind", "pull_request", "--format", "json"))
    assert [row["num"] for row in json.loads(drafts)] == [2]
    done(hf(token, "reopen", repo, "1", "--yes"))
    info = json.loads(done(hf(token, "info", repo, "1", "--format", "json")))
    assert (info["title"], info["status"], info["author"]) == ("From the terminal", "open", "ann")
    contents = [event.content for event in api.get_discussion_details(repo, 1).events if event.type == "comment"]
    assert contents == ["hello", "from stdin\nin two lines", "done"]
    missing = hf(token, "info", repo, "99")
    assert missing.returncode != 0 and "Discussion not found" in missing.stdout + missing.stderr


@with_edit
def test_the_command_that_edits(server, api, repo):
    first = api.create_discussion(repo, "a title", description="one").events[0].id
    done(hf(server.token, "edit", repo, "1", first, "--body", "two"))
    comment = api.get_discussion_details(repo, 1).events[0]
    assert (comment.content, comment.edited) == ("two", True)
