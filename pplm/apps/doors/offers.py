"""What an operator offers by name: further bags and heads, and steered models, in one small YAML file.

```yaml
models:                       # names that clients may ask for, each the model with this steering
  gpt2-mini-space: {bags: [space], strength: 0.5}
bags: {cooking: lists/cooking.txt}      # paths are read from the file's own folder
heads: {formal: heads/formal}
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attribute_models.naming import KnownNames
from pplm.apps.doors.asked import LONGEST_WORD, Asked, read_asked
from pplm.errors import InputError
from pplm.files.reading import read_text

_SECTIONS = ("models", "bags", "heads")


@dataclass(frozen=True)
class Offers:
    """What clients may name.

    Attributes
    ----------
    known
        Bags and heads.
    models
        Steering by the name of a steered model, as `read_asked` takes it.

    """

    known: KnownNames = field(default_factory=KnownNames.shipped)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def asked(self, name: str, own: Mapping[str, Any] | None) -> Asked:
        """Return the steering of a named model, where a request's own fields replace the model's."""
        return read_asked({**self.models.get(name, {}), **(own or {})})


def read_offers(path: Path | None) -> Offers:
    """Read an operator's file of offers; without a file, offer what ships.

    Raises
    ------
    InputError
        If it is not YAML of this form, a name is taken or not a name, or a bag or head does not exist.

    """
    if path is None:
        return Offers()
    tables = _read(path)
    known = KnownNames.shipped()
    for name, place in tables["bags"].items():
        known = known.with_bag(_name(path, name), _inside(path, name, place))
    for name, place in tables["heads"].items():
        known = known.with_head(_name(path, name), _inside(path, name, place))
    for name, steering in tables["models"].items():
        read_asked(steering, f"{path}: model {_name(path, name)!r}")
    return Offers(known, tables["models"])


def _read(path: Path) -> dict[str, Mapping[str, Any]]:
    import yaml

    try:
        found = yaml.safe_load(read_text("file of offers", path))
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}; correct it") from error
    if not isinstance(found, Mapping) or not set(found) <= set(_SECTIONS):
        raise InputError(f"{path} must hold some of {', '.join(_SECTIONS)}, each a table of names; correct it")
    tables = {section: found.get(section) or {} for section in _SECTIONS}
    for section, table in tables.items():
        if not isinstance(table, Mapping):
            raise InputError(f"{path}: {section} must be a table of names; correct it")
    return tables


def _name(path: Path, name: Any) -> str:
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name.strip()) <= LONGEST_WORD:
        raise InputError(f"{path}: a name must be a text of 1 to {LONGEST_WORD} printable characters; got {name!r}")
    return name


def _inside(path: Path, name: str, place: Any) -> Path:
    if not isinstance(place, str) or not place:
        raise InputError(f"{path}: {name!r} must stand for a path; got {place!r}")
    return path.parent / Path(place).expanduser()
