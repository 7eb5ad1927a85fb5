"""The settings of the embedded Postgres, each with its reason."""

import psutil

_TEMPLATE = """\
# Written by taxi-ingest at every start. Put settings of your own at the end of postgresql.conf: they win.

# Local only: no TCP; who may open the socket is whom the file system lets.
listen_addresses = ''
unix_socket_directories = '{socket_folder}'
unix_socket_permissions = 0700

# Nobody replicates or archives this server. Without that, COPY into a table of the same transaction
# writes the table once, not a second time to the WAL. It is still as safe: fsync, synchronous_commit
# and full_page_writes keep their default, on.
wal_level = minimal
max_wal_senders = 0

# A load of 2 GB that does go through the WAL should meet one checkpoint, not thirty.
max_wal_size = 4GB
checkpoint_timeout = 15min

# From this machine's memory, {memory} MB: room for the loads and for queries over whole years,
# and most of it left to the system's own cache.
shared_buffers = {shared_buffers}MB
effective_cache_size = {effective_cache_size}MB
maintenance_work_mem = {maintenance_work_mem}MB
work_mem = {work_mem}MB
"""


def configuration(socket_folder: str) -> str:
    """The text of `taxi_ingest.conf` for this machine and a folder for the socket, from the data's on."""
    memory = psutil.virtual_memory().total // 2**20
    # A list of quoted names inside a quoted string, in which a backslash escapes.
    name = socket_folder.replace("\\", "\\\\").replace('"', '""').replace("'", "''")
    return _TEMPLATE.format(
        socket_folder=f'"{name}"',
        memory=memory,
        shared_buffers=min(max(memory // 8, 128), 1024),
        effective_cache_size=memory // 2,
        maintenance_work_mem=min(max(memory // 32, 64), 512),
        work_mem=min(max(memory // 256, 4), 64),
    )
