"""Why a run failed: the same line on the terminal and in the store, wherever the error was raised."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch._utils import ExceptionWrapper

from analysis import ablate
from analysis.cli import main
from analysis.engines.reasons import reason_of
from analysis.studies import Study
from condense_core.store import RunStore

TEXT = "data: cannot read the image a. b/5.png (broken data: line 1)"


class OddError(Exception):
    """An error that cannot be made from one text, as torch would like."""

    def __init__(self, number: int, text: str):
        super().__init__(f"{text} {number}")

    def __reduce__(self):
        return OddError, (5, "odd")


ERRORS = [
    (ValueError(TEXT), TEXT),
    (OSError(28, "No space left on device", "/runs/x"), "[Errno 28] No space left on device: '/runs/x'"),
    (
        FileNotFoundError(2, "No such file or directory", "5.png"),
        "[Errno 2] No such file or directory: '5.png'",
    ),
    (KeyError("labels"), "KeyError: 'labels'"),
    (
        RuntimeError("sizes differ:\n   8 and 9\nat dimension 1"),
        "RuntimeError: sizes differ: 8 and 9 at dimension 1",
    ),
    (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    (OddError(5, "odd"), "OddError: odd 5"),
    (ValueError(), "ValueError"),
    (MemoryError(), "MemoryError"),
]


def here(error: Exception) -> Exception:
    return error


def of_a_thread(error: Exception) -> Exception:
    def fail() -> None:
        raise error

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(fail).exception()


def of_torchs_loader(error: Exception) -> Exception:
    """As a worker process of torch.utils.data sends it, with its whole traceback as the message."""
    try:
        raise error
    except Exception:
        sent = ExceptionWrapper(where="in DataLoader worker process 0")
    try:
        sent.reraise()
    except Exception as received:
        return received


def of_pebble(error: Exception) -> Exception:
    """As a process of the pool sends it: pickled, with the traceback as its cause."""
    from pebble.common import process_execute

    def fail() -> None:
        raise error

    return pickle.loads(pickle.dumps(process_execute(fail).value))


@pytest.mark.parametrize("raised", [here, of_a_thread, of_torchs_loader, of_pebble])
@pytest.mark.parametrize(("error", "expected"), ERRORS, ids=lambda value: type(value).__name__)
def test_a_reason_is_one_line_without_the_path_that_an_error_took(raised, error, expected):
    assert reason_of(raised(error)) == expected


def test_rays_own_wrapping_is_taken_off():
    exceptions = pytest.importorskip("ray.exceptions", reason="ray is not installed")
    wrapped = exceptions.RayTaskError("train", "a long\nTraceback", ValueError(TEXT)).as_instanceof_cause()
    assert reason_of(wrapped.cause) == TEXT
    assert pickle.loads(pickle.dumps(wrapped.cause)).args == (TEXT,)


@pytest.fixture
def images(tmp_path, monkeypatch) -> Path:
    """A copy of ImageNet, whose images are first read in training, with one that is cut off."""
    draws = np.random.default_rng(0)
    for place in range(12):
        path = tmp_path / "images" / ("train", "test")[place % 2] / "ab"[place // 2 % 2] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    bad = tmp_path / "images" / "train" / "b" / "2.png"
    bad.write_bytes(bad.read_bytes()[:400])
    monkeypatch.chdir(tmp_path)
    return bad.relative_to(tmp_path)


TINY = {"stages": (1, 1, 1), "growth": ("exponential",), "connectivity": ("full",), "grouping": ("random",)}
TINY |= {"reference": False, "sizes": (), "seeds": 1, "epochs": 1, "validation_fraction": 0.0}


def test_a_bad_image_that_is_met_in_training_is_named_in_a_notebook_and_in_the_store(images, tmp_path):
    study = Study.named("grouping", device="cpu", data="imagenet:images", data_image_size=72, **TINY)
    with pytest.warns(UserWarning, match=f"failed: .*: data: cannot read the image {images}"):
        study.run("runs", "data")
    runs = RunStore(tmp_path / "runs").runs()
    assert runs
    for run in runs:
        assert run.status["reason"].startswith(f"data: cannot read the image {images} (")


def test_a_bad_image_that_is_met_in_training_is_named_on_the_terminal_and_in_the_store(
    images, tmp_path, monkeypatch, capfd
):
    options = (
        "--stages 1-1-1 --growth exponential --connectivity full --grouping random --no-reference --sizes="
    )
    options += " --seeds 1 --epochs 1 --validation-fraction 0 --data imagenet:images --data-image-size 72"
    monkeypatch.setattr(sys, "argv", ["ablate", *options.split(), "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        main(ablate.ablate)
    err = capfd.readouterr().err
    assert ended.value.code == 1
    runs = RunStore(tmp_path / "runs").runs()
    assert runs
    for run in runs:
        assert run.status["reason"].startswith(f"data: cannot read the image {images} (")
        assert f"failed: {run.name}: {run.status['reason']}\n" in err
