"""How the local Prefect server writes to its SQLite: one transaction after the other, none in vain.

Prefect's transactions begin DEFERRED. Most read before they write, and where another has written meanwhile
SQLite refuses at once, which no timeout helps (https://www.sqlite.org/rescode.html#busy_snapshot): the
server answers 503, and the client waits two seconds or more before it asks again. Those that begin
IMMEDIATE wait for each other, for some milliseconds, before they read.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration
from prefect.server.database.dependencies import set_database_config
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction


class _Immediate(AioSqliteConfiguration):
    """Prefect's SQLite, where whatever is a transaction begins IMMEDIATE, and at once."""

    @asynccontextmanager
    async def begin_transaction(
        self, session: AsyncSession, *_: object, **__: object
    ) -> AsyncIterator[AsyncSessionTransaction]:
        async with session.begin() as transaction:
            mode = SQLITE_BEGIN_MODE.set("IMMEDIATE")
            try:
                await session.connection()
            finally:
                # Else a second session, which only reads inside of this one, would wait for it for ever.
                SQLITE_BEGIN_MODE.reset(mode)
            yield transaction


def begin_immediate(url: str) -> None:
    """Have this process's Prefect server, whose database is at `url`, begin its transactions so."""
    set_database_config(_Immediate(connection_url=url))
