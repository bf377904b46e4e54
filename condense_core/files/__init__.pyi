from .atomic import (
    UNFINISHED as UNFINISHED,
    Unflushed as Unflushed,
    append_row as append_row,
    flush as flush,
    make_folder as make_folder,
    move as move,
    naming as naming,
    write_atomically as write_atomically,
    write_json as write_json,
)
from .parsing import (
    MAX_TOML as MAX_TOML,
    parse_json as parse_json,
    parse_toml as parse_toml,
    read_bytes as read_bytes,
    read_json as read_json,
    read_rows as read_rows,
    read_text as read_text,
)
from .paths import (
    check_inside as check_inside,
    check_links as check_links,
    check_there as check_there,
    plain_name as plain_name,
)
from .schema import (
    MAX_WHOLE as MAX_WHOLE,
    NonNegative as NonNegative,
    NonNegativeInt as NonNegativeInt,
    Number as Number,
    Percent as Percent,
    PositiveInt as PositiveInt,
    Text as Text,
    check_record as check_record,
    find_fault as find_fault,
    nearest as nearest,
)
from .stray import LeftOut as LeftOut, is_stray as is_stray
from .tensors import (
    load_arrays as load_arrays,
    notes_of as notes_of,
    read_checked as read_checked,
    read_tensors as read_tensors,
    tensor_bytes as tensor_bytes,
    write_tensors as write_tensors,
)
