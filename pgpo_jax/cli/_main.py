"""The entry point of the command line, and its errors."""

import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from pgpo_jax._extras import require_extra
from pgpo_jax._printable import printable
from pgpo_jax._version import __version__
from pgpo_jax.cli._program_cache import keep_programs
from pgpo_jax.errors import PGPOError

USAGE_ERROR = 2
_NO_CACHE = "--no-compilation-cache"
_INTERRUPTED = 130


class Command(NamedTuple):
    """The module of a command's `main(argv)`, a one-line summary, and the extra that it needs."""

    module: str
    summary: str
    extra: str | None = None


# Modules are given by name, so that `pgpo --help` imports none of them.
COMMANDS = {
    "demo": Command("_demo", "train SDPO and PGPO from the shipped model, compare them", "train"),
    "train": Command("_train", "post-train a model on a task", "train"),
    "sft": Command("_sft", "learn the responses that the data holds", "train"),
    "plan": Command("_plan", "tell what memory a run needs, without using it", "train"),
    "eval": Command("_eval", "measure a model: avg@n on a task", "train"),
    "sample": Command("_sample", "show a model's answers to questions", "train"),
    "export": Command("_export", "write a run's model as a Hugging Face folder", "train"),
    "convert": Command("_convert", "make a Hugging Face folder of a GGUF file", "train"),
    "inspect": Command("_inspect", "show what a run asked and answered, by token", "train"),
    "report": Command("_report", "compare runs on one HTML page", "train"),
    "weak-order": Command("_weak_order", "measure how well an SDE follows an optimizer", "sde"),
    "experiment": Command("_experiment", "run one of the experiments by name"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pgpo`. An error of the user is one line on stderr and exit code 2.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    Returns:
        The exit code of the command.

    Raises:
        SystemExit: with code 0 after `--help`.

    >>> main(["no-such-command"])
    2
    """
    args = list(sys.argv[1:] if argv is None else argv)
    keep = args[:1] != [_NO_CACHE]
    args = args if keep else args[1:]
    if not args or args[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if args else USAGE_ERROR
    if args[0] in ("-V", "--version"):
        print(__version__)
        return 0
    if any("\0" in argument for argument in args):
        return _fail(f"no argument may hold a NUL character, got {args!r}")
    command = COMMANDS.get(args[0])
    if command is None:
        return _fail(f"there is no command {args[0]!r}; there are {', '.join(COMMANDS)}")
    # Otherwise transformers advises at every start to install PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        with _messages():
            if command.extra is not None:
                require_extra(command.extra)
            if keep and command.extra == "train":
                keep_programs()
            code = importlib.import_module(f"pgpo_jax.cli.{command.module}").main(args[1:])
            # Otherwise a closed pipe is noticed at exit only, where the error cannot be caught.
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("pgpo: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe. Without this, closing stdout would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        message = explain(error)
        if message is None or os.environ.get("PGPO_TRACEBACK") == "1":
            raise
        return _fail(message)
    return code or 0


def explain(error: Exception) -> str | None:
    """One line for an error that the user can correct; `None` for a bug.

    Errors raised on purpose are `PGPOError`. A `ValueError` from jax or numpy is a bug and keeps
    its traceback. Errors of files may come from any place.
    """
    if isinstance(error, PGPOError | OSError):
        return " ".join(str(error).split()) or type(error).__name__
    return None


@contextmanager
def _messages() -> Iterator[None]:
    """Write our log to stderr once while a command runs."""
    logger = logging.getLogger("pgpo_jax")
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable("pgpo: %(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    # absl, a dependency of orbax, gives the root logger its own handler.
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _Printable(logging.Formatter):
    """Messages may contain names of files and runs, which may have any characters."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _fail(message: str) -> int:
    # The message may contain the contents of a file or the name of a folder.
    print(f"pgpo: error: {printable(message)}", file=sys.stderr)
    return USAGE_ERROR


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: pgpo COMMAND [options]",
            "",
            "Physics-Guided Policy Optimization: post-training of language models by",
            "self-distillation, with steps stretched by the information of the feedback.",
            "",
            *lines,
            "",
            "`pgpo COMMAND --help` lists the options of a command. PGPO_TRACEBACK=1 shows where",
            "an error came from.",
            "",
            f"`pgpo {_NO_CACHE} COMMAND ...` keeps no compiled programs in your cache folder.",
        ]
    )
