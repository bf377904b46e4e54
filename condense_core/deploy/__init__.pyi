from .blocks import Index as Index
from .certificate import Certificate as Certificate, certify as certify
from .condensed import condense as condense, output_order as output_order
from .export import (
    Exported as Exported,
    check_format as check_format,
    export_file as export_file,
    quiet as quiet,
    write_onnx as write_onnx,
)
from .plan import Plan as Plan
from .planned import make_plan as make_plan
from .saving import load_condensed as load_condensed, save_condensed as save_condensed
