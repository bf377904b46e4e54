"""Two products of small matrices that stay in registers, written in LLVM's vectors through numba.

LLVM turns a vector of 16 numbers into whatever registers the machine has. Arrays are flat, places and strides
count numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # pixels of a block


def _pointer(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [place])


def _vector(builder: Any, pointer: Any, place: Any, vector: Any) -> Any:
    return builder.bitcast(builder.gep(pointer, [place]), vector.as_pointer())


def _loaded(builder: Any, pointer: Any, place: Any, vector: Any) -> Any:
    return builder.load(_vector(builder, pointer, place, vector), align=4)


def _store(builder: Any, value: Any, pointer: Any, place: Any) -> None:
    builder.store(value, _vector(builder, pointer, place, value.type), align=4)


def _fused(builder: Any, vector: Any, a: Any, b: Any, c: Any) -> Any:
    lanes, kind = vector.count, "f32" if vector.element == ir.FloatType() else "f64"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{lanes}{kind}"
    )
    return builder.call(function, [a, b, c])


def _splat(builder: Any, vector: Any, scalar: Any) -> Any:
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, first, lanes)


def _loop(builder: Any, count: Any, start: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Values that `body` carries through `count` rounds, at least one, in registers."""
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


def panel(rows: int) -> Any:
    """out[m, :16] = Σ_k weights[k, m] · x[offsets[k] : + 16] for `rows` outputs m.

    Arguments: x, its place, offsets, how many, weights, their place, out, its place, stride of its rows.
    """

    @intrinsic
    def product(
        typing: Any,
        x: Any,
        at: Any,
        offsets: Any,
        count: Any,
        weights: Any,
        first: Any,
        out: Any,
        to: Any,
        stride: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds = signature.args
            x_, at_, offsets_, count_, weights_, first_, out_, to_, stride_ = arguments
            source = _pointer(context, builder, kinds[0], x_, at_)
            places = _pointer(context, builder, kinds[2], offsets_, ir.Constant(at_.type, 0))
            factors = _pointer(context, builder, kinds[4], weights_, first_)
            target = _pointer(context, builder, kinds[6], out_, to_)
            vector = ir.VectorType(source.type.pointee, LANES)
            zero = ir.Constant(vector, [0.0] * LANES)

            def step(k: Any, sums: list[Any]) -> list[Any]:
                value = _loaded(builder, source, builder.load(builder.gep(places, [k])), vector)
                own = builder.gep(factors, [builder.mul(k, ir.Constant(k.type, rows))])
                scalars = [builder.load(builder.gep(own, [ir.Constant(k.type, m)])) for m in range(rows)]
                return [
                    _fused(builder, vector, _splat(builder, vector, w), value, s)
                    for w, s in zip(scalars, sums, strict=True)
                ]

            for m, total in enumerate(_loop(builder, count_, [zero] * rows, step)):
                _store(builder, total, target, builder.mul(stride_, ir.Constant(stride_.type, m)))
            return context.get_dummy_value()

        whole = types.intp
        return types.void(x, whole, offsets, whole, weights, whole, out, whole, whole), generate

    return product


def dots(rows: int, columns: int) -> Any:
    """sums[m, k, :8] += Σ over blocks of d[m, block] · x[k, block], lane by lane: of a weight's gradient.

    Arguments: d, its place, stride of its rows, of its blocks; x, its place, offsets of its rows, the first of
    them, stride of its blocks; number of blocks; sums, their place.
    """
    lanes = LANES // 2

    @intrinsic
    def product(
        typing: Any,
        d: Any,
        at: Any,
        stride: Any,
        step: Any,
        x: Any,
        there: Any,
        offsets: Any,
        first: Any,
        stepx: Any,
        count: Any,
        sums: Any,
        to: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds = signature.args
            d_, at_, stride_, step_, x_, there_, offsets_, first_, stepx_, count_, sums_, to_ = arguments
            left = _pointer(context, builder, kinds[0], d_, at_)
            right = _pointer(context, builder, kinds[4], x_, there_)
            places = _pointer(context, builder, kinds[6], offsets_, first_)
            target = _pointer(context, builder, kinds[10], sums_, to_)
            vector = ir.VectorType(left.type.pointee, lanes)
            number = at_.type
            lefts = [builder.gep(left, [builder.mul(stride_, ir.Constant(number, m))]) for m in range(rows)]
            rights = [
                builder.gep(right, [builder.load(builder.gep(places, [ir.Constant(number, k)]))])
                for k in range(columns)
            ]
            cells = [(m, k) for m in range(rows) for k in range(columns)]
            start = [
                _loaded(builder, target, ir.Constant(number, lanes * cell), vector)
                for cell in range(len(cells))
            ]

            def add(block: Any, totals: list[Any]) -> list[Any]:
                for half in range(2):
                    shift = ir.Constant(number, half * lanes)
                    own = builder.add(builder.mul(block, step_), shift)
                    other = builder.add(builder.mul(block, stepx_), shift)
                    a = [_loaded(builder, pointer, own, vector) for pointer in lefts]
                    b = [_loaded(builder, pointer, other, vector) for pointer in rights]
                    totals = [
                        _fused(builder, vector, a[m], b[k], total)
                        for (m, k), total in zip(cells, totals, strict=True)
                    ]
                return totals

            for cell, total in enumerate(_loop(builder, count_, start, add)):
                _store(builder, total, target, ir.Constant(number, lanes * cell))
            return context.get_dummy_value()

        whole = types.intp
        return types.void(d, whole, whole, whole, x, whole, offsets, whole, whole, whole, sums, whole), generate

    return product


@intrinsic
def arrive(typing: Any, counters: Any, at: Any) -> Any:
    """Add 1 to a counter that other threads read."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter = _pointer(context, builder, signature.args[0], *arguments)
        builder.atomic_rmw("add", counter, ir.Constant(counter.type.pointee, 1), "acq_rel")
        return context.get_dummy_value()

    return types.void(counters, at), generate


@intrinsic
def arrived(typing: Any, counters: Any, at: Any) -> Any:
    """A counter to which other threads add."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter = _pointer(context, builder, signature.args[0], *arguments)
        return builder.load_atomic(counter, "acquire", align=8)

    return types.int64(counters, at), generate


if os.name == "posix":
    _yield = types.ExternalFunction("sched_yield", types.intc())

    @njit
    def give_way() -> None:
        """Let the system run another thread."""
        _yield()

else:

    @njit
    def give_way() -> None:
        """Nothing: the system takes the core away by itself."""
