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
    """The outcome of a child process.

    Attributes:
        results: one entry for each test that ran, which is empty if the test passed. `None` if the
            process was killed or ended without a result.
        state: `"finished"`, `"timeout"` or `"ended"`.
        code: exit code, negative for a signal.
        running: the test that ran when the process ended, if any.
        output: output of the program.
    """

    results: list[dict[str, Any]] | None
    state: str
    code: int
    running: str
    output: str


def run_child(
    program: str, settings: GraderConfig, *, tests: list[str] | None, stdin: str, seconds: float
) -> Outcome:
    """Run a program in its own process, in an empty folder that is deleted afterwards.

    Args:
        program: the program.
        settings: limits of the program.
        tests: statements that run after it in its namespace. `None` runs the program as a script.
        stdin: standard input of the program.
        seconds: time limit in seconds. The program is then killed with all processes of its group.

    Returns:
        The outcome. No action of the program makes this raise.

    Raises:
        OSError: no process can be started.
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
            # Files are used instead of pipes. A pipe can fill up, or a grandchild can keep it open.
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
    """Whether the process ended in time; its group is killed in any case."""
    end, pause, finished = time.monotonic() + seconds, 0.001, False
    try:
        while not finished and time.monotonic() < end:
            # The process is not reaped before its group is killed, so that its number is not
            # reused.
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
    """Killed processes take a moment to end and could still write to their folder."""
    end = time.monotonic() + _LONGEST_END
    with suppress(ProcessLookupError, PermissionError):
        # If the init process does not reap orphans, they remain; so the wait has a limit.
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
        # The folders may be nested too deeply for Python, or not readable for their owner.
        subprocess.run(["chmod", "-R", "u+rwx", folder], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["rm", "-rf", "--", folder], stderr=subprocess.DEVNULL, check=False)


def _process_limit() -> int | None:
    """The limit of processes and threads of the user, with some for the program.

    `None` for root, whom the kernel does not limit, and on systems without /proc.
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
