"""The loops of README and docs/your_own_network.md: plain ones, a tracked one, and Lightning's."""

from __future__ import annotations

import re

import pytest
import torch
from helpers.paths import ROOT

PLAIN, TRACKED, LIGHTNING = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "your_own_network.md").read_text(), re.DOTALL
)
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}

quiet = pytest.mark.filterwarnings("ignore")  # Lightning's advice


def test_the_loop_of_the_readme_runs_as_printed(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (script,) = [block for block in blocks if "learn_groups" in block]
    names = {}
    exec(script, names)
    assert "36 of 54 layers learn groups" in capsys.readouterr().out
    assert names["condensation"].stage == 3
    model, small, images = (names[name] for name in ("model", "small", "images"))
    assert sum(own.numel() for own in small.parameters()) < sum(own.numel() for own in model.parameters()) / 1.5
    assert torch.allclose(small(images[:8]), model.eval()(images[:8]), atol=1e-4)


def test_the_plain_loop_of_the_docs_ends_with_condensed_groups(capsys):
    names = {}
    exec(PLAIN, names)
    assert "16 of 21 layers learn groups" in capsys.readouterr().out
    assert names["condensation"].stage == 3
    assert names["model"].layer4[1].conv2.mask.sum(1).tolist() == [128] * 4


def test_the_tracked_loop_of_the_docs_is_a_finished_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(PLAIN + TRACKED, names)
    run = names["run"].run
    assert run.folder.parent.name == "runs"
    assert (run.status["state"], run.result["test_images"]) == ("done", 8)
    assert run.tracked.settings == {"learning_rate": 1e-3}


def fit(folder, path=None, callbacks=(), **settings):
    lightning = pytest.importorskip("lightning", reason="the extra lightning is not installed")
    names = {}
    exec(LIGHTNING, names)
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.randn(16, 3, 32, 32, generator=draws), torch.randint(10, (16,), generator=draws)
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=4)
    torch.manual_seed(0)
    model = names["Network"]()
    settings |= QUIET | {"enable_checkpointing": False, "callbacks": list(callbacks)}
    lightning.Trainer(max_epochs=2, default_root_dir=folder, **settings).fit(model, batches, ckpt_path=path)
    return model


@quiet
@pytest.mark.parametrize(("added_up", "steps"), [(1, 8), (2, 4)])
def test_lightning_enters_every_stage_and_counts_the_optimizers_steps(tmp_path, added_up, steps):
    model = fit(tmp_path, accumulate_grad_batches=added_up)
    condensation = model.condensation
    assert (condensation.steps, condensation.done, condensation.stage) == (steps, steps, 3)
    layer = model.model.layer1[0].conv1
    assert layer.mask.sum(1).tolist() == [16] * 4
    assert not layer.weight[:16, ~layer.mask[0]].any()


@quiet
def test_a_checkpoint_of_lightning_goes_on_to_the_same_end(tmp_path):
    lightning = pytest.importorskip("lightning", reason="the extra lightning is not installed")

    class Save(lightning.Callback):
        def on_train_epoch_end(self, trainer, module):
            if trainer.current_epoch == 0:
                trainer.save_checkpoint(tmp_path / "half.ckpt")

    whole = fit(tmp_path, callbacks=[Save()])
    again = fit(tmp_path, path=tmp_path / "half.ckpt")
    assert again.resumed["done"] == 4
    assert again.condensation.state_dict() == whole.condensation.state_dict()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
