"""The load stage over one connection: what the others are worth.

python load_stage_single.py DATABASE TABLE FILE…
"""

import sys

from load_stage import main

if __name__ == "__main__":
    main(*sys.argv[1:], connections=1)
