"""How the local Prefect server writes to its SQLite: one transaction after the other, none in vain.

Prefect's transactions begin DEFERRED. Most read before they write, and where another has written meanwhile
SQLite refuses at once, which no timeout helps (https://www.sqlite.org/rescode.html#busy_snapshot): the
server answers 503, and the client waits two seconds or more before it asks again. Those that begin
IMMEDIATE wait before they read; and they queue, since SQLite lets those that wait for it overtake each other.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration
from prefect.server.database.dependencies import set_database_config
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

_LONGEST_WAIT_SECONDS = 60
"""As long as Prefect has SQLite wait. Only a transaction that is begun inside another waits so long."""


class _OneByOne(AioSqliteConfiguration):
    def __init__(self, url: str) -> None:
        super().__init__(connection_url=url)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def begin_transaction(
        self, session: AsyncSession, *_: object, **__: object
    ) -> AsyncIterator[AsyncSessionTransaction]:
        """Begin at once and IMMEDIATE, whether or not Prefect means to write."""
        async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
            await self._turn.acquire()
        try:
            async with session.begin() as transaction:
                await _begin_immediate(session)
                yield transaction
        finally:
            self._turn.release()


async def _begin_immediate(session: AsyncSession) -> None:
    mode = SQLITE_BEGIN_MODE.set("IMMEDIATE")
    try:
        await session.connection()
    finally:
        # Else a second session, which Prefect may read with meanwhile, would wait for this one to end.
        SQLITE_BEGIN_MODE.reset(mode)


def write_one_by_one(url: str) -> None:
    """Have this process's Prefect server, whose SQLite is at `url`, begin its transactions so."""
    set_database_config(_OneByOne(url))
