"""Which store the words of a user name: a file, or a store of their own.

Decides nothing about what is kept there.
"""

from __future__ import annotations

import os
from pathlib import Path

from .filestore import file_store, look_into_file
from .store import Store


def store_of(given: str | os.PathLike[str] | Store) -> Store:
    """Give the store for what was given as `checkpoint=`; nothing is opened yet."""
    return file_store(Path(given)) if isinstance(given, (str, os.PathLike)) else given


def look_inside(given: str) -> str:
    """Describe a store for a person, also while a run uses it; raises `CheckpointError` for what is none."""
    return look_into_file(Path(given))
