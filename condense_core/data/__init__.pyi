from .augmentation import Augmentation as Augmentation, Normalisation as Normalisation
from .datasets import Dataset as Dataset, check_data as check_data
from .images import Batch as Batch, DecodedImages as DecodedImages, Images as Images, spread as spread
from .loaders import load as load, read as read
from .shard import ALONE as ALONE, Shard as Shard
from .splits import Source as Source, split as split
from .summary import DatasetSummary as DatasetSummary, summarise as summarise
