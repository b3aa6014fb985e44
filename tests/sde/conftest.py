import pytest


@pytest.fixture(autouse=True)
def _laboratory(x64, quick_compilation):
    """Everything in the laboratory is measured in float64, by many small programs."""
