import pytest


@pytest.fixture(autouse=True)
def _laboratory(x64):
    """Everything in the laboratory is measured in float64."""
