from .config import (
    DEFAULTS as DEFAULTS,
    StudyConfig as StudyConfig,
    command as command,
    study_config as study_config,
)
from .estimate import PLAN_COLUMNS as PLAN_COLUMNS, plan as plan, plan_rows as plan_rows
from .forks import forks_name as forks_name, join_forks as join_forks
from .named import NAMED_STUDIES as NAMED_STUDIES
from .options import naming_file as naming_file, read_toml as read_toml, settings_options as settings_options
from .study import Study as Study, report_command as report_command
