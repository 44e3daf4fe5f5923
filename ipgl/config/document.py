"""YAML documents: data and the line of each value, so that errors can name it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from ipgl.core.errors import IpglError

KeyPath: TypeAlias = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2: `off` is a word and `1e-3` is a number.

    PyYAML follows YAML 1.1, where `adaptivity: off` reads as False, `lr: 1e-3` as a string and `epochs: 010` as 8.
    """


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if not tag.endswith((":bool", ":int", ":float", ":timestamp"))
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if not str(tag).endswith((":timestamp", ":binary", ":omap", ":pairs", ":set"))  # no plain data
}
_Loader.add_constructor(
    "tag:yaml.org,2002:int",
    lambda loader, node: int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


class DocumentError(IpglError):
    """A file that cannot be read as one YAML mapping."""


@dataclass(frozen=True)
class Document:
    """One parsed file.

    Attributes:
        source: The file's name as the user gave it.
        text: The file's text, kept so that a study can store exactly what it was given.
        data: The parsed mapping.
        lines: Key path -> line (1-based).
    """

    source: str
    text: str
    data: dict[str, Any]
    lines: dict[KeyPath, int] = field(repr=False)

    def line_of(self, path: KeyPath) -> int:
        """The line of the value at `path`, or of its nearest parent that the file holds."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse_document(text: str, source: str = "<text>") -> Document:
    """Parse YAML text whose top level is a mapping.

    Raises:
        DocumentError: Not YAML, not a mapping, a key that is not text, or the same key twice in one mapping.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            kinds = {type(None): "nothing", yaml.SequenceNode: "a list"}
            raise DocumentError(
                f"{source}: a study file is a mapping of keys to values, but this one holds "
                f"{kinds.get(type(node), 'a single value')}; begin with `name: my-study`"
            )
        lines: dict[KeyPath, int] = {}
        _collect_lines(node, (), lines, source)
        data: dict[str, Any] = loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark else source
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DocumentError(f"{place}: not valid YAML: {problem}") from None
    except (KeyError, ValueError) as error:  # `!!int x`, or too many digits
        raise DocumentError(f"{source}: a value cannot be read as its type: {error}") from None
    except RecursionError:
        raise DocumentError(f"{source}: a value contains itself, or nests too deeply") from None
    finally:
        if loader:
            loader.dispose()
    return Document(source, text, data, lines)


def read_document(path: Path) -> Document:
    """Read and parse a YAML file.

    Raises:
        DocumentError: The file cannot be read, or its content is refused by `parse_document`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DocumentError(f"{path}: cannot read the study file: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path}: a study file is UTF-8 text, but byte {error.start} is not") from None
    return parse_document(text, str(path))


def _collect_lines(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], source: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            where = ".".join(map(str, (*path, name)))
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith((":str", ":merge")):
                raise DocumentError(
                    f"{source}:{line}: {where}: a key is text, but {name!r} reads as {key.tag.rpartition(':')[2]}; "
                    "put it in quotes"
                )
            if name in seen:
                raise DocumentError(
                    f"{source}:{line}: {where}: a key may stand once in its mapping, but it already stands "
                    f"on line {seen[name]}; remove one of the two"
                )
            seen[name] = line
            lines[(*path, name)] = line
            _collect_lines(value, (*path, name), lines, source)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect_lines(value, (*path, index), lines, source)
