"""`cargo deny check bans licenses`, with the cargo-deny that is there or one that can be had."""

import json
import pathlib
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]


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


def main() -> int:
    if shutil.which("cargo-deny"):
        return subprocess.run(["cargo", "deny", "check", "bans", "licenses"], cwd=ROOT).returncode
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    licences = set(rules["licenses"]["allow"])
    banned = {entry["crate"] for entry in rules["bans"]["deny"]}
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    wrong = []
    for package in metadata["packages"]:
        name, licence = package["name"], package.get("license") or ""
        if name in banned:
            wrong.append(f"{name}: banned")
        if not licence or not allowed(licence, licences):
            wrong.append(f"{name} {package['version']}: licence '{licence}' is not allowed")
    print(f"{len(metadata['packages'])} packages", *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
