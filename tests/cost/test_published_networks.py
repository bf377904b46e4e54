"""Networks of torchvision and timm cost what is published: the table in docs/costs.md, row by row."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from condense_core import cost_table

DOCUMENT = Path(__file__).parents[2] / "docs" / "costs.md"


class Row(NamedTuple):
    """What the document says: billions of multiply-adds and millions of parameters."""

    library: str
    image_size: int
    macs: float
    published_macs: float
    params: float
    published_params: float


def table() -> dict[str, Row]:
    lines = re.findall(r"^\| `(\w+)` \| (\w+) \| (\d+) \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    return {
        name: Row(library, int(size), *map(float, rest.split(" | "))) for name, library, size, rest in lines
    }


ROWS = table()


def build(library: str, name: str) -> nn.Module:
    """Build a network as it was published, without weights where its code allows it."""
    import timm
    import torchvision

    auxiliary = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    device = "cpu" if name == "regnet_y_400mf" else "meta"
    with torch.device(device), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return make(name, **auxiliary)


@pytest.mark.parametrize("name", ROWS)
def test_a_network_costs_what_is_published(name):
    row = ROWS[name]
    costs = cost_table(build(row.library, name), image_size=row.image_size)
    assert (round(costs.macs / 1e9, 2), round(costs.params / 1e6, 2)) == (row.macs, row.params)
    assert row.params == row.published_params
    if row.library == "torchvision":
        assert row.macs == row.published_macs


def test_the_published_numbers_of_torchvision_are_those_of_its_weights():
    from torchvision.models import get_model_weights

    for name, row in ROWS.items():
        if row.library == "torchvision":
            weights = get_model_weights(name).DEFAULT
            found = (weights.meta["_ops"], weights.meta["num_params"] / 1e6, weights.transforms().crop_size)
            assert found == (
                pytest.approx(row.published_macs, abs=0.0051),
                pytest.approx(row.published_params, abs=0.0051),
                [row.image_size],
            )
