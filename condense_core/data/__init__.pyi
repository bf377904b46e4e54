from .augmentation import Augmentation as Augmentation, Normalisation as Normalisation
from .datasets import Dataset as Dataset, load as load
from .images import Batch as Batch, DecodedImages as DecodedImages, Images as Images
from .shard import ALONE as ALONE, Shard as Shard
from .summary import DatasetSummary as DatasetSummary, summarise as summarise
