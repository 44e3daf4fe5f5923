"""Load and validate study files as `StudyConfig`."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from ipgl.config.document import Document, read_document
from ipgl.config.study import StudyConfig
from ipgl.config.validation import ConfigError, violations_of


def check_document(document: Document) -> StudyConfig:
    """Check the document against the study schema.

    Raises:
        ConfigError: One or more rules are broken; the message holds all of them.
    """
    try:
        return StudyConfig.model_validate(document.data)
    except ValidationError as error:
        raise ConfigError(document, violations_of(error, StudyConfig)) from None


def load_study(path: Path) -> tuple[Document, StudyConfig]:
    """Read and check a study file.

    Raises:
        DocumentError: The file cannot be read or is not a YAML mapping.
        ConfigError: The file breaks one or more rules of the schema.
    """
    document = read_document(path)
    return document, check_document(document)
