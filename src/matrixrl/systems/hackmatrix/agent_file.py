"""An agent as one small file, to be shipped and shared: the parameters of its network and what is
needed to play with them.

The file is an `.npz` archive of plain arrays: an entry for each parameter, named by its path, and
`about`, a JSON object as bytes. It is read without pickles, within fixed limits, and only arrays of
the names, shapes and types that the network needs are accepted.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from matrixrl.config import ConfigError, HackmatrixConfig, PPOConfig, as_record, from_record, require
from matrixrl.envs.hackmatrix.env import HackMatrix
from matrixrl.systems.hackmatrix.evaluation import NetworkPolicy
from matrixrl.systems.hackmatrix.task import build_network
from matrixrl.user_files import UserFileError, display_path, parse_json, read_bytes
from matrixrl.whole_files import write_whole

FORMAT = "matrixrl-hackmatrix-agent"
VERSION = 1
ABOUT = "about"
MAX_FILE = 32 * 2**20
MAX_UNPACKED = 128 * 2**20
MAX_ENTRIES = 256
PRECISIONS = ("float16", "float32")


@dataclass(frozen=True)
class StoredAgent:
    """An agent that was read from a file.

    Attributes:
      run_name: name of the run that trained it.
      step: number of updates that it was trained for.
      config: network, discount, reward scale, value scale, time limit and size of a batch of that
        run; other settings have their defaults.
      policy: the network with its parameters, float32.
      results: what was measured when the file was written, as JSON values.
    """

    run_name: str
    step: int
    config: HackmatrixConfig
    policy: NetworkPolicy
    results: Mapping[str, Any]


def playing_config(config: HackmatrixConfig) -> HackmatrixConfig:
    """Returns the settings that playing depends on; the others have their defaults."""
    ppo = config.ppo
    kept = PPOConfig(
        num_envs=ppo.num_envs,
        num_steps=ppo.num_steps,
        total_timesteps=ppo.total_timesteps,
        num_minibatches=ppo.num_minibatches,
        gamma=ppo.gamma,
        reward_scale=ppo.reward_scale,
    )
    return HackmatrixConfig(
        preset=config.preset,
        algorithm=config.algorithm,
        ppo=kept,
        alphazero=config.alphazero,
        network=config.network,
        time_limit=config.time_limit,
    )


def write_agent(
    path: Path,
    *,
    run_name: str,
    step: int,
    config: HackmatrixConfig,
    policy: NetworkPolicy,
    precision: str = "float16",
    results: Mapping[str, Any] | None = None,
) -> int:
    """Writes an agent to a file and returns its size in bytes; see `agent_bytes`.

    Raises:
      ConfigError: if the precision is unknown, or a parameter is not finite in it.
      OSError: if the file cannot be written.
    """
    content = agent_bytes(
        run_name=run_name, step=step, config=config, policy=policy, precision=precision, results=results
    )
    write_whole(path, content)
    return len(content)


def agent_bytes(
    *,
    run_name: str,
    step: int,
    config: HackmatrixConfig,
    policy: NetworkPolicy,
    precision: str = "float16",
    results: Mapping[str, Any] | None = None,
) -> bytes:
    """Returns the content of an agent's file.

    Args:
      precision: type of the stored parameters; half precision keeps three significant digits.

    Raises:
      ConfigError: if the precision is unknown, or a parameter is not finite in it.
    """
    require(precision in PRECISIONS, f"--precision {precision}: must be one of {', '.join(PRECISIONS)}")
    arrays: dict[str, np.ndarray] = {}
    for name, leaf in named_parameters(policy.params).items():
        with np.errstate(over="ignore"):
            arrays[name] = np.asarray(leaf).astype(precision)
        require(
            bool(np.isfinite(arrays[name]).all()),
            f"--precision {precision}: a number of {name} is not finite in it; use --precision float32",
        )
    kept = playing_config(config)
    about = {
        "format": FORMAT,
        "version": VERSION,
        "environment_version": HackMatrix.version,
        "run_name": run_name,
        "step": step,
        "network": as_record(kept.network),
        "algorithm": kept.algorithm,
        "ppo": as_record(kept.ppo),
        "alphazero": as_record(kept.alphazero),
        "time_limit": kept.time_limit,
        "results": dict(results or {}),
    }
    arrays[ABOUT] = np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8)
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    return content.getvalue()


def read_agent(path: Path) -> StoredAgent:
    """Reads an agent from a file.

    Raises:
      ConfigError: if the file cannot be read, is no agent, or this version cannot play it; the
        message names the file.
    """
    try:
        return parse_agent(read_bytes(path, MAX_FILE))
    except (UserFileError, ConfigError) as error:
        raise ConfigError(f"{display_path(path)}: {error}") from error


def pretrained_agent() -> StoredAgent:
    """Returns the agent that is shipped with the package."""
    return parse_agent(pretrained_bytes())


def pretrained_bytes() -> bytes:
    """Returns the file of the agent that is shipped with the package."""
    return resources.files("matrixrl.systems.hackmatrix").joinpath("pretrained.npz").read_bytes()


def read_agent_settings(path: Path | None) -> HackmatrixConfig:
    """Returns the settings of the agent in a file without loading its parameters.

    Args:
      path: None for the agent that is shipped with the package.

    Raises:
      ConfigError: if the file cannot be read, is no agent, or this version cannot play it; the
        message names the file.
    """
    if path is None:
        return _config_of(_read_about(_read_arrays(pretrained_bytes()).get(ABOUT)))
    try:
        return _config_of(_read_about(_read_arrays(read_bytes(path, MAX_FILE)).get(ABOUT)))
    except (UserFileError, ConfigError) as error:
        raise ConfigError(f"{display_path(path)}: {error}") from error


def parse_agent(data: bytes) -> StoredAgent:
    """Returns the agent in the bytes of a file.

    Raises:
      ConfigError: if it is none, or this version cannot play it.
    """
    arrays = _read_arrays(data)
    about = _read_about(arrays.pop(ABOUT, None))
    config = _config_of(about)
    network = build_network(config)
    template = jax.eval_shape(
        lambda key: network.init(key, HackMatrix(packed=True).reset(key)[0][None]), jax.random.key(0)
    )
    wanted = named_parameters(template)
    missing, surplus = sorted(wanted.keys() - arrays.keys()), sorted(arrays.keys() - wanted.keys())
    require(not missing, f"no parameters {', '.join(missing[:3])}; the file is not one of export-agent")
    require(not surplus, f"unknown entries {', '.join(surplus[:3])}; the file is not one of export-agent")
    for name, leaf in wanted.items():
        found = arrays[name]
        require(
            found.shape == leaf.shape and str(found.dtype) in PRECISIONS,
            f"{name} is {found.dtype}{list(found.shape)}, the network needs {leaf.dtype}{list(leaf.shape)}",
        )
        require(bool(np.isfinite(found).all()), f"{name}: a number is not finite")
    leaves = [arrays[name].astype(np.float32) for name in wanted]
    params = jax.tree.unflatten(jax.tree.structure(template), leaves)
    policy = NetworkPolicy(network, jax.device_put(params))
    return StoredAgent(about["run_name"], about["step"], config, policy, about["results"])


def named_parameters(params: PyTree) -> dict[str, Any]:
    """Returns the parameters by name: their paths, joined by dots."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {".".join(str(part.key) for part in path): leaf for path, leaf in leaves}


def _config_of(about: Mapping[str, Any]) -> HackmatrixConfig:
    """Returns the settings in the description of an agent. Files of earlier versions name no
    algorithm and none of its settings: those take their defaults.
    """
    names = ("algorithm", "ppo", "alphazero", "network", "time_limit")
    return from_record(HackmatrixConfig, {name: about[name] for name in names if name in about})


def _read_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Reads the arrays of an archive, without pickles and within the limits."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            require(len(members) <= MAX_ENTRIES, f"{len(members):,} entries, at most {MAX_ENTRIES} are read")
            total = sum(member.file_size for member in members)
            require(total <= MAX_UNPACKED, f"{total:,} bytes unpacked, at most {MAX_UNPACKED:,} are read")
            return {
                member.filename.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(archive.read(member)), allow_pickle=False
                )
                for member in members
            }
    except ConfigError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"not an archive of plain arrays ({reason})") from error


def _read_about(entry: np.ndarray | None) -> dict[str, Any]:
    """Returns the description of an agent, checked."""
    if entry is None or entry.dtype != np.uint8 or entry.ndim != 1:
        raise ConfigError(f"no entry {ABOUT} with the settings; the file is not one of export-agent")
    try:
        about = parse_json(entry.tobytes().decode())
    except (UserFileError, UnicodeDecodeError) as error:
        raise ConfigError(f"{ABOUT}: {error}") from error
    require(isinstance(about, dict) and about.get("format") == FORMAT, f"{ABOUT}: format must be {FORMAT}")
    require(
        about.get("version") == VERSION,
        f"{ABOUT}: version {about.get('version')}, this matrixrl reads version {VERSION}",
    )
    played = about.get("environment_version")
    require(
        played == HackMatrix.version,
        f"it was trained on version {played} of HackMatrix, this matrixrl plays version {HackMatrix.version}",
    )
    kinds = {"run_name": str, "step": int, "network": dict, "ppo": dict, "time_limit": int, "results": dict}
    for name, kind in kinds.items():
        require(type(about.get(name)) is kind, f"{ABOUT}: {name} is missing or of another type")
    return about
