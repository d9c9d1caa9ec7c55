"""HackMatrix PPO on several devices or processes: steps per second, and what a device holds.

taskset -c 0 python benchmarks/bench_devices.py                      # one device, one core
python benchmarks/bench_devices.py --devices 2                       # two forced CPU devices
python benchmarks/bench_devices.py --coordinator 127.0.0.1:9876 --num-processes 2 --process-id 0   # and 1 beside it
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import time


def main() -> None:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="default")
    parser.add_argument("--devices", type=int, default=1, help="forced CPU devices of this process")
    parser.add_argument("--updates", type=int, default=6)
    parser.add_argument("--coordinator")
    parser.add_argument("--num-processes", type=int)
    parser.add_argument("--process-id", type=int)
    options = parser.parse_args()
    os.environ["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={options.devices} --xla_cpu_multi_thread_eigen=false"
    )

    import jax
    import jax.numpy as jnp

    from matrixrl import presets
    from matrixrl.devices.compilation_cache import use_compilation_cache
    from matrixrl.systems.hackmatrix.task import hackmatrix_task
    from matrixrl.systems.ppo.program import PPOProgram

    use_compilation_cache()
    if options.coordinator is not None:
        jax.distributed.initialize(options.coordinator, options.num_processes, options.process_id)
    config = dataclasses.replace(presets.hackmatrix(options.preset), devices=jax.device_count())
    program, key = PPOProgram(config, hackmatrix_task(config)), jax.random.key(0)
    state = program.init(key)
    seconds = []
    for number in range(options.updates):
        began = time.perf_counter()
        state, updates = program.advance(state, key, jnp.int32(number), jnp.int32(1))
        jax.block_until_ready((state, updates))
        seconds.append(time.perf_counter() - began)
    held = sum(
        leaf.addressable_shards[0].data.nbytes
        for leaf in jax.tree.leaves(state.rollout)
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    )
    rates = sorted(config.ppo.batch_size / second for second in seconds[1:])
    print(
        f"{jax.device_count()} devices, {jax.process_count()} processes: {statistics.median(rates):,.0f} steps/s "
        f"[{rates[0]:,.0f} to {rates[-1]:,.0f}]; first call {seconds[0]:.1f} s; environments {held:,} bytes per device"
    )


if __name__ == "__main__":
    main()
