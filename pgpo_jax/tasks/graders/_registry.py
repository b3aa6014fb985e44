from collections.abc import Callable, Mapping

from pgpo_jax._files import is_object_spec, load_object
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks.graders._base import Grader
from pgpo_jax.tasks.graders._code import CodeGrader
from pgpo_jax.tasks.graders._config import GraderConfig
from pgpo_jax.tasks.graders._exact import exact, letter
from pgpo_jax.tasks.graders._function import FunctionGrader
from pgpo_jax.tasks.graders._math import MathGrader
from pgpo_jax.tasks.graders._numeric import NumericGrader
from pgpo_jax.tasks.graders._option import option
from pgpo_jax.tasks.graders._tool_use import tool_use
from pgpo_jax.tasks.graders._weighted import WeightedGrader, parse_weights

GRADERS: dict[str, Callable[[GraderConfig], Grader]] = {
    "auto": lambda settings: exact,
    "letter": lambda settings: letter,
    "option": lambda settings: option,
    "exact": lambda settings: exact,
    "numeric": NumericGrader,
    "math": MathGrader,
    "code": CodeGrader,
    "tool_use": lambda settings: tool_use,
}
"""By name: a function that makes the grader from its settings. It must raise if the grader lacks
something it needs.

Added in version 0.2.0.
"""


def make_grader(spec: str | None = None, settings: GraderConfig | None = None) -> Grader:
    """Make a grader by name.

    Args:
        spec: a name of `GRADERS`, a function of your own as `FILE.py:NAME`, or several graders as
            `NAME=WEIGHT,NAME=WEIGHT`. `None` means `settings.name`.
        settings: tolerances and limits; `None` means the defaults.

    Returns:
        The grader.

    Raises:
        ValueError: `spec` is none of these, or its file does not define the name.
        FileNotFoundError: the file does not exist.
        ImportError: the grader needs an extra that is not installed.

    >>> grader = make_grader("exact=0.8,letter=0.2")
    >>> from pgpo_jax.tasks import Question
    >>> grader(Question("q", "", "", "Which?", "B"), "<answer>B</answer>").score
    1.0

    Added in version 0.2.0.
    """
    settings = GraderConfig() if settings is None else settings
    spec = settings.name if spec is None else spec
    weights = parse_weights(spec) if "," in spec or "=" in spec else None
    return _single(spec, settings) if weights is None else weighted(weights, settings)


def weighted(weights: Mapping[str, float], settings: GraderConfig | None = None) -> WeightedGrader:
    """Make a weighted sum of graders by name.

    Args:
        weights: the weight of each name, which is one of `GRADERS` or `FILE.py:NAME`.
        settings: settings for all graders.

    Returns:
        The grader of their weighted sum; see `WeightedGrader`.

    Raises:
        ValueError: as `make_grader`; or there is no weight, or one is zero or not finite.

    >>> grader = weighted({"exact": 2.0})

    Added in version 0.2.0.
    """
    settings = GraderConfig() if settings is None else settings
    parts = [(_single(name, settings), weight) for name, weight in weights.items()]
    return WeightedGrader(parts, timeout=settings.timeout)


def _single(name: str, settings: GraderConfig) -> Grader:
    if is_object_spec(name):
        return FunctionGrader(load_object(name), name)
    if name not in GRADERS:
        raise PGPOValueError(
            f"GraderConfig.name must be one of {list(GRADERS)}, FILE.py:NAME, or several as "
            f"NAME=WEIGHT,NAME=WEIGHT, got {name!r}"
        )
    return GRADERS[name](settings)
