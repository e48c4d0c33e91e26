"""Splay groups: schedules that share a stretch of time after their instants, each with a place of its own.

Drawn delays leave gaps and heaps; shared out, the runs of an instant stand evenly. The places follow from the
names in all files together, so every daemon with these files has the same. They are stored with the
definitions, so nothing but loading needs to know the group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from cronsched.definition import Definition


def share_out(definitions: Iterable[Definition]) -> Iterator[Definition]:
    """The definitions, those of groups with their places, in the order of their names."""
    groups: dict[str, list[Definition]] = defaultdict(list)
    for each in definitions:
        if each.splay is None:
            yield each
        else:
            groups[each.splay].append(each)
    for members in groups.values():
        for place, each in enumerate(sorted(members, key=lambda member: member.name)):
            yield replace(each, splay_place=place, splay_places=len(members))
