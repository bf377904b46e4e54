from .models import blank_image as blank_image, evaluating as evaluating, unchanged as unchanged
from .process import same_draws as same_draws, same_process as same_process
