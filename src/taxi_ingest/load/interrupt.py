"""Ctrl-C, SIGTERM, SIGHUP or a parent that stops: what all of this process's connections do ends at once."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType

import psycopg2
from psycopg2.extensions import connection as Connection

_ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


@dataclass(eq=False)
class _Use:
    """A connection while a thread works with it."""

    connection: Connection
    thread: threading.Thread = field(default_factory=threading.current_thread)
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True
        with suppress(psycopg2.Error, OSError):
            if self.thread is not threading.main_thread():
                # Python interrupts the main thread alone. Another may be between two statements, or would
                # hand COPY the whole file before it looks for an answer: it can't send any more.
                with socket.socket(fileno=os.dup(self.connection.fileno())) as shared:
                    shared.shutdown(socket.SHUT_WR)
            self.connection.cancel()


class _Process:
    """All uses of this process, whose signals are for all of its threads."""

    def __init__(self) -> None:
        # Reentrant, as a signal's handler may cancel while its thread begins or ends a use.
        self._lock = threading.RLock()
        self._uses: list[_Use] = []
        self._listening = self._stopped = False
        self._excepthook: Callable[..., object] = sys.excepthook

    @contextmanager
    def using(self, connection: Connection) -> Iterator[_Use]:
        use = _Use(connection)
        with self._lock:
            if not self._uses:
                self._excepthook, sys.excepthook = sys.excepthook, self._tell
            self._uses.append(use)
            if self._stopped:
                use.cancel()
        try:
            yield use
        finally:
            # Who cancels has done with it by then.
            with self._lock:
                self._uses.remove(use)
                if not self._uses:
                    sys.excepthook = self._excepthook

    def cancel(self) -> None:
        with self._lock:
            self._stopped = self._listening
            for use in self._uses:
                use.cancel()

    @contextmanager
    def listening(self) -> Iterator[None]:
        if self._listening or threading.current_thread() is not threading.main_thread():
            yield
            return
        listening, written = socket.socketpair()
        written.setblocking(False)
        before = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        listener = threading.Thread(target=self._listen, args=(listening,), daemon=True)
        self._listening = True
        listener.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            written.close()
            listener.join()
            listening.close()
            self._listening = self._stopped = False

    def _listen(self, listening: socket.socket) -> None:
        while numbers := listening.recv(64):
            if _ENDING.intersection(numbers):
                self.cancel()

    def _tell(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Keep psycopg2 from printing what it swallows, interrupts and lost connections: we tell them."""
        thread = threading.current_thread()
        if all(use.thread is not thread for use in self._uses):
            self._excepthook(kind, error, trace)


_process = _Process()


@contextmanager
def cancelled_by_signals(connection: Connection) -> Iterator[None]:
    """Let a signal that tells us to end, or `cancel_all`, cancel the connection's work: a KeyboardInterrupt.

    Off the main thread a signal is heard only while the main thread is in here, too, or in
    `listening_for_signals`.
    """
    with _process.listening(), _process.using(connection) as use:
        try:
            yield
        except psycopg2.Error:
            if not use.cancelled:
                raise
        if use.cancelled:
            # psycopg2 has swallowed it, where it struck while rows were handed to COPY.
            raise KeyboardInterrupt


@contextmanager
def listening_for_signals() -> Iterator[None]:
    """Let a signal that tells us to end cancel what all threads do, those that only begin, too.

    For a main thread that waits for others. Python runs a signal's handler only when its main thread
    comes back to it, and psycopg2 may wait for a lock for hours; but it writes the signal's number to a file
    descriptor at once (https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd), on which a
    thread listens.
    """
    with _process.listening():
        yield


def cancel_all() -> None:
    """Cancel the work of all connections: each ends with a KeyboardInterrupt in its thread."""
    _process.cancel()
