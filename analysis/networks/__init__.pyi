from .comparison import (
    agreement as agreement,
    compare_published as compare_published,
    published_rows as published_rows,
)
from .conventions import Conventions as Conventions
from .lookup import (
    check_used as check_used,
    find_cost as find_cost,
    find_network as find_network,
    find_run as find_run,
    load_network as load_network,
    load_run as load_run,
    load_run_at as load_run_at,
)
from .peers import BASELINES as BASELINES
from .published import PUBLISHED as PUBLISHED
from .sample_images import real_images as real_images, repeated as repeated
from .tracing import count_conventions as count_conventions
