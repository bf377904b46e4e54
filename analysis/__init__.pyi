from . import frames as frames, plots as plots, stats as stats
from .explorer import explore as explore
from .studies import Study as Study
