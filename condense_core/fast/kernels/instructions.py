"""Instructions on vectors of LLVM, as `vectors` and `microkernels` build them through numba's compiler."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

INDEX = ir.IntType(32)  # of a lane


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


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
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
