"""Folders that `datasets` saved, and data sets of the Hub: the real library, without a network."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pgpo_jax.errors import PGPOFileNotFoundError, PGPOImportError, PGPOValueError
from pgpo_jax.tasks import FileTask, load_questions

datasets = pytest.importorskip("datasets")

ROWS = [
    {"question": "1 + 1?", "answer": 2.0, "more": None},
    {"question": "1 + 2?", "answer": 3.0, "more": ["x"]},
]


@pytest.fixture(scope="module", autouse=True)
def _no_bars():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def dataset(word):
    return datasets.Dataset.from_list([{**row, "question": word} for row in ROWS])


@pytest.fixture
def saved(tmp_path):
    """Writes a `DatasetDict` with the splits that are named, and gives the folder."""

    def save(*splits):
        folder = tmp_path / "sums"
        datasets.DatasetDict({name: dataset(name) for name in splits}).save_to_disk(str(folder))
        return str(folder)

    return save


def test_a_saved_dataset_is_a_split_of_its_own(tmp_path):
    folder = str(tmp_path / "sums")
    dataset("x").select([1, 0]).save_to_disk(folder)
    for split in ("train", "test"):
        first, second = load_questions(folder, split=split)
        assert [q.id for q in (first, second)] == ["sums-0", "sums-1"]
        assert (first.domain, first.answer, first.columns) == ("sums", "3", {"more": ["x"]})
        assert (second.answer, second.columns) == ("2", {"more": None})
    assert FileTask(folder).questions("test", 0) == ()


def save_view(view, folder):
    view.save_to_disk(str(folder))
    return str(folder)


def test_the_format_that_a_folder_was_saved_with_hides_no_column(tmp_path):
    formatted = dataset("x").with_format("numpy", columns=["question"])
    (first, _) = load_questions(save_view(formatted, tmp_path / "formatted"))
    assert first.answer == "2"


def test_splits_are_chosen_by_name(saved):
    folder = saved("train", "test", "validation")
    for split in ("train", "test"):
        (first, _) = load_questions(folder, split=split)
        assert (first.id, first.domain, first.prompt) == (f"sums-{split}-0", "sums", split)
    assert [q.prompt for q in FileTask(folder).questions("test", 0)] == ["test", "test"]


def test_validation_stands_in_for_test(saved):
    folder = saved("train", "validation")
    assert load_questions(folder, split="test")[0].id == "sums-validation-0"
    assert FileTask(folder).questions("test", 0)[0].prompt == "validation"


def test_a_split_that_is_missing(saved):
    folder = saved("other", "train")
    with pytest.raises(PGPOValueError, match=r"no split test or validation, it has .*'other'"):
        load_questions(folder, split="test")
    assert FileTask(folder).questions("test", 0) == ()
    with pytest.raises(PGPOValueError, match=r"no split train, it has \['held'\]"):
        load_questions(saved_again(folder, "held"))


def saved_again(folder, split):
    shutil.rmtree(folder)
    datasets.DatasetDict({split: dataset(split)}).save_to_disk(folder)
    return folder


def test_wrong_rows_are_told_with_split_and_row(tmp_path):
    folder = str(tmp_path / "sums")
    wrong = datasets.Dataset.from_list([*ROWS, {"question": None, "answer": 1.0, "more": None}])
    datasets.DatasetDict(train=wrong).save_to_disk(folder)
    pattern = r"sums: train: row 3: field 'question' must be a string, got None"
    with pytest.raises(PGPOValueError, match=pattern):
        load_questions(folder)


@pytest.mark.parametrize("damage", ["cut", "removed", "state"])
def test_damaged_folders(saved, damage):
    folder = Path(saved("train"))
    (data,) = folder.glob("train/*.arrow")
    if damage == "cut":
        data.write_bytes(data.read_bytes()[:100])
    elif damage == "removed":
        data.unlink()
    else:
        (folder / "train" / "state.json").write_text("{")
    with pytest.raises(PGPOValueError, match="not a readable folder of save_to_disk"):
        load_questions(str(folder))


def test_images_are_not_decoded(tmp_path):
    rows = {"question": ["?"], "answer": ["2"], "picture": [{"bytes": b"no image", "path": None}]}
    features = datasets.Features(
        question=datasets.Value("string"), answer=datasets.Value("string"), picture=datasets.Image()
    )
    table = datasets.Dataset.from_dict(rows, features=features)
    (question,) = load_questions(save_view(table, tmp_path / "pictures"))
    assert question.columns == {"picture": {"bytes": b"no image", "path": None}}


@pytest.mark.parametrize("shown", [True, False])
def test_progress_bars_are_as_they_were(saved, monkeypatch, capfd, shown):
    folder = saved("train")
    seen = []
    load = datasets.load_from_disk

    def spy(*args):
        seen.append(datasets.are_progress_bars_disabled())
        return load(*args)

    monkeypatch.setattr(datasets, "load_from_disk", spy)
    (datasets.enable_progress_bars if shown else datasets.disable_progress_bars)()
    try:
        load_questions(folder)
        assert seen == [True]
        assert datasets.are_progress_bars_disabled() is not shown
    finally:
        datasets.disable_progress_bars()
    assert capfd.readouterr() == ("", "")


def test_a_missing_library_names_the_extra(saved, monkeypatch):
    folder = saved("train")
    assert len(load_questions(folder)) == 2
    monkeypatch.setitem(sys.modules, "datasets", None)
    for spec in (folder, "org/sums", "hf:org/sums"):
        with pytest.raises(PGPOImportError, match=r"pip install 'pgpo-jax\[data\]'"):
            load_questions(spec)


SPECS = ["hf:org/sums:main", "org/sums", "org/other", "hf:org/other", "hf:org/sums:elsewhere"]
PROGRAM = """
import json, sys
from pgpo_jax.tasks import load_task
from pgpo_jax.errors import PGPOFileNotFoundError
found = {}
for spec in sys.argv[1:]:
    task = load_task(spec)
    try:
        found[spec] = [
            [q.id, q.domain, q.prompt, q.answer] for q in
            (*task.questions("train", 0), *task.questions("test", 0))
        ]
    except PGPOFileNotFoundError as error:
        found[spec] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """What a process makes of `SPECS` without the Hub: results, standard error, its folder.

    The cache is as after a download of org/sums, which has one configuration, `main`.
    """
    folder = tmp_path_factory.mktemp("offline")
    home, work = folder / "home", folder / "work"
    work.mkdir()
    files = {split: str(folder / f"{split}.parquet") for split in ("train", "validation")}
    for split, path in files.items():
        dataset(split).to_parquet(path)
    cache = home / "datasets"
    datasets.load_dataset("parquet", "main", data_files=files, cache_dir=str(cache))
    (info,) = (cache / "parquet").glob("main-*/0.0.0/*/dataset_info.json")
    place = cache / "org___sums" / "main" / "0.0.0" / info.parent.name
    shutil.copytree(info.parent, place)
    for path in place.glob("parquet-*.arrow"):
        path.rename(path.with_name(path.name.replace("parquet", "sums")))
    shutil.rmtree(cache / "parquet")
    caches = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HF_DATASETS_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, *SPECS],
        cwd=work,
        env=os.environ | caches,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr, work


@pytest.mark.parametrize("spec", SPECS[:2])
def test_a_data_set_of_the_hub_comes_from_its_cache(offline, spec):
    found, errors, work = offline
    assert found[spec] == [
        [f"sums-{split}-{place}", "sums", split, str(2 + place)]
        for split in ("train", "validation")
        for place in (0, 1)
    ]
    assert "it/s" not in errors
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("spec", SPECS[2:])
def test_a_data_set_that_cannot_be_fetched(offline, spec):
    message = offline[0][spec]
    assert message.startswith(
        f"'{spec}' could be neither found as a path nor fetched as a data set"
    )
    assert message.endswith("HF_HUB_OFFLINE is set, so only the cache was looked at")


def test_a_path_goes_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset("x").save_to_disk("org/sums")
    before = sorted(tmp_path.rglob("*"))
    assert len(load_questions("org/sums")) == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_code_of_a_data_set_is_never_run(monkeypatch):
    calls = []

    def refuse(*args, **kwargs):
        calls.append((args, kwargs))
        raise RuntimeError("Dataset scripts are no longer supported, but found sums.py")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(PGPOFileNotFoundError, match=r"RuntimeError: Dataset scripts"):
        load_questions("hf:org/sums:main")
    assert calls == [(("org/sums", "main"), {})]
