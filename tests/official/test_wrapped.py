"""Checkpoints are found behind any prefix, below any table, and beside anything that is not weights."""

from __future__ import annotations

import argparse
import datetime
import enum
import itertools
import pathlib
import random
import types
from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np
import pytest
import torch
from helpers.networks import lived_in
from helpers.official_states import State, official_state
from helpers.runs import small_model
from torch import nn

from condense_core import load_official
from condense_core.official import read_checkpoint

PREFIXES = (
    *("", "module.", "_orig_mod.", "model.", "net.", "_orig_mod.module.", "module._orig_mod.", "a.b.c."),
    "_fsdp_wrapped_module.",
)
NESTINGS: tuple[tuple[str, ...], ...] = (
    *((), ("state_dict",), ("model",), ("net",), ("ema",), ("model_state_dict",), ("weights of mine",)),
    *(("checkpoint", "model"), ("state", "net", "state_dict")),
)


class Mode(enum.Enum):
    FAST = 1


class OldMode(enum.Enum):
    """An enum as Python before 3.11.4 writes it."""

    FAST = 1

    def __reduce_ex__(self, _):
        return getattr, (type(self), self.name)


class Meter:
    def __init__(self):
        self.total = 3.5


class Settings(dict):
    pass


def optimizer_state() -> State:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def dictionary_of_counts() -> defaultdict:
    counts = defaultdict(list)
    counts["a"].append(1)
    return counts


EXTRAS = {
    "numbers": {"epoch": 3, "best": 0.5, "large": 10**30, "none": None, "done": True},
    "texts": {"arch": "condensenet", "bytes": b"\x00\xff", "torch": torch.__version__, "odd": {"\n": "é"}},
    "numpy": {"best": np.float64(0.5), "n": np.int64(3), "curve": np.arange(5.0), "kind": np.dtype("f4")},
    "settings": {"args": argparse.Namespace(lr=0.1, steps=[1, 2], where=pathlib.PurePosixPath("/data"))},
    "times": {
        "date": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "took": datetime.timedelta(seconds=3),
    },
    "containers": {
        "a": OrderedDict(x=1),
        "b": dictionary_of_counts(),
        "c": Counter("abc"),
        "d": deque([1, 2], 5),
    },
    "sets": {"s": {1, 2}, "f": frozenset("ab"), "t": (1, (2,)), "r": range(3), "c": 1j, "by": {(0, "a"): 1}},
    "torch": {"size": torch.Size([1, 2]), "device": torch.device("cpu"), "type": torch.float16},
    "optimizer": {"optimizer": optimizer_state(), "scheduler": {"last_epoch": 3, "_step_count": 4}},
    "scaler": {"scaler": {"scale": 65536.0, "growth_tracker": 2}},
    "random": {"rng": torch.get_rng_state(), "python": random.getstate(), "numpy": np.random.get_state()},
    "classes": {
        "meter": Meter(),
        "mode": Mode.FAST,
        "old": OldMode.FAST,
        "cfg": Settings(lr=1),
        "plain": types.SimpleNamespace(x=1),
    },
    "modules": {"loss": nn.CrossEntropyLoss(), "head": nn.Linear(2, 3), "kind": Meter},
    "tensors": {"class_weights": torch.ones(10), "spectrum": torch.ones(2, dtype=torch.complex64)},
}


@pytest.fixture(scope="module")
def state() -> State:
    return official_state(lived_in(small_model(growth=(8, 8, 8), groups_3x3=4, image_size=32)))


def assert_same_as(read: dict[str, torch.Tensor], state: State) -> None:
    assert read.keys() == state.keys()
    assert all(read[name].equal(tensor) for name, tensor in state.items())


@pytest.mark.parametrize("nesting", NESTINGS, ids=".".join)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_weights_are_found_behind_any_prefix_below_any_table(tmp_path, state, prefix, nesting):
    content = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    for name in reversed(nesting):
        content = {"epoch": 3, name: content}
    torch.save(content, tmp_path / "c.pth")
    assert_same_as(read_checkpoint(tmp_path / "c.pth").tensors, state)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("extra", EXTRAS)
def test_weights_are_found_beside_anything_harmless(tmp_path, state, extra, legacy):
    for name, as_table in itertools.product(("model", None), (dict, OrderedDict, dictionary)):
        weights = {f"module.{key}": tensor for key, tensor in state.items()}
        content = as_table({**EXTRAS[extra], name: weights} if name else {**EXTRAS["numbers"], **weights})
        torch.save(content, tmp_path / "c.pth", _use_new_zipfile_serialization=not legacy)
        checkpoint = read_checkpoint(tmp_path / "c.pth")
        assert_same_as(checkpoint.tensors, state)
    assert checkpoint.rest["epoch"] == 3
    assert load_official(tmp_path / "c.pth").config.growth == (8, 8, 8)


def dictionary(items: State) -> defaultdict:
    return defaultdict(int, items)


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_checkpoint_wrapped_module"])
def test_weights_are_found_if_a_part_of_the_network_was_wrapped(tmp_path, state, wrapper):
    names = {name: name.replace("features.", f"features.{wrapper}.") for name in state}
    torch.save({"state_dict": {names[name]: tensor for name, tensor in state.items()}}, tmp_path / "c.pth")
    assert_same_as(read_checkpoint(tmp_path / "c.pth").tensors, state)


def test_an_average_of_the_weights_does_not_hide_them(tmp_path, state):
    other = {name: tensor + tensor.abs().max() for name, tensor in state.items()}
    torch.save({"ema": {"n_averaged": torch.tensor(3)} | other, "model": state}, tmp_path / "c.pth")
    assert_same_as(read_checkpoint(tmp_path / "c.pth").tensors, state)
    averaged = {"n_averaged": torch.tensor(3)} | {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(averaged, tmp_path / "c.pth")  # as torch.optim.swa_utils.AveragedModel has it
    assert_same_as(read_checkpoint(tmp_path / "c.pth").tensors, state)


def test_what_layers_keep_besides_weights_is_passed_over(tmp_path, state):
    counters = {f"{name.rpartition('.')[0]}.total_ops": torch.zeros(1, dtype=torch.float64) for name in state}
    extra = {"_extra_state": {"lr": np.float64(0.1)}, "features.norm_last._extra_state": {"scale": np.int64(1)}}
    torch.save({"model": state | counters | extra | {"total_params": torch.zeros(1)}}, tmp_path / "c.pth")
    assert_same_as(read_checkpoint(tmp_path / "c.pth").tensors, state)


def test_what_holds_no_weights_says_what_it_holds_and_what_to_do(tmp_path, state):
    twice = state | {f"module.{name}": tensor for name, tensor in state.items()}
    wide = {f"net.{name}": tensor for name, tensor in state.items()} | {"loss.weight": torch.ones(10)}
    arrays = {name: np.asarray(tensor) for name, tensor in state.items()}
    for content, message in (
        (nn.Linear(2, 3), r"an object of torch\.nn\.modules\.linear\.Linear.*torch\.save\(model\.state_dict"),
        ({"model": nn.Linear(2, 3)}, r"'model' is an object of torch\.nn\S+Linear.*torch\.save\(model\.state"),
        ({"model": {"conv1.weight": torch.ones(1)}}, "another architecture: its 'model' has conv1.weight"),
        ({"a": state, "b": state | {}}, r"has 2 networks \('a', 'b'\); save the one that you mean"),
        (twice, "has tensors twice, with and without a prefix such as 'module.'"),
        (wide, r"network under 'net\.' and more beside it \(loss\.weight\).*model\.net\.state_dict\(\)"),
        ({"state_dict": arrays}, "'features.init_conv.weight' is an object of numpy.*, not a tensor"),
    ):
        torch.save(content, tmp_path / "c.pth")
        with pytest.raises(ValueError, match=rf"c\.pth: .*{message}") as error:
            load_official(tmp_path / "c.pth")
        assert "\n" not in str(error.value)
