"""A text that changes when anything changes that an output's bytes depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import nn


def fingerprint(*values: Any) -> str:
    """64 hexadecimal digits. Files and folders count by name, size and time of change, networks by their weights.

    values: numbers, texts, paths, tensors, networks, sequences, sets, mappings and dataclasses of these. Raises
    TypeError for anything else: what is not looked into could change unseen.
    """
    digest = hashlib.sha256()
    _add(digest, values)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    digest.update(f"{type(value).__name__}:".encode())
    if value is None or isinstance(value, (bool, int, float, str, Fraction, torch.dtype, torch.device)):
        digest.update(f"{value};".encode())
    elif isinstance(value, Path):
        _add_file(digest, value)
    elif isinstance(value, nn.Module):
        _add(digest, value.state_dict())
    elif isinstance(value, torch.Tensor):
        digest.update(f"{tuple(value.shape)}{value.dtype};".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            _add(digest, key)
            _add(digest, value[key])
    elif isinstance(value, (set, frozenset)):
        _add(digest, sorted(value))
    elif isinstance(value, (list, tuple)):
        digest.update(f"{len(value)};".encode())
        for each in value:
            _add(digest, each)
    elif is_dataclass(value):
        for field in fields(value):
            _add(digest, getattr(value, field.name))
    else:
        raise TypeError(f"a {type(value).__name__} has no fingerprint")


def _add_file(digest: Any, path: Path) -> None:
    digest.update(f"{path.resolve()};".encode())
    for file in sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []:
        facts = file.stat()
        digest.update(f"{file.name} {facts.st_size} {facts.st_mtime_ns};".encode())
