"""The progress of a run: a bar on a terminal, else a line every few seconds."""

import logging
import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

_log = logging.getLogger("pgpo_jax")
_SECONDS = 5.0
_SHOWN = {"accuracy": "rollout/accuracy", "I": "pgpo/information", "rho": "pgpo/rho"}


class Progress:
    """Shows the step and the newest numbers of a run.

    Args:
        first: number of steps that are done already.
        total: total number of steps.
        hidden: show nothing, as in all processes but the first.
        seconds: time between two lines if stderr is no terminal.
    """

    def __init__(self, first: int, total: int, *, hidden: bool, seconds: float = _SECONDS):
        self._step, self._total, self._hidden, self._seconds = first, total, hidden, seconds
        self._bar = None
        if not hidden and sys.stderr.isatty():
            self._bar = tqdm(initial=first, total=total, unit="step")
        self._said, self._said_step = time.monotonic(), first

    def step(self, metrics: Mapping[str, float]) -> None:
        """One more step is done."""
        self._step += 1
        shown = {label: f"{metrics[name]:.3f}" for label, name in _SHOWN.items() if name in metrics}
        if self._bar is not None:
            self._bar.update()
            self._bar.set_postfix(shown)
            return
        now = time.monotonic()
        if not self._hidden and (now - self._said >= self._seconds or self._step == self._total):
            pace = (now - self._said) / max(1, self._step - self._said_step)
            numbers = ", ".join(f"{label} {value}" for label, value in shown.items())
            _log.info("step %d of %d: %s, %.2f s a step", self._step, self._total, numbers, pace)
            self._said, self._said_step = now, self._step

    def say(self, message: str, *values: object) -> None:
        """Print a line, if there is no bar."""
        if not self._hidden and self._bar is None:
            _log.info(message, *values)

    def note(self, text: str) -> None:
        """Show a text until the next step. Other threads may call it."""
        if self._hidden:
            return
        if self._bar is None:
            _log.info("%s", text)
        else:
            self._bar.set_postfix_str(text)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
