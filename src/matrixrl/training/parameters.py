"""Parameters of a trainer: whether they are finite, and a checksum that scripts can compare."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def nonfinite_parameter(arrays: Mapping[str, Any]) -> str | None:
    """Returns the name of the first parameter that holds a NaN or an infinity, or None.

    Args:
      arrays: of a snapshot, by name (`checkpoints.format.flatten`).
    """
    parameters = (name for name in arrays if name.startswith("params/"))
    return next((name for name in parameters if not np.isfinite(arrays[name]).all()), None)


def placed_like(template: Any, values: Any) -> Any:
    """Returns `values` as arrays on the devices that the leaves of a template name.

    Args:
      template: `jax.ShapeDtypeStruct`s in the structure of `values`. Leaves without a sharding stay
        uncommitted, as results of `init` are: committed ones would compile the program again.
    """
    return jax.tree.map(
        lambda leaf, value: jax.device_put(np.asarray(value, leaf.dtype), leaf.sharding), template, values
    )


def params_sha256(params: Any) -> str:
    """Computes SHA-256 over all leaves in the order of their key paths.

    For each leaf, sorted by its path written with slashes (`params/torso/Dense_0/kernel`): the
    path, the dtype and the shape as `path|dtype|2,3` in UTF-8 with a closing newline, then the
    values as little-endian bytes in C order.
    """
    digest = hashlib.sha256()
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    for path in sorted(leaves):
        leaf = np.ascontiguousarray(leaves[path])
        shape = ",".join(map(str, leaf.shape))
        digest.update(f"{path}|{leaf.dtype}|{shape}\n".encode())
        digest.update(leaf.astype(leaf.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()
