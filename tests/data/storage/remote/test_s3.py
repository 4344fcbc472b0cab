"""Packed data in an object store that speaks S3, on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import epochal
from epochal.data.load import load
from epochal.errors import DataError, DownloadError, OutputError


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    pytest.importorskip("s3fs")
    pytest.importorskip("flask_cors")
    server_of = pytest.importorskip("moto.server")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("bucket")
        yield "s3://bucket"
    server.stop()


def test_an_object_store(bucket: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path_factory.mktemp("cache")))
    draw = np.random.default_rng(0)
    arrays = draw.integers(0, 256, (200, 1, 8, 8)).astype(np.uint8), draw.integers(0, 2, 200)
    done = epochal.pack(arrays, f"{bucket}/data")
    assert (done.examples, done.reused) == (200, 0)
    data = load(f"{bucket}/data", memory=1e-9)
    places = torch.randperm(200)
    assert torch.equal(data.train.inputs[places], torch.from_numpy(arrays[0])[places])
    assert data.fingerprint == load(arrays).fingerprint
    with pytest.raises(OutputError, match="exists already"):
        epochal.pack(arrays, f"{bucket}/data")
    with pytest.raises(DataError, match=r"There is no s3://bucket/nothing/epochal-index.json"):
        load(f"{bucket}/nothing")


def test_keys_that_are_not_there_are_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    # Those of a file, or of a machine in the cloud, are not looked for.
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(DownloadError, match=r"no keys for it in the environment, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY\."):
        load(f"{bucket}/data")
