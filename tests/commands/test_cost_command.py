"""`python -m analysis.cost`: the published figures, every convention, and bad requests in one line."""

from __future__ import annotations

import json
import re

import pytest
import torch
from click.testing import CliRunner
from helpers.networks import lived_in
from helpers.official import CHECKPOINTS, needs_checkpoints
from helpers.paths import ROOT
from helpers.runs import small_model, small_run

from analysis.cost import cost
from analysis.engines.single_run import execute
from analysis.networks import (
    BASELINES,
    PUBLISHED,
    agreement,
    compare_published,
    count_conventions,
    load_run,
)
from analysis.networks.tracing import count, pruned_to
from condense_core import PRESETS, CondenseNet, CostTable, condense, cost_table
from condense_core.store import RunStore


def call(*arguments: str) -> dict:
    result = CliRunner().invoke(cost, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return compare_published()


def test_every_preset_agrees_with_what_is_printed_or_says_why_not(rows):
    for row in rows:
        if row["name"].partition(",")[0] in PRESETS and "yes" != row["flops_agree"] != "–":
            assert row["published"]["note"], row["name"]
    assert sum(row["flops_agree"] == row["params_agree"] == "yes" for row in rows) >= 12


def test_the_imagenet_networks_agree_once_the_classifier_is_pruned(rows):
    pruned = [row for row in rows if row["name"].endswith("classifier pruned")]
    assert [(row["flops_agree"], row["params_agree"]) for row in pruned] == [("yes", "yes")] * 2


def test_the_networks_of_the_peers_cost_what_their_papers_print(rows):
    agree = {row["name"] for row in rows if row["flops_agree"] == "yes"}
    assert {"mobilenet-1.0", "shufflenet-2x-g3"} <= agree
    for row in rows:
        if row["name"] in BASELINES and row["published"]["flops"] and not row["published"]["note"]:
            assert abs(row["macs"] / 1e6 / row["published"]["flops"] - 1) < 0.015, row["name"]


@pytest.mark.parametrize("name", ["mobilenet-1.0", "shufflenet-2x-g3", "shufflenet-v2-1x", "densenet-121"])
def test_a_baseline_costs_what_fvcore_counts_of_it(name):
    counted = count_conventions(BASELINES[name].build(), image_size=224)
    assert counted.table.macs == counted.masked.macs
    assert counted.condensed is None


def test_parameters_of_the_baselines_are_all_counted():
    for baseline in BASELINES.values():
        with torch.device("meta"):
            model = baseline.build()
        assert cost_table(model, image_size=64).params == sum(p.numel() for p in model.parameters())


def test_relus_and_pools_that_are_called_as_functions_are_counted():
    class Functional(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU()

        def forward(self, x):
            x = torch.nn.functional.relu(self.relu(self.conv(x)), inplace=True)
            x = torch.nn.functional.avg_pool2d(x, 2)
            return x.mean([2, 3]).mean()

    table = cost_table(Functional(), image_size=8)
    assert table.flops_paper == 3 * 4 * 64 + 2 * 4 * 64 + 4 * 64 + 4 * 16


@pytest.mark.parametrize("grouping", ["learned", "random", "independent", "sequential"])
@pytest.mark.parametrize("factor", [3, 4, 8])
def test_a_live_masked_network_costs_layer_by_layer_what_fvcore_counts_of_the_condensed_one(grouping, factor):
    from fvcore.nn import FlopCountAnalysis

    config = small_model(
        grouping=grouping, condense_factor=factor, connectivity="block", classifier_pruning=True
    )
    model = lived_in(config)
    table, small = cost_table(model), condense(model)
    analysis = FlopCountAnalysis(small, torch.zeros(1, 3, 8, 8)).unsupported_ops_warnings(False)
    by_module = analysis.by_module_and_operator()
    for layer in table.layers:
        if layer.operator.startswith("conv"):
            assert layer.macs == by_module[layer.name]["conv"], layer.name
        elif layer.operator == "linear":
            assert layer.macs == by_module[layer.name]["linear"], layer.name
    assert count(small, 8).macs == table.macs


def test_a_masked_network_is_executed_dense():
    counted = count_conventions(small_model())
    dense = cost_table(small_model(), stage=0).macs
    assert (counted.table.macs, counted.masked.macs) == (cost_table(small_model()).macs, dense)
    assert counted.condensed.torch_flops == 2 * counted.condensed.macs
    assert counted.condensed.uncounted["aten::index_select"] == 4


def test_single_weights_that_were_pruned_have_no_condensed_form():
    counted = count_conventions(small_model(grouping="unstructured"))
    assert counted.condensed is None
    assert counted.table.macs == cost_table(small_model()).macs


def test_a_published_row_names_its_source_and_its_model():
    assert {row.model for row in PUBLISHED} >= {*PRESETS} | {*BASELINES}
    for row in PUBLISHED:
        assert row.source
        assert row.url.startswith(("arXiv:", "https://"))


def test_the_machine_readable_cost_holds_together():
    found = call("condensenet-86", "--conventions")
    assert found["flops_paper"] == 65_816_394
    for name in ("macs", "flops_paper", "params"):
        assert found[name] == sum(layer[name] for layer in found["layers"])
    assert found["params_paper"] == found["params"]
    assert found["conventions"]["condensed macs"] == found["macs"]
    dense = call("condensenet-86", "--stage", "0")
    assert dense["macs"] == found["conventions"]["masked-dense macs"]


@pytest.mark.parametrize("name", ["condensenet-50", "mobilenet-1.0"])
def test_what_is_calculated_is_what_is_counted_when_it_is_run(name):
    calculated, traced = call(name), call(name, "--conventions")
    assert calculated["layers"] == traced["layers"]
    assert calculated["conventions"] == {
        figure: traced["conventions"][figure] for figure in ("flops_paper", "macs", "params")
    }


def test_the_table_of_layers_has_a_row_a_layer():
    result = CliRunner().invoke(cost, ["condensenet-50", "--per-layer"])
    layers = cost_table(PRESETS["condensenet-50"]).layers
    assert result.exit_code == 0
    assert all(layer.name in result.stdout for layer in layers)


@pytest.mark.parametrize("grouping", ["learned", "independent", "unstructured"])
def test_a_run_costs_what_its_masks_leave(tmp_path, grouping):
    config = small_run(grouping=grouping)
    store = RunStore(tmp_path / "runs")
    store.create()
    assert execute(config, store, tmp_path).state == "done"
    found = call(config.name[:-4], "--runs", str(tmp_path / "runs"))
    assert found["macs"] == store.run(config).result["macs"] == cost_table(config.model).macs
    assert found["macs"] == cost_table(load_run(store.run(config))).macs


def test_a_run_that_is_stopped_costs_what_the_masks_of_its_stage_leave(tmp_path):
    config = small_run()
    store = RunStore(tmp_path / "runs")
    store.create()
    run, steps = store.run(config), iter(range(100))
    assert execute(config, store, tmp_path, lambda: next(steps) > 5).state == "stopped"
    entered = [record["stage"] for record in run.stages()]
    assert 0 < max(entered) < config.model.last_stage
    found = call(config.name, "--runs", str(tmp_path / "runs"))
    assert found["macs"] == run.stages()[-1]["macs"] == cost_table(load_run(run)).macs


@needs_checkpoints
def test_an_official_checkpoint_costs_the_official_figures():
    found = call(str(CHECKPOINTS / "condensenet50_c4g4.pth.tar"))
    assert (found["flops_paper"], found["params_paper"]) == (28_641_834, 216_506)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["condensnet-86"], "'condensnet-86': did you mean 'condensenet-86'"),
        (["condensenet-86", "--stage", "4"], "stage 4: must be 0 to 3"),
        (["mobilenet-1.0", "--stage", "1"], "stage 1: only a preset has stages"),
        (["nowhere.pth.tar"], "nowhere.pth.tar: there is no such file"),
        ([], "name: missing"),
        (["condensenet-86", "--all"], "--all: goes alone"),
        (["condensenet-86", "--groups", "4"], "groups 4: is only for an official checkpoint"),
        (["condensnet-86", "--stage", "4"], "'condensnet-86': did you mean 'condensenet-86'"),
    ],
)
def test_a_bad_request_is_one_line(arguments, message):
    result = CliRunner().invoke(cost, arguments, standalone_mode=False)
    assert message in str(result.exception)


@pytest.mark.parametrize(
    ("figure", "printed", "expected"),
    [(65.82, 65.8, "yes"), (65.86, 65.8, "+0.1 %"), (529.3, 529, "yes"), (1.0, None, "–"), (0.52, 0.5, "yes")],
)
def test_agreement_is_to_the_digits_printed(figure, printed, expected):
    assert agreement(figure, printed) == expected


def test_a_stage_of_an_untrained_network_has_that_stages_masks():
    model = pruned_to(small_model(), 2)
    assert isinstance(model, CondenseNet)
    table: CostTable = cost_table(model)
    assert table == cost_table(small_model(), 2)


def test_the_docs_say_what_is_counted_today():
    text = (ROOT / "docs" / "costs.md").read_text()
    for name, figure, _ in count_conventions(PRESETS["condensenet-86"]).rows():
        assert re.search(rf"\| `?{name}`? \| {figure:,} \|", text), name
