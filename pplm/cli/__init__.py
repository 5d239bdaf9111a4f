"""The command line: here and in `pplm.apps`, alone in `pplm`, `attribute_models` is imported and joined to the rest.

One module per command. Results go to stdout, everything else to stderr; a mistake that the user can fix ends in one
line and exit code 2, never in a traceback.
"""

from pplm.cli.app import main, run_command

__all__ = ["main", "run_command"]
