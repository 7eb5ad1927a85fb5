"""The command line without the two seconds that it takes to import Prefect and all the rest.

A process that has imported them forks itself for each run. A run has arguments, environment, streams and exit
code of its own, and ends as any program does. Where the libraries would have read another environment or
folder at their import, the program itself runs. This will not do for what the start of Python has a part in,
nor where others look at the process or kill it.
"""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

_OURS = ("flows.load_new", "flows.deployments", "flows.logs", "flows.pool", "flows.serve", "views")
_IMPORTED = (
    *(f"taxi_ingest.{name}" for name in _OURS),
    # What is imported in the midst of a run.
    *("fastapi.encoders", "prefect.task_engine", "prefect.utilities.visualization"),
    *("anyio._core._sockets", "anyio._core._streams", "encodings.idna"),
)
"""Not `cli`, which looks at its environment as it is imported."""
_READ_LATE_ALL = ("TAXI_INGEST_", "PYTEST_", "PG")
_READ_LATE = {
    *("TERM", "COLUMNS", "LINES", "COLORTERM", "NO_COLOR", "FORCE_COLOR"),
    *("no_proxy", "NO_PROXY"),
    *("_", "OLDPWD", "PWD", "SHLVL"),
}
"""How variables begin, and which others, that no library reads at its import."""
_STREAMS = [0, 1, 2]
_PROGRAM = """#!{python} -IS
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as call, call.makefile() as told:
    call.connect({address!r})
    socket.send_fds(call, [b"!"], {streams})
    wanted = [[{program!r}, *sys.argv[1:]], dict(os.environ), os.getcwd()]
    call.sendall(json.dumps(wanted).encode() + b"\\n")
    run = int(told.readline())
    if not run:
        os.execv({program!r}, wanted[0])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(run, number))
    code = int(told.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextmanager
def warmed(program: str, environment: Mapping[str, str], folder: Path) -> Iterator[Path]:
    """Start the process that forks, and end it; yields a program of the same name that has it do so."""
    with TemporaryDirectory(prefix="ti-warm-") as place:
        address, quick = f"{place}/socket", Path(place, Path(program).name)
        quick.write_text(
            _PROGRAM.format(python=sys.executable, address=address, streams=_STREAMS, program=program)
        )
        quick.chmod(0o700)
        command = [sys.executable, __file__, address]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment, cwd=folder, stdin=pipe, stdout=pipe) as process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield quick
            # Its end.
            process.stdin.close()


# The process


def _serve(address: str) -> None:
    """Fork for each request; return in the process that is to be the run."""
    read_early = _read_early(os.environ), str(Path.cwd())
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for name in _IMPORTED:
        import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while listener in select.select([listener, 0], [], [])[0]:
            call, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                return _begin(call, read_early)
            call.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    return os._exit(0)


def _read_early(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_READ_LATE_ALL) and name not in _READ_LATE
    }


def _begin(call: socket.socket, read_early: tuple[dict[str, str], str]) -> None:
    """Return as the run; the process in between tells its end."""
    _, streams, _, _ = socket.recv_fds(call, 1, len(_STREAMS))
    with call.makefile() as asked:
        sys.argv, environment, folder = json.loads(asked.readline())
    if (_read_early(environment), folder) != read_early:
        call.sendall(b"0\n")
        os._exit(0)
    if pid := os.fork():
        call.sendall(b"%d\n" % pid)
        call.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)
    call.close()
    for number, stream in zip(_STREAMS, streams, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = str(Path(sys.argv[0]).parent)


if __name__ == "__main__":
    _serve(sys.argv[1])
    from taxi_ingest.__main__ import main

    main()
