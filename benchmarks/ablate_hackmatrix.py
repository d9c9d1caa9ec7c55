"""What the HackMatrix learner gains by each part: one change at a time, equal steps, several seeds.

    python benchmarks/ablate_hackmatrix.py --runs-dir ablation --base tuned --steps 1000000 --seeds 3
    python benchmarks/ablate_hackmatrix.py --runs-dir ablation --only "no relations" "no later starts"
    python benchmarks/ablate_hackmatrix.py --runs-dir ablation --table          # what there is so far

Each variant and seed is an ordinary run of `matrixrl hackmatrix train`, one after the other, in a folder of its own
name. A finished one is not trained again and one that was cut off is resumed, so the script can be stopped at any time
and started again. `--time 2h` stops it after that time. The table has, for each variant, the mean over seeds of the
training return and highest stage at each mark, with the smallest and largest seed, and the steps per second.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from matrixrl.config.durations import parse_duration
from matrixrl.tracking.identity import RUN_FILE
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.summary import summarize
from matrixrl.whole_files import write_whole

VARIANTS: dict[str, dict[str, list[str]]] = {
    # The details in which MaskablePPO differs from `default`, each by itself, and all of them.
    "default": {
        "as it is": [],
        "separate critic": ["--critic", "separate"],
        "tanh": ["--activation", "tanh"],
        "value not clipped": ["--no-clip-value"],
        "advantages by batch": ["--normalize-advantages", "batch"],
        "advantages as they are": ["--normalize-advantages", "none"],
        "plain initialisation": ["--no-orthogonal-init"],
        "Adam epsilon 1e-8": ["--adam-eps", "1e-8"],
        "16 minibatches": ["--num-minibatches", "16"],
        "separate critic, value not clipped, rewards unscaled": [
            *("--critic", "separate", "--no-clip-value", "--reward-scale", "1"),
        ],
        "separate critic, value not clipped, tanh": [
            *("--critic", "separate", "--no-clip-value", "--activation", "tanh"),
        ],
        # SB3's value loss is twice ours at equal coefficients.
        "as MaskablePPO": [
            *("--critic", "separate", "--no-clip-value", "--activation", "tanh", "--reward-scale", "1"),
            *("--vf-coef", "1"),
        ],
    },
    "tuned": {
        "as it is": [],
        "no relations": ["--features", "observation"],
        "no yields": ["--features", "relations"],
        "no equipped starts": ["--equipped-starts", "0"],
        "no reward for equipment": ["--equipment-reward", "0"],
        "no cost of UNDO": ["--undo-cost", "0"],
        "no exploration": ["--exploration", "0"],
        "exploration 0.01": ["--exploration", "0.01"],
        "rewards not limited": ["--max-reward", "None"],
        "no later starts": ["--later-starts", "0"],
        "later starts 0.6": ["--later-starts", "0.6"],
        "separate critic": ["--critic", "separate"],
        "tanh": ["--activation", "tanh"],
        "value not clipped": ["--no-clip-value"],
        "advantages by batch": ["--normalize-advantages", "batch"],
        "plain initialisation": ["--no-orthogonal-init"],
        "4 epochs, rate 1e-3": ["--update-epochs", "4", "--learning-rate", "1e-3"],
        "2 epochs, rate 1e-3": ["--learning-rate", "1e-3"],
        "batches of 2,048": ["--num-envs", "64", "--num-minibatches", "4"],
        "batches of 8,192": ["--num-steps", "64", "--num-minibatches", "16"],
        "batches of 16,384": ["--num-envs", "256", "--num-steps", "64", "--num-minibatches", "16"],
        "256 units": ["--hidden-dim", "256"],
    },
}

MARKS = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Fractions of the steps at which the table has values."""


def name_of(base: str, variant: str, seed: int) -> str:
    """Name of a run."""
    words = "".join(letter if letter.isalnum() else "-" for letter in f"{base}-{variant}".lower())
    return f"{words}-{seed}"


def train(folder: Path, flags: list[str], deadline: float | None) -> None:
    """Trains one run to its end, from where it was cut off."""
    if (folder / RUN_FILE).exists():
        if summarize(folder).state == "finished" and curve(folder)[-1][0] >= steps_of(folder):
            return
        flags = ["--resume-run", folder.name]
    else:
        flags = ["--run-name", folder.name, *flags]
    if deadline is not None:
        left = deadline - time.monotonic()
        if left < 1:
            return
        flags += ["--time", f"{int(left)}s"]
    command = [
        sys.executable,
        "-m",
        "matrixrl.cli.main",
        "hackmatrix",
        "train",
        "--no-wandb",
        "--console",
        "quiet",
    ]
    subprocess.run([*command, "--runs-dir", str(folder.parent), *flags], check=True)


def steps_of(folder: Path) -> int:
    """Number of steps that a run was started for, in whole batches."""
    with JournalReader(folder) as reader:
        ppo = (reader.config() or {})["ppo"]
    batch = ppo["num_envs"] * ppo["num_steps"]
    return ppo["total_timesteps"] // batch * batch


def curve(folder: Path) -> list[tuple[int, float, float, float]]:
    """Steps, mean return, mean highest stage and steps per second of each row of a run."""
    with JournalReader(folder) as reader:
        ppo = (reader.config() or {})["ppo"]
        batch = ppo["num_envs"] * ppo["num_steps"]
        rows = [(row.step * batch, row.metrics) for row in reader.stream() if "episode/return" in row.metrics]
    found = [
        (steps, row["episode/return"], row["episode/highest_stage"], row["train/steps_per_second"])
        for steps, row in rows
    ]
    return found or [(0, float("nan"), float("nan"), float("nan"))]


def cell(values: list[float]) -> str:
    """Mean over seeds, with the smallest and largest."""
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def table(runs_dir: Path, base: str, steps: int) -> str:
    """Returns the results so far, in Markdown: return and stage at each mark."""
    heads = [f"{steps * mark / 1e6:.2g}M: return; stage" for mark in MARKS]
    lines = [f"| {base} | seeds | {' | '.join(heads)} | steps/s |", "|---" * (len(heads) + 3) + "|"]
    for variant in VARIANTS[base]:
        pattern = name_of(base, variant, 0).removesuffix("0") + "[0-9]*"
        curves = [curve(folder) for folder in sorted(runs_dir.glob(pattern)) if (folder / RUN_FILE).exists()]
        if not curves:
            continue
        cells = []
        for mark in MARKS:
            # The last row at or before the mark, of runs that have come near it.
            rows = [[row for row in rows if row[0] <= steps * mark * 1.001] for rows in curves]
            near = [rows[-1] for rows in rows if rows and rows[-1][0] >= steps * mark * 0.8]
            cells.append(
                f"{cell([row[1] for row in near])}; {cell([row[2] for row in near])}" if near else ""
            )
        speed = statistics.median(row[3] for rows in curves for row in rows)
        lines.append(f"| {variant} | {len(curves)} | {' | '.join(cells)} | {speed:,.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Trains what is missing, seed by seed, and writes the table after each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--base", choices=VARIANTS, default="tuned")
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="variants; default: all")
    parser.add_argument("--time", help="maximum time, such as 2h")
    parser.add_argument("--table", action="store_true", help="print the table and train nothing")
    given = parser.parse_args()
    unknown = set(given.only or ()) - VARIANTS[given.base].keys()
    if unknown:
        parser.error(f"--only {', '.join(sorted(unknown))}: must be of {', '.join(VARIANTS[given.base])}")
    given.runs_dir.mkdir(parents=True, exist_ok=True)
    deadline = None if given.time is None else time.monotonic() + parse_duration(given.time)
    for seed in range(0 if given.table else given.seeds):
        for variant, flags in VARIANTS[given.base].items():
            if given.only and variant not in given.only:
                continue
            common = ["--preset", given.base, "--total-timesteps", str(given.steps), "--seed", str(seed)]
            common += ["--log-interval", "1"]
            folder = given.runs_dir / name_of(given.base, variant, seed)
            train(folder, [*common, *flags], deadline)
            write_whole(
                given.runs_dir / f"{given.base}.md", table(given.runs_dir, given.base, given.steps) + "\n"
            )
            if deadline is not None and time.monotonic() >= deadline:
                return
    print(table(given.runs_dir, given.base, given.steps))


if __name__ == "__main__":
    main()
