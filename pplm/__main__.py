"""`python -m pplm` is the `pplm` command; `accelerate launch -m pplm` runs it on several devices."""

from pplm.cli import main

if __name__ == "__main__":
    main()
