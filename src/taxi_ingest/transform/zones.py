"""Points -> the taxi zones that they lie in."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import shapely

Degrees = npt.NDArray[np.float64]


class Zones:
    """The zones' outlines, in which points are looked up."""

    def __init__(self, outlines: Mapping[int, str]) -> None:
        """`outlines` are well-known text, in degrees, by zone."""
        self._numbers = np.array(sorted(outlines), np.int16)
        self._outlines = shapely.from_wkt([outlines[number] for number in sorted(outlines)])
        shapely.prepare(self._outlines)
        self._tree = shapely.STRtree(self._outlines)

    def at(self, longitudes: Degrees, latitudes: Degrees) -> npt.NDArray[np.int16]:
        """The zone of each point, 0 where it lies in none; on a border the one of the lowest number.

        The tree finds the outlines whose bounding box has the point, 1.4 on average; those are looked at.
        """
        points, outlines = self._tree.query(shapely.points(longitudes, latitudes))
        inside = shapely.intersects_xy(self._outlines[outlines], longitudes[points], latitudes[points])
        points, outlines = points[inside], outlines[inside]
        zones = np.zeros(len(longitudes), np.int16)
        # Of several values for one point the last stays.
        order = np.argsort(-outlines, kind="stable")
        zones[points[order]] = self._numbers[outlines[order]]
        return zones
