import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pgpo_jax._version import __version__
from pgpo_jax.errors import PGPOImportError

USAGE_ERROR = 2
_INTERRUPTED = 130


class Command(NamedTuple):
    """Where a command's `main(argv)` lives, and what it does in a line."""

    module: str
    summary: str


# By name only, so that `pgpo --help` imports none of them.
COMMANDS = {
    "demo": Command("_demo", "train SDPO and PGPO from the shipped model and compare them"),
    "train": Command("_train", "post-train a model on a task"),
    "plan": Command("_plan", "tell what memory a run needs, without using it"),
    "eval": Command("_eval", "measure a model: avg@n on a task"),
    "sample": Command("_sample", "show a model's answers to questions"),
    "export": Command("_export", "write a run's model as a Hugging Face folder"),
    "report": Command("_report", "compare runs on one HTML page"),
    "weak-order": Command("_weak_order", "measure how well an SDE follows an optimizer"),
    "experiment": Command("_experiment", "run one of the experiments by name"),
}

# Distributions of the extra `train` by the name they are imported as.
_TRAIN_MODULES = frozenset(
    {"flax", "orbax", "transformers", "tokenizers", "safetensors", "huggingface_hub", "tyro"}
    | {"tensorboardX", "tqdm", "matplotlib"}
)
_SDE_MODULES = frozenset({"diffrax", "equinox", "scipy"})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `pgpo`; what the user can put right is one line on stderr and exit code 2.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    Returns:
        The exit code: what the command returns, where it returns one.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if args else USAGE_ERROR
    if args[0] in ("-V", "--version"):
        print(__version__)
        return 0
    command = COMMANDS.get(args[0])
    if command is None:
        return _fail(f"there is no command {args[0]!r}; there are {', '.join(COMMANDS)}")
    # Else transformers advises at every start to install PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        with _messages():
            code = importlib.import_module(f"pgpo_jax.cli.{command.module}").main(args[1:])
    except KeyboardInterrupt:
        print("pgpo: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; without this, closing stdout complains again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        message = explain(error)
        if message is None or os.environ.get("PGPO_TRACEBACK") == "1":
            raise
        return _fail(message)
    return code or 0


def explain(error: Exception) -> str | None:
    """One line for an error that is the user's to put right; `None` for a bug.

    Raised by us, on purpose, is what our own code raises in its own lines: a `ValueError` from
    within jax or numpy is a bug and keeps its traceback. Files may fail anywhere.
    """
    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or "").partition(".")[0]
        extra = {**dict.fromkeys(_TRAIN_MODULES, "train"), **dict.fromkeys(_SDE_MODULES, "sde")}
        if missing not in extra:
            return None
        return f"this command needs {missing}: pip install 'pgpo-jax[{extra[missing]}]'"
    text = " ".join(str(error).split())
    if isinstance(error, PGPOImportError):
        return text
    if isinstance(error, OSError):
        return text or type(error).__name__
    deliberate = (ValueError, RuntimeError, FloatingPointError, TypeError)
    return text if isinstance(error, deliberate) and _raised_by_us(error) else None


def _raised_by_us(error: Exception) -> bool:
    root = Path(__file__).resolve().parents[2]
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    last = Path(frames[-1].filename).resolve()
    if not last.is_relative_to(root):
        return False
    if last.relative_to(root).parts[0] not in ("pgpo_jax", "sde", "experiments"):
        return False
    # What the interpreter itself raises in our file is a bug: a deliberate error says `raise`.
    return (frames[-1].line or "").lstrip().startswith("raise")


@contextmanager
def _messages() -> Iterator[None]:
    """Our log on stderr, once, while a command runs."""
    logger = logging.getLogger("pgpo_jax")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("pgpo: %(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    # absl, which orbax brings, gives the root logger a handler of its own.
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _fail(message: str) -> int:
    print(f"pgpo: error: {message}", file=sys.stderr)
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
        ]
    )
