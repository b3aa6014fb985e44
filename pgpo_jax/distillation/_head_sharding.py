"""The output head's products on a mesh, with the vocabulary cut over axes that also cut rows."""

import math
from typing import NamedTuple

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from pgpo_jax.errors import PGPOValueError


class HeadSharding(NamedTuple):
    """How rows and vocabulary of the output head are cut over a mesh.

    An axis may cut both rows and vocabulary. Between two products with the head a device holds its
    rows of the hidden states. During a product it holds its words of every row. So no device holds
    a whole head or the gradient of one. Only hidden states are moved, which are much smaller.

    Attributes:
        mesh: the mesh.
        rows: mesh axes that cut the sequences of a batch.
        vocabulary: mesh axes that cut the words.

    >>> import jax
    >>> mesh = jax.make_mesh((1, 1), ("fsdp", "tensor"), devices=jax.devices()[:1])
    >>> HeadSharding(mesh, rows=("fsdp",), vocabulary=("tensor", "fsdp")).shared_rows
    ()

    Added in version 0.2.0.
    """

    mesh: Mesh | AbstractMesh
    rows: tuple[str, ...]
    vocabulary: tuple[str, ...]

    @property
    def shared_rows(self) -> tuple[str, ...]:
        """Axes that cut the rows of a chunk of logits: those that do not cut its words."""
        return tuple(axis for axis in self.rows if axis not in self.vocabulary)

    def check(self, words: int) -> None:
        """Refuses a vocabulary that cannot be cut.

        Args:
            words: number of words, V.

        Raises:
            ValueError: V does not divide over `vocabulary`.
        """
        parts = self._parts(self.vocabulary)
        if words % parts:
            raise PGPOValueError(
                f"The vocabulary of {words} must divide over {' x '.join(self.vocabulary)} = "
                f"{parts}."
            )

    def head(self, head: Float[Array, "D V"]) -> Float[Array, "D V"]:
        """Sharding of a head or of its gradient."""
        return self._pin(head, PartitionSpec(None, self.vocabulary))

    def gathered(self, hidden: Float[Array, "rows length D"]) -> Float[Array, "rows length D"]:
        """Sharding of hidden states during the product with the head."""
        return self._pin(hidden, PartitionSpec(*self._over(hidden, self.shared_rows)))

    def scattered(self, hidden: Float[Array, "rows length D"]) -> Float[Array, "rows length D"]:
        """Sharding of hidden states, or of their gradient, in the model."""
        return self._pin(hidden, PartitionSpec(*self._over(hidden, self.rows)))

    def logits(self, logits: Float[Array, "rows length V"]) -> Float[Array, "rows length V"]:
        """Sharding of the logits of a chunk."""
        return self._pin(
            logits, PartitionSpec(*self._over(logits, self.shared_rows), self.vocabulary)
        )

    def _over(self, x: Array, axes: tuple[str, ...]) -> tuple[tuple[str, ...] | None, ...]:
        """Puts the axes on rows or tokens: on the first of them that they divide."""
        fits = [size % self._parts(axes) == 0 for size in x.shape[:2]]
        return (axes if fits[0] else None, axes if fits[1] and not fits[0] else None)

    def _parts(self, axes: tuple[str, ...]) -> int:
        return math.prod(self.mesh.shape[axis] for axis in axes)

    def _pin(self, x: Array, spec: PartitionSpec) -> Array:
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))
