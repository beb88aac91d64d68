"""The name of a worker: its pool, its index in the pool, and its life, which counts the workers started for the pool.

Decides the text form, which messages, file names and logs carry: `2.0.5` is the fifth worker started for pool 2, with
index 0. Names are parsed here alone.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct


class WorkerName(Struct, frozen=True):
    """The parts of a worker's name, all of them counted by the core: pool and index from 0, life from 1 within a pool."""

    pool: int
    index: int
    life: int

    def __str__(self) -> str:
        return f"{self.pool}.{self.index}.{self.life}"

    @staticmethod
    @lru_cache(4096)
    def parse(text: str) -> WorkerName:
        """Return the parts of a name; raise `ValueError` for a text that is not the name of a worker."""
        pool, index, life = text.split(".")
        return WorkerName(int(pool), int(index), int(life))
