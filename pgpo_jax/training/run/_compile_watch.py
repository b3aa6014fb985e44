"""The seconds that JAX spends on compilation, and a line while it takes long."""

import threading
import time
from collections.abc import Callable
from typing import Any

import jax

# Tracing, lowering and compiling follow each other, so their seconds add up. JAX sends each event
# when a phase begins, as a scalar, and when it ends, with its duration.
_PHASES = frozenset(
    f"/jax/core/compile/{phase}_duration"
    for phase in ("jaxpr_trace", "jaxpr_to_mlir_module", "backend_compile")
)
_WORDS = {"train_step": "the update", "begin": "the sampler", "decode": "the sampler"}
_EVERY = 20.0


class CompileWatch:
    """Counts the seconds of compilation in a block, and tells while one program takes long.

    A program that the persistent cache holds counts with the seconds of reading it.

    Args:
        say: called from another thread with a line of text.
        every: seconds until the first line about a program, and between two lines.

    Attributes:
        seconds: of tracing, lowering and compiling so far.

    >>> with CompileWatch(print) as watch:
    ...     four = jax.jit(lambda x: x + 3)(1.0)
    >>> watch.seconds > 0
    True
    """

    def __init__(self, say: Callable[[str], None], *, every: float = _EVERY):
        self._say, self._every = say, every
        self.seconds = 0.0
        # Name and beginning of the phase that is under way.
        self._phase: tuple[str, float] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> "CompileWatch":
        jax.monitoring.register_scalar_listener(self._begin)
        jax.monitoring.register_event_duration_secs_listener(self._end)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._end)
        jax.monitoring.unregister_scalar_listener(self._begin)
        self._ended.set()
        self._thread.join()

    def _begin(self, event: str, value: Any, **facts: Any) -> None:
        del value
        if event in _PHASES:
            self._phase = _program(facts), time.monotonic()

    def _end(self, event: str, duration_secs: Any, **kwargs: Any) -> None:
        del kwargs
        if event in _PHASES:
            self._phase = None
            self.seconds += duration_secs

    def _tell(self) -> None:
        said: tuple[tuple[str, float], int] | None = None
        while not self._ended.wait(self._every / 10):
            phase = self._phase
            if phase is None:
                continue
            name, began = phase
            seconds = time.monotonic() - began
            times = int(seconds / self._every)
            if times and said != (phase, times):
                said = phase, times
                self._say(f"compiling {name}, {seconds:.0f} s so far")


def _program(facts: dict[str, Any]) -> str:
    """How a line calls a program, by the name of its function.

    >>> _program({"fun_name": "jit(train_step)"}), _program({"fun_name": "prefill"})
    ('the update', 'prefill')
    """
    name = str(facts.get("fun_name", "a program"))
    name = name.removeprefix("jit(").removesuffix(")") if name.startswith("jit(") else name
    return _WORDS.get(name, name)
