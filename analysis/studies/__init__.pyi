from .config import (
    DEFAULTS as DEFAULTS,
    StudyConfig as StudyConfig,
    command as command,
    study_config as study_config,
)
from .estimate import plan as plan
from .named import NAMED_STUDIES as NAMED_STUDIES
from .options import read_toml as read_toml, settings_options as settings_options
from .study import Study as Study, report_of as report_of
