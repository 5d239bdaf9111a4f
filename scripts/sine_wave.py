"""`pplm sine`, runnable from a checkout: python scripts/sine_wave.py --seeds 3 --plot wave.png."""

import sys

from pplm.cli import main

if __name__ == "__main__":
    main(["sine", *sys.argv[1:]])
