"""Sixteen numbers as one value in a kernel: a vector of LLVM, whatever registers the machine has.

numba's loops over rows stay scalar where LLVM cannot know that what they write is not what they read. A place
counts numbers from the first one of an array, whatever its axes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16  # pixels of a block: one AVX-512 register of float32, two of AVX2
INDEX = ir.IntType(32)  # of a lane
_START, _ALIGNMENT = ir.IntType(64)(0), INDEX(4)


def pointer(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Any:
    """Point to a place of an array, counted from its first number whatever its axes."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [place])


def loaded(builder: Any, numbers: Any, place: Any, vector: Any) -> Any:
    """Load numbers from a place after a pointer on."""
    return builder.load(_vector_at(builder, numbers, place, vector), align=4)


def stored(builder: Any, value: Any, numbers: Any, place: Any) -> None:
    """Store numbers from a place after a pointer on."""
    builder.store(value, _vector_at(builder, numbers, place, value.type), align=4)


def _vector_at(builder: Any, numbers: Any, place: Any, vector: Any) -> Any:
    return builder.bitcast(builder.gep(numbers, [place]), vector.as_pointer())


def product_sum(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a · b + c."""
    vector = a.type
    return call(builder, f"llvm.fmuladd.{suffix(vector)}", vector, [a, b, c])


def splat(builder: Any, vector: Any, scalar: Any) -> Any:
    """Repeat a number in all lanes."""
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, INDEX(0))
    return shuffled(builder, first, [0] * vector.count)


def shuffled(builder: Any, value: Any, lanes: list[int]) -> Any:
    """Return the lanes of a vector in another order."""
    return builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(INDEX, len(lanes)), lanes))


def call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call an intrinsic of LLVM."""
    function = ir.FunctionType(result, [own.type for own in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)


def suffix(vector: Any) -> str:
    """Name a vector as intrinsics of LLVM do."""
    return f"v{vector.count}{'f32' if vector.element == ir.FloatType() else 'f64'}"


class Vector(types.Type):
    """The type of `LANES` numbers."""

    def __init__(self, dtype: types.Type):
        self.dtype = dtype
        super().__init__(f"Vector({dtype})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector):
        super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.dtype).get_value_type(), LANES))


@intrinsic
def load(typing: Any, array: Any, place: Any) -> Any:
    """Return the numbers of an array from a place on."""
    kind = Vector(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers = pointer(context, builder, signature.args[0], *arguments)
        return loaded(builder, numbers, _START, context.get_value_type(kind))

    return kind(array, types.intp), generate


@intrinsic
def store(typing: Any, value: Any, array: Any, place: Any) -> Any:
    """Write numbers to an array from a place on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own, target, first = arguments
        stored(builder, own, pointer(context, builder, signature.args[1], target, first), _START)
        return context.get_dummy_value()

    return types.void(value, array, types.intp), generate


@intrinsic
def repeat(typing: Any, number: Any) -> Any:
    """Return a number in all lanes."""
    kind = Vector(number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(kind)
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), arguments[0], ir.IntType(32)(0))
        return builder.shuffle_vector(
            first, first, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        )

    return kind(number), generate


@intrinsic
def fused(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a · b + c."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return product_sum(builder, *arguments)

    return a(a, b, c), generate


@intrinsic
def plus(typing: Any, a: Any, b: Any) -> Any:
    """Return a + b."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments)

    return a(a, b), generate


@intrinsic
def relu(typing: Any, a: Any) -> Any:
    """Return a, 0 where it is negative; NaN stays NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        zero = ir.Constant(value.type, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered("<", value, zero), zero, value)

    return a(a), generate


@intrinsic
def where_positive(typing: Any, a: Any, b: Any) -> Any:
    """Return b, 0 where a is not positive."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, kept = arguments
        zero = ir.Constant(value.type, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">", value, zero), kept, zero)

    return b(a, b), generate


@intrinsic
def total(typing: Any, a: Any) -> Any:
    """Return the sum of the lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,), lanes = arguments, LANES
        while lanes > 1:  # fold it in halves
            lanes //= 2
            value = builder.fadd(value, shuffled(builder, value, [(i + lanes) % LANES for i in range(LANES)]))
        return builder.extract_element(value, INDEX(0))

    return a.dtype(a), generate


@intrinsic
def doubled(typing: Any, a: Any) -> Any:
    """Return every lane twice, in two vectors."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        halves = [[half * LANES // 2 + lane // 2 for lane in range(LANES)] for half in range(2)]
        vectors = [shuffled(builder, arguments[0], half) for half in halves]
        return context.make_tuple(builder, signature.return_type, vectors)

    return types.UniTuple(a, 2)(a), generate


@intrinsic
def load_first(typing: Any, array: Any, place: Any, count: Any) -> Any:
    """Return `count` numbers of an array from a place on, and 0 in the lanes after them."""
    kind = Vector(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, (own, first, count) = context.get_value_type(kind), arguments
        address = builder.bitcast(pointer(context, builder, signature.args[0], own, first), vector.as_pointer())
        given = [address, _ALIGNMENT, _first_lanes(builder, count), ir.Constant(vector, None)]
        return call(builder, f"llvm.masked.load.{suffix(vector)}.p0", vector, given)

    return kind(array, types.intp, types.intp), generate


@intrinsic
def store_first(typing: Any, value: Any, array: Any, place: Any, count: Any) -> Any:
    """Write `count` lanes to an array from a place on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own, target, first, count = arguments
        address = pointer(context, builder, signature.args[1], target, first)
        given = [own, builder.bitcast(address, own.type.as_pointer()), _ALIGNMENT, _first_lanes(builder, count)]
        call(builder, f"llvm.masked.store.{suffix(own.type)}.p0", ir.VoidType(), given)
        return context.get_dummy_value()

    return types.void(value, array, types.intp, types.intp), generate


@intrinsic
def keep_first(typing: Any, value: Any, count: Any) -> Any:
    """Return `count` lanes, and 0 in those after them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own, count = arguments
        return builder.select(_first_lanes(builder, count), own, ir.Constant(own.type, None))

    return value(value, types.intp), generate


def _first_lanes(builder: Any, count: Any) -> Any:
    lanes = ir.VectorType(INDEX, LANES)
    counts = splat(builder, lanes, builder.trunc(count, INDEX))
    return builder.icmp_signed("<", ir.Constant(lanes, list(range(LANES))), counts)
