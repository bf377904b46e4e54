from .choices import choice_noise as choice_noise
from .comparisons import (
    compared as compared,
    comparisons as comparisons,
    effects as effects,
    effects_by_seed as effects_by_seed,
    interactions as interactions,
    of_kind as of_kind,
)
from .contrasts import (
    DIFFERENCE as DIFFERENCE,
    INTERACTION as INTERACTION,
    MAIN as MAIN,
    Cells as Cells,
    Contrast as Contrast,
    contrasts as contrasts,
)
from .estimates import (
    DIFFERS as DIFFERS,
    OPEN as OPEN,
    SAME as SAME,
    UNKNOWN as UNKNOWN,
    estimated as estimated,
)
from .evidence import Evidence as Evidence
from .intervals import (
    CONFIDENCE as CONFIDENCE,
    ERROR as ERROR,
    Interval as Interval,
    mean_interval as mean_interval,
)
from .outcomes import Outcomes as Outcomes, image_covariance as image_covariance
from .overlaps import (
    agreed as agreed,
    chance_by_source as chance_by_source,
    jackknifed as jackknifed,
    shared as shared,
    shared_by_source as shared_by_source,
)
from .regrets import regret_costs as regret_costs, regrets as regrets
from .summary import pareto as pareto, summarised as summarised, summary as summary
