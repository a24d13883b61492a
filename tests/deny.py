"""The rules of `deny.toml` about licences, crates and sources, for every platform that it names.

With `cargo-deny` on the PATH, or under `.cache/cargo-deny`, that decides. `BASTIDE_CARGO_DENY=1 ./test deny` builds it
there first (a pinned version; several minutes). Without it, this script checks the same rules over what `cargo
metadata` says. Advisories are not checked by either: their database is fetched by `cargo deny check advisories`.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
HOME = ROOT / ".cache" / "cargo-deny"
VERSION = "0.20.2"
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def cargo_deny() -> str | None:
    own = HOME / "bin" / "cargo-deny"
    if os.environ.get("BASTIDE_CARGO_DENY") and not own.exists():
        words = ["cargo", "install", "cargo-deny", "--locked", "--version", VERSION, "--root", str(HOME)]
        subprocess.run(words, check=True)
    return str(own) if own.exists() else shutil.which("cargo-deny")


def allowed(expression: str, licences: set[str]) -> bool:
    """An SPDX expression of ORs and ANDs, as crates write them; '/' is an old OR."""
    text = expression.replace("/", " OR ").replace("(", " ( ").replace(")", " ) ")
    words, clean = text.split(), []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word == "WITH":
            skip = True
        else:
            clean.append({"OR": "or", "AND": "and", "(": "(", ")": ")"}.get(word, str(word in licences)))
    return bool(eval(" ".join(clean), {"__builtins__": {}}))  # noqa: S307 - only words made above


def packages(target: str) -> list[dict]:
    """What is built for a platform, with everything that only tests use."""
    words = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    metadata = json.loads(subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout)
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    return [package for package in metadata["packages"] if package["id"] in used]


def wrong_with(package: dict, rules: dict) -> list[str]:
    name, version, licence = package["name"], package["version"], package.get("license") or ""
    licences = set(rules["licenses"]["allow"])
    for exception in rules["licenses"].get("exceptions", []):
        if exception.get("crate", exception.get("name")) == name:
            licences |= set(exception["allow"])
    wrong = []
    if name in {entry["crate"] for entry in rules["bans"].get("deny", [])}:
        wrong.append("is banned")
    if not licence or not allowed(licence, licences):
        wrong.append(f"has the licence '{licence}', which is not allowed")
    if package["source"] not in (None, CRATES_IO):
        wrong.append(f"comes from {package['source']}")
    wrong += [
        f"takes any version of {used['name']}"
        for used in package["dependencies"]
        if rules["bans"].get("wildcards") == "deny" and used["req"] == "*" and not used.get("path")
    ]
    return [f"{name} {version} {what}" for what in wrong]


def main() -> int:
    if program := cargo_deny():
        words = [program, "check", "bans", "licenses", "sources"]
        return subprocess.run(words, cwd=ROOT).returncode
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    found: set[str] = set()
    for target in rules["graph"]["targets"]:
        there = packages(target)
        found.update(line for package in there for line in wrong_with(package, rules))
        print(f"{target}: {len(there)} packages")
    print(*sorted(found), "not checked: advisories", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
