"""A real hub as a process: the release binary, or the one that BASTIDE_BINARY names, on a folder and a free port."""

from __future__ import annotations

import json
import os
import pathlib
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
BINARY = pathlib.Path(os.environ.get("BASTIDE_BINARY") or ROOT / "target" / "release" / "bastide")


PATIENCE = 60
"""Seconds that a slow machine may take to come to rest; a quiet one takes none of them."""


def soon(holds) -> bool:
    """Whether something comes to hold."""
    end = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def free_port() -> int:
    """Below the ports that the system gives to outgoing connections: it stays free while the hub is down."""
    while True:
        port = random.randrange(10_000, 20_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


class Server:
    """A hub that can be started, stopped and killed on one folder. Where its database and its storage are is
    inherited: BASTIDE_DATABASE, BASTIDE_STORAGE. Other settings go into its `bastide.toml`."""

    def __init__(self, folder: pathlib.Path, **settings: str | int) -> None:
        self.data = folder / "data"
        if settings:
            self.data.mkdir(mode=0o700)
            lines = (f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
            (self.data / "bastide.toml").write_text("".join(lines))
        self.log = folder / "serve.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> dict:
        result = subprocess.run([BINARY, *words, "--data", self.data, "--json"], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def start(self, **environment: str) -> None:
        with self.log.open("ab") as log:
            words = [BINARY, "serve", "--data", self.data, "--listen", f"127.0.0.1:{self.port}"]
            words += ["--default-visibility", "public", "--json"]
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, **environment})
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(self.url, timeout=1).close()
                return
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.05)
        raise AssertionError("the hub does not answer")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(timeout=30) == 0, self.log.read_text()
            self.process = None

    def user(self, name: str) -> str:
        self.command("user", "add", name, "--email", f"{name}@example.org")
        return self.command("token", "create", "--user", name, "--role", "write")["token"]


def prepare(folder: pathlib.Path, **settings: str | int) -> Server:
    """A hub with its first admin, `ann`."""
    server = Server(folder, **settings)
    server.token = server.command("init", "--admin", "ann", "--email", "ann@example.org")["token"]
    return server
