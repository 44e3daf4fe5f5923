"""Markdown for the reference pages, made from the package itself, so that no page can say what the code does not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from pydantic import BaseModel

from ipgl.cli.main import app
from ipgl.config.ranges import range_text, width, width_text
from ipgl.data import DATASETS
from ipgl.methods import METHODS
from ipgl.models import MODELS
from ipgl.plan.json_schema import study_schema

Schema = Mapping[str, Any]


def cli_reference() -> str:
    """Every command with its arguments and options, as `--help` prints them."""
    root = typer.main.get_command(app)
    return "\n\n".join(_command(root, "ipgl", None))


def _command(command: Any, name: str, parent: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=name.rpartition(" ")[2], parent=parent)
    yield f"## `{name}`" if parent is None else f"### `{name}`"
    yield re.sub(r"\s+", " ", command.help or "")
    commands = getattr(command, "commands", {})
    yield "```\n" + _usage(command, name, bool(commands)) + "\n```"
    if parent is None and commands:
        yield _table(["command", "meaning"], [(f"`{name} {k}`", c.help) for k, c in commands.items()])
    records = [record for p in command.get_params(context) if (record := p.get_help_record(context))]
    if records:
        yield _table(["argument or option", "meaning"], [(f"`{left}`", right) for left, right in records])
    for key, child in commands.items():
        yield from _command(child, f"{name} {key}", context)


def _usage(command: Any, name: str, is_group: bool) -> str:
    if is_group:
        return f"{name} COMMAND"
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    shown = [p.name.upper() + ("..." if p.nargs == -1 else "") for p in arguments]
    return " ".join([name, *(s if p.required else f"[{s}]" for p, s in zip(arguments, shown, strict=True))])


def study_file_reference() -> str:
    """Every key of a study file with its type, default and meaning, from the JSON Schema."""
    schema = study_schema()
    definitions = schema["$defs"]
    open_sections = ("dataset", "model", "methods")
    top = {name: own for name, own in schema["properties"].items() if name not in open_sections}
    parts = ["## Keys at the top level", _keys(top, definitions, schema["required"])]
    parts.append(
        "`dataset`, `model` and `methods` are required; their keys depend on the entry that is named: see "
        "[data sets](#data-sets), [models](#models) and [methods](methods.md)."
    )
    for name, own in top.items():
        if "$ref" in own:
            parts += _section(f"## `{name}`", _resolved(own, definitions), definitions)
    # From the settings themselves: two sections may have nested settings of one name.
    entries = {name: entry.settings for name, entry in DATASETS.items()}
    parts += ["## Data sets", *_entries(entries)]
    parts += ["## Models", *_entries({name: entry.settings for name, entry in MODELS.items()})]
    return "\n\n".join(parts)


def methods_reference() -> str:
    """Every method: what it needs, its settings, and the ranges recommended for them."""
    parts = []
    for name, entry in METHODS.items():
        schema = entry.settings.model_json_schema()
        parts += [f"### `{name}`", f"{entry.source}. Needs: {entry.needs}."]
        parts.append(_paragraph(entry.build.__doc__))
        parts.append(_keys(schema.get("properties", {}), schema.get("$defs", {})) or "It has no settings.")
        ranges = [
            (f"`{key}`", f"`{range_text(found)}`", width_text(*width(found)), entry.range_notes.get(key, ""))
            for key, found in entry.search_space.items()
        ]
        if ranges:
            parts.append(_table(["recommended range of", "range", "width", "note"], ranges))
    return "\n\n".join(part for part in parts if part)


def _entries(settings: Mapping[str, type[BaseModel]]) -> Iterator[str]:
    for name, one in settings.items():
        schema = one.model_json_schema()
        yield from _section(f"### `{name}`", schema, schema.get("$defs", {}))


def _section(heading: str, schema: Schema, definitions: Schema) -> list[str]:
    table = _keys(schema.get("properties", {}), definitions, schema.get("required", ()))
    return [heading, _paragraph(schema.get("description")), table or "It has no settings."]


def _keys(properties: Schema, definitions: Schema, required: Any = ()) -> str:
    rows = list(_rows(properties, definitions, required, ""))
    return _table(["key", "type", "default", "meaning"], rows) if rows else ""


def _rows(
    properties: Schema, definitions: Schema, required: Any, prefix: str
) -> Iterator[tuple[str, str, str, str]]:
    """One row a key; the keys of a nested mapping follow it, with dots, unless it has a section of its own."""
    for name, own in properties.items():
        nested = _resolved(own, definitions)
        if own.get("$ref", "").rpartition("/")[2] in _SECTIONS:
            yield f"`{name}`", "mapping", "", f"See [`{name}`](#{name})."
            continue
        meaning = own.get("description") or nested.get("description", "")
        if "properties" not in nested or "anyOf" in own:
            yield f"`{prefix}{name}`", _type(own, definitions), _default(own, name in required), meaning
        if "properties" in nested:
            given = own.get("default") or {}
            inner = {
                key: {**value, "default": given[key]} if key in given else value
                for key, value in nested["properties"].items()
            }
            yield from _rows(inner, definitions, nested.get("required", ()), f"{prefix}{name}.")


_SECTIONS = (
    "TrainingSettings",
    "SearchSettings",
    "EvaluationSettings",
    "ResourceSettings",
    "TrackingSettings",
)


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """The mapping that a key holds, whether it must be there or may be null; else the schema itself."""
    for candidate in (schema, *schema.get("anyOf", ())):
        if "$ref" in candidate:
            found: Schema = definitions[candidate["$ref"].rpartition("/")[2]]
            return found
    return schema


def _type(schema: Schema, definitions: Schema) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(each, definitions) for each in schema["anyOf"]))
    if "$ref" in schema or schema.get("type") == "object":
        return "mapping"
    if schema.get("type") == "array":
        items = _type(schema.get("items", {}), definitions)
        return f"list of {items}" if items else "list"
    if schema.get("type") == "null":
        return "null"
    return f"{schema.get('type', '')} {_bounds(schema)}".strip()


def _bounds(schema: Schema) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    return ", ".join(f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema)


def _default(schema: Schema, required: bool) -> str:
    if "const" in schema:
        return ""
    if required or "default" not in schema:
        return "required"
    return f"`{json.dumps(schema['default'])}`"


def _paragraph(text: str | None) -> str:
    """The first paragraph of a docstring on one line."""
    return re.sub(r"\s+", " ", (text or "").strip().partition("\n\n")[0])


def _table(header: list[str], rows: list[tuple[str, ...]]) -> str:
    cells = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in row) + " |" for row in cells)


def _cell(value: str) -> str:
    """One line in which only code may hold `<` and `|`, which elsewhere begin a tag and end the cell."""
    parts = re.sub(r"\s+", " ", value).strip().split("`")
    outside = [part.replace("<", "&lt;").replace("|", "\\|") for part in parts[::2]]
    return "`".join(
        part for pair in zip(outside, [*parts[1::2], None], strict=False) for part in pair if part is not None
    )
