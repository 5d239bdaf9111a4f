"""The exception that means "you can fix this", and the warning that means "this may not do what you want".

The command line shows the exception as a single line with exit code 2 and the warning as a line that begins with
`Warning:`; everything else that is raised is a defect of ours and keeps its traceback.
"""


class InputError(ValueError):
    """A setting, file, model or text that cannot be used; the message names it, its value and the remedy."""


class SteeringWarning(UserWarning):
    """Work goes on, but does less than was asked for; the message names what and the likely reason."""


def broken_model(what: str) -> InputError:
    """Return the error for a model that computes NaN or infinity; the message names `what` it computed so."""
    return InputError(
        f"the model returned NaN or infinity as {what}; its weights or its number format cannot be used: load it in "
        "float32, or load other weights"
    )
