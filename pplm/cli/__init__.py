"""The command line: the composition root, and the only part of `pplm` that imports `attribute_models`.

One module a command. Text goes to stdout, everything else to stderr; what the user can fix is one line and exit
code 2, never a traceback.
"""

from pplm.cli.app import main, run_command

__all__ = ["main", "run_command"]
