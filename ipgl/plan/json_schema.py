"""The JSON Schema of study files, which includes the settings of every registry entry."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TypedDict

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ipgl.config import SearchSettings, StudyConfig, TrackingSettings, TrainingSettings
from ipgl.data import DATASETS
from ipgl.evaluation import SELECTION_RULES
from ipgl.methods import METHODS
from ipgl.models import MODELS
from ipgl.tracking import TRACKERS

# A JSON Schema, of which only these keys are read or written here.
Schema = TypedDict(
    "Schema",
    {
        "$ref": str,
        "$defs": dict[str, "Schema"],
        "title": str,
        "description": str,
        "type": str,
        "const": str,
        "enum": list[str],
        "anyOf": list["Schema"],
        "items": "Schema",
        "minItems": int,
        "maxItems": int,
        "properties": dict[str, "Schema"],
        "additionalProperties": "Schema | bool",
        "minProperties": int,
        "maxProperties": int,
        "required": list[str],
    },
    total=False,
)

_NUMBERS: Schema = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_RANGE_KINDS: dict[str, Schema] = {
    name: _NUMBERS for name in ("uniform", "log_uniform", "int", "log_int")
} | {"choice": {"type": "array", "minItems": 1}}


# Names of the definitions made here; a hyphen, so that no class has one of them.
_RANGE = "search-range"


class _Classes:
    """Schemas of classes that share one dictionary of definitions.

    All are generated together, so that definitions of classes with the same name are prefixed with their modules.
    """

    def __init__(self, classes: Iterable[type[BaseModel]]) -> None:
        found, schema = models_json_schema([(each, "validation") for each in dict.fromkeys(classes)])
        self.definitions: dict[str, Schema] = schema["$defs"]
        self._names = {each: _target(reference) for (each, _), reference in found.items()}

    def __getitem__(self, each: type[BaseModel]) -> Schema:
        return self.definitions[self._names[each]]

    def copy(self, each: type[BaseModel]) -> Schema:
        """A copy of the class's schema, which may be changed."""
        return copy.deepcopy(self[each])


def study_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of study files."""
    datasets = {name: entry.settings for name, entry in DATASETS.items()}
    models = {name: entry.settings for name, entry in MODELS.items()}
    methods = {name: entry.settings for name, entry in METHODS.items()}
    own = (StudyConfig, TrainingSettings, SearchSettings, TrackingSettings)
    classes = _Classes([*own, *datasets.values(), *models.values(), *methods.values()])
    classes[SearchSettings]["properties"]["selection"]["enum"] = sorted(SELECTION_RULES)
    classes[TrackingSettings]["properties"]["name"]["enum"] = sorted(TRACKERS)
    classes.definitions[_RANGE] = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": _RANGE_KINDS,
    }
    schema = classes.copy(StudyConfig)
    schema["properties"] |= {
        "dataset": _components(datasets, classes),
        "model": _components(models, classes),
        "methods": _methods(methods, datasets, models, classes),
    }
    schema["title"] = "IPGL study"
    used = _used(schema, classes.definitions)
    schema["$defs"] = {name: own for name, own in sorted(classes.definitions.items()) if name in used}
    return schema


def _components(entries: Mapping[str, type[BaseModel]], classes: _Classes) -> Schema:
    """A schema with one alternative per registry entry, distinguished by `name`."""
    alternatives = []
    for name, settings in entries.items():
        own = classes.copy(settings)
        own["properties"] = {"name": {"const": name}, **own.get("properties", {})}
        own["required"] = ["name", *own.get("required", [])]
        alternatives.append(own)
    return {"anyOf": alternatives}


def _methods(
    methods: Mapping[str, type[BaseModel]],
    datasets: Mapping[str, type[BaseModel]],
    models: Mapping[str, type[BaseModel]],
    classes: _Classes,
) -> Schema:
    """The schema of `methods`: for each label its method's settings, or search ranges, and overrides of sections."""

    def searchable(*several: type[BaseModel]) -> Schema:
        return {"anyOf": [_searchable(classes[each], classes.definitions) for each in dict.fromkeys(several)]}

    overrides: dict[str, Schema] = {
        "training": searchable(TrainingSettings),
        "dataset": searchable(*datasets.values()),
        "model": searchable(*models.values()),
        "start": {
            "type": "array",
            "items": {"type": "object"},
            "description": "Known good points, tried first.",
        },
    }
    classes.definitions.update({f"{name}-override": schema for name, schema in overrides.items()})
    shared: dict[str, Schema] = {name: {"$ref": f"#/$defs/{name}-override"} for name in overrides}
    by_method: dict[str, Schema] = {}
    for name, settings in methods.items():
        own = _searchable(classes[settings], classes.definitions)
        own["properties"] = {"method": {"const": name}, **own.get("properties", {}), **shared}
        by_method[name] = own
    named: dict[str, Schema] = {name: {**own, "title": name} for name, own in by_method.items()}
    others: list[Schema] = [{**own, "required": ["method"]} for own in by_method.values()]
    return {
        "type": "object",
        "minProperties": 1,
        "properties": {name: {"anyOf": [own, *others]} for name, own in named.items()},
        "additionalProperties": {"anyOf": others},
    }


def _searchable(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """The same schema, which allows a search range in place of every value, also in nested mappings."""

    def opened(value: Schema) -> Schema:
        nested = definitions.get(_target(value), {})
        return _searchable(nested, definitions) if "properties" in nested else value

    schema = copy.deepcopy(schema)
    for name, value in schema.get("properties", {}).items():
        inner = opened(value)
        if inner is value:
            # A mapping that may be null has ranges within it, too.
            alternatives = [opened(each) for each in value["anyOf"]] if "anyOf" in value else [value]
            inner = {"anyOf": [*alternatives, {"$ref": f"#/$defs/{_RANGE}"}]}
        schema["properties"][name] = inner
    return schema


def _target(reference: Mapping[str, object]) -> str:
    """Name of the definition to which a schema refers; empty if it is no reference."""
    return str(reference.get("$ref", "")).rpartition("/")[2]


def _used(node: object, definitions: dict[str, Schema]) -> set[str]:
    """Names of the definitions that a schema uses, directly or through others."""
    used: set[str] = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            name = _target(node) if isinstance(node.get("$ref"), str) else ""
            if name and name not in used:
                used.add(name)
                waiting.append(definitions[name])
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    return used
