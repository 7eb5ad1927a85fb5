"""What the place that rows go to can hold."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class Store:
    """What a place can hold, and what it calls the types; one that nothing is said of holds all that Arrow
    does."""

    name_bytes: int = sys.maxsize
    """How long a column's name can be."""
    reserved_names: frozenset[str] = frozenset()
    """What no column may be called."""
    days: tuple[int, int] = (-(2**31), 2**31 - 1)
    """The first and the last date, in days since 1970."""
    moments: tuple[int, int] = (-(2**63), 2**63 - 1)
    """The first and the last timestamp, in microseconds since 1970."""
    type_names: Mapping[pa.DataType, str] = field(default_factory=dict)

    def name_of(self, type: pa.DataType) -> str:
        """What the place calls a type."""
        return self.type_names.get(type, str(type))


ANYWHERE = Store()
