"""A hub for the whole run of the client tests."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from hub_process import BINARY, prepare  # noqa: E402

# The clients read their endpoint when they are imported, so the hub starts before anything else.
FOLDER = tempfile.TemporaryDirectory(prefix="bastide-clients-")
# Clients without Xet send what is larger than this in parts.
SERVER = prepare(pathlib.Path(FOLDER.name), lfs_multipart_bytes=10 * 1024 * 1024)
SERVER.start()
os.environ.update(
    HF_ENDPOINT=SERVER.url,
    HF_TOKEN=SERVER.token,
    HF_HOME=f"{FOLDER.name}/hf-home",
    HF_XET_CACHE=f"{FOLDER.name}/xet-cache",
)


@pytest.fixture(scope="session")
def server():
    yield SERVER


@pytest.fixture(scope="session")
def api():
    from huggingface_hub import HfApi

    return HfApi()


@pytest.fixture(scope="session")
def bob(server):
    from huggingface_hub import HfApi

    return HfApi(token=server.user("bob"))


COUNTER = iter(range(10_000))
STATUS: dict[str, int] = {}


@pytest.fixture
def repo(api):
    name = f"ann/repo-{next(COUNTER)}"
    api.create_repo(name)
    return name


def pytest_sessionfinish(session, exitstatus):
    SERVER.stop()
    # Whatever the clients did, the store and the book have to be whole.
    for words in (["fsck", "--deep"], ["ledger", "verify"]):
        result = subprocess.run([BINARY, *words, "--data", SERVER.data], capture_output=True, text=True)
        if result.returncode != 0:
            print(f"ERROR bastide {' '.join(words)} after the tests:", result.stdout, result.stderr, file=sys.stderr)
            session.exitstatus = 1
    STATUS["exit"] = session.exitstatus
    FOLDER.cleanup()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Everything is said and done. Threads of old `hf_xet`s crash the interpreter when it takes itself down."""
    status = STATUS.get("exit")
    if status is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(status))
