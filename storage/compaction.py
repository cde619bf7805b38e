"""Compaction: small records become few segments, without a reader noticing."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from storage.ledger import Ledger
from storage.segments import Segment

GRACE_SECONDS = 24 * 3600.0
"""How long a record stays in a file of its own after a segment holds it: longer than
any reader works from one listing, and than any compaction takes."""

WORTH_IT = 1000
"""New records that are worth a segment; fewer are read one by one in a second, even
from a bucket."""

_SEGMENT_BYTES = 8 << 20  # of records; a reader holds one segment in memory


@dataclass(frozen=True)
class Compaction:
    """What a compaction has done."""

    records: int
    """Records that segments now hold and did not hold before."""

    segments: int
    """Segments that hold them."""

    deleted: int
    """Files of single records that were removed, as segments have held them for long
    enough."""


def compact(
    ledger: Ledger,
    *,
    least: int = WORTH_IT,
    grace_seconds: float = GRACE_SECONDS,
    now: float | None = None,
) -> Compaction:
    """Gather the ledger's small records in segments; `Ledger.read` reads both alike.

    Nothing is lost when it is killed, or when two run at once: a record's own file goes
    only when the manifest has listed its segment for the grace period and the segment
    has just been read and found whole.

    Args:
        ledger: the ledger.
        least: the smallest number of new records that are worth a segment.
        grace_seconds: how long records stay in files of their own.
        now: the time as seconds since 1970; the clock's, if None.

    Returns:
        What was done.

    Raises:
        StorageError: if the root cannot be read or written.
    """
    now = time.time() if now is None else now
    loose = ledger.loose()
    deleted = _delete_covered(ledger, loose, before=now - grace_seconds)
    covered = {name for segment in ledger.segments.listed() for name in segment.records}
    fresh = loose - covered
    if len(fresh) < max(least, 1):
        return Compaction(records=0, segments=0, deleted=deleted)
    added = [
        ledger.segments.add(contents, now=now)
        for contents in _portions(ledger, sorted(fresh))
    ]
    # Listed again, since another compactor may have published meanwhile.
    others = ledger.segments.listed()
    known = {segment.sha256: segment for segment in (*others, *added)}
    ledger.segments.publish(list(known.values()))
    gathered = sum(len(segment.records) for segment in added)
    return Compaction(records=gathered, segments=len(added), deleted=deleted)


def _portions(ledger: Ledger, names: list[str]) -> Iterator[dict[str, bytes]]:
    portion, size = dict[str, bytes](), 0
    for name, content in ledger.contents(names):
        portion[name] = content
        size += len(content)
        if size >= _SEGMENT_BYTES:
            yield portion
            portion, size = {}, 0
    if portion:
        yield portion


def _delete_covered(ledger: Ledger, loose: set[str], *, before: float) -> int:
    deleted = 0
    for segment in ledger.segments.listed():
        names = loose & set(segment.records)
        if segment.covered_at > before or not names:
            continue
        deleted += _delete(ledger, segment, names)
    return deleted


def _delete(ledger: Ledger, segment: Segment, names: set[str]) -> int:
    held = ledger.segments.read(segment, names, anew=True)
    if held is None:
        ledger.segments.set_aside(segment)
        return 0
    ledger.delete_loose(held)
    return len(held)
