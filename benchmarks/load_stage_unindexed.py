"""The load stage as it would be without the index on the pickup time: what that costs.

python load_stage_unindexed.py DATABASE TABLE FILE…
"""

import sys
from unittest.mock import patch

from load_stage import main

if __name__ == "__main__":
    # Where no column is the pickup, no index is made, as for a file that is not TLC's.
    with patch("taxi_ingest.load.partition._pickup", return_value=None):
        main(*sys.argv[1:])
