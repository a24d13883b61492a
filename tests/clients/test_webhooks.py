"""Webhooks with `HfApi`, and a receiver as people write one: from making them to checking a signature."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import pathlib
import ssl
import subprocess
import tempfile
import threading
import time

import pytest

hub = pytest.importorskip("huggingface_hub")
from huggingface_hub import CommitOperationAdd, HfApi  # noqa: E402

from hub_process import prepare, soon  # noqa: E402

SECRET = "correct horse battery staple"


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps what it is sent; answers `status`."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hits: list[tuple[dict, bytes]] = []
        self.status = 200
        self.scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.server_port}/hook"

    def handle_error(self, request, client_address) -> None:
        """A client that does not like our certificate is no error of ours."""

    def wait(self, count: int, seconds: float = 60) -> list[dict]:
        end = time.monotonic() + seconds
        while len(self.hits) < count and time.monotonic() < end:
            time.sleep(0.05)
        assert len(self.hits) >= count, f"{len(self.hits)} of {count} deliveries came"
        return [json.loads(body) for _, body in self.hits]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.hits.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def certificate():
    """A certificate for `localhost`, signed by itself."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = pathlib.Path(folder, "key.pem"), pathlib.Path(folder, "certificate.pem")
        words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        words += ["-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost"]
        words += ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run(words, check=True, capture_output=True)
        yield key, certificate


@pytest.fixture(scope="module")
def local(certificate):
    """A hub of its own: the others' may send to nobody on this machine."""
    with tempfile.TemporaryDirectory(prefix="bastide-webhooks-") as folder:
        server = prepare(pathlib.Path(folder), webhook_allow=["127.0.0.1"])
        server.start(SSL_CERT_FILE=str(certificate[1]), http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
        yield server
        server.stop()
        assert SECRET not in server.log.read_text(), "the secret is in the log"


@pytest.fixture
def ann(local, monkeypatch):
    # Older clients ask about webhooks where the process does, whatever their own endpoint is.
    monkeypatch.setattr(hub.constants, "ENDPOINT", local.url)
    return HfApi(endpoint=local.url, token=local.token)


def test_webhooks_are_made_listed_changed_and_deleted(ann):
    assert ann.list_webhooks() == []
    ann.create_repo("ann/watched")
    watched = [{"type": "user", "name": "ann"}, {"type": "model", "name": "ann/watched"}]
    made = ann.create_webhook(url="https://hooks.example.org/", watched=watched, secret=SECRET)
    assert (made.url, made.disabled, made.secret, made.job) == ("https://hooks.example.org/", False, None, None)
    assert made.domains == ["repo", "discussion"]
    assert [(item.type, item.name) for item in made.watched] == [("user", "ann"), ("model", "ann/watched")]
    assert ann.get_webhook(made.id) == made
    assert ann.list_webhooks() == [made]
    changed = ann.update_webhook(made.id, url="https://hooks.example.org/2", domains=["repo"])
    assert (changed.url, changed.domains, changed.watched) == ("https://hooks.example.org/2", ["repo"], made.watched)
    changed = ann.update_webhook(made.id, watched=[hub.WebhookWatchedItem(type="user", name="ann")])
    assert [item.name for item in changed.watched] == ["ann"]
    assert ann.disable_webhook(made.id).disabled is True
    assert ann.enable_webhook(made.id).disabled is False
    with pytest.raises(hub.errors.HfHubHTTPError, match="runs no jobs"):
        ann.create_webhook(job_id="123", watched=watched)
    with pytest.raises(hub.errors.HfHubHTTPError, match="no address that this hub sends to"):
        ann.create_webhook(url="http://169.254.169.254/latest/meta-data/", watched=watched)
    ann.delete_webhook(made.id)
    assert ann.list_webhooks() == []
    ann.delete_repo("ann/watched")


def is_ours(secret: str, header: str, body: bytes, tolerance: int = 300) -> bool:
    """As docs/webhooks.md has it."""
    parts = dict(part.split("=", 1) for part in header.split(","))
    signed = parts["t"].encode() + b"." + body
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    fresh = abs(time.time() - int(parts["t"])) <= tolerance
    return fresh and hmac.compare_digest(expected, parts["v1"])


def test_a_receiver_is_told_of_commits_and_discussions(ann):
    receiver = Receiver()
    webhook = ann.create_webhook(url=receiver.url(), watched=[{"type": "user", "name": "ann"}], secret=SECRET)
    ann.create_repo("ann/told")
    commit = ann.create_commit("ann/told", [CommitOperationAdd("a.txt", b"a")], commit_message="a")
    ann.create_branch("ann/told", branch="dev")
    ann.create_discussion("ann/told", title="A question", description="How?")
    payloads = receiver.wait(5)
    events = [f"{payload['event']['action']} {payload['event']['scope']}" for payload in payloads]
    assert sorted(events) == sorted(
        ["create repo", "update repo.content", "update repo.content", "update repo.content", "create discussion"]
    )
    moved = [ref for payload in payloads for ref in payload.get("updatedRefs", [])]
    assert {"ref": "refs/heads/dev", "oldSha": None, "newSha": commit.oid} in moved
    assert any(ref["newSha"] == commit.oid and ref["ref"] == "refs/heads/main" for ref in moved)
    for payload in payloads:
        assert payload["webhook"] == {"id": webhook.id, "version": 3}
        if hub.utils.is_pydantic_available():
            hub.WebhookPayload(**payload)
    for headers, body in receiver.hits:
        assert headers["x-webhook-secret"] == SECRET
        assert is_ours(SECRET, headers["x-webhook-signature"], body)
        assert not is_ours(SECRET, headers["x-webhook-signature"], body + b" ")
        assert not is_ours("another", headers["x-webhook-signature"], body)
    ann.delete_webhook(webhook.id)
    ann.delete_repo("ann/told")


def test_a_push_is_told_of(ann, local, tmp_path):
    receiver = Receiver()
    ann.create_repo("ann/pushed")
    webhook = ann.create_webhook(url=receiver.url(), watched=[{"type": "model", "name": "ann/pushed"}])
    address = local.url.replace("://", f"://ann:{local.token}@") + "/ann/pushed"
    git = ["git", "-C", str(tmp_path / "copy"), "-c", "user.name=ann", "-c", "user.email=ann@example.org"]
    if subprocess.run(["git", "clone", "-q", address, tmp_path / "copy"], capture_output=True).returncode != 0:
        pytest.skip("this hub serves no git clone")
    (tmp_path / "copy" / "b.txt").write_text("b")
    for words in (["add", "."], ["commit", "-qm", "b"], ["push", "-q"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    (payload,) = receiver.wait(1)
    (moved,) = payload["updatedRefs"]
    assert (moved["ref"], moved["newSha"], payload["repo"]["headSha"]) == ("refs/heads/main", head, head)
    ann.delete_webhook(webhook.id)


def deliveries(ann: HfApi, webhook) -> list[dict]:
    answer = hub.utils.get_session().get(
        f"{ann.endpoint}/api/settings/webhooks/{webhook.id}/deliveries", headers={"authorization": f"Bearer {ann.token}"}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_https_is_checked_with_the_systems_certificates(ann, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])
    receiver = Receiver(context)
    ann.create_repo("ann/safe")
    watched = [{"type": "model", "name": "ann/safe"}]
    good = ann.create_webhook(url=receiver.url("localhost"), watched=watched)
    # The certificate is for the name, not for the address.
    bad = ann.create_webhook(url=receiver.url(), watched=watched)
    ann.create_branch("ann/safe", branch="dev")
    receiver.wait(1)
    assert soon(lambda: deliveries(ann, bad) and deliveries(ann, good))
    (delivered,), (refused,) = deliveries(ann, good), deliveries(ann, bad)
    assert (delivered["state"], delivered["status"]) == ("delivered", 200), delivered
    assert (refused["state"], refused["status"]) == ("waiting", None)
    assert "certificate" in refused["error"]
    assert len(receiver.hits) == 1
    for webhook in (good, bad):
        ann.delete_webhook(webhook.id)


def test_what_could_not_be_delivered_comes_when_the_hub_comes_back(ann, local):
    receiver = Receiver()
    receiver.status = 503
    ann.create_repo("ann/late")
    webhook = ann.create_webhook(url=receiver.url(), watched=[{"type": "model", "name": "ann/late"}])
    ann.create_branch("ann/late", branch="dev")
    receiver.wait(1)
    local.process.kill()
    local.process.wait()
    receiver.status = 200
    local.start()
    payloads = receiver.wait(2, seconds=90)
    assert payloads[0] == payloads[1]
    first, second = (headers["x-webhook-delivery"] for headers, _ in receiver.hits)
    assert first == second
    ann.delete_webhook(webhook.id)
