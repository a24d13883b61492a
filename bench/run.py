"""Measures the release build beside nginx, both in one run, and prints ratios as a table.

    python3 bench/run.py [--mib 1024] [--repos 0] [name ...]

Names: download, lfs, xet, requests, lists, commits, git, history, growth; all by default, `growth` only with
`--repos`, which fills the database first: it compares a hub with 1,000 repositories and that one, in turn. The targets
beside the figures are those for the full size (`--mib 1024`, and `--repos 1000000` for lists and growth). The end is 1 when one is missed.

Needs the release build, nginx, fcgiwrap, apache2-utils, curl and git (Debian), and 20 times `--mib` of disk. Makes the Python
environment of the newest client under .cache when `./test clients` has not.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))
from hub_process import BINARY, ROOT, Server, free_port, prepare  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
CLIENT = ROOT / ".cache/venv-hub-2.4/bin/python"
LOAD = 30_000
PACKAGES = ("huggingface_hub==2.4.0", "hf_xet==1.8.0")
LIST_SAMPLES = 300
LFS_AT_ONCE = 8
GIT_FILES, GIT_COMMITS, GIT_ROUNDS, GIT_PUSHES = 10_000, 2_000, 5, 15


class Target(NamedTuple):
    """What a figure has to be, at least or at most."""

    value: float
    sign: str
    limit: float
    unit: str = ""

    def __str__(self) -> str:
        met = self.value >= self.limit if self.sign == ">=" else self.value <= self.limit
        return f"{self.sign} {self.limit:g}{self.unit}: {'ok' if met else 'MISSED'}"


ROWS: list[tuple[str, str, str]] = []


def report(what: str, figure: str, *targets: Target) -> None:
    verdict = "; ".join(map(str, targets))
    ROWS.append((what, figure, verdict))
    print(f"{what}: {figure}" + (f" [{verdict}]" if verdict else ""), flush=True)


def client_environment() -> None:
    """The Python environment of the newest client; `./test clients` makes the same."""
    if not CLIENT.exists():
        folder = CLIENT.parents[1]
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([CLIENT, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES], check=True)


def cpu(*pids: int) -> float:
    """CPU seconds that processes have used, children that have ended included."""
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def peak_rss(pid: int) -> int:
    """The most memory that a process has had, in MiB."""
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) // 1024


class Nginx:
    """Debian's nginx with its usual settings for files, on a folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.root = folder / "www"
        self.root.mkdir()
        self.port = free_port()
        text = f"""
        worker_processes 2; daemon off; error_log {folder}/nginx.err; pid {folder}/nginx.pid; user root;
        events {{ worker_connections 512; }}
        http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
          client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
          uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
          server {{ listen 127.0.0.1:{self.port}; root {self.root}; }} }}"""
        (folder / "nginx.conf").write_text(text)
        self.process = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf")])
        time.sleep(0.5)
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True)
        self.pids = [int(pid) for pid in found.stdout.split()]
        self.url = f"http://127.0.0.1:{self.port}"


def seed(server: Server, repos: int) -> None:
    words = [BINARY, "bench-seed", "--owner", "ann", "--repos", str(repos), "--data", server.data]
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)


def call(server: Server, path: str, body: object = None, method: str | None = None, data: bytes | None = None):
    kind = "application/json" if data is None else "application/x-ndjson"
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": kind}
    payload = data if data is not None else (json.dumps(body).encode() if body is not None else None)
    url = path if path.startswith("http") else server.url + path
    request = urllib.request.Request(url, payload, headers, method=method)
    with urllib.request.urlopen(request) as answer:
        text = answer.read()
    return json.loads(text) if text[:1] in (b"{", b"[") else text


def lfs_upload(server: Server, repo: str, name: str, path: pathlib.Path) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    objects = [{"oid": digest.hexdigest(), "size": path.stat().st_size}]
    body = {"operation": "upload", "transfers": ["basic"], "objects": objects}
    answer = call(server, f"/{repo}.git/info/lfs/objects/batch", body)
    href = answer["objects"][0]["actions"]["upload"]["href"]
    subprocess.run(["curl", "-sf", "-T", str(path), href], check=True)
    line = {"path": name, "algo": "sha256", "oid": objects[0]["oid"], "size": objects[0]["size"]}
    lines = [{"key": "header", "value": {"summary": "bench"}}, {"key": "lfsFile", "value": line}]
    text = "\n".join(json.dumps(line) for line in lines).encode()
    call(server, f"/api/models/{repo}/commit/main", data=text, method="POST")


def create(server: Server, name: str) -> str:
    call(server, "/api/repos/create", {"name": name, "type": "model"})
    return f"ann/{name}"


def random_file(path: pathlib.Path, mib: int) -> pathlib.Path:
    """Noise that is the same in every run, and another for every name."""
    noise = random.Random(path.name)
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(noise.randbytes(1 << 20))
    return path


def fetch(url: str, token: str | None, size: int, connections: int) -> float:
    """Seconds to fetch a file whole, in equal ranges, by as many curls."""
    step = size // connections
    header = ["-H", f"Authorization: Bearer {token}"] if token else []

    def one(number: int) -> None:
        end = size - 1 if number == connections - 1 else (number + 1) * step - 1
        words = ["curl", "-sf", "-o", "/dev/null", *header]
        words += ["-r", f"{number * step}-{end}"] if connections > 1 else []
        subprocess.run([*words, url], check=True)

    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(connections) as pool:
        list(pool.map(one, range(connections)))
    return time.monotonic() - started


def bench_download(server: Server, nginx: Nginx, folder: pathlib.Path, mib: int) -> None:
    path = random_file(nginx.root / "big.bin", mib)
    lfs_upload(server, create(server, "download"), "big.bin", path)
    size, url = path.stat().st_size, f"{server.url}/ann/download/resolve/main/big.bin"
    for connections in (1, 8):
        ratios, ours_cpu, their_cpu = [], 0.0, 0.0
        for _ in range(3):
            before = cpu(*nginx.pids)
            theirs = fetch(nginx.url + "/big.bin", None, size, connections)
            their_cpu += cpu(*nginx.pids) - before
            before = cpu(server.process.pid)
            ours = fetch(url, server.token, size, connections)
            ours_cpu += cpu(server.process.pid) - before
            ratios.append(theirs / ours)
        gigabytes = 3 * size / 1e9
        figure = f"{sorted(ratios)[1]:.2f} of nginx, {ours_cpu / gigabytes:.2f} CPU-s/GB (nginx {their_cpu / gigabytes:.2f})"
        targets = Target(sorted(ratios)[1], ">=", 0.8), Target(ours_cpu / gigabytes, "<=", 0.4, " CPU-s/GB")
        report(f"download {mib} MiB, {connections} connections", figure, *targets)


def bench_lfs(server: Server, nginx: Nginx, folder: pathlib.Path, mib: int) -> None:
    path = random_file(folder / "lfs.bin", mib)
    repo = create(server, "lfs")
    before, started = cpu(server.process.pid), time.monotonic()
    lfs_upload(server, repo, "one.bin", path)
    used, seconds = cpu(server.process.pid) - before, time.monotonic() - started
    size = path.stat().st_size
    figure = f"{used / size * 1e9:.2f} CPU-s/GB, {size / seconds / 1e6:.0f} MB/s"
    report(f"LFS upload {mib} MiB", figure, Target(used / size * 1e9, "<=", 4, " CPU-s/GB"))
    path.unlink()
    paths = [random_file(folder / f"lfs-{n}.bin", mib) for n in range(LFS_AT_ONCE)]
    repos = [create(server, f"lfs-{n}") for n in range(LFS_AT_ONCE)]
    with concurrent.futures.ThreadPoolExecutor(LFS_AT_ONCE) as pool:
        list(pool.map(lambda pair: lfs_upload(server, pair[0], "x.bin", pair[1]), zip(repos, paths)))
    [path.unlink() for path in paths]
    peak = peak_rss(server.process.pid)
    what = f"peak memory of the server after {LFS_AT_ONCE} LFS uploads of {mib} MiB at once"
    report(what, f"{peak} MiB", Target(peak, "<=", 300, " MiB"))


class CountingProxy:
    """Passes TCP on and counts what clients send."""

    def __init__(self, target: int) -> None:
        self.sent = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target = target
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            upstream = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self.pump, args=(client, upstream, True), daemon=True).start()
            threading.Thread(target=self.pump, args=(upstream, client, False), daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket, count: bool) -> None:
        try:
            while part := source.recv(1 << 18):
                self.sent += len(part) if count else 0
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


SCRIPT = """
import sys
from huggingface_hub import HfApi, hf_hub_download
what, repo, path = sys.argv[1:]
if what == "up":
    HfApi().upload_file(path_or_fileobj=path, path_in_repo="x.bin", repo_id=repo)
else:
    hf_hub_download(repo, "x.bin", local_dir=path)
"""


def client(url: str, token: str, home: pathlib.Path, *words: str) -> None:
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HOME": str(home)}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    subprocess.run([CLIENT, "-c", SCRIPT, *words], env=environment, check=True, capture_output=True)


def bench_xet(server: Server, nginx: Nginx, folder: pathlib.Path, mib: int) -> None:
    proxy = CountingProxy(server.port)
    server.stop()
    url = f"http://127.0.0.1:{proxy.port}"
    server.start(BASTIDE_PUBLIC_URL=url)
    repo, home = create(server, "xet"), folder / "xet-home"
    path = random_file(folder / "xet.bin", mib)
    size = path.stat().st_size

    def once(*words: str) -> tuple[float, float, float]:
        sent, before, started = proxy.sent, cpu(server.process.pid), time.monotonic()
        client(url, server.token, home, *words)
        used, seconds = cpu(server.process.pid) - before, time.monotonic() - started
        return used / size * 1e9, seconds, (proxy.sent - sent) / size * 100

    def tell(name: str, runs: list[tuple[float, float, float]], cpu_limit: float = 0, share_limit: float = 0) -> None:
        used, seconds, share = sorted(runs)[len(runs) // 2]
        targets = [Target(used, "<=", cpu_limit, " CPU-s/GB")] if cpu_limit else []
        targets += [Target(share, "<=", share_limit, " %")] if share_limit else []
        report(f"Xet {name}", f"{used:.2f} CPU-s/GB, {seconds:.1f} s, {share:.2f} % of the bytes sent", *targets)

    # What the system writes to the disk for earlier work falls to whoever comes next: medians of three.
    more = [(create(server, f"xet-{n}"), random_file(folder / f"xet-{n}.bin", mib)) for n in range(2)]
    uploads = [once("up", *map(str, pair)) for pair in [*more, (repo, path)]]
    tell(f"upload {mib} MiB", uploads, cpu_limit=2)
    downloads = [once("down", repo, str(folder / f"down-{n}")) for n in range(3)]
    tell("download", downloads, cpu_limit=0.4)
    with path.open("r+b") as file:
        file.seek(size // 3)
        file.write(random.Random(2).randbytes(size // 100))
    tell("upload, 1 % changed in one place", [once("up", repo, str(path))], share_limit=1.1)
    edits = max(round(163 * mib / 1024), 1)
    with path.open("r+b") as file:
        noise = random.Random(1)
        for place in noise.sample(range(0, size - (1 << 16), 1 << 16), edits):
            file.seek(place)
            file.write(noise.randbytes(1 << 16))
    tell(f"upload, {edits} scattered edits of 64 KiB", [once("up", repo, str(path))], share_limit=2.7)


def load(url: str, token: str | None, method: str = "GET", count: int = LOAD) -> tuple[float, float, float]:
    """Requests a second, p50 and p99 in ms, at 32 connections that are kept alive."""
    with tempfile.NamedTemporaryFile() as table:
        words = ["ab", "-q", "-k", "-c", "32", "-n", str(count), "-e", table.name]
        words += (["-i"] if method == "HEAD" else []) + (["-H", f"Authorization: Bearer {token}"] if token else [])
        out = subprocess.run([*words, url], capture_output=True, text=True, check=True).stdout
        assert "Non-2xx" not in out, out
        lines = pathlib.Path(table.name).read_text().splitlines()[1:]
        times = {int(percent): float(time) for percent, time in (line.split(",") for line in lines)}
    return float(re.search(r"Requests per second:\s+([\d.]+)", out)[1]), times[50], times[99]


REQUESTS = (
    ("HEAD resolve of a large file", "HEAD", "/{repo}/resolve/main/weights.bin"),
    ("HEAD resolve of a small file", "HEAD", "/{repo}/resolve/main/.gitattributes"),
    ("whoami-v2", "GET", "/api/whoami-v2"),
    ("GET /api/models/{id}", "GET", "/api/models/{repo}"),
)
LISTS = (
    ("list by trending", "?limit=20"),
    ("list by a tag, by downloads", "?filter=tag3&sort=downloads&limit=20"),
    ("list by two tags", "?filter=tag3&filter=tag17&limit=20"),
    ("search by name", "?search=w12&limit=20"),
    ("search by a rare name", "?search=99999&limit=20"),
)


def bench_requests(server: Server, nginx: Nginx, folder: pathlib.Path, mib: int) -> None:
    (nginx.root / "small").write_bytes(b"x" * 1024)
    repo = create(server, "requests")
    path = random_file(folder / "small.bin", 1)
    lfs_upload(server, repo, "weights.bin", path)
    for name, method, where in REQUESTS:
        where = where.format(repo=repo)
        before, runs = cpu(server.process.pid), []
        for _ in range(5):
            theirs, *_ = load(nginx.url + "/small", None, method)
            runs.append((*load(server.url + where, server.token, method), theirs))
        used = (cpu(server.process.pid) - before) / (len(runs) * LOAD)
        rate, p50, p99, theirs = sorted(runs, key=lambda run: run[0] / run[3])[len(runs) // 2]
        figure = f"{rate / theirs:.2f} of nginx ({rate:.0f}/s), {used * 1e6:.0f} us CPU, p50 {p50:.2f} ms, p99 {p99:.2f} ms"
        report(name, figure, Target(rate / theirs, ">=", 0.25), Target(used * 1e6, "<=", 100, " us"))
    measure_discussions(server, repo)
    measure_social(server, repo)
    measure_webhooks(server, repo)


def measure_discussions(server: Server, repo: str) -> None:
    """A list and a discussion of the size that people have, in turn with what they are compared to."""
    api = f"/api/models/{repo}/discussions"
    for n in range(20):
        call(server, api, {"title": f"number {n}", "description": "what happened, and what should have"})
    for n in range(10):
        call(server, f"{api}/1/comment", {"comment": f"comment {n}: " + "words " * 30})
    beside_info(server, repo, (("list of 20 discussions", api), ("a discussion with 11 comments", f"{api}/1")))


def measure_webhooks(server: Server, repo: str) -> None:
    api = "/api/settings/webhooks"
    watched = [{"type": "model", "name": repo}, {"type": "user", "name": repo.split("/")[0]}]
    one = f"{api}/{call(server, api, {'url': 'https://hooks.example.org/', 'watched': watched})['webhook']['id']}"
    for n in range(20):
        call(server, f"/api/models/{repo}/branch/told-{n}", {})
    end = time.monotonic() + 120
    while len(call(server, f"{one}/deliveries")) < 20 and time.monotonic() < end:
        time.sleep(0.2)
    lines = len(call(server, f"{one}/deliveries"))
    for n in range(49):
        call(server, api, {"url": f"https://hooks.example.org/{n}", "watched": watched})
    wheres = (("list of 50 webhooks", api), ("a webhook", one), (f"its log, {lines} lines", f"{one}/deliveries"))
    beside_info(server, repo, wheres)
    # What follows is not told to anybody.
    for webhook in call(server, api):
        call(server, f"{api}/{webhook['id']}", method="DELETE")


def beside_info(server: Server, repo: str, routes) -> None:
    for name, where in routes:
        pairs = [[load(server.url + url, server.token)[1] for url in (f"/api/models/{repo}", where)] for _ in range(5)]
        info, own = (sorted(times)[2] for times in zip(*pairs))
        figure = f"p50 {own:.2f} ms, {own / info:.2f} of GET /api/models/{{id}} ({info:.2f} ms)"
        report(name, figure, Target(own / info, "<=", 1.5))


def measure_social(server: Server, repo: str) -> None:
    """An overview, likes and collections, in turn with what has as much to read: a repository, or 20 of them."""
    slugs = [call(server, "/api/collections", {"title": f"number {n}"})["slug"] for n in range(2)]
    empty, full = (f"/api/collections/{slug}" for slug in slugs)
    for n in range(20):
        item = create(server, f"item-{n}")
        call(server, f"{full}/items", {"item": {"id": item, "type": "model"}, "note": f"number {n}"})
        call(server, f"/api/models/{item}/like", {})
    one, many = ("GET /api/models/{id}", f"/api/models/{repo}"), ("a list of 20 models", "/api/models?limit=20")
    wheres = (
        ("overview of a user", "/api/users/ann/overview", one, 1.5),
        ("who likes a repository", "/api/models/ann/item-0/likers", one, 1.5),
        ("a collection without items", empty, one, 1.5),
        ("a collection with 20 items", full, many, 1.0),
    )
    for name, where, (beside, other), most in wheres:
        pairs = [[load(server.url + url, server.token)[1] for url in (other, where)] for _ in range(5)]
        theirs, own = (sorted(times)[2] for times in zip(*pairs))
        figure = f"p50 {own:.2f} ms, {own / theirs:.2f} of {beside} ({theirs:.2f} ms)"
        report(name, figure, Target(own / theirs, "<=", most))


def growth(name: str, small: float, big: float, most: float | None = 1.2) -> None:
    targets = () if most is None else (Target(big / small, "<=", most),)
    figure = f"{big / small:.2f} of that with 1,000 repositories ({small:.2f} ms, now {big:.2f} ms)"
    report(f"{name}: p50 in a large database", figure, *targets)


def bench_growth(server: Server, nginx: Nginx, folder: pathlib.Path, mib: int) -> None:
    """The same requests to a small hub and to this one, in turn: what size alone adds."""
    (folder / "little").mkdir()
    little = prepare(folder / "little")
    seed(little, 1000)
    little.start()
    path = random_file(folder / "growth.bin", 1)
    for side in (little, server):
        lfs_upload(side, create(side, "growth"), "weights.bin", path)
    for name, method, where in REQUESTS:
        url = where.format(repo="ann/growth")
        runs = [[load(side.url + url, side.token, method)[1] for side in (little, server)] for _ in range(7)]
        small, big = (sorted(times)[3] for times in zip(*runs))
        growth(name, small, big)
    # A larger hub has more to sort and fuller pages: what lists have to keep is their p99.
    for name, query in LISTS:
        growth(name, *(median(list_times(side, query)) for side in (little, server)), most=None)
    little.stop()


def list_times(server: Server, query: str) -> list[float]:
    times = []
    for _ in range(LIST_SAMPLES):
        started = time.monotonic()
        call(server, f"/api/models{query}")
        times.append((time.monotonic() - started) * 1000)
    return sorted(times)


def median(times: list[float]) -> float:
    return sorted(times)[len(times) // 2]


def bench_lists(server: Server, nginx: Nginx, folder: pathlib.Path, mib: int) -> None:
    for name, query in LISTS:
        times = list_times(server, query)
        p99 = times[len(times) * 99 // 100]
        report(name, f"p50 {median(times):.1f} ms, p99 {p99:.1f} ms of {len(times)}", Target(p99, "<=", 50, " ms"))


def bench_commits(server: Server, nginx: Nginx, folder: pathlib.Path, mib: int) -> None:
    repo = create(server, "commits")

    def commit(files: dict[str, str]) -> float:
        lines = [{"key": "header", "value": {"summary": "bench"}}]
        lines += [{"key": "file", "value": {"path": path, "content": text}} for path, text in files.items()]
        data = "\n".join(json.dumps(line) for line in lines).encode()
        started = time.monotonic()
        call(server, f"/api/models/{repo}/commit/main", data=data, method="POST")
        return time.monotonic() - started

    report("commit of 1,000 files", f"{commit({f'many/{n}.txt': str(n) for n in range(1000)}):.2f} s")
    for part in range(10):
        commit({f"flat/{part * 1000 + n:05}.txt": "x" for n in range(1000)})
    started = time.monotonic()
    found, url = 0, f"{server.url}/api/models/{repo}/tree/main/flat"
    while url:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {server.token}"})
        with urllib.request.urlopen(request) as answer:
            found += len(json.load(answer))
            link = answer.headers.get("Link")
        url = link.split(">")[0][1:] if link else ""
    assert found == 10_000
    report("listing of 10,000 entries", f"{time.monotonic() - started:.2f} s")
    times = [commit({f"one/{n}.txt": str(n)}) for n in range(500)]
    first, last = sum(times[:50]) / 50 * 1000, sum(times[-50:]) / 50 * 1000
    figure = f"first 50 {first:.1f} ms, last 50 {last:.1f} ms each: {last / first:.2f}"
    report("500 commits in a row", figure, Target(last / first, "<=", 1.3))


class HttpBackend:
    """Stock git behind nginx: git-http-backend by fcgiwrap, as its manual has it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.root = folder / "http-backend"
        self.root.mkdir()
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        socket_path = folder / "fcgi.sock"
        (folder / "backend.conf").write_text(f"""
        worker_processes 2; daemon off; error_log {folder}/backend.err; pid {folder}/backend.pid; user root;
        events {{ worker_connections 512; }}
        http {{ access_log off; client_max_body_size 0;
          client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
          uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
          server {{ listen 127.0.0.1:{port}; location / {{
            fastcgi_pass unix:{socket_path}; fastcgi_buffering off; fastcgi_request_buffering off;
            fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend; fastcgi_param PATH_INFO $uri;
            fastcgi_param GIT_PROJECT_ROOT {self.root}; fastcgi_param GIT_HTTP_EXPORT_ALL 1;
            fastcgi_param HTTP_GIT_PROTOCOL $http_git_protocol; fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
            fastcgi_param QUERY_STRING $query_string; fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param REMOTE_USER ann; fastcgi_param HOME {folder}; }} }} }}""")
        self.processes = [
            subprocess.Popen(["fcgiwrap", "-c", "4", "-s", f"unix:{socket_path}"], start_new_session=True),
            subprocess.Popen(["nginx", "-c", str(folder / "backend.conf")], start_new_session=True),
        ]
        time.sleep(0.5)

    def repository(self, name: str) -> str:
        git("init", "-q", "--bare", "-b", "main", self.root / name)
        git("config", "http.receivepack", "true", at=self.root / name)
        return f"{self.url}/{name}"

    def stop(self) -> None:
        # With the workers, which one of the two leaves behind.
        for process in self.processes:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def git(*words: object, at: pathlib.Path | None = None, given: str | None = None) -> float:
    """Runs git, without anybody's settings; the seconds that it took."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", "-c", "safe.directory=*", *map(str, words)]
    started = time.monotonic()
    subprocess.run(command, cwd=at, env=environment, input=given, text=True, check=True)
    return time.monotonic() - started


def git_history(commits: int) -> str:
    """For `git fast-import`: many files in folders, then small changes; the same every time."""
    dice = random.Random(1)
    words = [f"{dice.randrange(1 << 40):x}" for _ in range(5000)]

    def file(number: int) -> str:
        text = "\n".join(" ".join(dice.choices(words, k=8)) for _ in range(dice.randrange(2, 20)))
        return f"M 100644 inline folder-{number % 100:02}/file-{number:05}.txt\ndata {len(text)}\n{text}\n"

    lines = []
    for number in range(commits):
        changed = range(GIT_FILES) if number == 0 else dice.sample(range(GIT_FILES), 3)
        person = f"committer Ann <ann@example.org> {1_700_000_000 + number * 60} +0000"
        lines.append(f"commit refs/heads/main\n{person}\ndata 6\nchange\n" + "".join(map(file, changed)))
    return "".join(lines)


def small_commit(at: pathlib.Path, number: int) -> None:
    text = f"small change {number}\n"
    head = f"commit refs/heads/main\ncommitter Ann <ann@example.org> {1_800_000_000 + number} +0000\ndata 5\nsmall\n"
    change = f"from refs/heads/main^0\nM 100644 inline folder-07/small.txt\ndata {len(text)}\n{text}\n"
    git("fast-import", "--quiet", at=at, given=head + change)


def bench_git(server: Server, nginx: Nginx, folder: pathlib.Path, mib: int) -> None:
    source = folder / "source.git"
    git("init", "-q", "--bare", "-b", "main", source)
    git("fast-import", "--quiet", at=source, given=git_history(GIT_COMMITS))
    git("repack", "-adq", "--depth=50", "--window=10", at=source)
    backend = HttpBackend(folder)
    host = server.url.removeprefix("http://")
    try:
        pushes: tuple[list[float], list[float]] = [], []
        for turn in range(3):
            theirs = backend.repository(f"git-{turn}.git")
            ours = f"http://ann:{server.token}@{host}/{create(server, f'git-{turn}')}"
            for times, url in zip(pushes, (ours, theirs)):
                times.append(git("push", "-q", "--force", url, "main", at=source))
        rate = median(pushes[1]) / median(pushes[0])
        figure = f"{median(pushes[0]):.2f} s, http-backend {median(pushes[1]):.2f} s: {rate:.2f} of its speed"
        report(f"push of {GIT_COMMITS:,} commits and {GIT_FILES:,} files", figure, Target(rate, ">=", 0.8))
        clones: tuple[list[float], list[float]] = [], []
        for turn in range(GIT_ROUNDS):
            for times, url in zip(clones, (ours, theirs)):
                times.append(git("clone", "-q", "--bare", url, folder / "clone.git"))
                git("fsck", "--connectivity-only", "--no-dangling", at=folder / "clone.git")
                subprocess.run(["rm", "-rf", folder / "clone.git"], check=True)
        rate = median(clones[1]) / median(clones[0])
        figure = f"{median(clones[0]):.2f} s, http-backend {median(clones[1]):.2f} s: {rate:.2f} of its speed"
        report("clone of it", figure, Target(rate, ">=", 0.8))
        small: tuple[list[float], list[float]] = [], []
        for number in range(GIT_PUSHES):
            small_commit(source, number)
            for times, url in zip(small, (ours, theirs)):
                times.append(git("push", "-q", url, "main", at=source) * 1000)
        more = median(small[0]) - median(small[1])
        figure = f"{median(small[0]):.0f} ms, http-backend {median(small[1]):.0f} ms"
        report("push of one small commit to it", figure, Target(more, "<=", 150, " ms more"))
    finally:
        backend.stop()
def bench_history(server: Server, nginx: Nginx, folder: pathlib.Path, mib: int) -> None:
    """The last commit of each entry of a folder, where 2,000 commits have changed 10,000 files."""
    repo = create(server, "history")

    def commit(title: str, files: dict[str, str]) -> None:
        lines = [{"key": "header", "value": {"summary": title}}]
        lines += [{"key": "file", "value": {"path": path, "content": text}} for path, text in files.items()]
        data = "\n".join(json.dumps(line) for line in lines).encode()
        call(server, f"/api/models/{repo}/commit/main", data=data, method="POST")

    for part in range(10):
        commit(f"part {part}", {f"d{part}/{n:04}.txt": str(n) for n in range(1000)})
    for n in range(1990):
        # One file of the folder that is looked at in every fifth, one that always changes in all.
        commit(f"change {n}", {f"d{n % 5}/{n * 7 % 1000:04}.txt": f"{n}", "log.txt": str(n)})
    paths = [f"d0/{n:04}.txt" for n in range(1000)]

    def expanded() -> float:
        started = time.monotonic()
        found = call(server, f"/api/models/{repo}/paths-info/main", {"paths": paths, "expand": True})
        assert len(found) == 1000 and all(item["lastCommit"]["title"] for item in found)
        return (time.monotonic() - started) * 1000

    def walked() -> float:
        started, found, url = time.monotonic(), 0, f"{server.url}/api/models/{repo}/tree/main/d0?expand=true"
        while url:
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {server.token}"})
            with urllib.request.urlopen(request) as answer:
                found += len(json.load(answer))
                link = answer.headers.get("Link")
            url = link.split(">")[0][1:] if link else ""
        assert found == 1000
        return (time.monotonic() - started) * 1000

    def commits() -> float:
        started = time.monotonic()
        call(server, f"/api/models/{repo}/commits/main?path=log.txt&limit=50")
        return (time.monotonic() - started) * 1000

    for what, measure in [
        ("last commits of 1,000 files, one request", expanded),
        ("last commits of 1,000 files, ten pages", walked),
        ("50 commits of a file that all 2,000 change", commits),
    ]:
        times = [measure() for _ in range(30)]
        report(what, f"p50 {median(times):.1f} ms of {len(times)}", Target(median(times), "<=", 50, " ms"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--repos", type=int, default=0)
    parser.add_argument("names", nargs="*", help="what to measure [default: all]")
    options = parser.parse_args()
    names = options.names or ["download", "lfs", "requests", "lists", "commits", "git", "history", "xet"]
    if options.repos and not options.names:
        names.append("growth")
    client_environment()
    with tempfile.TemporaryDirectory(prefix="bastide-bench-") as name:
        folder = pathlib.Path(name)
        server = prepare(folder)
        if options.repos:
            seed(server, options.repos)
        server.start()
        nginx = Nginx(folder)
        try:
            for bench in names:
                globals()[f"bench_{bench}"](server, nginx, folder, options.mib)
        finally:
            nginx.process.terminate()
            server.stop()
    print("\n| what | figure | target |\n|---|---|---|")
    for what, figure, verdict in ROWS:
        print(f"| {what} | {figure} | {verdict} |")
    return 1 if any("MISSED" in verdict for *_, verdict in ROWS) else 0


if __name__ == "__main__":
    sys.exit(main())
