"""Objects that are loaded from a user's Python file."""

import pytest

from pgpo_jax.errors import PGPOError, PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.tasks import is_object_spec, load_object


@pytest.fixture
def file(tmp_path):
    def write(text, name="rewards.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("spec", "is_one"),
    [
        ("a.py:f", True),
        ("x/y z.py:F", True),
        ("C:\\a.py:f", True),
        ("a.py:", True),
        ("a.py", False),
        ("synthetic:physics", False),
        (".py:f", False),
        ("a.json:f", False),
    ],
)
def test_is_object_spec(spec, is_one):
    assert is_object_spec(spec) is is_one


def test_a_function_and_a_dataclass_are_loaded(file):
    path = file(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Task:\n    n: int = 2\ndef f(): return Task().n\n"
    )
    assert load_object(f"{path}:f")() == 2
    # One file is one module: what the task and the reward share is the same object.
    assert isinstance(load_object(f"{path}:Task")(), load_object(f"{path}:Task"))


def test_two_files_of_one_name_are_two_modules(file, tmp_path):
    (tmp_path / "other").mkdir()
    first, second = file("value = 1"), file("value = 2", "other/rewards.py")
    assert [load_object(f"{path}:value") for path in (first, second)] == [1, 2]


def test_a_changed_file_is_loaded_anew(file):
    path = file("value = 1")
    assert load_object(f"{path}:value") == 1
    file("value = 10 + 1")
    assert load_object(f"{path}:value") == 11


def test_a_file_imports_its_neighbour(file, monkeypatch):
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    file("value = 5", "neighbour_of_rewards.py")
    path = file("from neighbour_of_rewards import value")
    assert load_object(f"{path}:value") == 5


def test_no_such_file(tmp_path):
    with pytest.raises(PGPOFileNotFoundError, match=r"absent\.py, which does not exist"):
        load_object(f"{tmp_path}/absent.py:f")


def test_no_such_name_lists_those_that_there_are(file):
    path = file("def one(): ...\ndef two(): ...\ndef _hidden(): ...")
    with pytest.raises(PGPOValueError, match=r"does not define 'three'; it defines one, two$"):
        load_object(f"{path}:three")


@pytest.mark.parametrize("name", ["", "a.b", "1", "f()"])
def test_a_name_must_be_an_identifier(file, name):
    with pytest.raises(PGPOValueError, match=r"FILE\.py:NAME"):
        load_object(f"{file('f = 1')}:{name}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = 1 / 0\n", "ZeroDivisionError in line 2: division by zero"),
        ("x = 1\n\ndef f(:\n", "SyntaxError in line 3"),
        ("import sys\nsys.exit(3)\n", "SystemExit in line 2: 3"),
        ("import no_such_module_of_ours", "ModuleNotFoundError in line 1: No module named"),
    ],
)
def test_an_import_that_raises_names_the_line(file, text, message):
    path = file(text)
    for _ in range(2):  # a failure is not remembered as a module
        with pytest.raises(PGPOError, match=message):
            load_object(f"{path}:x")
