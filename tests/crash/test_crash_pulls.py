"""The hub dies while a pull request is merged: either it is merged, whole, or nothing has happened."""

from __future__ import annotations

import contextlib
import json
import pathlib
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from hub_process import BINARY, prepare  # noqa: E402

POINTS = subprocess.run([BINARY, "crash-points"], capture_output=True, text=True, check=True).stdout.split()
MOVED = ["pull.reached", "pull.ended"]
POINTS = [point for point in POINTS if point.startswith("pull.") and point not in MOVED]


def ask(server, method, path, body=None, token=None, kind="application/json"):
    headers = {"Authorization": f"Bearer {token or server.token}", "Content-Type": kind}
    body = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    wanted = urllib.request.Request(server.url + path, data=body, headers=headers, method=method)
    with urllib.request.urlopen(wanted, timeout=30) as answer:
        return json.load(answer)


def commit(server, revision, files, token=None):
    lines = [{"key": "header", "value": {"summary": "a change"}}]
    lines += [{"key": "file", "value": {"path": path, "content": content}} for path, content in files.items()]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    return ask(server, "POST", f"/api/models/ann/m/commit/{revision}", body, token, "application/x-ndjson")


def whole(server):
    for words in (["fsck", "--deep"], ["ledger", "verify"]):
        result = subprocess.run([BINARY, *words, "--data", server.data], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("point", POINTS)
def test_a_merge_happens_whole_or_not_at_all(point, tmp_path):
    server = prepare(tmp_path)
    server.start()
    bob = server.user("bob")
    ask(server, "POST", "/api/repos/create", {"name": "m"})
    commit(server, "main", {"a.txt": "one\n"})
    commit(server, "main?create_pr=1", {"b.txt": "two\n"}, bob)
    before = commit(server, "main", {"c.txt": "three\n"})["commitOid"]
    server.stop()
    server.start(BASTIDE_CRASH_AT=point)
    merge = "/api/models/ann/m/discussions/1/merge"
    with pytest.raises((urllib.error.URLError, ConnectionError, OSError)):
        ask(server, "POST", merge, {"comment": "thanks"})
    assert server.process.wait(timeout=30) != 0, f"the hub passed {point} without dying"
    whole(server)
    server.start()
    found = ask(server, "GET", "/api/models/ann/m/discussions/1")
    kinds = [event["type"] for event in found["events"]]
    head = ask(server, "GET", "/api/models/ann/m")["sha"]
    if point == "pull.after":
        assert (found["status"], found["changes"]["mergeCommitId"]) == ("merged", head)
        assert kinds == ["comment", "commit", "comment", "status-change"]
    else:
        assert (found["status"], head, kinds) == ("open", before, ["comment", "commit"])
        head = ask(server, "POST", merge, {})["mergeCommitId"]
    files = {file["path"] for file in ask(server, "GET", "/api/models/ann/m/tree/main")}
    assert {"a.txt", "b.txt", "c.txt"} <= files
    assert ask(server, "GET", "/api/models/ann/m")["sha"] == head
    server.stop()
    whole(server)


@pytest.mark.parametrize("point", MOVED)
def test_one_whose_commits_came_by_a_move_is_merged_once(point, tmp_path):
    server = prepare(tmp_path)
    server.start()
    bob = server.user("bob")
    ask(server, "POST", "/api/repos/create", {"name": "m"})
    commit(server, "main", {"a.txt": "one\n"})
    proposed = commit(server, "main?create_pr=1", {"b.txt": "two\n"}, bob)["commitOid"]
    server.stop()
    server.start(BASTIDE_CRASH_AT=point)
    try:
        ask(server, "POST", "/api/models/ann/m/branch/main", {"startingPoint": "refs/pr/1", "overwrite": True})
    except OSError:
        pass  # The job was faster than the answer.
    assert server.process.wait(timeout=30) != 0, f"the hub passed {point} without dying"
    whole(server)
    with contextlib.closing(sqlite3.connect(server.data / "bastide.db")) as database:
        (status,) = database.execute("SELECT status FROM discussion").fetchone()
        assert status == ("merged" if point == "pull.ended" else "open")
        # Its lease ends with it, and not in ten minutes.
        database.execute("UPDATE job SET locked_until = 0")
        database.commit()
    server.start()
    for _ in range(100):
        found = ask(server, "GET", "/api/models/ann/m/discussions/1")
        with contextlib.closing(sqlite3.connect(server.data / "bastide.db")) as database:
            (jobs,) = database.execute("SELECT COUNT(*) FROM job WHERE kind = 'merged-pulls'").fetchone()
        if jobs == 0:
            break
        time.sleep(0.1)
    assert jobs == 0 and (found["status"], found["changes"]["mergeCommitId"]) == ("merged", proposed)
    assert [event["type"] for event in found["events"]] == ["comment", "commit", "status-change"]
    assert found["events"][-1]["author"]["name"] == "ann"
    server.stop()
    whole(server)
