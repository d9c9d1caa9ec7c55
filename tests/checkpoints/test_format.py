"""A checkpoint on the disk: what goes in comes out, and what was changed is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from matrixrl.checkpoints import format as checkpoint_format
from matrixrl.checkpoints.format import DamagedCheckpointError, Snapshot
from matrixrl.config import ConfigError


class State(NamedTuple):
    params: Any
    count: Any
    key: Any


def a_state() -> State:
    return State(
        {"dense": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.zeros((0, 3), jnp.int8)}},
        jnp.int32(7),
        jax.random.key(3),
    )


def saved(folder: Path, tree: Any, **changes: Any) -> Path:
    snapshot = Snapshot(
        5, checkpoint_format.flatten(tree), {"phase": "train", "loss": 0.1}, {"note.txt": "hello"}
    )
    checkpoint_format.write(folder, snapshot, {"run": "r", "config": {"seed": 1}})
    if changes:
        record = json.loads((folder / "checkpoint.json").read_text()) | changes
        (folder / "checkpoint.json").write_text(json.dumps(record))
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["checkpoint.json"] = checkpoint_format.checksum(folder / "checkpoint.json")
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_nested_named_trees_with_scalars_keys_and_empty_arrays_come_back(tmp_path: Path) -> None:
    state = a_state()
    checkpoint = checkpoint_format.read(saved(tmp_path / "5", state))
    back = checkpoint.restore(jax.eval_shape(lambda: state))
    assert isinstance(back, State)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(back), strict=True):
        assert old.dtype == new.dtype
        assert old.shape == new.shape
    assert np.array_equal(back.params["dense"]["kernel"], state.params["dense"]["kernel"])
    # The key goes on drawing where it stood.
    assert jax.random.uniform(back.key) == jax.random.uniform(state.key)
    assert checkpoint.step == 5
    assert checkpoint.progress == {"phase": "train", "loss": 0.1}
    assert checkpoint.text("note.txt") == "hello"
    assert checkpoint.text("other.txt") is None


@settings(max_examples=10, deadline=None)
@given(
    array=npst.arrays(
        st.sampled_from([np.float32, np.int32, np.int16, np.int8, np.uint8, np.bool_]),
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
def test_every_array_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray
) -> None:
    folder = saved(tmp_path_factory.mktemp("c") / "1", {"x": array})
    back = checkpoint_format.read(folder).restore({"x": jax.ShapeDtypeStruct(array.shape, array.dtype)})["x"]
    assert back.dtype == array.dtype
    assert np.asarray(back).tobytes() == array.tobytes()


def test_record_is_readable_and_names_versions_and_arrays(tmp_path: Path) -> None:
    saved(tmp_path / "5", a_state())
    record = json.loads((tmp_path / "5" / "checkpoint.json").read_text())
    assert record["format_version"] == checkpoint_format.FORMAT_VERSION
    assert record["config"] == {"seed": 1}
    assert record["versions"]["jax"] == jax.__version__
    assert record["arrays"]["params/dense/kernel"] == ["float32", [2, 3]]


def test_copies_do_not_change_when_the_device_arrays_are_donated() -> None:
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.zeros(1000)
    copy = checkpoint_format.flatten({"x": x})
    for _ in range(3):
        x = step(x)
    assert not copy["x"].any()
    assert (np.asarray(x) == 3).all()


def whole_files() -> list[str]:
    return ["checkpoint.json", "manifest.json", "note.txt", "arrays/_METADATA", "arrays/manifest.ocdbt"]


@pytest.mark.parametrize("name", whole_files())
@pytest.mark.parametrize("how", ["flip", "cut", "delete"])
def test_any_changed_file_is_noticed_and_named(tmp_path: Path, name: str, how: str) -> None:
    path = saved(tmp_path / "5", a_state()) / name
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 0x04
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
    # A flipped digit of the manifest contradicts the file that it belongs to, which is named then.
    named = "is missing|written|read" if (name, how) == ("manifest.json", "flip") else name
    with pytest.raises(DamagedCheckpointError, match=named):
        checkpoint_format.read(tmp_path / "5")


def test_flipped_array_bytes_are_noticed(tmp_path: Path) -> None:
    folder = saved(tmp_path / "5", {"x": np.arange(1000, dtype=np.int32)})
    biggest = max(folder.glob("arrays/**/d/*"), key=lambda path: path.stat().st_size)
    data = bytearray(biggest.read_bytes())
    data[-1] ^= 1
    biggest.write_bytes(data)
    with pytest.raises(DamagedCheckpointError, match="not those that were written"):
        checkpoint_format.read(folder)


@pytest.mark.parametrize(("version", "remedy"), [(9, "newer matrixrl"), (0, "that wrote it")])
def test_another_format_version_is_refused_naming_both(tmp_path: Path, version: int, remedy: str) -> None:
    folder = saved(tmp_path / "5", {"x": np.ones(3)}, format_version=version)
    with pytest.raises(ConfigError, match=rf"format {version}; this matrixrl reads format 3: .*{remedy}"):
        checkpoint_format.read(folder)


def test_an_older_format_is_migrated_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path / "5", {"x": np.ones(3)}, format_version=-1)
    chain = {
        -1: lambda record: {**record, "format_version": 0, "progress": {"a": 1}},
        0: lambda record: {**record, "format_version": 3, "progress": {**record["progress"], "b": 2}},
    }
    monkeypatch.setattr(checkpoint_format, "MIGRATIONS", chain)
    assert checkpoint_format.read(folder).progress == {"a": 1, "b": 2}


@pytest.mark.parametrize("version", [1, 2])
def test_of_older_formats_hackmatrix_is_read_and_matmul_refused(tmp_path: Path, version: int) -> None:
    assert checkpoint_format.read(
        saved(tmp_path / "5", {"x": np.ones(3)}, format_version=version, system="hackmatrix")
    )
    folder = saved(tmp_path / "6", {"x": np.ones(3)}, format_version=version, system="matmul")
    with pytest.raises(
        ConfigError, match=rf"matmul checkpoint of format {version}.*reads format 3.*that wrote it"
    ):
        checkpoint_format.read(folder)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"y": jax.ShapeDtypeStruct((3,), np.float32)}, "holds no array y"),
        ({"x": jax.ShapeDtypeStruct((4,), np.float32)}, r"x is float32\[3\], this run needs float32\[4\]"),
        ({"x": jax.ShapeDtypeStruct((3,), np.int32)}, r"this run needs int32\[3\]"),
    ],
)
def test_arrays_of_other_settings_are_refused_by_name(tmp_path: Path, template: Any, message: str) -> None:
    checkpoint = checkpoint_format.read(saved(tmp_path / "5", {"x": np.ones(3, np.float32)}))
    with pytest.raises(ConfigError, match=message):
        checkpoint.restore(template)


def test_a_part_of_what_was_saved_can_be_restored(tmp_path: Path) -> None:
    checkpoint = checkpoint_format.read(
        saved(tmp_path / "5", {"a": np.ones(3, np.float32), "b": np.zeros(2)})
    )
    part = checkpoint.restore({"a": jax.ShapeDtypeStruct((3,), np.float32)})
    assert np.array_equal(np.asarray(part["a"]), np.ones(3))


def test_leaves_with_a_sharding_are_placed_by_it(tmp_path: Path) -> None:
    checkpoint = checkpoint_format.read(saved(tmp_path / "5", {"a": np.arange(4, dtype=np.float32)}))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    back = checkpoint.restore({"a": jax.ShapeDtypeStruct((4,), np.float32, sharding=sharding)})
    assert back["a"].sharding == sharding


def test_two_leaves_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="a/b"):
        checkpoint_format.names_of({"a": {"b": 1}, "a/b": 2})


def test_renamed_fields_keep_their_recorded_names(tmp_path: Path) -> None:
    recorded = {"b/new": "b/old"}
    tree = {"a": jnp.arange(2), "b": {"new": jnp.arange(3)}}
    arrays = checkpoint_format.flatten(tree, recorded)
    assert list(arrays) == ["a", "b/old"]
    checkpoint_format.write(tmp_path / "1", Snapshot(1, arrays, {}), {})
    restored = checkpoint_format.read(tmp_path / "1").restore(tree, recorded)
    assert restored["b"]["new"].tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match="holds no array b/new"):
        checkpoint_format.read(tmp_path / "1").restore(tree)
