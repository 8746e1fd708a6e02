"""Loading a large checkpoint: in no more memory than its tensors take."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hardway import Config
from hardway.checkpoint import expected_shapes

MB = 1_000_000
CONFIG = Config(n_vocab=30000, n_ctx=16, n_embd=256, n_head=4, n_layer=15)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save some 150 MB of float64, which `GPT2.from_pretrained` makes float32."""
    path = tmp_path_factory.mktemp("large") / "model.safetensors"
    shapes = expected_shapes(CONFIG)
    save_file(
        {
            name: torch.zeros(shape, dtype=torch.float64)
            for name, shape in shapes.items()
        },
        path,
    )
    config = json.dumps(asdict(CONFIG))
    path.with_name("config.json").write_text(config, encoding="utf-8")
    return path


def test_a_peak_of_the_tensors_and_little_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import load

    size, peaks = load.tensor_bytes(path), load.peak_bytes(path)
    assert size > 150 * MB
    peer = peaks.pop(load.PEER)
    assert peer > 1.9 * size  # the measure sees what is there twice
    assert len(peaks) == 2
    for name, peak in peaks.items():
        assert size < peak < size + 50 * MB, name


def test_each_way_is_timed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import load

    seconds = load.measure(path, repeats=2)
    assert seconds.keys() == load.ways(path).keys()
    assert all(len(times) == 2 and min(times) > 0 for times in seconds.values())
