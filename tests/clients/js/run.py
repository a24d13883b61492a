"""The JavaScript client, run by node against the hub of `conftest.py`. Not found by its name: `./test clients` names
it once, with MODULES where the client is installed."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess

FILE = pathlib.Path(__file__).with_name("hub.test.mjs")


def test_the_javascript_client(server):
    environment = {**os.environ, "TOKEN": server.token, "BOB": server.user("bob")}
    result = subprocess.run(["node", "--test", FILE], env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    written = FILE.read_text().count("\ntest(")
    passed = int(re.search(r"^# pass (\d+)", result.stdout, re.MULTILINE)[1])
    skipped = int(re.search(r"^# skipped (\d+)", result.stdout, re.MULTILINE)[1])
    assert passed + skipped >= written >= 12
