"""Where the numbers of a run go, and what happens when one of these places fails."""

import doctest
import importlib
import inspect
import json
import logging
import os
import resource
import struct
import subprocess
import sys
import types

import pytest
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event

from pgpo_jax.errors import PGPOImportError, PGPOTypeError, PGPOValueError
from pgpo_jax.training import (
    GuardedTracker,
    JSONLinesTracker,
    SilentTracker,
    TensorBoardTracker,
    Tracker,
    TrackioTracker,
    WandbTracker,
    make_trackers,
    read_jsonl,
)

NAN, INF = float("nan"), float("inf")
RUN = "pgpo_jax.training.run."


class Recorder(SilentTracker):
    def __init__(self, fail=()):
        self.calls, self.fail = [], fail

    def log(self, step, metrics):
        self._keep("log", step, metrics)

    def log_timing(self, step, timings):
        self._keep("log_timing", step, timings)

    def log_evaluation(self, step, scores):
        self._keep("log_evaluation", step, scores)

    def log_texts(self, step, rows):
        self._keep("log_texts", step, rows)

    def close(self):
        self._keep("close")

    def _keep(self, *call):
        self.calls.append(call)
        if call[0] in self.fail:
            raise OSError(28, f"no space for {call[0]}")


@pytest.mark.parametrize(
    "name", ["_tracker", "_json_lines", "_tensorboard", "_guarded", "_trackers"]
)
def test_the_examples_run(name):
    result = doctest.testmod(importlib.import_module(RUN + name))
    assert (result.failed, result.attempted > 0) == (0, True)


def test_json_lines_to_the_byte(tmp_path):
    tracker = JSONLinesTracker(tmp_path)
    tracker.log(0, {"eval/accuracy": 0.25})
    tracker.log(1, {"loss": 1 / 3, "rho": NAN, "I": -INF, "rows": 4})
    tracker.log_timing(1, {"seconds": 2.0})
    tracker.log_evaluation(1, {"a": 1.0, "b": NAN})
    assert not (tmp_path / "texts.jsonl").exists()
    tracker.log_texts(1, [])
    tracker.log_texts(1, [{"q": "é", "I": [0.5, INF, [NAN]]}, {"q": "two", "more": {"x": NAN}}])
    # Each call has reached the files before they are closed.
    assert (tmp_path / "metrics.jsonl").read_bytes() == (
        b'{"step": 0, "eval/accuracy": 0.25}\n'
        b'{"step": 1, "loss": 0.3333333333333333, "rho": null, "I": null, "rows": 4}\n'
    )
    assert (tmp_path / "timings.jsonl").read_bytes() == b'{"step": 1, "seconds": 2.0}\n'
    assert (
        tmp_path / "evaluations.jsonl"
    ).read_bytes() == b'{"step": 1, "scores": {"a": 1.0, "b": null}}\n'
    assert (tmp_path / "texts.jsonl").read_bytes() == (
        b'{"step": 1, "q": "\\u00e9", "I": [0.5, null, [null]]}\n'
        b'{"step": 1, "q": "two", "more": {"x": null}}\n'
    )
    tracker.close()


def test_all_json_lines_are_cut_when_a_run_is_resumed(tmp_path):
    tracker = JSONLinesTracker(tmp_path)
    for step in (1, 2, 3):
        tracker.log(step, {"loss": float(step)})
        tracker.log_timing(step, {"seconds": float(step)})
        tracker.log_evaluation(step, {"a": float(step)})
        tracker.log_texts(step, [{"q": "a"}, {"q": "b"}])
    tracker.close()
    with (tmp_path / "texts.jsonl").open("a") as file:
        file.write('{"step": 4, "q')
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    JSONLinesTracker(tmp_path, last_step=2).close()
    for name in ("metrics", "timings", "evaluations", "texts"):
        path = tmp_path / f"{name}.jsonl"
        kept = [line for line in before[path.name].splitlines(True) if '"step": 3' not in line]
        assert path.read_text() == "".join(line for line in kept if line.endswith("\n"))
        assert path.read_text() != before[path.name]
        assert {row["step"] for row in read_jsonl(path)} == {1, 2}


def test_a_row_of_texts_cannot_name_its_step(tmp_path):
    tracker = JSONLinesTracker(tmp_path)
    with pytest.raises(PGPOValueError, match="must not have a field 'step', got 7"):
        tracker.log_texts(1, [{"q": "a"}, {"step": 7}])
    tracker.close()
    assert not (tmp_path / "texts.jsonl").exists()


def events(folder):
    """All but the time of each event, from the files in order."""
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            assert event.wall_time > 1e9
            event.ClearField("wall_time")
            found.append(event)
            data = data[16 + length :]
    return found


@pytest.mark.parametrize("last_step", [-1, 7])
def test_tensorboard_gets_the_events_that_its_own_writer_makes(tmp_path, last_step):
    values = {"loss": 0.5, "pgpo/rho": NAN, "name with space": 3}
    with SummaryWriter(str(tmp_path / "theirs"), purge_step=last_step + 1) as board:
        for step in (8, 9):
            for name, value in values.items():
                board.add_scalar(name, value, step)
            board.add_scalar("seconds", 2.0, step)
    tracker = TensorBoardTracker(tmp_path, last_step=last_step)
    for step in (8, 9):
        tracker.log(step, values)
        tracker.log_timing(step, {"seconds": 2.0})
        tracker.log_texts(step, [{"q": "a"}])
    tracker.close()
    ours, theirs = events(tmp_path / "tensorboard"), events(tmp_path / "theirs")
    # Messages with NaN are not equal to themselves; their bytes are.
    ours, theirs = ([event.SerializeToString() for event in side] for side in (ours, theirs))
    assert ours == theirs
    assert len(ours) == 3 + 2 * 4
    other = TensorBoardTracker(tmp_path / "other", last_step=last_step + 1)
    other.close()
    parsed = events(tmp_path / "other" / "tensorboard")
    assert [event.SerializeToString() for event in parsed] != ours[:3]


def test_a_run_resumed_at_once_keeps_the_older_events(tmp_path):
    for last_step in (-1, 4):
        tracker = TensorBoardTracker(tmp_path, last_step=last_step)
        tracker.log(last_step + 1, {"loss": 0.5})
        tracker.close()
    assert [event.step for event in events(tmp_path / "tensorboard")] == [0, 0, 0, 0, 0, 5, 5, 5]


@pytest.mark.parametrize(("seconds", "seen"), [(0.0, 4), (1e9, 0)])
def test_events_are_seen_while_the_run_goes_on(tmp_path, monkeypatch, seconds, seen):
    module = importlib.import_module(RUN + "_tensorboard")
    monkeypatch.setattr(module, "_FLUSH_SECONDS", seconds)
    tracker = TensorBoardTracker(tmp_path)
    tracker.log(1, {"loss": 0.5})
    assert len(events(tmp_path / "tensorboard")) == seen
    tracker.close()
    assert len(events(tmp_path / "tensorboard")) == 4


FULL_DISK = """
import resource, sys
from pathlib import Path
from pgpo_jax.training import make_trackers
print(sorted({"tensorboardX", "wandb", "trackio"} & set(sys.modules)))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
tracker = make_trackers(["tensorboard"], Path(sys.argv[1]), config={})
for step in range(2000):
    tracker.log(step, {"loss": 0.5})
    tracker.log_timing(step, {"seconds": 0.5})
tracker.close()
print("the end")
"""


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory):
    """A process whose files end at 100,000 bytes; TensorBoard's is by far the largest."""
    folder = tmp_path_factory.mktemp("full")
    process = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", FULL_DISK, folder],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return folder, process


def test_a_full_disk_under_tensorboard_neither_hangs_nor_stops_the_run(full_disk):
    folder, process = full_disk
    assert process.returncode == 0, process.stderr
    assert process.stdout.endswith("the end\n")
    assert process.stderr.count("TensorBoardTracker failed at step ") == 1
    assert "OSError: [Errno 27] File too large" in process.stderr
    (board,) = (folder / "tensorboard").iterdir()
    assert 90_000 < board.stat().st_size <= 100_000
    for name in ("metrics", "timings"):
        rows = read_jsonl(folder / f"{name}.jsonl")
        assert [row["step"] for row in rows] == list(range(2000))


def test_services_are_imported_only_when_asked_for(full_disk):
    assert full_disk[1].stdout.splitlines()[0] == "['tensorboardX']"


def test_without_its_guard_a_full_disk_is_an_error(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    tracker = TensorBoardTracker(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            tracker.log(1, {str(number): 0.5 for number in range(2000)})
        with pytest.raises(OSError, match="File too large"):
            tracker.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_under_the_json_lines_is_an_error(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    tracker = make_trackers([], tmp_path, config={})
    tracker.log_timing(1, {"seconds": 0.5})
    with pytest.raises(OSError, match="No space left"):
        tracker.log(1, {"loss": 0.5})
    with pytest.raises(OSError, match="No space left"):
        tracker.close()


CALLS = [
    ("log", 1, {"loss": 0.5}),
    ("log_timing", 1, {"seconds": 0.5}),
    ("log_evaluation", 1, {"a": 1.0}),
    ("log_texts", 1, [{"q": "a"}]),
    ("close",),
]


@pytest.mark.parametrize("fails", range(len(CALLS)))
def test_a_guarded_tracker_fails_once_and_is_closed(caplog, fails):
    name = CALLS[fails][0]
    recorder = Recorder(fail=(name, "close"))
    tracker = GuardedTracker(recorder)
    assert isinstance(tracker, Tracker)
    for call, *values in [*CALLS, *CALLS]:
        getattr(tracker, call)(*values)
    closed = [("close",)]
    assert recorder.calls == CALLS[: fails + 1] + closed
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pgpo_jax", logging.WARNING)
    when = "when it was closed" if name == "close" else "at step 1"
    assert f"Recorder failed {when} and is off" in record.message
    assert f"no space for {name}" in record.message


def test_a_guarded_tracker_that_works_gets_every_call_and_ctrl_c_goes_through(caplog):
    recorder = Recorder()
    tracker = GuardedTracker(recorder)
    for call, *values in CALLS:
        getattr(tracker, call)(*values)
    assert recorder.calls == CALLS
    assert not caplog.records

    class Interrupted(SilentTracker):
        def log(self, step, metrics):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GuardedTracker(Interrupted()).log(1, {})


def test_trackers_together(tmp_path, caplog):
    good, bad = Recorder(), Recorder(fail=("log_timing",))
    tracker = make_trackers([bad, "tensorboard", good], tmp_path, config={})
    for call, *values in CALLS:
        getattr(tracker, call)(*values)
    assert good.calls == CALLS
    assert bad.calls == [*CALLS[:2], ("close",)]
    assert len(caplog.records) == 1
    for name in ("metrics", "timings", "evaluations", "texts"):
        assert len(read_jsonl(tmp_path / f"{name}.jsonl")) == 1
    assert [event.step for event in events(tmp_path / "tensorboard")][3:] == [1, 1]


OWN = """
from pgpo_jax.training import SilentTracker

class Mine(SilentTracker):
    made = []

    def __init__(self, folder, config, last_step):
        self.given, self.steps = (folder, config, last_step), []
        self.made.append(self)

    def log(self, step, metrics):
        self.steps.append(step)

class Failing(SilentTracker):
    def __init__(self, folder, config, last_step):
        raise ConnectionError("the service is down")

class Partial:
    def __init__(self, **given): ...
    def log(self, step, metrics): ...

class Narrow(SilentTracker):
    def __init__(self, folder): ...
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_a_tracker_of_your_own(own, tmp_path):
    from pgpo_jax._files import load_object

    config = {"seed": 3, "loss": {"k": 5}}
    tracker = make_trackers([f"{own}:Mine"], tmp_path, config=config, last_step=6)
    tracker.log(7, {"loss": 0.5})
    tracker.close()
    (mine,) = load_object(f"{own}:Mine").made
    assert mine.given == (tmp_path, config, 6)
    assert mine.steps == [7]
    # The same class from Python.
    make_trackers([type(mine)], tmp_path, config={}).close()
    assert mine.made[1].given == (tmp_path, {}, -1)


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ("tensorbord", PGPOValueError, r"one of tensorboard, wandb, .*got 'tensorbord'"),
        ("{own}:None_", PGPOValueError, "does not define 'None_'"),
        ("{own}:Narrow", PGPOTypeError, r"must take folder=, config= and last_step=.*Narrow"),
        (
            "{own}:Partial",
            PGPOTypeError,
            "a Partial without log_timing, log_evaluation, log_texts, close",
        ),
        (3, PGPOTypeError, "3 gives a int without log, "),
    ],
)
def test_what_is_not_a_tracker_is_refused(own, tmp_path, asked, error, told):
    if isinstance(asked, str):
        asked = asked.format(own=own)
    good, folder = Recorder(), tmp_path / "run"
    folder.mkdir()
    with pytest.raises(error, match=told):
        # The suite's own check of types would look at some of the elements.
        inspect.unwrap(make_trackers)([good, asked], folder, config={})
    if "Partial" not in str(asked):
        # It is refused before a file is written or a tracker made.
        assert not list(folder.iterdir())
        assert not good.calls


def test_a_tracker_that_cannot_begin_stops_a_new_run_only(own, tmp_path, caplog):
    good = Recorder()
    asked = [good, f"{own}:Failing"]
    with pytest.raises(ConnectionError, match="the service is down"):
        make_trackers(asked, tmp_path, config={})
    assert good.calls == [("close",)]
    assert not caplog.records
    tracker = make_trackers(asked, tmp_path, config={}, last_step=3)
    (record,) = caplog.records
    assert "own.py:Failing' failed to begin and is off" in record.message
    assert "ConnectionError: the service is down" in record.message
    tracker.log(4, {"loss": 0.5})
    tracker.close()
    assert good.calls[1:] == [("log", 4, {"loss": 0.5}), ("close",)]
    assert [row["step"] for row in read_jsonl(tmp_path / "metrics.jsonl")] == [4]


class Run:
    """A run of the stand-in for a service."""

    def __init__(self, values):
        self.id = values.get("id") or "id-of-the-service"
        self.project, self.entity = values.get("project"), values.get("entity") or ""
        self.logged, self.finished = [], None

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self, exit_code=None):
        self.finished = [exit_code]


def stand_in(name, monkeypatch):
    """A module in the place of a service's, which keeps what it is given."""
    for variable in ("WANDB_PROJECT", "WANDB_NAME"):
        monkeypatch.delenv(variable, raising=False)
    module = types.ModuleType(name)
    module.begun = []

    def init(**values):
        module.begun.append((values, Run(values)))
        return module.begun[-1][1]

    module.init = init
    module.Table = lambda **values: ("table", values["columns"], values["data"])
    module.Settings = lambda **values: values
    monkeypatch.setitem(sys.modules, name, module)
    return module


@pytest.fixture(params=["wandb", "trackio"])
def service(request, monkeypatch):
    return stand_in(request.param, monkeypatch)


def test_a_service_gets_each_step_once_and_a_resumed_run_is_the_same_run(service, tmp_path):
    folder, name = tmp_path / "my-run", service.__name__
    folder.mkdir()
    config = {"seed": 3, "loss": {"k": 5}}
    tracker = make_trackers([name], folder, config=config)
    for step in (0, 1, 2, 3):
        tracker.log(step, {"loss": float(step)})
        tracker.log_timing(step, {"seconds": 0.5})
    # The first process dies here; its newest checkpoint is that of step 1.
    again = make_trackers([name], folder, config={**config, "steps": 9}, last_step=1)
    for step in (2, 3, 4):
        again.log(step, {"loss": float(step)})
        again.log_timing(step, {"seconds": 0.5})
    rows = [{"q": "a", "score": 1.0, "I": [0.5]}, {"q": "b", "score": None}]
    again.log_texts(3, rows)
    again.log_texts(4, rows)
    again.log_evaluation(4, {"a": 1.0})
    again.close()
    (first, run), (second, resumed) = service.begun
    assert run.logged == [
        entry
        for step in (0, 1, 2, 3)
        for entry in ((step, {"loss": float(step)}), (step, {"seconds": 0.5}))
    ]
    assert resumed.logged == [
        (4, {"loss": 4.0}),
        (4, {"seconds": 0.5}),
        (4, {"texts": ("table", ["q", "score"], [["a", 1.0], ["b", None]])}),
    ]
    assert resumed.finished
    assert first["config"] == config
    assert second["config"] == {**config, "steps": 9}
    assert second["resume"] == "allow"
    if name == "wandb":
        assert (first["id"], first["name"], first["resume"]) == (None, "my-run", None)
        assert (second["id"], second["allow_val_change"]) == ("id-of-the-service", True)
        assert first["project"] == second["project"] == "pgpo-jax"
        assert first["dir"] == str(folder)
    else:
        assert first["name"].startswith("my-run-")
        assert (first["name"], first["project"]) == (second["name"], second["project"])
    tracker.close()
    # Another folder is another run.
    other = tmp_path / "other" / "my-run"
    other.mkdir(parents=True)
    make_trackers([name], other, config=config).close()
    third = service.begun[2][0]
    assert third.get("id") is None
    assert name == "wandb" or third["name"] != first["name"]


def test_weights_and_biases_is_told_how_a_run_ended(monkeypatch, tmp_path):
    service = stand_in("wandb", monkeypatch)
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    monkeypatch.setenv("WANDB_NAME", "mine")

    def ended(error):
        tracker = WandbTracker(tmp_path, config={})
        try:
            if error:
                raise error
        except ZeroDivisionError:
            tracker.close()
        else:
            tracker.close()
        return service.begun[-1][1].finished

    assert ended(None) == [0]
    assert ended(ZeroDivisionError()) == [1]
    try:
        raise KeyError
    except KeyError:
        # This one was there before the run began.
        assert ended(None) == [0]
    values = service.begun[0][0]
    assert (values["project"], values["name"]) == ("ours", "mine")


@pytest.mark.parametrize("text", ["", "[]", '{"names": {}}'])
def test_a_damaged_memory_of_the_service_is_named(service, tmp_path, text):
    (tmp_path / f"{service.__name__}.json").write_text(text)
    with pytest.raises(PGPOValueError, match=rf"{service.__name__}\.json must be a JSON object"):
        make_trackers([service.__name__], tmp_path, config={})
    assert not service.begun


@pytest.mark.parametrize(("name", "made"), [("wandb", WandbTracker), ("trackio", TrackioTracker)])
@pytest.mark.parametrize("there", [None, "an empty package"])
@pytest.mark.parametrize("last_step", [-1, 3])
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch, tmp_path, name, made, there, last_step
):
    monkeypatch.setitem(sys.modules, name, there and types.ModuleType(name))
    told = rf"the tracker '{name}' needs {name}: pip install 'pgpo-jax\[{name}\]'"
    with pytest.raises(PGPOImportError, match=told):
        made(tmp_path, config={})
    with pytest.raises(PGPOImportError, match=told):
        make_trackers([name], tmp_path, config={}, last_step=last_step)


REAL = """
import sys
from pathlib import Path
from pgpo_jax.training import make_trackers
folder, name = Path(sys.argv[1]), sys.argv[2]
config = {"seed": 3, "loss": {"k": 5}}
for last_step, steps in ((-1, range(4)), (1, range(2, 6))):
    tracker = make_trackers([name], folder, config=config | {"n": last_step}, last_step=last_step)
    for step in steps:
        tracker.log(step, {"loss": float(step), "bad": float("nan")})
        tracker.log_timing(step, {"seconds": 0.5})
        tracker.log_texts(step, [{"q": "a", "score": 1.0, "I": [0.5]}, {"q": None, "score": "b"}])
    tracker.close()
"""


def real(folder, name):
    pytest.importorskip(name)
    folder.mkdir()
    offline = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "TRACKIO_DIR": str(folder / "db")}
    out = subprocess.run(
        [sys.executable, "-c", REAL, folder, name],
        env={**os.environ, **offline, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert out.returncode == 0, out.stderr
    assert "failed" not in out.stderr


def test_weights_and_biases_itself_offline(tmp_path):
    real(tmp_path / "run", "wandb")
    kept = json.loads((tmp_path / "run" / "wandb.json").read_text())
    assert kept["last_step"] == 5
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    assert {file.stem for file in files} == {f"run-{kept['names']['id']}"}
    assert [steps_of(file) for file in files] == [[0, 1, 2, 3], [4, 5]]


def steps_of(file):
    """The steps in a file of Weights & Biases: LevelDB's log format, here a single block."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, steps = file.read_bytes()[7:], []
    assert len(data) < 2**15
    while data:
        length = int.from_bytes(data[4:6], "little")
        record = Record.FromString(data[7 : 7 + length])
        if record.WhichOneof("record_type") == "history":
            steps.append(record.history.step.num)
        data = data[7 + length :]
    return steps


def test_trackio_itself(tmp_path):
    import sqlite3

    real(tmp_path / "run", "trackio")
    (path,) = (tmp_path / "run" / "db").glob("*.db")
    rows = list(sqlite3.connect(path).execute("select run_id, step, metrics from metrics"))
    assert len({row[0] for row in rows}) == 1
    assert [row[1] for row in rows] == [step for step in range(6) for _ in range(3)]
    assert json.loads(rows[0][2])["loss"] == 0.0
