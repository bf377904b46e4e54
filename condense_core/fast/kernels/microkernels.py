"""Two products of small matrices that stay in registers, written as LLVM vectors through numba.

LLVM maps a vector of 16 numbers to the registers that the machine has. Arrays are flat; places and strides
count numbers, not bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .vectors import LANES, loaded, pointer, product_sum, splat, stored


def _loop(builder: Any, count: Any, start: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Carry values through `count` rounds of `body`, at least one, in registers (as LLVM's phi nodes)."""
    before, inside = builder.block, builder.append_basic_block("round")
    after = builder.append_basic_block("done")
    builder.branch(inside)
    builder.position_at_end(inside)
    number = builder.phi(count.type)
    values = [builder.phi(value.type) for value in start]
    results = body(number, values)
    following = builder.add(number, ir.Constant(count.type, 1))
    for phi, first, result in zip(
        [number, *values], [ir.Constant(count.type, 0), *start], [following, *results], strict=True
    ):
        phi.add_incoming(first, before)
        phi.add_incoming(result, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
    builder.position_at_end(after)
    return results


def panel(rows: int, vectors: int = 1) -> Any:
    """Make the product out[m, :P] = Σ_k weights[k, m] · x[offsets[k] : + P] for `rows` outputs m.

    P is 16 pixels times `vectors`; with few rows several of these hide how long a product takes.

    Arguments: x, its place, offsets, how many; weights, their place; out, its place, stride of its rows.
    """

    @intrinsic
    def product(
        typing: Any, x: Any, src: Any, offsets: Any, count: Any, weights: Any, first: Any, out: Any, dst: Any,
        stride: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds = signature.args
            x_, src_, offsets_, count_, weights_, first_, out_, dst_, stride_ = arguments
            pixels = pointer(context, builder, kinds[0], x_, src_)
            places = pointer(context, builder, kinds[2], offsets_, ir.Constant(src_.type, 0))
            factors = pointer(context, builder, kinds[4], weights_, first_)
            target = pointer(context, builder, kinds[6], out_, dst_)
            vector = ir.VectorType(pixels.type.pointee, LANES)
            zero = ir.Constant(vector, [0.0] * LANES)

            def step(k: Any, sums: list[Any]) -> list[Any]:
                # Load the pixels once, and use them for every output.
                first = builder.load(builder.gep(places, [k]))
                starts = [builder.add(first, ir.Constant(k.type, LANES * own)) for own in range(vectors)]
                values = [loaded(builder, pixels, start, vector) for start in starts]
                column = builder.gep(factors, [builder.mul(k, ir.Constant(k.type, rows))])
                scalars = [builder.load(builder.gep(column, [ir.Constant(k.type, m)])) for m in range(rows)]
                factors_ = [splat(builder, vector, scalar) for scalar in scalars for _ in values]
                return [
                    product_sum(builder, factor, value, s)
                    for factor, value, s in zip(factors_, values * rows, sums, strict=True)
                ]

            for number, total in enumerate(_loop(builder, count_, [zero] * rows * vectors, step)):
                row, own = divmod(number, vectors)
                place = builder.mul(stride_, ir.Constant(stride_.type, row))
                stored(builder, total, target, builder.add(place, ir.Constant(stride_.type, LANES * own)))
            return context.get_dummy_value()

        whole = types.intp
        return types.void(x, whole, offsets, whole, weights, whole, out, whole, whole), generate

    return product


def dots(rows: int, columns: int) -> Any:
    """Make the product sums[m, k, :8] += Σ over blocks of d[m, block] · x[k, block], lane by lane.

    It gives the gradient of a weight. Its lanes are summed once at the end, not in every call: see `packing`.
    Arguments: d, its place, stride of its rows, of its blocks; x, its place, offsets of its rows, the first of
    them, stride of its blocks; number of blocks; sums, their place.
    """
    lanes = LANES // 2  # so that the sums of 8 cells fit the registers of AVX2

    @intrinsic
    def product(
        typing: Any, d: Any, src: Any, stride: Any, d_step: Any, x: Any, x_src: Any, offsets: Any, first: Any,
        x_step: Any, count: Any, sums: Any, dst: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds = signature.args
            d_, src_, stride_, d_step_, x_, x_src_, offsets_, first_, x_step_, count_, sums_, dst_ = arguments
            left = pointer(context, builder, kinds[0], d_, src_)
            right = pointer(context, builder, kinds[4], x_, x_src_)
            places = pointer(context, builder, kinds[6], offsets_, first_)
            target = pointer(context, builder, kinds[10], sums_, dst_)
            vector = ir.VectorType(left.type.pointee, lanes)
            number = src_.type
            lefts = [builder.gep(left, [builder.mul(stride_, ir.Constant(number, m))]) for m in range(rows)]
            rights = [
                builder.gep(right, [builder.load(builder.gep(places, [ir.Constant(number, k)]))])
                for k in range(columns)
            ]
            cells = [(m, k) for m in range(rows) for k in range(columns)]
            start = [
                loaded(builder, target, ir.Constant(number, lanes * cell), vector) for cell in range(len(cells))
            ]

            def add(block: Any, totals: list[Any]) -> list[Any]:
                for half in range(2):
                    shift = ir.Constant(number, half * lanes)
                    d_place = builder.add(builder.mul(block, d_step_), shift)
                    x_place = builder.add(builder.mul(block, x_step_), shift)
                    a = [loaded(builder, own, d_place, vector) for own in lefts]
                    b = [loaded(builder, own, x_place, vector) for own in rights]
                    totals = [
                        product_sum(builder, a[m], b[k], total)
                        for (m, k), total in zip(cells, totals, strict=True)
                    ]
                return totals

            for cell, total in enumerate(_loop(builder, count_, start, add)):
                stored(builder, total, target, ir.Constant(number, lanes * cell))
            return context.get_dummy_value()

        whole = types.intp
        return types.void(d, whole, whole, whole, x, whole, offsets, whole, whole, whole, sums, whole), generate

    return product


@intrinsic
def arrive(typing: Any, counters: Any, place: Any) -> Any:
    """Add 1 to a counter that other threads read."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter = pointer(context, builder, signature.args[0], *arguments)
        builder.atomic_rmw("add", counter, ir.Constant(counter.type.pointee, 1), "acq_rel")
        return context.get_dummy_value()

    return types.void(counters, place), generate


@intrinsic
def arrived(typing: Any, counters: Any, place: Any) -> Any:
    """Read a counter to which other threads add."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter = pointer(context, builder, signature.args[0], *arguments)
        return builder.load_atomic(counter, "acquire", align=8)

    return types.int64(counters, place), generate


if os.name == "posix":
    _yield = types.ExternalFunction("sched_yield", types.intc())

    @njit
    def give_way() -> None:
        """Let the system run another thread."""
        _yield()

else:

    @njit
    def give_way() -> None:
        """Do nothing: the system takes the core away by itself."""
