"""`pplm benchmark`, runnable from a checkout: python scripts/benchmark.py --samples 1,16 --json out.json."""

import sys

from pplm.cli import main

if __name__ == "__main__":
    main(["benchmark", *sys.argv[1:]])
