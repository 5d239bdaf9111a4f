"""`pplm classify`, runnable from a checkout: python scripts/classify.py "A joy." --discriminator sentiment."""

import sys

from pplm.cli import main

if __name__ == "__main__":
    main(["classify", *sys.argv[1:]])
