"""Ctrl-C and SIGTERM while Postgres works: its statement is cancelled, instead of waited for."""

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg2
from psycopg2.extensions import connection as Connection

_ENDING = frozenset({signal.SIGINT, signal.SIGTERM})


@contextmanager
def cancelled_by_signals(connection: Connection) -> Iterator[None]:
    """Cancel the connection's statement when a signal tells us to end, as a KeyboardInterrupt.

    Python runs a signal's handler only when psycopg2 returns, which may wait for a lock for hours; but
    it writes the signal's number to a file descriptor at once
    (https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd), on which a thread listens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    listening, written = socket.socketpair()
    written.setblocking(False)
    before = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    cancelled = threading.Event()
    listener = threading.Thread(target=_listen, args=(listening, connection, cancelled), daemon=True)
    listener.start()
    try:
        with _swallowed_silently():
            yield
    except psycopg2.Error:
        if not cancelled.is_set():
            raise
    finally:
        signal.set_wakeup_fd(before)
        written.close()
        listener.join()
        listening.close()
    if cancelled.is_set():
        # psycopg2 has swallowed it, where it struck while rows were handed to COPY.
        raise KeyboardInterrupt


@contextmanager
def _swallowed_silently() -> Iterator[None]:
    """Keep psycopg2 from printing what it swallows, interrupts and lost connections: we tell them, once."""
    before = sys.excepthook
    sys.excepthook = lambda *_: None
    try:
        yield
    finally:
        sys.excepthook = before


def _listen(listening: socket.socket, connection: Connection, cancelled: threading.Event) -> None:
    while numbers := listening.recv(64):
        if _ENDING.intersection(numbers):
            cancelled.set()
            with suppress(psycopg2.Error):
                connection.cancel()
