"""The matrix products of a compiled program and the dtypes of their operands."""

import re
from typing import NamedTuple

from pgpo_jax.training.target._hlo import ProgramText

# A TPU's compiler writes products as convolutions, the CUDA compiler as calls of libraries.
_LIBRARY = re.compile(r'custom_call_target="[^"]*(?:cublas|gemm|fmha)')
_SOURCE = re.compile(r'op_name="([^"]*)"')
_OPERAND = re.compile(r"%?([\w.\-]+)")


class Product(NamedTuple):
    """One matrix product, or one call of attention.

    Attributes:
        dtypes: dtypes of the two operands, by the compiler's names, such as "bf16" and "f32".
        source: path of JAX operations that it comes from. That of an einsum has its letters.

    Added in version 0.2.0.
    """

    dtypes: tuple[str, str]
    source: str


def products(text: ProgramText) -> list[Product]:
    """The products of a program, in the order of its text. A product in a loop counts once.

    Args:
        text: text of a program before or after compilation. XLA for CPU converts operands to
            float32, so its compiled programs say nothing about other devices.

    Returns:
        The products.

    Added in version 0.2.0.
    """
    dtypes = {
        (one.computation, one.name): one.shape.lstrip("(").partition("[")[0]
        for one in text.instructions
    }
    found = []
    for one in text.instructions:
        library = one.kind == "custom-call" and _LIBRARY.search(one.rest)
        if one.kind in ("dot", "convolution") or library:
            left, right = _OPERAND.findall(one.rest.partition(")")[0])[:2]
            source = _SOURCE.search(one.rest)
            found.append(
                Product(
                    (dtypes[one.computation, left], dtypes[one.computation, right]),
                    source[1] if source else one.name,
                )
            )
    return found
