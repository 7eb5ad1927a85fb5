"""The user's own step: a function from DataFrame to DataFrame, named `module:function`."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from taxi_ingest.errors import DataError, UsageError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Step:
    """A function of the user's, called with each chunk as a DataFrame on Arrow-backed dtypes."""

    name: str
    function: "Callable[[pd.DataFrame], pd.DataFrame]"

    def apply(self, rows: pa.Table) -> pa.Table:
        """The rows as the function returns them: it may drop, add and change rows and columns.

        Raises DataError where it fails or returns something else.
        """
        # A quarter of a second to import, which only those with a step of their own pay.
        import pandas as pd

        frame = rows.to_pandas(types_mapper=pd.ArrowDtype)
        try:
            result = self.function(frame)
            if not isinstance(result, pd.DataFrame):
                raise TypeError(f"it returned {type(result).__name__}, not a DataFrame")
            return pa.Table.from_pandas(result, preserve_index=False)
        except Exception as error:
            raise DataError(
                f"The step {self.name} failed: {type(error).__name__}: {error}.",
                "Try it on a few rows: it is called with one chunk, a pandas DataFrame.",
            ) from error


def load_step(name: str) -> Step:
    """Import `module:function`, also from the current folder, as `python -m` would.

    Raises UsageError where there is no such module or function.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise UsageError(f"{name!r} names no function.", "Write --transform module:function.")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"The step {name} can't be imported: {error}.", "Run in the folder of the module."
        ) from error
    if not callable(function):
        raise UsageError(f"{name} is not a function.", "Write --transform module:function.")
    return Step(name, function)
