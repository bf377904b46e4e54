from .models import (
    blank_image as blank_image,
    evaluating as evaluating,
    hooks_of as hooks_of,
    is_wrapped as is_wrapped,
    unchanged as unchanged,
    unwrapped as unwrapped,
)
from .process import same_draws as same_draws, same_process as same_process
