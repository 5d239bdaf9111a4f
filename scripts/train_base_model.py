"""`pplm train-base`, runnable from a checkout and by `accelerate launch`."""

import sys

from pplm.cli import main

if __name__ == "__main__":
    main(["train-base", *sys.argv[1:]])
