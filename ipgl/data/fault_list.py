"""`DataFaults`: faults of a data set, collected and reported in one error."""

from __future__ import annotations

from ipgl.core.errors import DataError

_SHOWN = 20


class DataFaults:
    """Faults with their places; the error message lists the first 20 and the number of the others."""

    def __init__(self, heading: str) -> None:
        self._heading = heading
        self._found: list[tuple[str, str]] = []

    def add(self, where: str, what: str) -> None:
        """Note one fault."""
        self._found.append((where, what))

    def __len__(self) -> int:
        return len(self._found)

    @property
    def found(self) -> tuple[tuple[str, str], ...]:
        """Place and fault of each."""
        return tuple(self._found)

    def check(self, next_step: str) -> None:
        """Do nothing if no fault was noted.

        Raises:
            DataError: Heading, faults and next step, one fault a line.
        """
        if not self._found:
            return
        lines = [f"  {where}: {what}" for where, what in self._found[:_SHOWN]]
        if len(self._found) > _SHOWN:
            lines.append(f"  and {len(self._found) - _SHOWN} more")
        raise DataError("\n".join([f"{self._heading}:", *lines, next_step]))
