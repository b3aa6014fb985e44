"""The models that a loss reads, and their hidden states at the response tokens."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from pgpo_jax.distillation import HeadSharding
from pgpo_jax.models import partition_spec
from pgpo_jax.models._sharding import axis_parts
from pgpo_jax.training.rollout._batch import Experience


class Models(NamedTuple):
    """The models that a loss reads, inside the jitted step.

    Attributes:
        graphdef: the structure of the student, and of the teacher unless that is another model.
        student: weights of the student; the loss is differentiated through them.
        teacher: separate weights of the teacher (a moving average, the initial model, another
            model); `None` if there is none.
        temperature: logits are divided by it.
        teacher_graphdef: the structure of the teacher if it is another model, else `None`.

    Added in version 0.2.0.
    """

    graphdef: Any
    student: Any
    teacher: Any
    temperature: float
    teacher_graphdef: Any = None

    @property
    def head_sharding(self) -> HeadSharding | None:
        """The sharding of the head losses' products with the head.

        It is `None` if the model's weights are not cut over "fsdp", or its vocabulary cannot be cut
        over it.
        """
        return _head_sharding(nnx.merge(self.graphdef, self.student))


def response_states(
    graphdef: Any,
    weights: Any,
    batch: Experience,
    prompt: Array,
    prompt_mask: Bool[Array, "U P"],
    owner: Array | None,
) -> tuple[Float[Array, "R T D"], Float[Array, "D V"]]:
    """The hidden states that predict the responses behind some prompts, and the output head, laid
    out as `Models.head_sharding` says.

    Response token t is predicted from the hidden state one position before it.
    """
    model = nnx.merge(graphdef, weights)
    head = model.head() if _head_sharding(model) is None else model.head("loss_vocab")
    own, own_mask = batch.response[:, :-1], batch.response_mask[:, :-1]
    if owner is not None:
        states = model.continuation_states(prompt, prompt_mask, owner, own, own_mask)
        return states, head
    tokens = jnp.concatenate([prompt, own], axis=1)
    mask = jnp.concatenate([prompt_mask, own_mask], axis=1)
    return model.hidden_states(tokens, mask)[:, prompt.shape[1] - 1 :], head


def student_states(
    models: Models, batch: Experience
) -> tuple[Float[Array, "R T D"], Float[Array, "D V"]]:
    """Of the student, behind its own prompts; differentiable in its weights.

    Added in version 0.2.0.
    """
    return response_states(
        models.graphdef,
        models.student,
        batch,
        batch.prompt,
        batch.prompt_mask,
        batch.prompt_owner,
    )


def teacher_states(
    models: Models, weights: Any, batch: Experience
) -> tuple[Float[Array, "R T D"], Float[Array, "D V"]]:
    """Of some weights behind the teacher's prompts; nothing is differentiated.

    Added in version 0.2.0.
    """
    other = models.teacher_graphdef is not None and weights is models.teacher
    return response_states(
        models.teacher_graphdef if other else models.graphdef,
        jax.lax.stop_gradient(weights),
        batch,
        batch.teacher_prompt,
        batch.teacher_prompt_mask,
        batch.teacher_prompt_owner,
    )


def _head_sharding(model: Any) -> HeadSharding | None:
    mesh = getattr(model, "mesh", None)
    if mesh is None or axis_parts("embed", mesh) == 1:
        return None
    if model.config.vocab_size % axis_parts("loss_vocab", mesh):
        return None
    axes = (partition_spec((name,), mesh)[0] for name in ("batch", "loss_vocab"))
    rows, vocabulary = ((a,) if isinstance(a, str) else a for a in axes)
    return HeadSharding(mesh, rows, vocabulary)
