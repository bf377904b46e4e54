"""A folder of runs, studies and benchmarks."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from condense_core.config import RunConfig
from condense_core.files import check_inside, is_stray, make_folder, nearest, plain_name, read_json, write_json

from . import packed, schemas
from .older_names import older_names
from .run import FINISHED, Run


@dataclass(frozen=True)
class RunStore:
    """A folder of runs, given as a path or its text. A packed one is unpacked; see `packed.unpack`.

    Raises ValueError if it is a folder of something else.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"runs {str(self.root)!r}: is not a folder")
        if (self.root / packed.NAME).is_file():
            packed.unpack(self)
        files = [path for path in self.root.iterdir() if not is_stray(path.name)] if self.root.is_dir() else []
        if files and not is_store(self.root):
            raise ValueError(f"runs {str(self.root)!r}: is not a run store (it has files, but no store.json)")

    def create(self) -> None:
        """Make the folder if it is not there yet. Raise PermissionError if it cannot be written."""
        make_folder(self.root)
        if not os.access(self.root, os.W_OK):
            raise PermissionError(f"runs {str(self.root)!r}: cannot be written")
        if not (self.root / "store.json").is_file():
            write_json(self.root / "store.json", {"format": schemas.FORMAT})
        make_folder(self.root / "studies")

    def run(self, config: RunConfig) -> Run:
        """Return the run of a configuration, whether it was started or not.

        A run on a folder that an earlier version finished is found by the name that it had.
        """
        run = self.named(config.name)
        if config.data.content is None or run.started:
            return run
        older = map(self.named, older_names(config))
        return next((one for one in older if one.started and one.status["state"] in FINISHED), run)

    def named(self, name: str) -> Run:
        """Return a run by name. Raise ValueError if it is not a plain name or links out of the store."""
        return Run(check_inside(self.root / plain_name(name, "run"), self.root))

    def source_of(self, config: RunConfig) -> Run | None:
        """Return the run whose masks or whose state a run starts from, whether it is there or not; or None."""
        name = (config.masks and config.masks.run) or (config.fork and config.fork.parent)
        return self.named(name) if name else None

    def runs(self) -> list[Run]:
        """Return every run that was started, by name."""
        found = sorted(self.root.glob("*/config.json"))
        return [Run(path.parent) for path in found if not is_stray(path.parent.name)]

    def write_study(self, name: str, study: Mapping[str, Any]) -> None:
        """Write a study's record: its settings and the names of its runs."""
        write_json(self._study_file(name), study)

    def keep_study(self, name: str, study: Mapping[str, Any]) -> str | None:
        """Write a study's record. If the old one lists runs that the new one lacks, keep it under another name.

        Returns that name, the study's with a number, or None.
        """
        kept = None
        with suppress(FileNotFoundError, ValueError):  # there is none, or it cannot be read
            before = self.read_study(name)
            if not set(schemas.runs_of(before)) <= set(schemas.runs_of(study)):
                kept = self._keep_aside(name, before)
        self.write_study(name, study)
        return kept

    def _keep_aside(self, name: str, study: Mapping[str, Any]) -> str:
        for number in count(1):
            aside = f"{name}.{number}"
            if not self._study_file(aside).exists():
                break
            with suppress(ValueError):
                if set(schemas.runs_of(self.read_study(aside))) == set(schemas.runs_of(study)):
                    return aside
        self.write_study(aside, {**study, "name": aside, "settings": {**study["settings"], "name": aside}})
        return aside

    def _study_file(self, name: str) -> Path:
        return self.root / "studies" / f"{plain_name(name, 'study')}.json"

    def read_study(self, name: str) -> dict[str, Any]:
        """Return a study's record. Raise FileNotFoundError, naming the studies there are, or ValueError."""
        path = self._study_file(name)
        if not path.is_file():
            known = [file.stem for file in self.study_files()]
            hint = nearest(name, known).replace("valid:", "there:") if known else "there: none"
            raise FileNotFoundError(f"study {name!r}: not in {self.root} ({hint})")
        return dict(schemas.check_study(read_json(check_inside(path, self.root)), path))

    def study_files(self) -> list[Path]:
        """Return the file of every study, by name."""
        return _records(self.root / "studies")

    def write_benchmark(self, record: Mapping[str, Any]) -> Path:
        """Keep measured times with the runs, in a file named after the present moment."""
        make_folder(self.root / "benchmarks")
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        path = self.root / "benchmarks" / f"{moment}-{uuid.uuid4().hex[:6]}.json"
        write_json(path, record)
        return path

    def benchmarks(self) -> list[dict[str, Any]]:
        """Return every benchmark that can be read, the oldest first; warn of the others."""
        return [
            record for path in self.benchmark_files() for record in schemas.skip_damaged(self._benchmark, path)
        ]

    def benchmark_files(self) -> list[Path]:
        """Return the file of every benchmark, the oldest first."""
        return _records(self.root / "benchmarks")

    def _benchmark(self, path: Path) -> dict[str, Any]:
        return schemas.check_benchmark(read_json(check_inside(path, self.root)), path)


def is_store(folder: Path) -> bool:
    """Return whether a folder is a run store, packed or not."""
    return any((folder / name).is_file() for name in ("store.json", packed.NAME))


def _records(folder: Path) -> list[Path]:
    """List the JSON files of a folder, without those that a system left there."""
    return sorted(path for path in folder.glob("*.json") if not is_stray(path.name))
