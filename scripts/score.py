"""`pplm score`, runnable from a checkout: python scripts/score.py texts.jsonl --prompt-column prompt --by steered."""

import sys

from pplm.cli import main

if __name__ == "__main__":
    main(["score", *sys.argv[1:]])
