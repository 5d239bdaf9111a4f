"""`pplm sweep`, runnable from a checkout and by `accelerate launch`."""

import sys

from pplm.cli import main

if __name__ == "__main__":
    main(["sweep", *sys.argv[1:]])
