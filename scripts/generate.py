"""`pplm generate`, runnable from a checkout: python scripts/generate.py "The lake" --bag space."""

import sys

from pplm.cli import main

if __name__ == "__main__":
    main(["generate", *sys.argv[1:]])
