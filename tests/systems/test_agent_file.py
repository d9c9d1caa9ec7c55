"""Agents as files: what comes back, what is refused, and the one that is shipped."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl import presets
from matrixrl.cli.hackmatrix_agent import load_agent
from matrixrl.config import ActorCriticConfig, AlphaZeroConfig, ConfigError, HackmatrixConfig, PPOConfig
from matrixrl.envs.hackmatrix.observation import PACKED_WORDS
from matrixrl.search.chance import VALUE_SCALE
from matrixrl.systems.hackmatrix.agent_file import (
    ABOUT,
    named_parameters,
    parse_agent,
    playing_config,
    pretrained_agent,
    read_agent,
    write_agent,
)
from matrixrl.systems.hackmatrix.evaluation import NetworkPolicy
from matrixrl.systems.hackmatrix.task import build_network

CONFIG = HackmatrixConfig(
    ppo=PPOConfig(gamma=0.9, reward_scale=0.25, learning_rate=0.5),
    network=ActorCriticConfig(torso="grid", hidden_dim=8, num_layers=1, cell_dim=4),
    time_limit=77,
    seed=5,
)


@pytest.fixture(scope="module")
def policy() -> NetworkPolicy:
    network = build_network(CONFIG)
    return NetworkPolicy(network, network.init(jax.random.key(1), jnp.zeros((1, PACKED_WORDS), jnp.uint32)))


@pytest.fixture(scope="module")
def written(policy: NetworkPolicy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "agent.npz"
    size = write_agent(
        path, run_name="r", step=3, config=CONFIG, policy=policy, precision="float32", results={"won": 0}
    )
    assert size == path.stat().st_size
    return path


def test_an_agent_comes_back_as_it_was(written: Path, policy: NetworkPolicy) -> None:
    stored = read_agent(written)
    assert (stored.run_name, stored.step, stored.results) == ("r", 3, {"won": 0})
    assert stored.policy.network == policy.network
    assert stored.config.network == CONFIG.network
    assert (stored.config.ppo.gamma, stored.config.ppo.reward_scale, stored.config.time_limit) == (
        0.9,
        0.25,
        77,
    )
    # Settings of training are not part of the file.
    assert (stored.config.ppo.learning_rate, stored.config.seed) == (PPOConfig().learning_rate, 0)
    ours, theirs = named_parameters(stored.policy.params), named_parameters(policy.params)
    assert ours.keys() == theirs.keys()
    for name, leaf in theirs.items():
        np.testing.assert_array_equal(ours[name], leaf)


def test_half_precision_halves_the_file_and_keeps_three_digits(
    policy: NetworkPolicy, written: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half.npz"
    write_agent(half, run_name="r", step=3, config=CONFIG, policy=policy)
    assert half.stat().st_size < 0.65 * written.stat().st_size
    ours = named_parameters(read_agent(half).policy.params)
    for name, leaf in named_parameters(policy.params).items():
        assert ours[name].dtype == np.float32
        np.testing.assert_allclose(ours[name], leaf, rtol=1e-3, atol=1e-6)
    large = jax.tree.map(lambda leaf: leaf + 1e6, policy.params)
    with pytest.raises(ConfigError, match=r"--precision float16: a number of .* is not finite"):
        write_agent(half, run_name="r", step=3, config=CONFIG, policy=NetworkPolicy(policy.network, large))


def test_the_search_of_a_file_has_the_value_scale_of_its_run(policy: NetworkPolicy, tmp_path: Path) -> None:
    path, own = tmp_path / "agent.npz", AlphaZeroConfig(value_scale=0.03)
    config = dataclasses.replace(CONFIG, algorithm="alphazero", alphazero=own)
    write_agent(path, run_name="r", step=3, config=config, policy=policy)
    agent = load_agent("watch", str(path), Path("nowhere"), None, False)
    assert (agent.config.algorithm, agent.config.alphazero) == ("alphazero", own)
    assert float(agent.search_player(6).value_scale) == pytest.approx(0.03)
    # Files of earlier versions do not name them.
    stored = parse_agent(changed(path, algorithm=None, alphazero=None))
    assert (stored.config.algorithm, stored.config.alphazero.value_scale) == ("ppo", VALUE_SCALE)


def archive(entries: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **entries)
    return content.getvalue()


def changed(written: Path, **changes: Any) -> bytes:
    with np.load(written, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(arrays[ABOUT].tobytes())
    for name, value in changes.items():
        if name in about and value is None:
            del about[name]
        elif name in about:
            about[name] = value
        elif value is None:
            del arrays[name]
        else:
            arrays[name] = value
    arrays[ABOUT] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    return archive(arrays)


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return exec, ("import pathlib; pathlib.Path('sprung').touch()",)


def test_what_is_no_agent_is_refused_in_one_line(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kernel = "params.heads_kernel"
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("about.npy", b"\0" * (129 * 2**20))
    trap = np.array([Trap()], dtype=object)
    cases: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "not an archive"),
        "text": (b"hello", "not an archive"),
        "cut": (written.read_bytes()[:-40], "not an archive"),
        "pickle": (pickle.dumps(Trap()), "not an archive"),
        "objects": (changed(written, extra=trap), "not an archive of plain arrays"),
        "bomb": (zipped.getvalue(), "bytes unpacked"),
        "other": (archive({"u": np.zeros(3)}), "no entry about"),
        "format": (changed(written, format="scheme"), "format must be"),
        "version": (changed(written, version=9), "version 9, this matrixrl reads version 1"),
        "game": (changed(written, environment_version=9), "version 9 of HackMatrix"),
        "setting": (changed(written, network={"depth": 3}), "network.depth"),
        "algorithm": (changed(written, algorithm="dqn"), "algorithm"),
        "search": (changed(written, alphazero=3), "alphazero: must be a table of settings"),
        "scale": (changed(written, algorithm="alphazero", alphazero={"value_scale": -1}), "--value-scale -1"),
        "range": (changed(written, time_limit=0), "--time-limit 0"),
        "type": (changed(written, time_limit="long"), "time_limit is missing or of another type"),
        "missing": (changed(written, **{kernel: None}), f"no parameters {kernel}"),
        "surplus": (changed(written, more=np.zeros(1)), "unknown entries more"),
        "shape": (
            changed(written, **{kernel: np.zeros((1, 2), np.float32)}),
            rf"{kernel} is float32\[1, 2\]",
        ),
        "nan": (changed(written, **{"params.heads_bias": np.full(29, np.nan, np.float32)}), "not finite"),
    }
    for name, (data, message) in cases.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=message) as refused:
            read_agent(path)
        assert str(refused.value).startswith(str(path)), name
        assert "\n" not in str(refused.value), name
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(ConfigError, match=r"absent.npz: cannot be read"):
        read_agent(tmp_path / "absent.npz")


def test_the_agent_that_is_shipped_is_small_and_says_what_it_reached() -> None:
    data = resources.files("matrixrl.systems.hackmatrix").joinpath("pretrained.npz").read_bytes()
    assert len(data) < 1_000_000
    stored = pretrained_agent()
    assert parse_agent(data).step == stored.step > 0
    assert stored.config.network.torso == "grid"
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(stored.policy.params))
    assert stored.results["greedy"]["games"] >= 256


@pytest.mark.parametrize("name", presets.HACKMATRIX)
def test_the_agent_of_every_preset_can_be_exported(name: str) -> None:
    config = presets.hackmatrix(name)
    kept = playing_config(config)
    assert (kept.network, kept.ppo.gamma, kept.time_limit) == (
        config.network,
        config.ppo.gamma,
        config.time_limit,
    )
    assert kept.ppo.batch_size == config.ppo.batch_size
