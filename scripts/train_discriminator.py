"""`pplm train-discriminator`, runnable from a checkout and by `accelerate launch`."""

import sys

from pplm.cli import main

if __name__ == "__main__":
    main(["train-discriminator", *sys.argv[1:]])
