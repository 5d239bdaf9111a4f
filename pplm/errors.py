"""The one exception that means "the caller can fix this".

The command line shows it as a single line with exit code 2; everything else that is raised is a defect of ours
and keeps its traceback.
"""


class InputError(ValueError):
    """A setting, file, model or text that cannot be used; the message names it, its value and the remedy."""
