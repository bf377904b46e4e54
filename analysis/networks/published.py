"""Figures that papers print for the presets, the baselines and others, each with its source.

The rows of the CondenseNet paper that its official README does not repeat (light models, pruned networks,
Inception, top-5 of MobileNet) are from notes on the paper, not compared with its text again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """The figures that a source prints for a model, with its digits; None if it prints none.

    `model` is the name of a preset or a baseline if there is one, `flops` and `params` are in millions;
    errors are top-1 and top-5, 100 minus the printed figure if a source prints accuracies.
    """

    model: str
    data: str
    flops: float | None
    params: float | None
    error_percent: float
    top5_error_percent: float | None
    source: str
    url: str
    note: str = ""


NO_ARCHITECTURE = "the paper does not give its architecture: the nearest one with 160 layers"
ONE_COST = "costs are printed once for both data sets, with the ten classes of CIFAR-10"
PRUNED = "printed with the classifier pruned to half, which costs what the row below says"
STRIDE = "torchvision strides the 3x3 of a block, the paper the 1x1"

CIFAR10, CIFAR100, IMAGENET = "CIFAR-10", "CIFAR-100", "ImageNet"

OFFICIAL = "official CondenseNet README", "https://github.com/ShichenLiu/CondenseNet"
CONDENSENET_CIFAR = "CondenseNet paper (Huang et al. 2018), comparison on CIFAR", "arXiv:1711.09224"
CONDENSENET_IMAGENET = "CondenseNet paper (Huang et al. 2018), comparison on ImageNet", "arXiv:1711.09224"
DENSENET_CIFAR = "DenseNet paper (Huang et al. 2017), Table 2", "arXiv:1608.06993"
DENSENET_IMAGENET = "DenseNet paper (Huang et al. 2017), Table 3, single crop", "arXiv:1608.06993"
MOBILENET = "MobileNet paper (Howard et al. 2017), Table 8", "arXiv:1704.04861"
SHUFFLENET = "ShuffleNet paper (Zhang et al. 2018), Table 5", "arXiv:1707.01083v2"
MOBILENET_V2 = "MobileNetV2 paper (Sandler et al. 2018), Table 4", "arXiv:1801.04381"
SHUFFLENET_V2 = "ShuffleNet V2 paper (Ma et al. 2018), Tables 5 and 8", "arXiv:1807.11164"
SHUFFLENET_V2_LARGE = "ShuffleNet V2 paper (Ma et al. 2018), Table 6", "arXiv:1807.11164"
RESNET = "ResNet paper (He et al. 2016), Tables 1 and 3, ten crops", "arXiv:1512.03385"

PUBLISHED: tuple[Published, ...] = (
    Published("condensenet-50", CIFAR10, 28.6, 0.22, 6.22, None, *OFFICIAL),
    Published("condensenet-74", CIFAR10, 51.9, 0.41, 5.28, None, *OFFICIAL),
    Published("condensenet-86", CIFAR10, 65.8, 0.52, 5.06, None, *OFFICIAL),
    Published("condensenet-86", CIFAR100, 65.8, 0.52, 23.64, None, *OFFICIAL, ONE_COST),
    Published("condensenet-98", CIFAR10, 81.3, 0.65, 4.83, None, *OFFICIAL),
    Published("condensenet-110", CIFAR10, 98.2, 0.79, 4.63, None, *OFFICIAL),
    Published("condensenet-122", CIFAR10, 116.7, 0.95, 4.48, None, *OFFICIAL),
    Published("condensenet-182", CIFAR10, 513, 4.2, 3.76, None, *OFFICIAL),
    Published("condensenet-182", CIFAR100, 513, 4.2, 18.47, None, *OFFICIAL, ONE_COST),
    Published("condensenet-light-94", CIFAR10, 122, 0.33, 5.00, None, *CONDENSENET_CIFAR),
    Published("condensenet-light-94", CIFAR100, 122, 0.33, 24.08, None, *CONDENSENET_CIFAR, ONE_COST),
    Published("condensenet-light-160", CIFAR10, 1084, 3.1, 3.46, None, *CONDENSENET_CIFAR, NO_ARCHITECTURE),
    Published("condensenet-light-160", CIFAR100, 1084, 3.1, 17.55, None, *CONDENSENET_CIFAR, NO_ARCHITECTURE),
    Published("densenet-bc-100", CIFAR10, None, 0.8, 4.51, None, *DENSENET_CIFAR),
    Published("densenet-bc-100", CIFAR100, None, 0.8, 22.27, None, *DENSENET_CIFAR),
    Published("DenseNet-190", CIFAR10, 9388, 25.6, 3.46, None, *CONDENSENET_CIFAR),
    Published("DenseNet-190", CIFAR100, 9388, 25.6, 17.18, None, *CONDENSENET_CIFAR),
    Published("DenseNet-40-pruned", CIFAR10, 190, 0.66, 5.19, None, *CONDENSENET_CIFAR),
    Published("DenseNet-40-pruned", CIFAR100, 190, 0.66, 25.28, None, *CONDENSENET_CIFAR),
    Published("ResNet-164-B-pruned", CIFAR10, 124, 1.21, 5.27, None, *CONDENSENET_CIFAR),
    Published("ResNet-164-B-pruned", CIFAR100, 124, 1.21, 23.91, None, *CONDENSENET_CIFAR),
    Published("VGG-16-pruned", CIFAR10, 206, 5.40, 6.60, None, *CONDENSENET_CIFAR),
    Published("VGG-16-pruned", CIFAR100, 206, 5.40, 25.28, None, *CONDENSENET_CIFAR),
    Published("condensenet-74-imagenet-g4", IMAGENET, 529, 4.8, 26.2, 8.3, *OFFICIAL, PRUNED),
    Published("condensenet-74-imagenet-g8", IMAGENET, 274, 2.9, 29.0, 10.0, *OFFICIAL, PRUNED),
    Published("Inception V1", IMAGENET, 1448, 6.6, 30.2, 10.1, *CONDENSENET_IMAGENET),
    Published("mobilenet-1.0", IMAGENET, 569, 4.2, 29.4, None, *MOBILENET),
    Published("mobilenet-1.0", IMAGENET, 569, 4.2, 29.4, 10.5, *CONDENSENET_IMAGENET),
    Published("shufflenet-2x-g3", IMAGENET, 524, None, 26.3, None, *SHUFFLENET),
    Published("shufflenet-2x-g3", IMAGENET, 524, 5.3, 29.1, 10.2, *CONDENSENET_IMAGENET),
    Published("mobilenet-v2", IMAGENET, 300, 3.4, 28.0, None, *MOBILENET_V2),
    Published("shufflenet-v2-1x", IMAGENET, 146, 2.3, 30.6, None, *SHUFFLENET_V2),
    Published("shufflenet-v2-2x", IMAGENET, 591, 7.4, 25.1, None, *SHUFFLENET_V2),
    Published("densenet-121", IMAGENET, None, None, 25.02, 7.71, *DENSENET_IMAGENET),
    Published("resnet-50", IMAGENET, 3800, None, 24.0, None, *SHUFFLENET_V2_LARGE, STRIDE),
    Published("resnet-50", IMAGENET, 3800, None, 22.85, 6.71, *RESNET, STRIDE),
    Published("resnet-18", IMAGENET, 1818, None, 30.2, None, *OFFICIAL),
    Published("vgg-16", IMAGENET, 15300, None, 28.5, None, *OFFICIAL),
)
"""Figures as printed. FLOPs of CondenseNets are `flops_paper`; other papers mostly mean multiply-adds."""
