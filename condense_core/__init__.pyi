from .config import (
    DataConfig as DataConfig,
    ModelConfig as ModelConfig,
    RecipeConfig as RecipeConfig,
    RunConfig as RunConfig,
)
from .cost import CostTable as CostTable, cost_table as cost_table
from .deploy import (
    condense as condense,
    load_condensed as load_condensed,
    make_plan as make_plan,
    save_condensed as save_condensed,
)
from .learning import Condensation as Condensation, dense as dense, learn_groups as learn_groups
from .model import CondenseNet as CondenseNet
from .official import load_official as load_official
from .presets import PRESETS as PRESETS
from .training import Trainer as Trainer

__version__: str
