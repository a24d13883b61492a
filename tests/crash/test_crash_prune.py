"""The hub dies while it prunes packs of what collection has dropped: nothing that is needed is lost, and the next try
frees the rest for good."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import time
import urllib.request

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from hub_process import BINARY, prepare  # noqa: E402

POINTS = subprocess.run([BINARY, "crash-points"], capture_output=True, text=True, check=True).stdout.split()
POINTS = [point for point in POINTS if point.startswith("prune.")]


def ask(server, method, path, body=None, kind="application/json"):
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": kind}
    body = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    wanted = urllib.request.Request(server.url + path, data=body, headers=headers, method=method)
    with urllib.request.urlopen(wanted, timeout=30) as answer:
        return answer.read()


def commit(server, *operations):
    lines = [{"key": "header", "value": {"summary": "a change"}}, *operations]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    answer = ask(server, "POST", "/api/models/ann/m/commit/main", body, "application/x-ndjson")
    return json.loads(answer)["commitOid"]


def put(path, content):
    return {"key": "file", "value": {"path": path, "content": content}}


def run(server, *words):
    result = subprocess.run([BINARY, *words, "--data", server.data], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def change(server, *statements):
    with contextlib.closing(sqlite3.connect(server.data / "bastide.db")) as database:
        found = [database.execute(statement).fetchone() for statement in statements]
        database.commit()
    return found


def is_fetched(server, folder, oid):
    """With stock git, by the id."""
    folder.mkdir(exist_ok=True)
    url = server.url.replace("://", f"://ann:{server.token}@") + "/ann/m"
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": "/dev/null"}
    subprocess.run(["git", "init", "-q", folder], check=True, env=environment)
    words = ["git", "-C", folder, "fetch", "-q", "--depth=1", url, oid]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0 or "not our ref" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("point", POINTS)
def test_packs_are_pruned_whole_or_not_at_all(point, tmp_path):
    server = prepare(tmp_path)
    server.start()
    ask(server, "POST", "/api/repos/create", {"name": "m"})
    commit(server, put("kept.txt", "kept\n"))
    old = commit(server, put("secret.txt", "a secret\n" * 1000))
    commit(server, {"key": "deletedFile", "value": {"path": "secret.txt"}})
    ask(server, "POST", "/api/models/ann/m/super-squash/main", {})
    assert is_fetched(server, tmp_path / "before", old)
    server.stop()
    for _ in range(2):
        run(server, "gc")
        change(server, "UPDATE git_commit SET unused_since = unused_since - 2 * 86400000")
    with contextlib.suppress(AssertionError):
        # The job may reach its point before the hub answers anybody.
        server.start(BASTIDE_CRASH_AT=point)
    assert server.process.wait(timeout=30) != 0, f"the hub passed {point} without dying"
    [(prunings,)] = change(server, "SELECT prunings FROM repo")
    assert prunings == (1 if point == "prune.after" else 0)
    for words in (["fsck", "--deep"], ["ledger", "verify"]):
        run(server, *words)
    # The lease of who died of it ends.
    change(server, "UPDATE job SET locked_until = 0 WHERE locked_until IS NOT NULL")
    server.start()
    for _ in range(100):
        if change(server, "SELECT COUNT(*) FROM job") == [(0,)]:
            break
        time.sleep(0.1)
    assert not is_fetched(server, tmp_path / "after", old)
    assert ask(server, "GET", "/ann/m/resolve/main/kept.txt") == b"kept\n"
    new = commit(server, put("new.txt", "new\n"))
    assert is_fetched(server, tmp_path / "after", new)
    server.stop()
    assert change(server, "SELECT prunings, (SELECT COUNT(*) FROM git_loss) FROM repo") == [(1, 0)]
    for words in (["gc"], ["fsck", "--deep"], ["ledger", "verify"]):
        run(server, *words)
