"""The hub dies at every named point of a write; nothing that it acknowledged is lost, nothing is
half there, and the client's next try succeeds."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sqlite3
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from hub_process import BINARY, prepare  # noqa: E402

ALL_POINTS = subprocess.run([BINARY, "crash-points"], capture_output=True, text=True, check=True).stdout.split()
# Collection, pruning, `git push` and merging pull requests have tests of their own: this client does not bring them about.
POINTS = [point for point in ALL_POINTS if not point.startswith(("gc.", "push.", "pull.", "prune."))]

CLIENT = """
import os, sys
from huggingface_hub import HfApi
api = HfApi()
if len(sys.argv) > 2:
    api.create_repo(sys.argv[2], exist_ok=True)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="first", repo_id=sys.argv[2])
api.create_repo("ann/m", exist_ok=True)
for n in range(int(sys.argv[1])):
    api.upload_file(path_or_fileobj=str(n).encode(), path_in_repo=f"small/{n}", repo_id="ann/m")
api.upload_file(path_or_fileobj="BIG", path_in_repo="big.bin", repo_id="ann/m")
"""


def run_client(server, folder, commits, new=None, xet=True):
    big = folder / "big.bin"
    if not big.exists():
        big.write_bytes(os.urandom(11_000_000))
    environment = {
        **os.environ,
        "HF_ENDPOINT": server.url,
        "HF_TOKEN": server.token,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "0",
        "HF_HUB_DISABLE_XET": "0" if xet else "1",
    }
    script = CLIENT.replace('"BIG"', repr(str(big)))
    try:
        words = [sys.executable, "-c", script, str(commits), *([new] if new else [])]
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return None


def start_armed(server, point):
    """A job that waits from before may reach its point before the hub answers anybody."""
    try:
        server.start(BASTIDE_CRASH_AT=point)
    except AssertionError:
        assert point.startswith(("share.", "merge.")) and server.process.poll() is not None


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_loses_nothing(point, tmp_path):
    server = prepare(tmp_path)
    # In parts by LFS, for the points that lie there.
    (server.data / "bastide.toml").write_text("lfs_multipart_bytes = 5242880\n")
    xet = not point.startswith("lfs.")
    # A repository first, so that the crash is in the middle of a life.
    server.start()
    assert run_client(server, tmp_path, 1, xet=xet).returncode == 0
    acknowledged = head(server)
    server.stop()
    (tmp_path / "big.bin").unlink()
    start_armed(server, point)
    merging = point.startswith("merge")
    run_client(server, tmp_path, 30 if merging else 2, xet=xet)
    assert server.process.wait(timeout=30) != 0, f"the hub passed {point} without dying"
    for words in (["fsck", "--deep"], ["ledger", "verify"]):
        result = subprocess.run([BINARY, *words, "--data", server.data], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    server.start()
    assert acknowledged in commits(server)
    result = run_client(server, tmp_path, 3, xet=xet)
    assert result is not None and result.returncode == 0, result.stderr[-2000:]
    server.stop()
    assert subprocess.run([BINARY, "fsck", "--deep", "--data", server.data]).returncode == 0


@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("commit")])
def test_a_repository_is_made_whole_or_not_at_all(point, tmp_path):
    server = prepare(tmp_path)
    server.start(BASTIDE_CRASH_AT=point)
    run_client(server, tmp_path, 1, new="ann/new")
    assert server.process.wait(timeout=30) != 0, f"the hub passed {point} without dying"
    result = subprocess.run([BINARY, "fsck", "--deep", "--data", server.data], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    server.start()
    there = {model["id"] for model in fetch(server, "/api/models")}
    # Acknowledged or not: what is there has its first commit, and nothing else is.
    assert there == ({"ann/new"} if point == "commit.after" else set())
    if there:
        assert len(commits(server, "ann/new")) == 1
    result = run_client(server, tmp_path, 1, new="ann/new")
    assert result is not None and result.returncode == 0, result.stderr[-2000:]
    assert len(commits(server, "ann/new")) == 2
    server.stop()
    assert subprocess.run([BINARY, "fsck", "--deep", "--data", server.data]).returncode == 0


@pytest.mark.parametrize("point", [point for point in ALL_POINTS if point.startswith("push.")])
def test_a_push_is_there_whole_or_not_at_all(point, tmp_path):
    server = prepare(tmp_path)
    server.start()
    assert run_client(server, tmp_path, 1).returncode == 0
    acknowledged = head(server)
    server.stop()
    work = tmp_path / "work"
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}

    def git(*words):
        names = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
        return subprocess.run(["git", *names, *words], cwd=work, env=environment, capture_output=True, text=True)

    work.mkdir()
    url = f"http://ann:{server.token}@127.0.0.1:{server.port}/ann/m"
    assert git("init", "-q", "-b", "work").returncode == 0
    for n in range(3):
        (work / f"file{n}").write_text(str(n))
        assert git("add", "-A").returncode == 0 and git("commit", "-q", "-m", str(n)).returncode == 0
    pushed = git("rev-parse", "HEAD").stdout.strip()
    server.start(BASTIDE_CRASH_AT=point)
    assert git("push", "-q", url, "work").returncode != 0
    assert server.process.wait(timeout=30) != 0, f"the hub passed {point} without dying"
    for words in (["fsck", "--deep"], ["ledger", "verify"]):
        result = subprocess.run([BINARY, *words, "--data", server.data], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    server.start()
    # What a crash left in the making is gone after the start.
    assert not list((server.data / "cache" / "tmp").glob("*"))
    branches = {branch["name"]: branch["targetCommit"] for branch in fetch(server, "/api/models/ann/m/refs")["branches"]}
    assert branches["main"] == acknowledged
    assert branches.get("work") == (pushed if point == "push.after" else None)
    again = git("push", url, "work")
    assert again.returncode == 0, again.stderr
    assert commits(server, "ann/m") and fetch(server, "/api/models/ann/m/commits/work?limit=9")[0]["id"] == pushed
    server.stop()
    assert subprocess.run([BINARY, "fsck", "--deep", "--data", server.data]).returncode == 0


def test_collection_that_dies_between_row_and_bytes_loses_nothing(tmp_path):
    server = prepare(tmp_path)
    server.start()
    assert run_client(server, tmp_path, 1).returncode == 0
    (tmp_path / "big.bin").rename(tmp_path / "first.bin")
    script = (
        "from huggingface_hub import HfApi; api = HfApi(); api.create_branch('ann/m', branch='b'); "
        f"api.upload_file(path_or_fileobj={str(tmp_path / 'second.bin')!r}, path_in_repo='x.bin', "
        "repo_id='ann/m', revision='b'); api.delete_branch('ann/m', branch='b')"
    )
    (tmp_path / "second.bin").write_bytes(os.urandom(11_000_000))
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_TOKEN": server.token, "HF_HOME": str(tmp_path / "hf")}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, timeout=120)
    server.stop()
    environment = {**os.environ, "BASTIDE_CRASH_AT": "gc.removed"}
    for _ in range(6):
        age(server)
        died = subprocess.run([BINARY, "gc", "--data", server.data], env=environment, capture_output=True)
        if died.returncode != 0:
            break
    assert died.returncode < 0, "collection removed nothing"
    for words in (["fsck", "--deep"], ["gc"], ["fsck", "--deep"]):
        result = subprocess.run([BINARY, *words, "--data", server.data], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    server.start()
    (tmp_path / "first.bin").rename(tmp_path / "big.bin")
    assert run_client(server, tmp_path, 3).returncode == 0
    server.stop()


def age(server):
    """Two days pass for all that collection looks at."""
    with contextlib.closing(sqlite3.connect(server.data / "bastide.db")) as database:
        for column in ("git_commit.unused_since", "xet_file.unused_since", "xet_file.touched_at",
                       "repo_xorb.touched_at", "xorb.state_at"):
            table, name = column.split(".")
            database.execute(f"UPDATE {table} SET {name} = {name} - 2 * 86400000")
        database.commit()


def fetch(server, path):
    import json
    import urllib.request

    wanted = urllib.request.Request(server.url + path, headers={"Authorization": f"Bearer {server.token}"})
    with urllib.request.urlopen(wanted) as answer:
        return json.load(answer)


def head(server):
    return fetch(server, "/api/models/ann/m")["sha"]


def commits(server, repo="ann/m"):
    return [commit["id"] for commit in fetch(server, f"/api/models/{repo}/commits/main?limit=1000")]
