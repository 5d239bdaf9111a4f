"""Shows what each setting does in the API reference: an extension of griffe (mkdocs.yml).

Fields such as `SteeringConfig.gamma` carry their explanation in `_setting(default, "...")`, which the command line
shows. Here it becomes the field's docstring, and the default its value.
"""

import ast
from typing import Any

import griffe


class SettingFields(griffe.Extension):
    """Documents fields that are made by `_setting`."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_others: Any) -> None:
        """Take a field's docstring and default out of its call."""
        call = attr.value
        if isinstance(call, griffe.ExprCall) and str(call.function) == "_setting":
            explanation = next(argument for argument in call.arguments[1:] if str(argument)[0] in "'\"")
            attr.docstring = griffe.Docstring(ast.literal_eval(str(explanation)), parent=attr)
            attr.value = call.arguments[0]
            attr.labels -= {"class-attribute", "instance-attribute"}
