"""The command line without the two seconds that it takes to import Prefect and all the rest.

A process that has imported them forks itself for each run. A run has arguments, environment, streams and an
exit code of its own, and ends as any program does. It will not do for what the start of Python or the import
of Prefect has a part in: signals, Prefect's settings, what others see of a process.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile

_IMPORTED = ("flows.load_new", "flows.deployments", "flows.logs", "flows.pool", "flows.serve", "views")
"""Not `cli`, which looks at its environment as it is imported."""
_FILES = 5
"""What comes with a request: its words, the run's stdin, stdout and stderr, and where its end is told."""


class Warm:
    """The process that forks. Its libraries have read this environment and this folder at their import."""

    def __init__(self) -> None:
        self._environment = _of_libraries(os.environ)
        self._folder = Path.cwd()
        self._control, theirs = socket.socketpair()
        # It ends when nobody has the other end any more.
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen([sys.executable, __file__, str(number)], pass_fds=[number])

    def suits(self, environment: dict[str, str]) -> bool:
        """Whether they would read the same now."""
        return _of_libraries(environment) == self._environment and Path.cwd() == self._folder

    def run(
        self, command: list[str], environment: dict[str, str], input: str | None, timeout: float
    ) -> "subprocess.CompletedProcess[str]":
        """Run it to its end, as `subprocess.run` does."""
        with ExitStack() as opened:
            asked, stdin, stdout, stderr = (opened.enter_context(TemporaryFile("w+")) for _ in range(4))
            for file, text in ((asked, json.dumps([command, environment])), (stdin, input or "")):
                file.write(text)
                file.seek(0)
            ours, theirs = socket.socketpair()
            with theirs:
                files = [file.fileno() for file in (asked, stdin, stdout, stderr, theirs)]
                socket.send_fds(self._control, [b"!"], files)
            with ours, ours.makefile() as told:
                ours.settimeout(timeout)
                pid = int(told.readline())
                try:
                    code = int(told.readline())
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(command, timeout) from None
            for file in (stdout, stderr):
                file.seek(0)
            return subprocess.CompletedProcess(command, code, stdout.read(), stderr.read())


def _of_libraries(environment: "os._Environ[str] | dict[str, str]") -> dict[str, str]:
    ours = ("TAXI_INGEST_", "PYTEST_")
    return {name: value for name, value in environment.items() if not name.startswith(ours)}


def _serve(control: socket.socket) -> None:
    """Fork for each request; return in the process that is to be the run, and at the end."""
    for name in _IMPORTED:
        import_module(f"taxi_ingest.{name}")
    while True:
        message, files, _, _ = socket.recv_fds(control, 1, _FILES)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            return _begin(*files)
        for file in files:
            os.close(file)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _begin(asked: int, stdin: int, stdout: int, stderr: int, told: int) -> None:
    """Return as the run; the process in between tells its end."""
    if pid := os.fork():
        os.write(told, b"%d\n" % pid)
        os.write(told, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)
    with open(asked) as file:
        sys.argv, environment = json.load(file)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate((stdin, stdout, stderr)):
        os.dup2(file, number)
        os.close(file)
    os.close(told)
    sys.path[0] = str(Path(sys.argv[0]).parent)


if __name__ == "__main__":
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from taxi_ingest.__main__ import main

    main()
