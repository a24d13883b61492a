"""Packs made by hand, as no git would make them, and pushes that bring them: what is not a push of git's has to be
refused as well."""

from __future__ import annotations

import base64
import hashlib
import http.client
import struct
import urllib.parse
import zlib

KINDS = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
OFS_DELTA, REF_DELTA = 6, 7
NONE = "0" * 40
CAPABILITIES = "report-status side-band-64k agent=test"


def oid(kind: str, data: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()


def head(kind: int, size: int) -> bytes:
    out, rest = [(kind << 4) | (size & 15)], size >> 4
    while rest:
        out[-1] |= 0x80
        out.append(rest & 0x7F)
        rest >>= 7
    return bytes(out)


def varint(number: int) -> bytes:
    out = []
    while True:
        out.append((number & 0x7F) | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def delta(base: int, *instructions: bytes, result: int) -> bytes:
    return varint(base) + varint(result) + b"".join(instructions)


def copy(offset: int, size: int) -> bytes:
    """Copies up to 16 MiB of the base."""
    return bytes([0x80 | 0x0F | 0x70]) + struct.pack("<I", offset) + struct.pack("<I", size)[:3]


def insert(data: bytes) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in (data[at : at + 127] for at in range(0, len(data), 127)))


class Pack:
    """Objects in a row. `count` is what the pack says that it has."""

    def __init__(self) -> None:
        self.body, self.places, self.last, self.known = bytearray(), 0, 0, set()

    def add(self, kind: str, data: bytes, size: int | None = None) -> str:
        name = oid(kind, data)
        if name not in self.known:
            self._put(head(KINDS[kind], len(data) if size is None else size) + zlib.compress(data))
            self.known.add(name)
        return name

    def ref_delta(self, base: str, data: bytes) -> None:
        self._put(head(REF_DELTA, len(data)) + bytes.fromhex(base) + zlib.compress(data, 1))

    def ofs_delta(self, data: bytes) -> None:
        """Upon the object before."""
        distance = 12 + len(self.body) - self.last
        out = [distance & 0x7F]
        distance >>= 7
        while distance:
            distance -= 1
            out.insert(0, 0x80 | (distance & 0x7F))
            distance >>= 7
        self._put(head(OFS_DELTA, len(data)) + bytes(out) + zlib.compress(data, 1))

    def _put(self, entry: bytes) -> None:
        self.last = 12 + len(self.body)
        self.body += entry
        self.places += 1

    def bytes(self, count: int | None = None) -> bytes:
        whole = b"PACK" + struct.pack(">II", 2, self.places if count is None else count) + bytes(self.body)
        return whole + hashlib.sha1(whole).digest()

    # Ready-made objects.

    def tree(self, *entries: tuple[str, bytes | str, str]) -> str:
        """Entries as (mode, name, id), in the order that they are given."""
        raw = [name if isinstance(name, bytes) else name.encode() for _, name, _ in entries]
        parts = zip(entries, raw)
        return self.add("tree", b"".join(f"{m} ".encode() + n + b"\0" + bytes.fromhex(i) for (m, _, i), n in parts))

    def commit(self, tree: str, *parents: str, message: bytes = b"a change\n", author: bytes = b"A <a@x.org>",
               time: bytes = b"1700000000 +0000") -> str:
        lines = [b"tree " + tree.encode(), *(b"parent " + parent.encode() for parent in parents)]
        lines += [b"author " + author + b" " + time, b"committer " + author + b" " + time]
        return self.add("commit", b"\n".join(lines) + b"\n\n" + message)


def with_files(*entries: tuple[str, bytes | str, bytes], parents: tuple[str, ...] = (), **commit) -> tuple[Pack, str]:
    """A commit of one folder: (mode, name, content)."""
    pack = Pack()
    items = [(mode, name, pack.add("blob", data)) for mode, name, data in entries]
    return pack, pack.commit(pack.tree(*items), *parents, **commit)


def packet(text: bytes) -> bytes:
    return f"{len(text) + 4:04x}".encode() + text


def commands(*moves: tuple[str, str, str], capabilities: str = CAPABILITIES) -> bytes:
    """Moves as (ref, old, new)."""
    lines = [f"{old} {new} {ref}".encode() for ref, old, new in moves]
    lines[0] += b"\0" + capabilities.encode()
    return b"".join(packet(line) for line in lines) + b"0000"


class Answer:
    def __init__(self, status: int, body: bytes, bands: bool) -> None:
        self.status, self.body = status, body
        self.remarks, self.report = b"", body
        if status == 200 and bands:
            self.report = b""
            for line in packets(body):
                if line[:1] == b"\1":
                    self.report += line[1:]
                elif line[:1] == b"\2":
                    self.remarks += line[1:]
        self.lines = [line.decode().rstrip("\n") for line in packets(self.report)] if status == 200 else []

    def __repr__(self) -> str:
        return f"{self.status} {self.lines} {self.remarks!r} {self.body if self.status != 200 else b''!r}"

    @property
    def text(self) -> str:
        return repr(self)


def packets(data: bytes) -> list[bytes]:
    found = []
    while data:
        length = int(data[:4], 16)
        if length:
            found.append(data[4:length])
        data = data[max(length, 4) :]
    return found


class Pusher:
    """Somebody who sends what it likes to a repository of a server."""

    def __init__(self, server, repo: str, token: str | None) -> None:
        self.host = urllib.parse.urlsplit(server.url).netloc
        self.repo, self.token = repo, token

    def headers(self) -> dict[str, str]:
        shown = {} if self.token is None else {"Authorization": "Basic " + base64.b64encode(f"u:{self.token}".encode()).decode()}
        return {"Content-Type": "application/x-git-receive-pack-request", **shown}

    def send(self, body: bytes, bands: bool = True, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(self.host, timeout=300)
        connection.request("POST", f"/{self.repo}/git-receive-pack", body, {**self.headers(), **headers})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(), bands)

    def push(self, pack: Pack | bytes, *moves: tuple[str, str, str], **options) -> Answer:
        data = pack if isinstance(pack, bytes) else pack.bytes()
        return self.send(commands(*moves, **options) + data, bands="side-band-64k" in options.get("capabilities", CAPABILITIES))
