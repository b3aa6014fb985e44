"""Many training runs, named arms times seeds, that may be interrupted and go on."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.sweeps._former import with_defaults
from pgpo_jax.errors import PGPOFileNotFoundError, PGPORuntimeError, PGPOValueError
from pgpo_jax.reports import RunRecord, read_run
from pgpo_jax.training import TrainConfig, check_same_config, locked_file, train

_DONE = "done.json"
_POLL_SECONDS = 0.3
_MAX_JOBS = 512

Finished = Callable[[str, int], RunRecord]
"""The finished run of an arm at a seed."""


@dataclass(frozen=True)
class Arm:
    """One way to train, run once for every seed.

    Attributes:
        name: of its folder, and in tables.
        config: the configuration for a seed; it may look at the finished runs it `needs`.
        needs: the runs that must be finished before, as (arm, seed), for a seed.
    """

    name: str
    config: Callable[[int, Finished], TrainConfig]
    needs: Callable[[int], Sequence[tuple[str, int]]] = lambda seed: ()


@dataclass(frozen=True)
class Sweep:
    """Arms times seeds in one folder: `<folder>/runs/<arm>/seed<k>` is an ordinary run folder.

    A run of another seed that an arm needs is trained, too.

    Work is ordered by seed, so that a sweep that was cut short holds whole seeds. Any number of
    processes may work on one folder; each run is claimed by a lock that dies with its process.

    Attributes:
        folder: of the sweep.
        build: makes the arms; a function of a module, so that workers can call it.
        config: what `build` is given and what the sweep was made with, a dataclass.
        seeds: how many.
        free: names of fields of `config` that may differ when the sweep is continued; they are not
            written down.
        first_seed: the seeds are counted from here.
    """

    folder: Path
    build: Callable[[Any], Sequence[Arm]]
    config: Any
    seeds: int
    free: tuple[str, ...] = ()
    first_seed: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise PGPOValueError(f"a sweep needs at least 1 seed, got {self.seeds}")
        if self.first_seed < 0:
            raise PGPOValueError(f"the first seed must be at least 0, got {self.first_seed}")
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names) or not names:
            raise PGPOValueError(f"a sweep needs arms of different names, got {names}")

    @property
    def arms(self) -> Sequence[Arm]:
        return self.build(self.config)

    @property
    def all_seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    def run_folder(self, arm: str, seed: int) -> Path:
        return self.folder / "runs" / arm / f"seed{seed}"

    def done(self, arm: str, seed: int) -> bool:
        """Whether a run is complete."""
        return (self.run_folder(arm, seed) / _DONE).is_file()

    def record(self, arm: str, seed: int) -> RunRecord:
        """A complete run.

        Raises:
            FileNotFoundError: if it is not.
        """
        if not self.done(arm, seed):
            raise PGPOFileNotFoundError(f"{self.run_folder(arm, seed)} holds no finished run")
        return read_run(self.run_folder(arm, seed), arm)

    def complete_seeds(self) -> list[int]:
        """The seeds at which every arm is finished."""
        arms = self.arms
        return [s for s in self.all_seeds if all(self.done(arm.name, s) for arm in arms)]

    def seconds(self) -> float:
        """Time spent in finished runs, compilation included."""
        found = (self.folder / "runs").glob(f"*/seed*/{_DONE}")
        return sum(json.loads(path.read_text())["seconds"] for path in found)

    def run(self, jobs: int = 1) -> None:
        """Run all arms that are not finished, in `jobs` processes with a core each.

        Raises:
            ValueError: the folder belongs to another configuration (the message names the field),
                an arm needs a run that the sweep does not have, or its configuration is refused.
                Raised before anything is written or trained.
            RuntimeError: if a worker failed.
        """
        if not 1 <= jobs <= _MAX_JOBS:
            raise PGPOValueError(f"jobs must be in [1, {_MAX_JOBS}], got {jobs}")
        self._check_arms()
        self.check_folder()
        self._claim_folder()
        if jobs == 1:
            self._work()
            return
        cores = sorted(os.sched_getaffinity(0))
        # A fresh interpreter each: JAX cannot be forked once it runs.
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=_pinned_work, args=(self, cores[i % len(cores)]))
            for i in range(jobs)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        failed = [worker.exitcode for worker in workers if worker.exitcode]
        if failed:
            raise PGPORuntimeError(f"{len(failed)} of {jobs} workers failed (exit codes {failed})")

    def check_folder(self) -> None:
        """Raises ValueError if the folder belongs to another configuration, naming the field."""
        path = self.folder / "config.json"
        if path.is_file():
            kept = self._kept_config()
            old = with_defaults(json.loads(path.read_text()), kept, self.config)
            check_same_config(old, kept, self.folder)

    def _claim_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_json(self.folder / "config.json", self._kept_config())

    def _kept_config(self) -> dict[str, Any]:
        return {k: v for k, v in dataclasses.asdict(self.config).items() if k not in self.free}

    def _check_arms(self) -> None:
        for arm, seed in self._jobs():
            # One that waits for another run cannot be made yet.
            if not arm.needs(seed):
                arm.config(seed, self.record)

    def _jobs(self) -> list[tuple[Arm, int]]:
        """What is to be run, in this order: all arms at all seeds, and what they need besides,
        each just before the first that needs it."""
        arms = {arm.name: arm for arm in self.arms}
        planned = [(arm, seed) for seed in self.all_seeds for arm in arms.values()]
        known = {(arm.name, seed) for arm, seed in planned}
        jobs: list[tuple[Arm, int]] = []

        def add(arm: Arm, seed: int) -> None:
            for name, other in arm.needs(seed):
                if name not in arms:
                    raise PGPOValueError(
                        f"{arm.name} at seed {seed} needs {(name, other)}, which no one runs"
                    )
                if (name, other) not in known:
                    known.add((name, other))
                    add(arms[name], other)
            jobs.append((arm, seed))

        for arm, seed in planned:
            add(arm, seed)
        return jobs

    def _work(self) -> None:
        jobs = self._jobs()
        start, at_start = time.perf_counter(), sum(self.done(a.name, s) for a, s in jobs)
        while missing := [(a, s) for a, s in jobs if not self.done(a.name, s)]:
            ran = self._run_first(missing)
            if ran is None:
                # What is left is in the hands of other processes, or waits for them.
                time.sleep(_POLL_SECONDS)
                continue
            done = len(jobs) - len(missing) + 1
            pace = (time.perf_counter() - start) / max(1, done - at_start)
            left = pace * (len(jobs) - done) / 60
            print(f"[{done}/{len(jobs)}] {ran}; {left:.0f} min left", flush=True)

    def _run_first(self, missing: Sequence[tuple[Arm, int]]) -> str | None:
        """The first of some runs that can be done now: what it gave, or `None` if none can."""
        for arm, seed in missing:
            if not all(self.done(*needed) for needed in arm.needs(seed)):
                continue
            folder = self.run_folder(arm.name, seed)
            with _claimed(folder) as ours:
                # Another process may have done it between the look and the claim.
                if ours and not self.done(arm.name, seed):
                    return self._run_one(arm, seed, folder)
        return None

    def _run_one(self, arm: Arm, seed: int, folder: Path) -> str:
        # A run that was cut short starts again: it is shorter than what would save it.
        if folder.exists():
            shutil.rmtree(folder)
        start, failure = time.perf_counter(), None
        try:
            train(arm.config(seed, self.record), folder)
        except FloatingPointError as error:
            # A divergence is a finding, not a fault of the sweep.
            failure = str(error)
        seconds = time.perf_counter() - start
        _write_json(folder / _DONE, {"seconds": round(seconds, 3), "failure": failure})
        points = read_run(folder).accuracies()
        last = f"{points[-1][1].value:.3f}" if points else "no evaluation"
        return f"{arm.name} seed {seed}: {last}, {seconds:.1f} s"


def _pinned_work(sweep: Sweep, core: int) -> None:
    os.sched_setaffinity(0, {core})
    sweep._work()


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Whether this process alone holds the run of a folder; never waits."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(folder.with_suffix(".lock")))
        except PGPORuntimeError:
            yield False
            return
        yield True


def _write_json(path: Path, values: Any) -> None:
    # Renamed into place: a reader sees all of it or nothing.
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(values, indent=2) + "\n")
    temporary.replace(path)
