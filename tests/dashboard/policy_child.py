"""Stands in for an agent's process: the same protocol and the same reading of standard input, without JAX."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from matrixrl.cli.hackmatrix_policy import questions_of, reply
from matrixrl.envs.hackmatrix.referee import RandomDraws, legal_action_mask, new_game
from matrixrl.envs.hackmatrix.scenario import ScenarioReplay, dump_text, load

if __name__ == "__main__":
    questions = questions_of(sys.stdin)
    if Path(sys.argv[1]).name == "refuses":
        reply(sys.stdout, {"error": "it cannot be played"})
        sys.exit(2)
    reply(sys.stdout, {"agent": f"agent of {sys.argv[1]}"})
    while True:
        question = questions.get()
        if question["op"] == "crash":
            sys.exit("Boom")
        if question["op"] == "sleep":
            time.sleep(300)
        thoughts = [{"probabilities": [0.0] * 28, "value": float(step), "chosen": 0} for step in range(4)]
        if question["op"] == "think":
            legal = legal_action_mask(load(question["scenario"]).state)
            found = {
                "probabilities": (legal / legal.sum()).tolist(),
                "value": 0.5,
                "chosen": int(legal.argmax()),
            }
            reply(sys.stdout, {"thoughts": found})
        elif question["op"] == "game":
            start = new_game(RandomDraws(np.random.default_rng([question["seed"]])))
            legal = int(legal_action_mask(start).argmax())
            back = {0: 1, 1: 0, 2: 3, 3: 2}[legal]
            replay = ScenarioReplay((legal, back, legal))
            reply(
                sys.stdout,
                {
                    "replay": dump_text(start, meta={"seed": question["seed"]}, replay=replay),
                    "thoughts": thoughts,
                },
            )
        else:
            reply(sys.stdout, {})
