"""One training loop: yields records of what happens and can stop and go on at any step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from . import fast
from .condensation import group_lasso, importance, learned_layers, norms_in_front, prune, scores
from .config import RunConfig
from .cost import cost_table
from .data import Dataset, Images
from .distributed import ranks
from .evaluation import Evaluation, evaluate
from .events import Diverged, EpochRecord, Record, Result, Snapshot, StageEntry, StageRecord
from .grouping import masked_layers
from .model import CondenseNet
from .randomness import derived_seed, generator
from .stages import layer_stage, stage_of


def check_ranks(config: RunConfig, ranks: int) -> None:
    """Raise ValueError where a configuration cannot be trained by so many ranks."""
    if ranks > 1 and config.execution != "reference":
        raise ValueError(f"execution {config.execution!r}: a run on {ranks} ranks needs 'reference'")
    if config.recipe.batch_size < ranks:
        raise ValueError(f"batch_size {config.recipe.batch_size}: must be at least 1 for each of {ranks} ranks")


class Trainer:
    """Trains one configuration on a data set; the same seed gives the same run.

    Of several ranks each computes its part of every batch, and all of them give the same records. Raises
    ValueError where the data set does not fit the network, or the configuration the ranks.
    """

    def __init__(self, config: RunConfig, dataset: Dataset):
        self.shard = ranks.shard()
        check_ranks(config, self.shard.ranks)
        if len(dataset.classes) > config.model.num_classes:
            raise ValueError(
                f"num_classes {config.model.num_classes}: the data has {len(dataset.classes)} classes"
            )
        if dataset.image_size != config.model.image_size:
            raise ValueError(
                f"image_size {config.model.image_size}: the data's images have {dataset.image_size} pixels"
            )
        self.config, self.dataset = config, dataset.to(config.device)
        model = CondenseNet(config.model, config.seed).to(config.device)
        self.model: CondenseNet = model.to(memory_format=torch.channels_last)
        fast.use(self.model, config.execution)
        self._network = ranks.parallel(self.model)
        recipe = config.recipe
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            recipe.learning_rate,
            recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
            fused=True,
        )
        for parameter in self.model.parameters():  # made here, so that a snapshot always has them all
            self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self.steps_per_epoch = self.dataset.steps_per_epoch(recipe.batch_size)
        self.total_steps = recipe.epochs * self.steps_per_epoch
        self.step = 0
        self.stage = -1  # none has begun
        self.training_macs = 0
        self._sums = torch.zeros(4, dtype=torch.float64, device=config.device)
        self._graphed = fast.steps_as_graph(config)
        if self._graphed:
            for group in self.optimizer.param_groups:  # a graph reads it where it is
                group["lr"] = torch.zeros((), device=config.device)
        self._descend: fast.Step = self._descend_as_written

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Record]:
        """Train to the end, or until `should_stop`; `snapshot` may be taken whenever a record is yielded.

        Raises Diverged where the loss is not finite.
        """
        self.model.train()
        for epoch in range(self.step // self.steps_per_epoch, self.config.recipe.epochs):
            done = self.step - epoch * self.steps_per_epoch
            for batch in self.dataset.training_batches(
                self.config.seed, epoch, self.config.recipe.batch_size, done, self.shard
            ):
                if should_stop():
                    return
                yield from self.enter_stages()
                self.train_on(*batch)
            yield self._end_epoch(epoch)
        yield self._stage_record(None, None, self._importance())
        yield self._result()

    @property
    def last_stage(self) -> int:
        """The stage of the optimisation phase: 0 where nothing is learned."""
        return self.config.model.last_stage

    def enter_stages(self) -> Iterator[Record]:
        """Enter every stage that is due, also those that progress jumped over (one-shot pruning at once)."""
        pruning = self.config.recipe.pruning
        due = stage_of(Fraction(self.step, self.total_steps), self.last_stage + 1, pruning)
        while self.stage < due:
            stage = due if pruning == "one-shot" else self.stage + 1
            yield StageEntry(stage)
            before = self._evaluate(self.dataset.curve_images) if stage > 0 else None
            importance_before = self._importance()
            self.stage = stage
            self._prune(stage)
            yield self._stage_record(stage, before, importance_before)

    def _prune(self, stage: int) -> None:
        draws, norms = generator(self.config.seed, "pruning", stage), norms_in_front(self.model)
        for name, layer in learned_layers(self.model).items():
            momentum = self.optimizer.state[layer.weight]["momentum_buffer"]
            ranked = scores(layer, self.config.recipe.criterion, norms[name], draws)
            ranked = ranks.of_first_rank(ranked)
            prune(layer, layer_stage(stage, self.last_stage, layer.condense_factor), momentum, ranked)
        self._macs = cost_table(self.model).macs
        if self._graphed:  # what a stage leaves out is left out of its graphs
            self._descend = fast.GraphedStep(self._descend_as_written)

    def train_on(self, images: Tensor, labels: Tensor) -> Tensor:
        """One step of stochastic gradient descent on a batch, `enter_stages` before it; the loss with lasso.

        Of several ranks each has its part of the batch, and its part of the loss.
        """
        for group in self.optimizer.param_groups:
            if self._graphed:
                group["lr"].fill_(self.learning_rate)
            else:
                group["lr"] = self.learning_rate
        if self.config.model.dropout:
            stream = f"dropout/{self.shard.rank}" if self.shard.rank else "dropout"
            torch.manual_seed(derived_seed(self.config.seed, stream, self.step))
        loss = self._descend(images, labels)
        self.training_macs += (
            3 * self._macs * self._batch_images(labels)
        )  # the backward pass costs two forward ones
        self.step += 1
        return loss

    def _descend_as_written(self, images: Tensor, labels: Tensor) -> Tensor:
        """All of a step that is computed on the device, where it also stays."""
        bf16 = self.config.recipe.precision == "bf16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            logits = self._network(images)
            loss = self._loss(logits, labels)
        lasso = self._lasso()
        self.optimizer.zero_grad()
        (self.shard.ranks * loss + lasso).backward()  # gradients are the mean over the ranks
        self.optimizer.step()
        with torch.no_grad():
            wrong = (logits.argmax(1) != labels).sum()
            whole, count = self._batch_images(labels), len(labels)
            sums = torch.stack([loss * whole, wrong, lasso * count, torch.full_like(loss, count)])
            self._sums += ranks.add_up(sums)
        return (loss + lasso).detach()

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over the batch; of several ranks, what this one's images, perhaps none, add to it."""
        if self.shard.ranks == 1:
            return F.cross_entropy(logits, labels)
        return F.cross_entropy(logits, labels, reduction="sum") / self._batch_images(labels)

    def _batch_images(self, labels: Tensor) -> int:
        """Images of the batch that `labels` are this rank's part of."""
        if self.shard.ranks == 1:
            return len(labels)
        size = self.config.recipe.batch_size
        return min(size, len(self.dataset.train) - self.step % self.steps_per_epoch * size)

    def _lasso(self) -> Tensor:
        weight = self.config.recipe.group_lasso
        if not weight or self.stage >= self.last_stage:
            return torch.zeros((), device=self.config.device)
        if self.config.execution == "fast":
            return weight * fast.group_lasso(self.model)
        return weight * group_lasso(self.model)

    @property
    def learning_rate(self) -> float:
        """Down a cosine to 0, stepped every iteration; a network pruned once trained starts a second cosine."""
        recipe, step, steps = self.config.recipe, self.step, self.total_steps
        initial = recipe.learning_rate
        if recipe.pruning != "condensing" and self.last_stage:
            trained = -(-self.total_steps // 2)
            if step < trained:
                steps = trained
            else:
                step, steps = step - trained, steps - trained
                initial = initial if recipe.retraining_rate is None else recipe.retraining_rate
        return 0.5 * initial * (1 + math.cos(math.pi * step / max(steps, 1)))

    def _end_epoch(self, epoch: int) -> EpochRecord:
        loss, wrong, lasso, count = self._sums.tolist()
        self._sums.zero_()
        curves = self._evaluate(self.dataset.curve_images)
        if not (math.isfinite(loss) and math.isfinite(lasso) and math.isfinite(curves.loss)):
            raise Diverged(f"the loss is not finite in epoch {epoch + 1}")
        return EpochRecord(
            epoch=epoch + 1,
            step=self.step,
            stage=self.stage,
            learning_rate=self.learning_rate,
            train_loss=loss / count,
            train_error_percent=100 * wrong / count,
            lasso=lasso / count,
            curves=curves,
            curves_on=self.dataset.curves_on,
            macs=self._macs,
        )

    def _stage_record(
        self, stage: int | None, before: Evaluation | None, importance_before: dict[str, Tensor]
    ) -> StageRecord:
        cost = cost_table(self.model)
        after = None if stage == 0 else self._evaluate(self.dataset.curve_images)
        masks = {name: layer.mask.cpu().clone() for name, layer in masked_layers(self.model).items()}
        epoch = self.step / self.steps_per_epoch
        return StageRecord(
            stage,
            epoch,
            self.step,
            cost.macs,
            cost.flops_paper,
            cost.params,
            before,
            after,
            masks,
            importance_before,
        )

    def _importance(self) -> dict[str, Tensor]:
        return {
            name: importance(layer.weight, layer.groups, layer.permute).cpu()
            for name, layer in masked_layers(self.model).items()
        }

    def _evaluate(self, images: Images) -> Evaluation:
        """On all images, of which each rank takes its share."""
        rank, ranks = self.shard.rank, self.shard.ranks
        share = images if ranks == 1 else images.subset(torch.arange(rank, len(images), ranks))
        return evaluate(self.model, share.evaluation_batches(), of_all_ranks=True)

    def _result(self) -> Result:
        test, cost = self.dataset.test, cost_table(self.model)
        return Result(
            self._evaluate(test),
            len(test),
            cost.macs,
            cost.flops_paper,
            cost.params,
            self.training_macs,
        )

    def _state(self) -> dict[str, Tensor]:
        """The live tensors of training by name: weights, masks, statistics, momentum and the epoch's sums."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            tensors[f"momentum.{name}"] = self.optimizer.state[parameter]["momentum_buffer"]
        return tensors | {"sums": self._sums}

    def snapshot(self) -> Snapshot:
        """The state between two steps, as copies: all tensors, and the place in training."""
        copies = {name: own.detach().to("cpu", copy=True).contiguous() for name, own in self._state().items()}
        numbers = {
            "step": self.step,
            "epoch": self.step // self.steps_per_epoch,
            "stage": self.stage,
            "training_macs": self.training_macs,
        }
        return Snapshot(copies, numbers)

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot. Raises ValueError where it is another configuration's, naming the tensor."""
        tensors, numbers, state = snapshot.tensors, snapshot.numbers, self._state()
        for name, own in state.items():
            if (shape := tuple(tensors[name].shape) if name in tensors else None) != tuple(own.shape):
                there = "has none" if shape is None else f"has shape {shape}"
                raise ValueError(f"checkpoint: {name} must have shape {tuple(own.shape)}, but it {there}")
        for name, own in state.items():
            own.copy_(tensors[name])
        self.step, self.stage = numbers["step"], numbers["stage"]
        self.training_macs = numbers["training_macs"]
        self._macs = cost_table(self.model).macs
