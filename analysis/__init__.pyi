from . import frames as frames, plots as plots, stats as stats
from .engines import train_fork as train_fork
from .explorer import explore as explore
from .studies import Study as Study
from .tracking import track as track
