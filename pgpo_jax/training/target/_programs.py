"""The programs of a run, compiled for devices that need not be present."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pgpo_jax.errors import PGPORuntimeError
from pgpo_jax.models import Decoder, DecoderConfig, _lanes, partition_spec
from pgpo_jax.models._cache import KEY_AXES, VALUE_AXES, Cache
from pgpo_jax.models._generate import Settings, begin, decode
from pgpo_jax.models._sharding import axis_parts
from pgpo_jax.training.config._train_config import TrainConfig
from pgpo_jax.training.memory._abstract import abstract_step, placed


class Program(NamedTuple):
    """A program of a run.

    Attributes:
        name: "step", "prefill" or "decode".
        compiled: result of the compiler of the mesh's devices.

    Added in version 0.2.0.
    """

    name: str
    compiled: jax.stages.Compiled


class CompilerRefusal(PGPORuntimeError):
    """A compiler refuses a program for its target; the message names both.

    Attributes:
        out_of_memory: whether the program needs more memory than a device has.

    Added in version 0.2.0.
    """

    def __init__(self, message: str, *, out_of_memory: bool = False):
        super().__init__(message)
        self.out_of_memory = out_of_memory


def compile_program(name: str, lowered: jax.stages.Lowered) -> Program:
    """Compiles one program.

    Args:
        name: name of the program.
        lowered: lowered program to compile.

    Returns:
        The program.

    Raises:
        CompilerRefusal: the compiler refuses it. The message has the compiler's first line.
    """
    try:
        return Program(name, lowered.compile())
    except jax.errors.JaxRuntimeError as error:
        code, _, reason = str(error).splitlines()[0].partition(": ")
        raise CompilerRefusal(
            f"the compiler refuses {name}: {reason or code}",
            out_of_memory=code == "RESOURCE_EXHAUSTED",
        ) from error


def compiled_programs(config: TrainConfig, shape: DecoderConfig, mesh: Mesh) -> Iterator[Program]:
    """Compiles one program after the other, each for its largest arguments.

    Args:
        config: the run.
        shape: of its model.
        mesh: of devices or of their descriptions; nothing is run on them.

    Yields:
        The train step, the prefill of the prompts, and the decoding loop with its longest cache.

    Raises:
        CompilerRefusal: one of them cannot be compiled.

    Added in version 0.2.0.
    """
    step, *arguments = abstract_step(config, shape, mesh)
    yield compile_program("step", step.lower(*arguments))
    yield from sampler_programs(config, shape, mesh)


def sampler_programs(config: TrainConfig, shape: DecoderConfig, mesh: Mesh) -> Iterator[Program]:
    """Compiles the sampler of a run for the rows that it decodes at once.

    Args:
        config: the run.
        shape: of its model.
        mesh: as of `compiled_programs`.

    Yields:
        The prefill and the decoding loop.

    Raises:
        CompilerRefusal: one of them cannot be compiled.

    Added in version 0.2.0.
    """
    rollout = config.rollout
    model = nnx.eval_shape(
        lambda: Decoder(
            shape,
            rngs=nnx.Rngs(0),
            dtype=jnp.dtype(config.dtype),
            param_dtype=jnp.dtype(config.param_dtype),
            attention=config.attention,
            mesh=mesh,
        )
    )
    graphdef, params = nnx.split(model, nnx.Param)
    prompts = rollout.micro_batch or rollout.questions
    settings = Settings(
        steps=rollout.max_response,
        samples=rollout.samples,
        greedy=False,
        filtered=rollout.top_p < 1,
        eos=(0,),
        pad=0,
        top_k=rollout.top_k,
    )

    def array(shape: tuple[int, ...], dtype: Any, *axes: str | None) -> jax.ShapeDtypeStruct:
        where = NamedSharding(mesh, partition_spec(axes, mesh) if axes else PartitionSpec())
        return jax.ShapeDtypeStruct(shape, dtype, sharding=where)

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), prompts * rollout.samples))
    scalar = array((), jnp.float32)
    tokens, mask = (
        array((prompts, rollout.max_prompt), dtype, "batch") for dtype in (jnp.int32, jnp.bool_)
    )
    arguments = (graphdef, settings, placed(params, mesh), scalar, scalar)
    given = (tokens, mask, array(keys.shape, keys.dtype))

    def started(lowered: Any) -> tuple[Program, Any]:
        program = compile_program("prefill", lowered)
        made = jax.tree.map(
            lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
            lowered.out_info,
            program.compiled.output_shardings,
        )
        return program, made

    def longest(cache: Cache) -> Cache:
        grown: Any = jax.eval_shape(
            lambda cache: cache.grown(cache.even_slots(settings.steps - 1, mesh), mesh), cache
        )
        return grown._replace(
            keys=tuple(array(x.shape, x.dtype, *KEY_AXES) for x in grown.keys),
            values=tuple(array(x.shape, x.dtype, *VALUE_AXES) for x in grown.values),
            prefix=cache.prefix,
        )

    lanes = rollout.max_num_seqs or keys.shape[0]
    if lanes < keys.shape[0]:
        begun = _lanes.begin.lower(graphdef, settings, lanes, arguments[2], *given)
        program, (read, _, state) = started(begun)
        number = array((), jnp.int32)
        until = _lanes.Until(array((axis_parts("batch", mesh),), jnp.int32), number, number)
        decoding = (read, state._replace(cache=longest(state.cache), slot=number), until)
        lowered = _lanes.decode.lower(*arguments, *decoding)
    else:
        program, (state, weights) = started(begin.lower(*arguments, *given))
        state = state._replace(cache=longest(state.cache))
        lowered = decode.lower(*arguments, weights, state, array((), jnp.int32))
    yield program
    yield compile_program("decode", lowered)
