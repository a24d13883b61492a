"""`huggingface_hub` of several generations, as people use it."""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

hub = pytest.importorskip("huggingface_hub")
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete  # noqa: E402
from huggingface_hub import hf_hub_download, snapshot_download  # noqa: E402
from huggingface_hub.errors import (  # noqa: E402
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

LARGE = 12_000_000


def request(server, path, token=None, method="GET", **headers):
    if token:
        headers["Authorization"] = f"Bearer {token}"
    wanted = urllib.request.Request(server.url + path, headers=headers, method=method)
    try:
        with urllib.request.urlopen(wanted) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_whoami(api):
    me = api.whoami()
    assert me["name"] == "ann" and me["auth"]["accessToken"]["role"] == "write"


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_life_of_a_repository(api, bob, kind):
    extra = {"space_sdk": "static"} if kind == "space" else {}
    url = api.create_repo(f"ann/life-{kind}", repo_type=kind, **extra)
    assert url.repo_id == f"ann/life-{kind}"
    assert api.create_repo(f"ann/life-{kind}", repo_type=kind, exist_ok=True, **extra).repo_id == url.repo_id
    with pytest.raises(HfHubHTTPError):
        api.create_repo(f"ann/life-{kind}", repo_type=kind, **extra)
    assert bob.repo_exists(url.repo_id, repo_type=kind)
    api.update_repo_settings(url.repo_id, repo_type=kind, private=True)
    assert not bob.repo_exists(url.repo_id, repo_type=kind)
    api.move_repo(url.repo_id, f"ann/moved-{kind}", repo_type=kind)
    assert api.repo_info(url.repo_id, repo_type=kind).id == f"ann/moved-{kind}"
    api.delete_repo(f"ann/moved-{kind}", repo_type=kind)
    assert not api.repo_exists(f"ann/moved-{kind}", repo_type=kind)
    api.delete_repo(f"ann/moved-{kind}", repo_type=kind, missing_ok=True)


def test_small_and_large_files_come_back_as_they_went(api, repo, tmp_path):
    data = os.urandom(LARGE)
    (tmp_path / "big.bin").write_bytes(data)
    api.upload_file(path_or_fileobj=tmp_path / "big.bin", path_in_repo="big.bin", repo_id=repo)
    api.upload_file(path_or_fileobj=io.BytesIO(data[:-1]), path_in_repo="d/obj.bin", repo_id=repo)
    api.upload_file(path_or_fileobj=b"", path_in_repo="empty.txt", repo_id=repo)
    odd = "odd ?#%+ 🤗/it's (1).txt"
    api.upload_file(path_or_fileobj=b"odd", path_in_repo=odd, repo_id=repo)
    fresh = tmp_path / "cache"
    assert pathlib.Path(hf_hub_download(repo, "big.bin", cache_dir=fresh)).read_bytes() == data
    folder = pathlib.Path(snapshot_download(repo, cache_dir=tmp_path / "snapshot"))
    assert (folder / "d/obj.bin").read_bytes() == data[:-1]
    assert (folder / "empty.txt").read_bytes() == b""
    assert (folder / odd).read_bytes() == b"odd"
    info = {file.rfilename: file for file in api.model_info(repo, files_metadata=True).siblings}
    assert info["big.bin"].lfs["sha256"] == hashlib.sha256(data).hexdigest()
    assert info[odd].blob_id == hashlib.sha1(b"blob 3\0odd").hexdigest()


def test_a_second_version_and_no_change(api, repo):
    data = bytearray(os.urandom(LARGE))
    first = api.upload_file(path_or_fileobj=bytes(data), path_in_repo="w.safetensors.part", repo_id=repo)
    same = api.upload_file(path_or_fileobj=bytes(data), path_in_repo="w.safetensors.part", repo_id=repo)
    assert same.oid == first.oid
    data[5_000_000:5_000_100] = os.urandom(100)
    api.upload_file(path_or_fileobj=bytes(data), path_in_repo="w.safetensors.part", repo_id=repo)
    path = hf_hub_download(repo, "w.safetensors.part")
    assert pathlib.Path(path).read_bytes() == bytes(data)
    old = hf_hub_download(repo, "w.safetensors.part", revision=first.oid)
    assert pathlib.Path(old).read_bytes() != bytes(data)


def test_folders_and_operations(api, repo, tmp_path):
    for name in ("a.txt", "sub/b.txt", "sub/deep/c.bin", "skip.tmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() * 10)
    api.upload_folder(folder_path=tmp_path, repo_id=repo, ignore_patterns="*.tmp")
    assert sorted(api.list_repo_files(repo)) == [".gitattributes", "a.txt", "sub/b.txt", "sub/deep/c.bin"]
    operations = [
        CommitOperationAdd("new.txt", b"new"),
        CommitOperationDelete("sub/deep/", is_folder=True),
        CommitOperationCopy("sub/b.txt", "copy.txt"),
    ]
    head = api.repo_info(repo).sha
    done = api.create_commit(repo, operations, commit_message="all", parent_commit=head)
    assert done.oid == api.repo_info(repo).sha
    assert sorted(api.list_repo_files(repo)) == [".gitattributes", "a.txt", "copy.txt", "new.txt", "sub/b.txt"]
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_commit(repo, [CommitOperationAdd("x", b"x")], commit_message="late", parent_commit=head)
    assert caught.value.response.status_code == 412
    with pytest.raises(EntryNotFoundError):
        api.delete_file("nope.txt", repo)
    api.delete_folder("sub", repo)


def test_a_copied_large_file(api, repo):
    data = os.urandom(LARGE)
    api.upload_file(path_or_fileobj=data, path_in_repo="one.bin", repo_id=repo)
    api.create_commit(repo, [CommitOperationCopy("one.bin", "two.bin")], commit_message="copy")
    assert pathlib.Path(hf_hub_download(repo, "two.bin")).read_bytes() == data


def test_missing_things_and_the_memory_of_them(api, repo, tmp_path):
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(repo, "nope.json", cache_dir=tmp_path)
    assert list(tmp_path.rglob(".no_exist/*/nope.json"))
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(repo, "a", revision="nope", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("ann/none", "a", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("ann/none", "a", cache_dir=tmp_path, token=False)


def test_refs_and_history(api, repo):
    api.create_branch(repo, branch="dev")
    api.create_branch(repo, branch="dev", exist_ok=True)
    with pytest.raises(HfHubHTTPError):
        api.create_branch(repo, branch="dev")
    with pytest.raises(RevisionNotFoundError):
        api.create_branch(repo, branch="x", revision="nope")
    api.create_tag(repo, tag="v1", tag_message="first")
    api.create_tag(repo, tag="v1", exist_ok=True)
    api.upload_file(path_or_fileobj=b"1", path_in_repo="f", repo_id=repo, revision="dev")
    refs = api.list_repo_refs(repo)
    assert [branch.name for branch in refs.branches] == ["dev", "main"]
    assert [tag.name for tag in refs.tags] == ["v1"]
    assert len(list(api.list_repo_commits(repo, revision="dev", formatted=True))) == 2
    api.super_squash_history(repo, branch="dev")
    assert len(list(api.list_repo_commits(repo, revision="dev"))) == 1
    assert pathlib.Path(hf_hub_download(repo, "f", revision="dev")).read_bytes() == b"1"
    api.delete_tag(repo, tag="v1")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(repo, tag="v1")
    api.delete_branch(repo, branch="dev")


def test_branches_and_tags_of_older_commits(api, bob, repo):
    first = api.upload_file(path_or_fileobj=b"1", path_in_repo="f", repo_id=repo).oid
    api.upload_file(path_or_fileobj=b"2", path_in_repo="f", repo_id=repo)
    api.create_branch(repo, branch="feature/old", revision=first)
    api.create_tag(repo, tag="v0", revision=first, tag_message="the first")
    api.create_tag(repo, tag="v1", revision="main")
    for revision in ("feature/old", "v0", first):
        path = hf_hub_download(repo, "f", revision=revision)
        assert pathlib.Path(path).read_bytes() == b"1"
    refs = api.list_repo_refs(repo, include_pull_requests=True)
    targets = {ref.name: ref.target_commit for ref in [*refs.branches, *refs.tags]}
    assert targets["feature/old"] == first and set(targets) == {"feature/old", "main", "v0", "v1"}
    assert refs.converts == [] and refs.pull_requests == []
    commits = list(api.list_repo_commits(repo))
    assert [commit.title for commit in commits[-1:]] == ["initial commit"] and commits[1].commit_id == first
    assert commits[0].authors == ["ann"] and len(list(api.list_repo_commits(repo, revision="v0"))) == 2
    with pytest.raises(HfHubHTTPError):
        api.create_tag(repo, tag="v0")
    with pytest.raises(RevisionNotFoundError):
        api.create_tag(repo, tag="v2", revision="nowhere")
    for call in (
        lambda: bob.create_branch(repo, branch="mine"),
        lambda: bob.create_tag(repo, tag="mine"),
        lambda: bob.delete_branch(repo, branch="feature/old"),
        lambda: bob.delete_tag(repo, tag="v0"),
        lambda: bob.super_squash_history(repo),
        lambda: api.delete_branch(repo, branch="main"),
        lambda: api.delete_branch(repo, branch="none"),
    ):
        with pytest.raises(HfHubHTTPError):
            call()
    api.super_squash_history(repo, commit_message="one for all")
    assert [commit.title for commit in api.list_repo_commits(repo)] == ["one for all"]
    assert pathlib.Path(hf_hub_download(repo, "f")).read_bytes() == b"2"


def test_trees_and_paths(api, repo):
    operations = [CommitOperationAdd(f"d/{n:03}", b"x") for n in range(120)]
    api.create_commit(repo, operations, commit_message="many")
    tree = list(api.list_repo_tree(repo, recursive=True, expand=True))
    assert len(tree) == 122 and all(item.last_commit for item in tree)
    info = api.get_paths_info(repo, ["d", "d/007", "none"])
    assert [item.path for item in info] == ["d", "d/007"]
    assert api.file_exists(repo, "d/007") and not api.file_exists(repo, "d/999")


def test_lists(api, bob, server):
    import yaml  # comes with the client

    names = [f"list-{n}" for n in range(5)]
    for name in names:
        bob.create_repo(f"bob/{name}")
        card = "---\n" + yaml.safe_dump({"license": "mit", "tags": ["listed", name]}) + "---\n# hi\n"
        bob.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=f"bob/{name}")
    found = [model.id for model in api.list_models(author="bob", sort="created_at")]
    assert found == [f"bob/{name}" for name in reversed(names)]
    assert [model.id for model in api.list_models(filter=["listed", "list-3"])] == ["bob/list-3"]
    assert [model.id for model in api.list_models(search="st-4")] == ["bob/list-4"]
    assert len(list(api.list_models(author="bob", limit=2))) == 2
    assert api.model_info("bob/list-0").card_data.license == "mit"
    assert set(api.model_info("bob/list-0", expand=["sha", "likes"]).__dict__) >= {"sha", "likes"}
    status, headers, _ = request(server, "/api/models?author=bob&limit=2")
    assert status == 200 and headers["Link"].startswith(f"<{server.url}/api/models?")


def test_every_field_that_the_client_knows(api):
    from typing import get_args

    from huggingface_hub import hf_api

    card = "---\nlicense: mit\nbase_model: ann/x\nmodel-index:\n- name: m\n  results:\n"
    card += "  - task: {type: fill-mask}\n    dataset: {type: d, name: d}\n    metrics: [{type: loss, value: .nan}]\n---\n"
    config = b'{"architectures": ["BertForMaskedLM"], "model_type": "bert"}'
    api.create_repo("ann/fields")
    files = {"README.md": card.encode(), "config.json": config, "tokenizer_config.json": b'{"mask_token": "[MASK]"}'}
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    api.create_commit("ann/fields", operations, commit_message="fields")
    api.create_repo("ann/fields", repo_type="dataset")
    api.create_repo("ann/fields", repo_type="space", space_sdk="static")
    for kind in ["model", "dataset", "space"]:
        known = get_args(getattr(hf_api, f"Expand{kind.capitalize()}Property_T"))
        info = api.repo_info("ann/fields", repo_type=kind, expand=list(known))
        assert info.id == "ann/fields" and info.sha and info.siblings
        (row,) = getattr(api, f"list_{kind}s")(author="ann", search="fields", full=True)
        assert row.sha == info.sha and [file.rfilename for file in row.siblings][0] == ".gitattributes"
    info = api.model_info("ann/fields")
    assert (info.pipeline_tag, info.mask_token) == ("fill-mask", "[MASK]")
    assert info.transformers_info.auto_model == "AutoModelForMaskedLM"
    assert [model.id for model in api.list_models(author="ann", pipeline_tag="fill-mask")] == ["ann/fields"]
    assert list(api.list_models(author="ann", inference="warm")) == []


def test_a_card_that_is_wrong(api, repo):
    with pytest.raises((ValueError, HfHubHTTPError)) as caught:
        api.upload_file(path_or_fileobj=b"---\nlicense: mine\n---\n", path_in_repo="README.md", repo_id=repo)
    assert "license" in str(caught.value)


def test_who_may_see_what(api, bob, server):
    api.create_repo("ann/hidden", private=True)
    api.upload_file(path_or_fileobj=os.urandom(LARGE), path_in_repo="x.bin", repo_id="ann/hidden")
    with pytest.raises(RepositoryNotFoundError):
        bob.model_info("ann/hidden")
    status, headers, _ = request(server, "/api/models/ann/hidden")
    assert (status, headers["X-Error-Code"]) == (401, "RepoNotFound")
    created = server.command("token", "create", "--user", "ann", "--role", "read")
    assert request(server, "/api/models/ann/hidden", created["token"])[0] == 200
    server.command("token", "revoke", "--user", "ann", created["id"])
    assert request(server, "/api/models/ann/hidden", created["token"])[0] == 401


def test_ranges(api, repo, server):
    data = os.urandom(LARGE)
    api.upload_file(path_or_fileobj=data, path_in_repo="r.bin", repo_id=repo)
    path = f"/{repo}/resolve/main/r.bin"
    for text, part in (("bytes=0-0", data[:1]), ("bytes=-7", data[-7:]), ("bytes=70000-900000", data[70000:900001])):
        status, headers, body = request(server, path, Range=text)
        assert (status, body) == (206, part) and headers["Content-Range"].endswith(f"/{LARGE}")
    status, headers, _ = request(server, path, Range=f"bytes={LARGE}-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{LARGE}")


def test_safetensors_are_counted(api, repo):
    header = b'{"a":{"dtype":"F32","shape":[4,2],"data_offsets":[0,32]}}'
    data = len(header).to_bytes(8, "little") + header + bytes(32)
    api.upload_file(path_or_fileobj=data, path_in_repo="model.safetensors", repo_id=repo)
    info = api.model_info(repo)
    assert info.safetensors.total == 8 and "safetensors" in info.tags
    assert api.get_safetensors_metadata(repo).parameter_count == {"F32": 8}


def test_commits_from_many_threads_all_arrive(api, repo):
    def upload(n):
        api.upload_file(path_or_fileobj=b"x", path_in_repo=f"t/{n}", repo_id=repo)

    threads = [threading.Thread(target=upload, args=(n,)) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len([path for path in api.list_repo_files(repo) if path.startswith("t/")]) == 8
    assert len(list(api.list_repo_commits(repo))) == 9


def test_the_command_line(server, tmp_path):
    program = pathlib.Path(sys.executable).with_name("hf")
    if not program.exists():
        pytest.skip("this generation has another program")
    (tmp_path / "up").mkdir()
    (tmp_path / "up/weights.bin").write_bytes(os.urandom(LARGE))
    (tmp_path / "up/notes.txt").write_text("hello")

    def run(*words):
        result = subprocess.run([program, *words], capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    assert "ann" in run("auth", "whoami")
    run("upload", "ann/from-the-shell", "up")
    run("download", "ann/from-the-shell", "--local-dir", "down")
    assert (tmp_path / "down/weights.bin").read_bytes() == (tmp_path / "up/weights.bin").read_bytes()
