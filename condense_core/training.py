"""The training loop: it yields records of what happens, and can stop and resume at any step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from . import distributed, fast
from .condensation import importances
from .config import RunConfig
from .cost import cost_table
from .data import Dataset, Images, check_data
from .distributed import Shares, check_ranks
from .evaluation import Evaluation, See, answers, evaluate, outcomes
from .events import Diverged, EpochRecord, Record, Result, Snapshot, StageEntry, StageRecord
from .grouping import masked_layers
from .learning import Masks, condensation_of, learning_rate, momentum_descent
from .model import CondenseNet
from .randomness import derived_seed


class Trainer:
    """Trains one configuration on a data set; the same seed gives the same run.

    A fork goes on from its parent's snapshot (`restore`); `given` are the masks that it has in each stage, if
    they are another run's. `masks` are those that `config.masks` names, by layer. With several ranks, each
    computes its part of every batch, and all yield the same records. Raises ValueError if the data set or the
    masks do not fit the network, or the configuration the ranks.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        given: Mapping[int, Masks] | None = None,
        masks: Masks | None = None,
    ):
        self.shard = distributed.shard()
        check_ranks(config, self.shard.ranks)
        check_data(config.model, dataset)
        self.config, self.dataset, recipe = config, dataset.to(config.device), config.recipe
        model = CondenseNet(config.model, config.seed, masks, config.initial_seed).to(config.device)
        self.model: CondenseNet = model.to(memory_format=torch.channels_last)
        self._programs = fast.programs(self.model, config)
        self._network = distributed.parallel(self.model)
        self.optimizer = momentum_descent(self.model, recipe)
        batch_size = recipe.batch_size
        self.steps_per_epoch = self.dataset.steps_per_epoch(batch_size)
        self._shares = Shares(self.shard, len(self.dataset.train), batch_size, self.steps_per_epoch)
        self.total_steps = recipe.epochs * self.steps_per_epoch
        self.condensation = condensation_of(config, self.model, self.optimizer, self.total_steps, given or {})
        self.training_macs = 0
        self._sums = torch.zeros(4, dtype=torch.float64, device=config.device)  # loss, errors, lasso, images
        self._graphed = fast.steps_as_graph(config)
        if self._graphed:
            for group in self.optimizer.param_groups:  # a graph reads it from its place in memory
                group["lr"] = torch.zeros((), device=config.device)
        self._descend: fast.Step = self._descend_by_program if self._programs else self._descend_as_written

    def compile(self) -> Iterator[tuple[int, int]]:
        """Compile the kernels of training ahead of its first step; yields how many of all are ready."""
        self.model.train()
        if self._programs:
            yield from self._programs.compile(self.config.recipe.batch_size)

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Record]:
        """Train to the end, or until `should_stop`; `snapshot` may be taken whenever a record is yielded.

        Raises Diverged if the loss is not finite.
        """
        self.model.train()
        seed, batch_size = self.config.seed, self.config.recipe.batch_size
        for epoch in range(self.step // self.steps_per_epoch, self.config.recipe.epochs):
            done = self.step - epoch * self.steps_per_epoch
            for batch in self.dataset.training_batches(seed, epoch, batch_size, done, self.shard):
                if should_stop():
                    return
                yield from self.enter_stages()
                self.train_on(*batch)
            yield self._end_epoch(epoch)
        yield self._stage_record(None, None, importances(self.model))
        yield self._result()

    @property
    def step(self) -> int:
        """The number of steps taken."""
        return self.condensation.done

    @step.setter
    def step(self, done: int) -> None:
        self.condensation.done = done

    @property
    def stage(self) -> int:
        """The present stage; −1 before the first."""
        return self.condensation.stage

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        prunes = self.condensation.last_stage > 0
        return learning_rate(self.config.recipe, self.step, self.total_steps, prunes)

    def enter_stages(self) -> Iterator[Record]:
        """Enter every stage that is due, and yield its records."""
        while (stage := self.condensation.due()) is not None:
            yield StageEntry(stage)
            before = self._evaluate(self.dataset.curve_images) if stage > 0 else None
            importance_before = importances(self.model)
            self.condensation.enter(stage)
            self._macs = self._costs[0]
            if self._graphed:  # graphs of this stage leave out what it pruned
                self._descend = fast.GraphedStep(self._descend_as_written)
            yield self._stage_record(stage, before, importance_before)

    def train_on(self, images: Tensor, labels: Tensor) -> Tensor:
        """Take one step of stochastic gradient descent on a batch; return the loss with the lasso.

        `enter_stages` comes first. With several ranks, each has its part of the batch and of the loss.
        """
        for group in self.optimizer.param_groups:
            if self._graphed:
                group["lr"].fill_(self.learning_rate)
            else:
                group["lr"] = self.learning_rate
        if self.config.model.dropout:
            torch.manual_seed(derived_seed(self.config.seed, self._shares.stream("dropout"), self.step))
        loss = self._descend(images, labels)
        images_of_all = self._shares.whole_batch(len(labels), self.step)
        self.training_macs += 3 * self._macs * images_of_all  # the backward pass costs two forward ones
        self.step += 1
        return loss

    def _descend_by_program(self, images: Tensor, labels: Tensor) -> Tensor:
        assert self._programs is not None
        answer = self._programs.train(images, labels, self.optimizer, self.condensation.lasso_weight)
        if answer is None:
            return self._descend_as_written(images, labels)
        (loss, wrong, lasso), count = answer, len(labels)
        self._sums += torch.tensor([loss * count, wrong, lasso * count, count], dtype=torch.float64)
        return torch.tensor(loss + lasso)

    def _descend_as_written(self, images: Tensor, labels: Tensor) -> Tensor:
        """Compute the part of a step that is done on the device, and leave its sums there."""
        bf16 = self.config.recipe.precision == "bf16"
        whole, count = self._shares.whole_batch(len(labels), self.step), len(labels)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            logits = self._network(images)
            loss = self._shares.loss(logits, labels, whole)
        lasso = self.condensation.penalty()
        self.optimizer.zero_grad()
        (self.shard.ranks * loss + lasso).backward()  # gradients are the mean over the ranks
        self.optimizer.step()
        with torch.no_grad():
            wrong = (logits.argmax(1) != labels).sum()
            sums = torch.stack([loss * whole, wrong, lasso * count, torch.full_like(loss, count)])
            self._sums += distributed.add_up(sums)
        return (loss + lasso).detach()

    @property
    def _costs(self) -> tuple[int, int, int]:
        """MACs, FLOPs as the paper counts them, and parameters in the present stage."""
        cost = cost_table(self.config.model, self.condensation.reached())
        return cost.macs, cost.flops_paper, cost.params

    def _end_epoch(self, epoch: int) -> EpochRecord:
        loss, wrong, lasso, count = self._sums.tolist()
        self._sums.zero_()
        curves = self._evaluate(self.dataset.curve_images)
        if not (math.isfinite(loss) and math.isfinite(lasso) and math.isfinite(curves.loss)):
            raise Diverged(f"the loss is not finite in epoch {epoch + 1}")
        place = epoch + 1, self.step, self.stage, self.learning_rate
        means = loss / count, 100 * wrong / count, lasso / count
        return EpochRecord(*place, *means, curves, self.dataset.curves_on, self._macs)

    def _stage_record(
        self, stage: int | None, before: Evaluation | None, importance_before: dict[str, Tensor]
    ) -> StageRecord:
        place = stage, self.step / self.steps_per_epoch, self.step
        after = None if stage == 0 else self._evaluate(self.dataset.curve_images)
        masks = {name: layer.mask.cpu().clone() for name, layer in masked_layers(self.model).items()}
        return StageRecord(*place, *self._costs, before, after, masks, importance_before)

    def _evaluate(self, images: Images, see: See = lambda logits, labels: None) -> Evaluation:
        """Evaluate the network on all images, of which each rank takes its share."""
        batches = self._shares.evaluated(images).evaluation_batches()
        return evaluate(self.model, batches, distributed.add_up, see, self._programs)

    def _outcomes(self, split: str, images: Images) -> tuple[Evaluation, dict[str, Tensor]]:
        parts = [torch.empty(0, 3, dtype=torch.float64)]
        evaluation = self._evaluate(images, lambda *batch: parts.append(answers(*batch)))
        table = self._shares.of_all_ranks(torch.cat(parts), len(images))
        return evaluation, outcomes(split, self.dataset.places_of(split, len(images)), table)

    def _result(self) -> Result:
        test, said = self._outcomes("test", self.dataset.test)
        if self.dataset.validation:
            said |= self._outcomes("validation", self.dataset.validation)[1]
        return Result(test, len(self.dataset.test), *self._costs, self.training_macs, said)

    def _momentum(self, parameter: Tensor) -> Tensor:
        return self.optimizer.state[parameter]["momentum_buffer"]

    def _state(self) -> dict[str, Tensor]:
        """Return the live tensors of training: weights, masks, statistics, momentum and the epoch's sums."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            tensors[f"momentum.{name}"] = self._momentum(parameter)
        return tensors | {"sums": self._sums}

    def snapshot(self) -> Snapshot:
        """Return the state between two steps: copies of all tensors, and the place in training."""
        copies = {name: own.detach().to("cpu", copy=True).contiguous() for name, own in self._state().items()}
        place = {"step": self.step, "epoch": self.step // self.steps_per_epoch, "stage": self.stage}
        return Snapshot(copies, place | {"training_macs": self.training_macs})

    def restore(self, snapshot: Snapshot) -> None:
        """Resume from a snapshot. Raises ValueError if it is another configuration's, naming the tensor."""
        snapshot.copy_into(self._state())
        numbers = snapshot.numbers
        self.condensation.done, self.condensation.stage = numbers["step"], numbers["stage"]
        self.training_macs = numbers["training_macs"]
        if self.config.fork:
            self.condensation.pass_over()
        self._macs = self._costs[0]
