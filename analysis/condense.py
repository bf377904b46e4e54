"""`python -m analysis.condense`: condense a trained network, export it, and certify equal outputs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from condense_core import deploy

from .cli import (
    bad_input,
    batch_sizes,
    check_writable,
    checkpoint_options,
    command,
    data_dir_option,
    json_option,
    main,
    runs_option,
)
from .networks import real_images, repeated
from .text import print_table, say

if TYPE_CHECKING:
    from torch import Tensor

    from condense_core import CondenseNet
    from condense_core.deploy import Certificate, Exported

LAYER_COLUMNS = ("layer", "in", "groups", "kept", "share", "difference")
TARGETS_HELP = """file to export to: .pt2 (torch.export), .onnx or .safetensors (with its plan); may be given
several times"""
DATA_HELP = """data set of the images, like a study's data  (default: the run's data; photographs for a
checkpoint)"""
BATCH_HELP = """batch sizes for which to measure what is fastest: the forms of an .onnx file for all of them,
the plan of a .safetensors file for the first  (default: 1,8)"""
FOR_HELP = """runtime in which an .onnx file shall be fast  (default: onnxruntime)"""


@command
@click.argument("run_or_checkpoint")
@click.option("--to", "targets", type=click.Path(path_type=Path), multiple=True, help=TARGETS_HELP)
@click.option("--images", type=click.IntRange(1), default=32, help="real images to compare on  (default: 32)")
@click.option("--data", metavar="X", help=DATA_HELP)
@click.option("--for", "runtime", default="onnxruntime", metavar="X", help=FOR_HELP)
@click.option("--batch", "batches", metavar="N,N", help=BATCH_HELP)
@click.option("--per-layer", is_flag=True, help="one row per layer")
@runs_option
@data_dir_option
@checkpoint_options
@json_option
def condense(
    run_or_checkpoint: str,
    targets: tuple[Path, ...],
    images: int,
    data: str | None,
    per_layer: bool,
    runs: Path,
    data_dir: Path,
    runtime: str,
    batches: str | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Condense a run of the store or an official checkpoint (masked or converted).

    The condensed network is compared with the masked one, layer by layer on real images, and every exported
    file is run in its own runtime. The results of both are written to FILE.certificate.json.
    """
    with bad_input():
        from condense_core.store import RunStore

        from .networks import load_network

        deploy.check_runtime(runtime)
        sizes = batch_sizes(batches or "1,8")
        for target in targets:
            deploy.check_format(target)
            check_writable(target.parent)
        store = RunStore(runs)
        model = load_network(run_or_checkpoint, store, **settings).eval()
        real, images_from = real_images(run_or_checkpoint, store, model, data, data_dir, images)
        small = deploy.condense(model)
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
    certificate = deploy.certify(model, small, real, images_from)
    record = _record(run_or_checkpoint, model, certificate)
    measured: dict[str, Any] = {}
    if certificate.passes:
        kinds = {target.suffix for target in targets}
        if ".safetensors" in kinds or (batches and not kinds):
            measured[".safetensors"] = deploy.make_plan(small, repeated(real, sizes[0]))
            record["plan"] = measured[".safetensors"].to_dict()
        if ".onnx" in kinds:
            measured[".onnx"] = deploy.choose_forms(small, runtime, sizes)
    with bad_input():  # a folder may vanish, a disk may be full
        exported = _export(model, small, real, targets, record, measured) if certificate.passes else []
    if as_json:
        click.echo(json.dumps(record | {"exports": [_plain(export) for export in exported]}, indent=1))
    else:
        _print(certificate, per_layer)
        for found in measured.values():
            say(str(found))
    return _verdict(certificate, exported, targets, as_json)


def _export(
    model: CondenseNet,
    small: CondenseNet,
    images: Tensor,
    targets: tuple[Path, ...],
    record: dict[str, Any],
    measured: dict[str, Any],
) -> list[Exported]:
    import torch

    with torch.no_grad():
        reference = model(images)
    exported = []
    for target in targets:
        own: Any = measured.get(target.suffix)
        exported.append(deploy.export_file(small, target, images, reference, own))
        if exported[-1].passes:
            forms = {"forms": own.to_dict()} if target.suffix == ".onnx" else {}
            _write_certificate(target, record | {"export": _plain(exported[-1])} | forms)
    return exported


def _record(name: str, model: CondenseNet, certificate: Certificate) -> dict[str, Any]:
    from condense_core.store import environment
    from condense_core.validation import to_dict

    return {
        "source": Path(name).name,
        "certificate": certificate.to_dict(),
        "model": to_dict(model.config),
        "environment": environment(),
    }


def _plain(export: Exported) -> dict[str, Any]:
    return dataclasses.asdict(export) | {"holds": export.passes}


def _write_certificate(target: Path, record: dict[str, Any]) -> None:
    from condense_core.files import write_json

    write_json(target.with_name(f"{target.name}.certificate.json"), record)


def _print(certificate: Certificate, per_layer: bool) -> None:
    if per_layer:
        print_table("Layer by layer", LAYER_COLUMNS, [_layer_row(layer) for layer in certificate.layers])
    say(_shares_line(certificate))
    say(
        f"Outputs: largest difference {certificate.worst:.1e} in a layer, {certificate.logits_difference:.1e} "
        f"at the logits (max |Δ| / max |reference|, at most {certificate.tolerance:g}); "
        f"{certificate.images} {certificate.images_from}."
    )
    parameters = f"{certificate.params_before:,} to {certificate.params_after:,} parameters"
    size = f"{certificate.bytes_before:,} to {certificate.bytes_after:,} bytes"
    say(f"Size: {parameters}, {size}; {certificate.macs:,} MACs per image.")


def _layer_row(layer: Any) -> tuple[str, ...]:
    counts = map(str, (layer.in_channels, layer.groups, layer.kept, layer.share))
    return (layer.name, *counts, f"{layer.difference:.1e}")


def _shares_line(certificate: Certificate) -> str:
    if not certificate.layers:
        return "Shares: no layer is masked; the network is condensed already, or dense."
    shares = sum(layer.kept == layer.share for layer in certificate.layers)
    stage = "no stage" if certificate.stage is None else f"stage {certificate.stage}"
    finished = certificate.stage in (None, certificate.last_stage)
    return (
        f"Shares: in {shares} of {len(certificate.layers)} layers every group keeps exactly its share, "
        f"that of {stage} of 0 to {certificate.last_stage}"
        f"{'' if finished else ': pruning is not finished'}."
    )


def _verdict(
    certificate: Certificate, exported: list[Exported], targets: tuple[Path, ...], as_json: bool
) -> int:
    """Report which files were written and which not; return the exit status."""
    if not certificate.passes:
        say("condense: the condensed network differs from the masked one; nothing was exported", err=True)
        return 1
    for target, export in zip(targets, exported, strict=True):
        text = f"{export.difference:.1e} from the masked network's logits in {export.runtime}"
        if not export.passes:
            say(f"condense: {target}: {text}; not written", err=True)
        elif not as_json:
            say(f"Written: {target} ({export.bytes:,} bytes; {text}), {target.name}.certificate.json")
    return 0 if all(export.passes for export in exported) else 1


if __name__ == "__main__":
    main(condense)
