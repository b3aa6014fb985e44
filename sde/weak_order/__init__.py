"""The command that measures the weak order of the statements: `python -m sde.weak_order`."""

from sde.weak_order._command import main as main
from sde.weak_order._config import Config as Config, statements as statements
from sde.weak_order._measure import Row as Row, measure as measure
