"""Container tags: title, comment, creation time, a graph's ``prompt`` and ``workflow``, read and carried over.

What describes the old file itself (its encoder, brands, sizes) is left out, and its timecode, which counts frames
at the old rate.
"""

from __future__ import annotations

from collections.abc import Mapping

_ABOUT_THE_FILE = {
    *("encoder", "major_brand", "minor_version", "compatible_brands", "timecode", "duration"),
    *("handler_name", "vendor_id", "iamf", "number_of_frames", "number_of_bytes", "bps"),
}
# What MP4 stores where every player looks; one other name, and all of them go where only some look.
_KNOWN_TO_MP4 = {
    *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping"),
    *("lyrics", "description", "synopsis", "show", "episode_id", "network", "creation_time"),
}


def read_tags(metadata: Mapping[str, str], container: str) -> dict[str, str]:
    """A container's tags -> those worth carrying. Matroska shouts its names; they are lowered again."""
    lower = "matroska" in container
    tags = {name.lower() if lower else name: value for name, value in metadata.items()}
    return {
        name: value
        for name, value in tags.items()
        if value and name.lower() not in _ABOUT_THE_FILE and not name.startswith("_statistics")
    }


def merged(carried: Mapping[str, str], own: Mapping[str, str] | None) -> dict[str, str]:
    """``own`` tags over ``carried`` ones, names compared as containers do; an empty one removes."""
    own = own or {}
    taken = {name.lower() for name in own}
    tags = {name: value for name, value in carried.items() if name.lower() not in taken}
    return {**tags, **{name: value for name, value in own.items() if value}}


def needs_free_names(tags: Mapping[str, str]) -> bool:
    """Whether MP4 has to be told to keep names that it does not know."""
    return any(name.lower() not in _KNOWN_TO_MP4 for name in tags)
