"""A table of named entries, to which a process can add its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, Generic, TypeVar

from condense_core.files import nearest

Entry = TypeVar("Entry")
NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")  # it becomes part of a run's folder


class UnknownName(KeyError, ValueError):
    """A name that a table does not have; the message names the nearest one."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would show it in quotes


class Named(dict[str, Entry]):
    """Entries by name; an unknown name is an UnknownName, which says which names there are."""

    def __init__(self, kind: str, entries: dict[str, Entry]):
        super().__init__(entries)
        self.kind = kind

    def __missing__(self, name: object) -> Entry:
        raise UnknownName(f"{self.kind} {name!r}: {nearest(str(name), self)}")


class Table(Named[Entry]):
    """Entries by name. Those that come with the package cannot be replaced or removed."""

    def __init__(self, kind: str, entries: dict[str, Entry]):
        super().__init__(kind, entries)
        self.built_in = frozenset(entries)

    def add(self, name: str, entry: Entry) -> None:
        """Register an entry that only this process knows, or replace one. Raise ValueError for a bad name."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{self.kind} {name!r}: must be lower-case letters, digits, dots and dashes")
        self._check_own(name)
        self[name] = entry

    def remove(self, name: str) -> None:
        """Take away a registered entry. Raise ValueError for one of the package or an unknown name."""
        self._check_own(name)
        self[name]  # raises if there is none
        del self[name]

    def _check_own(self, name: str) -> None:
        if name in self.built_in:
            raise ValueError(f"{self.kind} {name!r}: comes with the package; choose another name")


class Names(Collection[str], Generic[Entry]):
    """The names of those entries of a table that have a property; it follows the table."""

    def __init__(self, table: Table[Entry], has_property: Callable[[Entry], bool]):
        self.table, self.has_property = table, has_property

    def __iter__(self) -> Iterator[str]:
        return (name for name, entry in self.table.items() if self.has_property(entry))

    def __contains__(self, name: object) -> bool:
        return name in self.table and self.has_property(self.table[str(name)])

    def __len__(self) -> int:
        return sum(1 for _ in self)


def implementation(target: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of an entry: itself, or imported by its dotted path (`package.module:name`)."""
    from pkgutil import resolve_name

    return resolve_name(target) if isinstance(target, str) else target
