"""Stock `git` as somebody would use it: a home folder of its own, no prompts, nothing of this machine's settings."""

from __future__ import annotations

import os
import pathlib
import subprocess
import urllib.parse


class GitFailed(AssertionError):
    """What git said when it failed."""


class Git:
    """git in `home`; it shows `token` to `server`, unless there is none."""

    def __init__(self, home: pathlib.Path, server, token: str | None) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.server, self.token = home, server, token
        self.environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
        }
        for key, value in {"user.name": "Ann", "user.email": "ann@example.org", "init.defaultBranch": "main"}.items():
            self("config", "--global", key, value)

    def run(self, *words: str | os.PathLike, at: pathlib.Path | None = None, **environment: str):
        return subprocess.run(
            ["git", *words],
            cwd=at or self.home,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def __call__(self, *words: str | os.PathLike, at: pathlib.Path | None = None, **environment: str) -> str:
        """What a command that succeeds prints."""
        done = self.run(*words, at=at, **environment)
        if done.returncode != 0:
            raise GitFailed(f"git {' '.join(map(str, words))}: {done.stderr}{done.stdout}")
        return done.stdout.strip()

    def fails(self, *words: str | os.PathLike, at: pathlib.Path | None = None, **environment: str) -> str:
        """What a command that fails says."""
        done = self.run(*words, at=at, **environment)
        assert done.returncode != 0, f"git {words} did not fail: {done.stdout}{done.stderr}"
        return done.stderr

    def url(self, repo: str, user: str = "ann") -> str:
        """The address of a repository, with the token in it."""
        parts = urllib.parse.urlsplit(self.server.url)
        host = parts.netloc if self.token is None else f"{user}:{self.token}@{parts.netloc}"
        return f"{parts.scheme}://{host}/{repo}"

    def clone(self, repo: str, *options: str, name: str | None = None) -> pathlib.Path:
        folder = self.home / (name or f"clone-{len(list(self.home.glob('clone-*')))}")
        self("clone", "-q", *options, self.url(repo), folder)
        return folder


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file of a working copy."""
    paths = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
