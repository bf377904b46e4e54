"""A run as HTML, as notebooks show it."""

from __future__ import annotations

from typing import Any

from condense_core.validation import to_dict


def _settings(config: Any) -> str:
    """The settings of a configuration as one text, without those that are not set."""
    values = {name: value for name, value in to_dict(config).items() if value is not None}
    texts = ((name, ", ".join(map(str, v)) if isinstance(v, list) else v) for name, v in values.items())
    return "; ".join(f"{name} {text}" for name, text in texts)
