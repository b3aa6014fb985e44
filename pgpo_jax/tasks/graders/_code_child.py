"""The process that runs a program of the model: a script that needs the standard library only.

Usage: `_code_child.py REQUEST RESULT`, where both are numbers of open files. The result is written
after the last test and contains the token of the request. So a program that prints "OK" or ends
early does not pass.
"""

import ast
import json
import linecache
import os
import resource
import signal
import sys
import threading
import traceback
import types

_PROCESSES = {
    *("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system"),
    *("subprocess.Popen", "pty.spawn", "os.kill", "os.killpg", "signal.pthread_kill"),
}
_NETWORK = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}
# Each event with the positions of the paths among its arguments.
_CHANGES = {
    **dict.fromkeys(("os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod"), (0,)),
    **dict.fromkeys(("os.chown", "os.utime", "shutil.rmtree", "os.setxattr"), (0,)),
    **dict.fromkeys(("os.rename", "os.link", "shutil.move", "shutil.copyfile"), (0, 1)),
    "os.symlink": (1,),
}
_SHOWN = 250


def forbid(folder: str) -> None:
    """Refuse actions that no program needs: processes, network, files outside its folder.

    This hook stops accidents. A program can circumvent it on purpose.
    """
    realpath, fsdecode = os.path.realpath, os.fsdecode
    inside, writing = folder + os.sep, os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

    def outside(path) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        path = realpath(fsdecode(path))
        return path not in (folder, os.devnull) and not path.startswith(inside)

    def hook(event: str, arguments: tuple) -> None:
        if event in _PROCESSES:
            raise PermissionError("a program may not start or signal processes here")
        if event in _NETWORK:
            raise PermissionError("a program has no network here")
        if event == "open":
            path, _, flags = arguments
            changed = outside(path) if (flags or 0) & writing else False
        elif event in _CHANGES:
            changed = any(outside(arguments[place]) for place in _CHANGES[event])
        else:
            return
        if changed:
            raise PermissionError("a program may only write files in its own folder here")

    sys.addaudithook(hook)


def limit(limits: dict) -> None:
    """Set limits of the operating system for this process and its children."""

    def fixed(kind: int, value: int) -> None:
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))

    fixed(resource.RLIMIT_CORE, 0)
    fixed(resource.RLIMIT_CPU, int(limits["seconds"]) + 2)
    fixed(resource.RLIMIT_FSIZE, limits["file_size"])
    fixed(resource.RLIMIT_NOFILE, limits["open_files"])
    # Root is exempt from this limit. The kernel counts all processes and threads of the user.
    if limits["processes"] is not None:
        fixed(resource.RLIMIT_NPROC, limits["processes"])
    fixed(resource.RLIMIT_AS, limits["memory"])


def described(error: BaseException, program: str) -> dict:
    """An exception as text: its message and the lines of the program that led to it."""
    name = type(error).__name__
    try:
        message = f"{name}: {error}"[:_SHOWN]
    except BaseException:
        message = name
    if isinstance(error, SyntaxError):
        return {"kind": "syntax", "error": f"{name}: {error.msg}", "line": error.lineno}
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == "program.py"]
    lines = program.splitlines()
    shown = [
        f"Line {frame.lineno} in {frame.name}: {lines[frame.lineno - 1].strip()[:_SHOWN]}"
        for frame in frames[-3:]
        if frame.lineno and frame.lineno <= len(lines)
    ]
    if isinstance(error, MemoryError):
        return {"kind": "memory", "error": message, "lines": shown}
    if isinstance(error, SystemExit):
        return {"kind": "exit", "error": f"the program called exit({error.code!r})", "lines": shown}
    return {"kind": "exception", "error": message, "lines": shown}


def shown(value) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of too many digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def run_statement(statement: ast.stmt, names: dict, file: str) -> dict:
    """The failure of a test, or an empty dictionary if it passes."""
    test = statement.test if isinstance(statement, ast.Assert) else None
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        # This evaluates the assertion, but keeps both sides for the report.
        got = eval(compile(ast.Expression(test.left), file, "eval"), names)
        expected = eval(compile(ast.Expression(test.comparators[0]), file, "eval"), names)
        if got == expected:
            return {}
        return {"kind": "wrong", "expected": shown(expected), "got": shown(got)}
    try:
        exec(compile(ast.Module([statement], []), file, "exec"), names)
    except AssertionError as error:
        frames = traceback.extract_tb(error.__traceback__)
        if any(frame.filename == "program.py" for frame in frames):
            raise
        detail = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip()
        return {"kind": "wrong", "detail": str(error)[:_SHOWN] or detail[:_SHOWN]}
    return {}


def new_module(name: str) -> dict:
    """The namespace of an empty module, which dataclasses and others find under its name."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    return vars(module)


def run_tests(request: dict, report) -> list:
    """Run the program, then its tests in the same namespace; one entry for each test."""
    program, results = request["program"], []
    names = new_module("program")
    try:
        exec(compile(program, "program.py", "exec"), names)
    except BaseException as error:
        return [described(error, program)]
    for number, source in enumerate(request["tests"]):
        file = f"test {number}"
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        for statement in ast.parse(source).body:
            text = (ast.get_source_segment(source, statement) or "")[: 2 * _SHOWN]
            report({"running": text})
            try:
                failure = run_statement(statement, names, file)
            except BaseException as error:
                failure = described(error, program)
            if failure and any(results):
                # The first failure is reported. Of further ones only the number matters.
                failure, text = {"kind": "again"}, ""
            counts = isinstance(statement, ast.Assert) or (
                isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            )
            if counts or failure:
                results.append({"test": text, **failure} if failure else {})
            if failure and not request["all"]:
                return results
    return results


def run_script(request: dict) -> list:
    """Run the program as a script that reads standard input and prints."""
    names = new_module("__main__")
    try:
        exec(compile(request["program"], "program.py", "exec"), names)
        # An interpreter does this before it exits.
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
    except SystemExit as error:
        if error.code not in (None, 0):
            return [described(error, request["program"])]
    except BaseException as error:
        return [described(error, request["program"])]
    return [{}]


def main() -> None:
    request_file, result_file = int(sys.argv[1]), int(sys.argv[2])
    with os.fdopen(request_file, encoding="utf-8") as file:
        request = json.load(file)
    os.set_inheritable(result_file, False)
    this = sys.modules["__main__"]  # A script replaces the module; keep it alive.
    token, folder = request.pop("token"), os.path.realpath(os.getcwd())
    write, flush, leave = os.pwrite, sys.stdout.flush, os._exit
    dumps, pad = json.dumps, 8192

    def report(state: dict) -> None:
        # All reports have the same length, so that a later report overwrites an earlier one.
        text = dumps(state)
        write(result_file, (text if len(text) < pad else "{}").ljust(pad).encode(), 0)

    sys.argv = ["program.py"]
    # If no parent is left to kill this process, the alarm ends it.
    signal.alarm(int(request["limits"]["seconds"]) + 5)
    limit(request["limits"])
    forbid(folder)
    results = run_script(request) if request["tests"] is None else run_tests(request, report)
    try:
        flush()
    except OSError as error:  # more output than a file may hold
        results = [described(error, request["program"])]
    write(result_file, dumps({"token": token, "results": results}).encode().ljust(pad), 0)
    # Threads and exit handlers of the program are skipped.
    del this
    leave(0)


if __name__ == "__main__":
    main()
