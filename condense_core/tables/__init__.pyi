from .criteria import CRITERIA as CRITERIA, WEIGHT_CRITERIA as WEIGHT_CRITERIA, Criterion as Criterion
from .datasets import DATASETS as DATASETS, DataSource as DataSource
from .groupings import (
    GIVEN as GIVEN,
    GROUPINGS as GROUPINGS,
    LEARNED as LEARNED,
    SINGLE_WEIGHTS as SINGLE_WEIGHTS,
    Grouping as Grouping,
    learns_groups as learns_groups,
)
from .table import (
    Named as Named,
    Names as Names,
    Table as Table,
    UnknownName as UnknownName,
    implementation as implementation,
)
