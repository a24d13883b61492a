"""`datasets` loads CSV and Parquet from the hub, whole and as a stream."""

from __future__ import annotations

import io

import pytest

datasets = pytest.importorskip("datasets")


def test_csv_and_parquet(api, tmp_path):
    import pandas

    frame = pandas.DataFrame({"text": [f"row {n}" for n in range(500)], "label": [n % 3 for n in range(500)]})
    for ending in ("csv", "parquet"):
        name = f"ann/rows-{ending}"
        api.create_repo(name, repo_type="dataset")
        buffer = io.BytesIO()
        frame.to_csv(buffer, index=False) if ending == "csv" else frame.to_parquet(buffer)
        api.upload_file(path_or_fileobj=buffer.getvalue(), path_in_repo=f"data/train.{ending}", repo_id=name, repo_type="dataset")
        loaded = datasets.load_dataset(name, split="train", cache_dir=str(tmp_path / ending))
        assert loaded.num_rows == 500 and loaded[499] == {"text": "row 499", "label": 1}
        stream = datasets.load_dataset(name, split="train", streaming=True)
        assert next(iter(stream)) == {"text": "row 0", "label": 0}
