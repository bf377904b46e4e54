from .blocks import Index as Index
from .certificate import Certificate as Certificate, certify as certify
from .condensed import condense as condense
from .export import (
    Exported as Exported,
    check_format as check_format,
    export_file as export_file,
    quiet as quiet,
)
from .layers import output_order as output_order
from .onnx_forms import Forms as Forms, choose_forms as choose_forms, dense_forms as dense_forms
from .onnx_graph import network_file as network_file
from .plan import Plan as Plan
from .planned import make_plan as make_plan
from .runtimes import (
    RUNTIMES as RUNTIMES,
    check_runtime as check_runtime,
    installed_runtimes as installed_runtimes,
)
from .saving import load_condensed as load_condensed, save_condensed as save_condensed
from .tracing import channel_sources as channel_sources
