"""Likes, collections and profiles by `huggingface_hub` of several generations."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import urllib.request

import pytest

hub = pytest.importorskip("huggingface_hub")
from huggingface_hub.errors import HfHubHTTPError  # noqa: E402


def post(server, path, token, method="POST"):
    """What the website does and the client has no function for."""
    headers = {"Authorization": f"Bearer {token}"}
    with urllib.request.urlopen(urllib.request.Request(server.url + path, headers=headers, method=method)) as answer:
        return json.load(answer)


def status(error):
    return error.value.response.status_code


@pytest.fixture(scope="module")
def carl(server):
    """A user with the client, and the token."""
    token = server.user("carl")
    api = hub.HfApi(token=token)
    api.create_repo("carl/own")
    return api, token


def test_likes(api, server, repo, carl):
    other, token = carl
    for kind, name in (("models", repo), ("models", "carl/own")):
        assert post(server, f"/api/{kind}/{name}/like", token)["likes"] == 1
    api.create_repo("ann/liked-data", repo_type="dataset", exist_ok=True)
    post(server, "/api/datasets/ann/liked-data/like", token)
    liked = other.list_liked_repos()
    assert (liked.user, liked.total) == ("carl", 3)
    assert liked.models == ["carl/own", repo] and liked.datasets == ["ann/liked-data"]
    assert api.list_liked_repos("carl").total == 3
    likers = list(api.list_repo_likers(repo))
    assert [user.username for user in likers] == ["carl"] and likers[0].avatar_url.startswith(server.url)
    assert api.model_info(repo).likes == 1
    other.unlike(repo)
    other.unlike(repo)
    assert api.model_info(repo).likes == 0
    api.update_repo_settings("ann/liked-data", repo_type="dataset", private=True)
    assert other.list_liked_repos().total == 1
    with pytest.raises(HfHubHTTPError) as error:
        other.unlike("ann/nothing-here")
    assert status(error) == 404


def test_collections(api, bob, repo):
    made = api.create_collection("From Python", description="of ours")
    assert made.slug.startswith("ann/from-python-") and made.items == [] and made.position >= 0
    assert api.create_collection("From Python", exists_ok=True).slug == made.slug
    with pytest.raises(HfHubHTTPError) as error:
        api.create_collection("From Python")
    assert status(error) == 409
    slug = made.slug
    api.create_repo("ann/in-a-collection", repo_type="dataset", exist_ok=True)
    api.add_collection_item(slug, repo, "model", note="a note")
    found = api.add_collection_item(slug, "ann/in-a-collection", "dataset")
    assert [(item.item_id, item.item_type, item.note) for item in found.items] == [
        (repo, "model", "a note"),
        ("ann/in-a-collection", "dataset", None),
    ]
    assert len(api.add_collection_item(slug, repo, "model", exists_ok=True).items) == 2
    with pytest.raises(HfHubHTTPError) as error:
        api.add_collection_item(slug, repo, "model")
    assert status(error) == 409
    for item, kind in (("ann/nothing-here", "model"), (repo, "dataset"), ("2307.09288", "paper")):
        with pytest.raises(HfHubHTTPError):
            api.add_collection_item(slug, item, kind)
    first, second = found.items
    api.update_collection_item(slug, second.item_object_id, position=0, note="moved")
    items = api.get_collection(slug).items
    assert [(item.item_id, item.position, item.note) for item in items] == [
        ("ann/in-a-collection", 0, "moved"),
        (repo, 1, "a note"),
    ]
    changed = api.update_collection_metadata(slug, title="Renamed", description="new", private=True, theme="pink")
    assert (changed.title, changed.private, changed.theme) == ("Renamed", True, "pink")
    assert changed.slug != slug and api.get_collection(slug).slug == changed.slug
    for call in (
        lambda: bob.get_collection(slug),
        lambda: hub.HfApi(token=False).get_collection(slug),
        lambda: bob.add_collection_item(slug, repo, "model"),
        lambda: bob.delete_collection(slug),
    ):
        with pytest.raises(HfHubHTTPError) as error:
            call()
        assert status(error) == 404
    assert not any(row.slug == changed.slug for row in bob.list_collections(owner="ann"))
    api.update_collection_metadata(slug, private=False)
    rows = list(bob.list_collections(owner="ann", item=f"models/{repo}", sort="upvotes", limit=5))
    assert [row.slug for row in rows] == [changed.slug] and len(rows[0].items) == 2
    inner = api.create_collection("Inner")
    found = api.add_collection_item(slug, inner.slug, "collection")
    assert found.items[-1].item_id == inner.slug and found.items[-1].item_type == "collection"
    api.delete_collection_item(slug, first.item_object_id)
    with pytest.raises(HfHubHTTPError) as error:
        api.delete_collection_item(slug, first.item_object_id)
    assert status(error) == 404
    api.delete_collection_item(slug, first.item_object_id, missing_ok=True)
    assert len(api.get_collection(slug).items) == 2
    for found in (slug, inner.slug):
        api.delete_collection(found)
    api.delete_collection(slug, missing_ok=True)
    with pytest.raises(HfHubHTTPError):
        api.get_collection(slug)


def test_many_collections_come_in_pages(api, carl):
    other, _ = carl
    for n in range(45):
        other.create_collection(f"Page {n}", private=n % 3 == 0)
    assert len(list(other.list_collections(owner="carl"))) == 45
    assert len(list(api.list_collections(owner=["carl", "nobody"], sort="lastModified"))) == 30
    assert [row.title for row in api.list_collections(owner="carl", limit=2)] == ["Page 44", "Page 43"]


def test_profiles(api, bob, server, carl):
    other, token = carl
    server.command("org", "add", "club", "--owner", "carl")
    other.create_repo("club/one")
    other.create_repo("club/two", private=True)
    post(server, "/api/users/ann/follow", token)
    post(server, "/api/organizations/club/follow", token)
    user = api.get_user_overview("carl")
    assert (user.username, user.num_following, user.is_following) == ("carl", 2, False)
    assert [org.name for org in user.orgs] == ["club"] and user.avatar_url.startswith(server.url)
    assert [user.username for user in api.list_user_followers("ann")] == ["carl"]
    assert [user.username for user in api.list_user_following("carl")] == ["club", "ann"]
    assert [user.username for user in api.list_organization_members("club")] == ["carl"]
    # Without signing in, too: this hub is open, and carl has something public.
    anyone = hub.HfApi(token=False)
    assert anyone.get_user_overview("carl").num_models == 1
    assert [user.username for user in anyone.list_organization_members("club")] == ["carl"]
    with pytest.raises(HfHubHTTPError):
        anyone.get_user_overview("nobody-here")
    if hasattr(api, "get_organization_overview"):
        club = api.get_organization_overview("club")
        assert (club.name, club.num_users, club.num_models, club.num_followers) == ("club", 1, 1, 1)
        assert other.get_organization_overview("club").num_models == 2
    if hasattr(api, "list_organization_followers"):
        assert [user.username for user in api.list_organization_followers("club")] == ["carl"]
    post(server, "/api/users/ann/follow", token, method="DELETE")
    assert list(api.list_user_followers("ann")) == []


def test_sizes_of_repositories(api, server, carl):
    other, token = carl
    if not hasattr(other, "list_user_repos"):
        pytest.skip("this generation has no such function")
    other.upload_file(path_or_fileobj=os.urandom(3_000_000), path_in_repo="x.bin", repo_id="carl/own")
    mine = list(other.list_user_repos())
    assert [repo.id for repo in mine] == ["carl/own"] and mine[0].type == "model"
    assert mine[0].visibility == "public"
    if mine[0].storage:
        assert mine[0].storage >= 3_000_000 and mine[0].storage_percent == 100
    names = {repo.id: repo.visibility for repo in other.list_user_repos(namespace="club")}
    assert names == {"club/one": "public", "club/two": "private"}
    with pytest.raises(HfHubHTTPError):
        list(api.list_user_repos(namespace="club"))


def test_the_command_line(server, carl, repo):
    program = pathlib.Path(sys.executable).with_name("hf")
    if not (pathlib.Path(hub.__file__).parent / "cli/collections.py").exists():
        pytest.skip("this generation has no command for collections")

    def run(*words):
        result = subprocess.run([program, *words], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    run("collections", "create", "From the shell")
    slug = next(row.slug for row in hub.HfApi().list_collections(owner="ann") if row.title == "From the shell")
    run("collections", "add-item", slug, repo, "model", "--note", "by hand")
    assert repo in run("collections", "info", slug)
    item = hub.HfApi().get_collection(slug).items[0].item_object_id
    run("collections", "update-item", slug, item, "--note", "changed")
    run("collections", "update", slug, "--title", "From a shell")
    assert "from-a-shell" in run("collections", "list", "--owner", "ann", "--format", "json")
    run("collections", "delete-item", slug, item)
    run("collections", "delete", slug)
    if hasattr(hub.HfApi, "list_user_repos"):
        assert repo in run("repos", "list", "--limit", "0")
