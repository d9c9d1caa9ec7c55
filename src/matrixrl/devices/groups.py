"""Placement of work on the devices of a mesh: groups, shards and replicas.

Code for several devices cuts its work into groups, whose number does not depend on the number of
devices, so that any number of them gives the same results. Without a mesh (None) the functions
return their values unchanged.
"""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, NamedSharding

from matrixrl.devices.mesh import along_data, replicated

Tree = TypeVar("Tree")


def cut(tree: Tree, groups: int) -> Tree:
    """Cuts the first axes of the values into groups, [groups, B / groups, ...]; a scalar is shared
    by all groups.
    """

    def cut_leaf(leaf: Array) -> Array:
        if leaf.ndim == 0:
            return jnp.broadcast_to(leaf, groups)
        return leaf.reshape(groups, -1, *leaf.shape[1:])

    return jax.tree.map(cut_leaf, tree)


def join(tree: Tree) -> Tree:
    """Joins the groups of values [groups, B / groups, ...] to [B, ...]."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)


def interleave(tree: Tree, count: int) -> Tree:
    """Takes the first values of each group in turn until there are `count`: [count, ...].

    The shares of the groups differ by at most one value.
    """
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:])[:count], tree)


def shard(tree: Tree, mesh: Mesh | None) -> Tree:
    """Shards the first axes of the values over the devices."""
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, along_data(mesh))


def replicate(tree: Tree, mesh: Mesh | None) -> Tree:
    """Replicates the values on every device."""
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, replicated(mesh))


def shard_arrays(tree: Tree, mesh: Mesh | None) -> Tree:
    """Shards the first axes of the arrays over the devices, and replicates the scalars."""
    return jax.tree.map(lambda leaf: shard(leaf, mesh) if leaf.ndim else replicate(leaf, mesh), tree)


def with_sharding(shapes: Any, sharding: NamedSharding | None) -> Any:
    """Adds the sharding to a tree of shapes and types, as the template for restoring a
    checkpoint.
    """
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


def is_partially_addressable(leaf: Any) -> bool:
    """Returns true if other processes hold shards of an array that this one does not."""
    return isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated)
