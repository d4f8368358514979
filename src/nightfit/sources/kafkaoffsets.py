"""How far the partitions of a topic have been read, and what the topic's present offsets make of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from nightfit.sources.base import Cursor

Watermarks: TypeAlias = tuple[int, int]
"""The offset of the first record that a partition still holds, and the one after its last."""


@dataclass(frozen=True)
class Position:
    """How far one partition was read: the next offset, and how many records of this generation came before it."""

    offset: int
    rows: int = 0


@dataclass(frozen=True)
class Offsets:
    """The positions of all partitions; `generation` counts how often offsets started over."""

    generation: int
    partitions: Mapping[int, Position]

    @classmethod
    def of(cls, cursor: Cursor) -> Offsets:
        """Read what `cursor` wrote."""
        known = cast("dict[str, dict[str, Any]]", cursor["partitions"])
        return cls(cast("int", cursor["generation"]), {int(p): Position(**known[p]) for p in known})

    @property
    def cursor(self) -> Cursor:
        """These offsets as a cursor."""
        return {
            "generation": self.generation,
            "partitions": {str(p): asdict(self.partitions[p]) for p in sorted(self.partitions)},
        }

    def moved(self, partition: int, position: Position) -> Offsets:
        """Return these offsets with another position of one partition."""
        return Offsets(self.generation, {**self.partitions, partition: position})


def resume(after: Offsets | None, present: Mapping[int, Watermarks], topic: str) -> tuple[Offsets, list[str]]:
    """Find where to go on in the partitions that are there now, and list the gaps: "rule, however: fact".

    On the first night that is each partition's first record, later on offset 0 of a partition that was added.
    Records that were deleted before they were read are a gap. So are offsets that were read and are no longer there,
    which means that the topic was made anew or rolled back: such a partition is read from its first record, and
    since offsets mean something else from now on, all rows are numbered from 0 in a new generation.

    >>> resume(Offsets(0, {0: Position(5, rows=4)}), {0: (2, 3)}, "t")[0]
    Offsets(generation=1, partitions={0: Position(offset=2, rows=0)})
    """
    if after is None:
        return Offsets(0, {p: Position(low) for p, (low, _) in present.items()}), []
    gone = sorted(after.partitions.keys() - present.keys())
    gaps = [f"{_where(p, topic)} must still be there, however the topic was made anew without it" for p in gone]
    found: dict[int, Position] = {}
    starts_over = bool(gone)
    for p, (low, high) in present.items():
        position = found[p] = after.partitions.get(p, Position(0))
        rule = f"{_where(p, topic)} must still hold offset {position.offset}"
        if position.offset > high:
            gaps.append(f"{rule}, however it ends at {high}: it was made anew or rolled back")
        elif position.offset < low:
            gaps.append(f"{rule}, however it starts at {low}: records were deleted before they were read")
        if not low <= position.offset <= high:
            found[p] = Position(low, position.rows)
            starts_over |= position.offset > high
    if starts_over:
        return Offsets(after.generation + 1, {p: Position(found[p].offset) for p in found}), gaps
    return Offsets(after.generation, found), gaps


def common(cursors: Sequence[Cursor]) -> dict[int, int]:
    """Return the smallest offset of each partition that all of the cursors have."""
    read = [Offsets.of(cursor).partitions for cursor in cursors]
    shared = set.intersection(*map(set, read)) if read else set()
    return {p: min(partitions[p].offset for partitions in read) for p in sorted(shared)}


def _where(partition: int, topic: str) -> str:
    return f"partition {partition} of topic {topic!r}"
