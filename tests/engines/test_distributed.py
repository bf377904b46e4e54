"""One run on many ranks: the numbers of one process, one writer, one end."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers.runs import row, small_run as run_in_any_execution
from PIL import Image
from torch import nn

from analysis import ablate as command
from analysis.cli import main
from analysis.engines.single_run import execute
from analysis.engines.torchrun import SharedRun, SharedStore
from condense_core import DataConfig, RecipeConfig, RunConfig, Trainer
from condense_core.config import MasksConfig
from condense_core.data import Shard, load
from condense_core.distributed import any_rank, is_shared_fault, of_first_rank, parallel, shard, world_size
from condense_core.distributed.batch_norm import SynchronisedBatchNorm2d
from condense_core.events import EpochRecord, Result, StageRecord
from condense_core.files import write_atomically
from condense_core.store import RunHeld, RunStore, checkpoints


def small_run() -> RunConfig:
    """A small run in the execution that ranks can do."""
    return dataclasses.replace(run_in_any_execution(), execution="reference")


FORK = multiprocessing.get_context("fork")  # modules loaded here need not be loaded by every rank
SECONDS = 300  # for a few seconds of work, on a machine that may be busy


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(condition) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < SECONDS
        time.sleep(0.05)


def on_ranks(ranks: int, act, folder: Path) -> list:
    """Return the value of `act` on each of so many ranks."""

    def be(rank: int) -> None:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder / 'meeting'}",
            rank=rank,
            world_size=ranks,
            timeout=timedelta(seconds=SECONDS),
        )
        torch.save(act(), folder / f"rank-{rank}")
        dist.destroy_process_group()

    processes = [FORK.Process(target=be, args=(rank,)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * ranks
    return [torch.load(folder / f"rank-{rank}", weights_only=False) for rank in range(ranks)]


def trained(config: RunConfig, data) -> tuple[Trainer, list]:
    trainer = Trainer(config, data)
    return trainer, list(trainer.run())


def all_of(kind, records: list) -> list:
    return [record for record in records if isinstance(record, kind)]


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_two_ranks_give_the_curve_and_the_masks_of_one_process_and_go_on_to_the_same_end(digits, tmp_path):
    recipe = RecipeConfig(epochs=3, group_lasso=1e-4)  # of 3 steps: stages start at 0, 2, 3 and 5
    config = dataclasses.replace(small_run(), recipe=recipe)

    def act():
        first = Trainer(config, digits)
        records = list(first.run(lambda: first.step == 4))
        second = Trainer(config, digits)
        second.restore(first.snapshot())
        records += first.run()
        assert list(second.run())[-1] == records[-1]
        assert_same(second.snapshot().tensors, first.snapshot().tensors)
        return records, first.snapshot()

    alone, expected = trained(config, digits)  # first: the ranks inherit its warm caches
    (records, snapshot), (others, other) = on_ranks(2, act, tmp_path)
    assert_same(snapshot.tensors, other.tensors)
    assert snapshot.numbers == other.numbers
    assert snapshot.tensors.keys() == alone.snapshot().tensors.keys()
    assert snapshot.numbers == alone.snapshot().numbers

    assert all_of(EpochRecord | Result, records) == all_of(EpochRecord | Result, others)
    epoch, epoch_alone = (all_of(EpochRecord, some)[0] for some in (records, expected))
    assert epoch.train_loss == pytest.approx(epoch_alone.train_loss, abs=1e-4)
    assert epoch.curves.loss == pytest.approx(epoch_alone.curves.loss, abs=1e-4)
    assert epoch.lasso == pytest.approx(epoch_alone.lasso, rel=1e-4)
    assert epoch.train_error_percent == epoch_alone.train_error_percent
    stages, stages_alone = (all_of(StageRecord, some) for some in (records, expected))
    assert [(stage.stage, stage.step) for stage in stages] == [(it.stage, it.step) for it in stages_alone]
    for stage, other_stage in zip(stages, all_of(StageRecord, others), strict=True):
        assert_same(stage.masks, other_stage.masks)
    for stage in (1, 2):  # pruned in the first epoch
        assert_same(stages[stage].masks, stages_alone[stage].masks)
    assert all_of(Result, records)[0].training_macs == all_of(Result, expected)[0].training_macs


def test_a_rank_with_no_image_in_a_batch_takes_part_and_norms_are_those_of_the_whole_batch(digits, tmp_path):
    recipe = RecipeConfig(epochs=1, batch_size=38, learning_rate=0.01)  # of 192 images: 2 in the last batch
    config = dataclasses.replace(small_run(), recipe=recipe)
    draws = torch.Generator().manual_seed(0)
    batches = [5 + 3 * torch.randn(count, 4, 3, 3, generator=draws) for count in (7, 2)]
    above = [torch.randn(batch.shape, generator=draws) for batch in batches]

    def normed(norm: nn.Module, part: Shard) -> list[torch.Tensor]:
        found = []
        for batch, gradient in zip(batches, above, strict=True):
            x = batch[part.batch_slice(len(batch))].clone().requires_grad_()
            y = norm(x)
            y.backward(gradient[part.batch_slice(len(batch))])
            found += [y.detach(), x.grad]
        return found

    def act():
        norm = nn.Sequential(nn.BatchNorm2d(4))
        parallel(norm)
        assert isinstance(norm[0], SynchronisedBatchNorm2d)
        own = normed(norm, shard())
        gradients = [parameter.grad for parameter in norm.parameters()]
        trainer, records = trained(config, digits)
        return own, gradients, norm.state_dict(), trainer.snapshot().tensors, records

    alone, records = trained(config, digits)
    found = on_ranks(3, act, tmp_path)
    norm = nn.Sequential(nn.BatchNorm2d(4))
    whole = normed(norm, Shard())
    for place, expected in enumerate(whole):
        parts = torch.cat([own[place] for own, *_ in found])
        torch.testing.assert_close(parts, expected, rtol=1e-4, atol=1e-6)
    for place, parameter in enumerate(norm.parameters()):
        total = sum(gradients[place] for _, gradients, *_ in found)
        torch.testing.assert_close(total, parameter.grad, rtol=1e-4, atol=1e-5)
    for _, _, state, *_ in found:
        torch.testing.assert_close(state, norm.state_dict())
    *_, tensors, of_ranks = found[0]
    epoch, expected = (all_of(EpochRecord, some)[0] for some in (of_ranks, records))
    assert epoch.train_loss == pytest.approx(expected.train_loss, abs=1e-4)
    for name, tensor in alone.snapshot().tensors.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_what_rank_0_does_for_all_is_answered_and_fails_on_all(digits, tmp_path):
    config = small_run()
    store = RunStore(tmp_path / "runs")
    store.create()
    held = dataclasses.replace(config, seed=1)

    def act():
        run = SharedRun(store.run(config))
        with run.hold() as writer:
            writer.start(config, "these images", world_size())
            writer.append_epoch(row(1), 0.5)
            rows = run.epochs()
            with pytest.raises(ValueError, match="data: these images then, other images now") as caught:
                writer.start(config, "other images", world_size())
        assert is_shared_fault(caught.value)
        assert not is_shared_fault(ValueError("of this rank only"))
        with pytest.raises(RunHeld, match="is being trained by process"), SharedRun(store.run(held)).hold():
            pass
        rank = shard().rank
        return rows, any_rank(rank == 1), any_rank(False), of_first_rank(torch.tensor([rank])).item()

    with store.run(held).hold():
        assert on_ranks(2, act, tmp_path) == [([row(1)], True, False, 0)] * 2
    assert len(store.run(config).epochs()) == 1
    assert store.run(config).record["ranks"] == 2


def test_ranks_take_the_masks_of_a_run_and_all_say_if_it_is_not_there(tmp_path):
    source, store = small_run(), RunStore(tmp_path / "runs")
    store.create()
    child = dataclasses.replace(
        source, model=dataclasses.replace(source.model, grouping="given"), masks=MasksConfig(source.name)
    )

    def act():
        shared = SharedStore(store.root)
        missing = execute(dataclasses.replace(child, masks=MasksConfig("missing")), shared, Path("data"))
        return missing, execute(child, shared, Path("data"))

    execute(source, store, Path("data"))
    missing, done = on_ranks(2, act, tmp_path)[0]
    assert (missing.state, missing.reason) == (
        "failed",
        "not started: it needs run missing, which is new",
    )
    assert done.state == "done"
    own, taken = (run.stage_tensors(run.stages()[-1]) for run in (store.run(child), store.run(source)))
    assert_same(*({name: some[name] for name in own if name.startswith("mask")} for some in (own, taken)))


def images(root: Path, splits: dict[str, int], size: tuple[int, int]) -> Path:
    """A folder of two classes with so many images each, of `size` (height, width)."""
    draws = np.random.default_rng(0)
    for split, count in splits.items():
        for name in "ab":
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = draws.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images of two classes, too large to be decoded at once: 13 a class for training, 4 for test."""
    return images(tmp_path_factory.mktemp("images"), {"train": 13, "val": 4}, (72, 80))


def test_the_parts_of_all_ranks_make_the_batch_and_each_rank_reads_its_own_files_only(digits, folder, tmp_path):
    streamed = load(DataConfig(f"imagenet:{folder}", validation_fraction=0, data_image_size=72), tmp_path)
    for data, size in ((digits, 50), (streamed, 12)):
        whole, *parts = (
            list(data.training_batches(3, 1, size, 0, Shard(r, n))) for r, n in ((0, 1), (0, 2), (1, 2))
        )
        for batch, *shares in zip(whole, *parts, strict=True):
            for place in (0, 1):
                assert torch.equal(torch.cat([share[place] for share in shares]), batch[place])
    files = streamed.train.files
    assert len(files.paths) == 26
    lame = dataclasses.replace(streamed.train, files=dataclasses.replace(files, root=tmp_path))
    for path in files.paths[:6]:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((files.root / path).read_bytes())
    index = [torch.arange(12)]  # of which only the first half is there
    assert len(next(lame.training_batches(index, [0], Shard(0, 2)))[1]) == 6
    with pytest.raises(ValueError, match="cannot read the image"):
        next(lame.training_batches(index, [0], Shard(1, 2)))


RANK = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "0"}
TINY = ["--stages", "1-1-1", "--growth", "exponential", "--connectivity", "full", "--sizes", "", "--seeds", "1"]
TINY += ["--grouping", "learned", "--no-reference", "--no-dense-equal"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "2"], "jobs 2: must be 1 under torchrun"),
        (["--budget", "from:x"], "budget 'from:x': must be left out under torchrun"),
        (["--engine", "ray"], "engine 'ray': must be 'processes' under torchrun"),
        (["--execution", "fast"], "execution 'fast': must be 'reference' on 4 ranks"),
        (["--batch-size", "3"], "batch_size 3: must be at least 1 for each of 4 ranks"),
        (["--rank-timeout", "0"], "x>=1"),
    ],
)
def test_what_ranks_cannot_do_is_refused_by_rank_0_in_one_line(
    arguments, message, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ablate", *TINY, *arguments])
    for rank in (1, 0):
        for name, value in (RANK | {"RANK": str(rank)}).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main(command.ablate)
        assert ended.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert (message in err, err.count("\n")) == ((True, 1) if rank == 0 else (False, 0))
    assert not list(tmp_path.iterdir())


def conclude(study, store, reports, outcomes, sort, as_json) -> int:
    """The end of a study without its report, which has tests of its own."""
    return command.exit_status(outcomes, study.config.name, store)


class Launched:
    """The command on two ranks as `torchrun` starts them, each in a session of its own, but with torch loaded.

    `prepare` is called on each rank first.
    """

    def __init__(self, arguments: list[str], folder: Path, prepare=lambda rank: None):
        self.folder, port = folder, free_port()

        def be(rank: int) -> None:
            os.setsid()
            os.chdir(folder)
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(f"{name}-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
            os.environ.update(RANK | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
            command._conclude, sys.argv = conclude, ["ablate", *arguments]
            prepare(rank)
            main(command.ablate)

        self.processes = [FORK.Process(target=be, args=(rank,)) for rank in range(2)]
        for process in self.processes:
            process.start()

    def ended(self) -> tuple[list[int | None], list[str]]:
        """Return the exit status and the stderr of each rank."""
        for process in self.processes:
            process.join(SECONDS)
            process.kill()
        return [process.exitcode for process in self.processes], [
            (self.folder / f"err-{rank}").read_text() for rank in range(2)
        ]


WITHOUT_REPORT = """
from analysis import ablate as command
from analysis.cli import main

command._conclude = lambda *_: print("concluded")
main(command.ablate)
"""


def be_killed_in_a_save(rank: int) -> None:
    """Let rank 0 be killed when the checkpoint of stage 2 is written, but not yet renamed."""

    def write_and_die(path, fill):
        def die(file):
            fill(file)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        write_atomically(path, die if ".stage-2." in path.name else fill)

    if rank == 0:
        checkpoints.write_atomically = write_and_die


def test_a_rank_killed_in_a_save_ends_the_others_and_the_same_command_resumes_it_to_the_end(
    tmp_path, monkeypatch
):
    images(tmp_path / "images", {"train": 48, "test": 8}, (8, 8))  # whose reading needs no more imports
    options = [*TINY, "--data", "folder:images", "--epochs", "3", "--batch-size", "24", "--rank-timeout", "60"]
    codes, (_, err) = Launched(options, tmp_path, be_killed_in_a_save).ended()
    assert codes == [-signal.SIGKILL, 1]
    store = RunStore(tmp_path / "runs")
    (run,) = store.runs()
    message = f"rank 1 ends: run {run.name}: another rank was killed, or was silent for too long. The same"
    assert message in err
    assert "Traceback" not in err
    assert run.status["state"] == "running"
    assert [one.stage for one in run.checkpoints()] == [1]
    assert run.load_checkpoint()[0][1]["stage"] == 0

    (tmp_path / "command.py").write_text(WITHOUT_REPORT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "command.py", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "concluded\n"
    assert done.stderr.count(f"done: {run.name}") == 1
    assert run.status["state"] == "done"
    assert run.record["ranks"] == 2
    assert [row["epoch"] for row in run.epochs()] == [1, 2, 3]
    assert [record["stage"] for record in run.stages()] == [0, 1, 2, 3, None]

    monkeypatch.chdir(tmp_path)  # the folder's name in the configuration is relative
    alone = RunStore(tmp_path / "alone")
    alone.create()
    assert execute(run.config, alone, Path("data")).state == "done"
    other = alone.run(run.config)
    assert run.epochs()[0]["train_loss"] == pytest.approx(other.epochs()[0]["train_loss"], abs=1e-4)
    masks, expected = (some.stage_tensors(some.stages()[1]) for some in (run, other))
    assert all(torch.equal(mask, expected[name]) for name, mask in masks.items() if name.startswith("mask"))


def test_sigterm_on_any_rank_stops_all_after_the_same_step_and_a_fault_of_one_is_the_reason_of_all(
    folder, tmp_path
):
    arguments = [*TINY, "--data", f"imagenet:{folder}", "--data-image-size", "72", "--validation-fraction", "0"]
    arguments += ["--epochs", "20000", "--batch-size", "12"]
    launched = Launched(arguments, tmp_path)
    store = RunStore(tmp_path / "runs")
    wait_for(lambda: any(run.epochs() for run in store.runs()) or not launched.processes[0].is_alive())
    os.killpg(launched.processes[1].pid, signal.SIGTERM)  # its workers get it too
    codes, (err, other) = launched.ended()
    assert (codes, other) == ([130, 0], ""), err
    assert "Stopped; 0 of 1 runs are done. Run the same command to resume." in err
    assert "Traceback" not in err
    (run,) = store.runs()
    assert run.status["state"] == "stopped"
    step = run.load_checkpoint()[0][1]["step"]
    assert 0 < step < 60_000

    bad = folder / "train" / "a" / "0.png"  # which rank 1 reads: rank 0 keeps the messages
    bad.write_bytes(bytes(bad.stat().st_size))
    codes, errs = Launched(arguments, tmp_path).ended()
    assert codes == [1, 1], errs
    (run,) = [other for other in store.runs() if other.name != run.name]  # with another image it is another run
    assert run.status["state"] == "failed"
    assert f"data: cannot read the image {bad}" in run.status["reason"]
    for rank, err in enumerate(errs):
        assert f"rank {rank} ends: run {run.name}: {run.status['reason']}" in " ".join(err.split())
