from .drawn import (
    independent_mask as independent_mask,
    is_mask as is_mask,
    random_mask as random_mask,
    sequential_mask as sequential_mask,
)
from .taken import fingerprint as fingerprint, shuffled as shuffled
