import pytest


@pytest.fixture(autouse=True)
def _double_precision(x64):
    """Everything in the laboratory is measured in float64."""
