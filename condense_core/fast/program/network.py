"""A network in one stage as its programs take it: its parameters in one array, and its layers."""

from __future__ import annotations

import numpy as np
import torch

from condense_core.condensation import LASSO_FLOOR
from condense_core.fast.kernels import descent
from condense_core.grouping import LearnedGroupConv, LearnedGroupLinear, weight_mask
from condense_core.model import CondenseNet, DenseBlock, Transition

from .buffers import Buffers
from .layers import Compression, DenseLayer, Norm, Stem
from .packing import Packing
from .parameters import Parameters


class Network:
    """A network's layers; its masks are read once, its weights in every step."""

    def __init__(self, model: CondenseNet):
        self.parameters = parameters = Parameters(model)
        self.buffers = Buffers(parameters.values.dtype)
        self.stem, self.norm = Stem(model.stem, parameters), Norm(model.norm, parameters)
        blocks = [part for part in model.blocks if isinstance(part, DenseBlock)]
        self.blocks = [[DenseLayer(layer, parameters) for layer in block] for block in blocks]
        between = [part for part in model.blocks if isinstance(part, Transition)]
        self.transitions = [
            Compression(part, parameters) if "conv" in part._modules else None for part in between
        ]
        self.weight, self.dweight = parameters.of(model.classifier.weight)
        self.bias, self.dbias = parameters.of(model.classifier.bias)
        self.live = model.classifier.mask.numpy() if isinstance(model.classifier, LearnedGroupLinear) else None
        self.lasso = Lasso(model, parameters)
        layers = [layer for block in self.blocks for layer in block]
        compressions = [part for part in self.transitions if part is not None]
        norms = [norm for layer in layers for norm in (layer.first, layer.second)]
        norms += [*(part.norm for part in compressions), self.norm]
        inside = [conv for layer in layers for conv in (layer.pointwise, layer.spatial)]
        convolutions = self.stem, *inside, *(part.pointwise for part in compressions)
        self.packing = Packing(parameters, convolutions, norms)


class Lasso:
    """The group lasso: the sets of live weights whose norms it sums up."""

    def __init__(self, model: CondenseNet, parameters: Parameters):
        self._parameters = parameters
        layers = [module for module in model.modules() if isinstance(module, LearnedGroupConv)]
        places, sets, count = [np.empty(0, int)], [np.empty(0, int)], 0
        for layer in layers:
            number = count + torch.arange(layer.mask.numel()).view_as(layer.mask)  # a set is a connection
            live = weight_mask(layer.mask, layer.out_channels, layer.permute).numpy()
            places.append(parameters.places(layer.weight).reshape(live.shape)[live])
            sets.append(weight_mask(number, layer.out_channels, layer.permute).numpy()[live])
            count += layer.mask.numel()
        self._places = np.concatenate(places)
        numbers, self._sets = np.unique(np.concatenate(sets), return_inverse=True)
        self._squares = np.empty(len(numbers), parameters.values.dtype)

    def add_gradient(self, factor: float) -> float:
        """Add its gradient times a factor; return its value times that."""
        own = self._parameters
        arrays = own.values, self._places, self._sets, self._squares
        return float(descent.lasso(*arrays, LASSO_FLOOR, factor, own.gradients))
