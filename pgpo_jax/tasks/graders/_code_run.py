import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pgpo_jax.tasks.graders._config import GraderConfig

_SCRIPT = Path(__file__).parent / "_code_child.py"
_MIB = 2**20
_OPEN_FILES = 64
_MORE_PROCESSES = 64
_LONGEST_END = 1.0


class Outcome(NamedTuple):
    """What became of a child process.

    Attributes:
        results: one entry for each test that ran, empty if it passed; `None` if the process ended
            without a result, or was killed.
        state: `"finished"`, `"timeout"` or `"ended"`.
        code: the exit code, negative for a signal.
        running: the test that ran when it ended, if one did.
        output: what was printed.
    """

    results: list[dict[str, Any]] | None
    state: str
    code: int
    running: str
    output: str


def run_child(
    program: str, settings: GraderConfig, *, tests: list[str] | None, stdin: str, seconds: float
) -> Outcome:
    """Runs a program in a process of its own, in an empty folder that is deleted afterwards.

    Args:
        program: what runs.
        settings: its limits.
        tests: statements that run after it in the same names; `None` runs it as a script.
        stdin: what it can read.
        seconds: after this it is killed, with all processes of its group.

    Returns:
        The outcome. Whatever the program does, this does not raise.

    Raises:
        OSError: if no process can be started.
    """
    token = secrets.token_hex(16)
    request = {
        "program": program,
        "tests": tests,
        "all": settings.partial,
        "token": token,
        "limits": {
            "seconds": seconds,
            "memory": settings.memory * _MIB,
            "file_size": settings.file_size * _MIB,
            "open_files": _OPEN_FILES,
            "processes": _process_limit(),
        },
    }
    folder = tempfile.mkdtemp(prefix="pgpo-code-")
    try:
        with (
            tempfile.TemporaryFile() as asked,
            tempfile.TemporaryFile() as result,
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as output,
        ):
            # Files, not pipes: none can fill up, and none is kept open by a child of the child.
            for file, text in ((asked, json.dumps(request)), (given, stdin)):
                file.write(text.encode(errors="surrogatepass"))
                file.seek(0)
            script = [str(_SCRIPT), str(asked.fileno()), str(result.fileno())]
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", *script],
                stdin=given,
                stdout=output if tests is None else subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=_environment(folder),
                pass_fds=(asked.fileno(), result.fileno()),
                start_new_session=True,
            )
            finished = _wait_and_kill(process, seconds)
            state = _read(result, 64 * 1024 + sum(map(len, tests or [])) * 4)
            output.seek(0)
            printed = output.read(settings.file_size * _MIB).decode(errors="replace")
    finally:
        _delete(folder)
    try:
        report = json.loads(state or "{}")
    except ValueError:
        report = {}
    whole = isinstance(report, dict) and report.get("token") == token
    name = "finished" if finished and whole else "ended" if finished else "timeout"
    results = report["results"] if name == "finished" else None
    running = report.get("running", "") if isinstance(report, dict) else ""
    return Outcome(results, name, process.returncode, running, printed)


def _environment(folder: str) -> dict[str, str]:
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder}


def _wait_and_kill(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the process ended in time; in any case, its group is gone after this."""
    end, pause, finished = time.monotonic() + seconds, 0.001, False
    try:
        while not finished and time.monotonic() < end:
            # Not reaped before its group is killed: until then its number is not given away.
            status = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            finished = status is not None
            if not finished:
                time.sleep(pause)
                pause = min(2 * pause, 0.02)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _wait_for_group(process.pid)
    return finished


def _wait_for_group(group: int) -> None:
    """Killed processes take a moment to end, in which they could still write to their folder."""
    end = time.monotonic() + _LONGEST_END
    with suppress(ProcessLookupError, PermissionError):
        # Where the system's first process does not wait for orphans, they stay; hence the limit.
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.002)


def _read(file: Any, most: int) -> str:
    file.seek(0)
    return file.read(most).decode(errors="replace").strip()


def _delete(folder: str) -> None:
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        # Folders nested too deeply for Python, or closed to their owner.
        subprocess.run(["chmod", "-R", "u+rwx", folder], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["rm", "-rf", "--", folder], stderr=subprocess.DEVNULL, check=False)


def _process_limit() -> int | None:
    """How many processes and threads the user may have, with some for the program.

    `None` for root, for whom the kernel sets none, and where there is no /proc to count them.
    """
    user = os.getuid()
    if user == 0 or not os.path.isdir("/proc/self/task"):
        return None
    count = 0
    for entry in os.scandir("/proc"):
        with suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == user:
                count += len(os.listdir(f"/proc/{entry.name}/task"))
    return count + _MORE_PROCESSES
