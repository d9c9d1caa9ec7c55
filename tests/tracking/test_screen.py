from __future__ import annotations

from matrixrl.systems.hackmatrix.spec import SPEC as HACKMATRIX
from matrixrl.systems.matmul.spec import EPISODE_COLUMNS as MATMUL_EPISODE_COLUMNS
from matrixrl.systems.matmul.spec import SPEC as MATMUL
from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.events import EpisodeRow, MoveRow, ScalarRow
from matrixrl.tracking.screen import HEADER_INTERVAL, Screen

EPOCH = {
    "Epoch": 1,
    "epoch_loss": 2.151234,
    "epoch_policy_loss": 1.97,
    "epoch_value_loss": 0.7213,
    "epoch_grad_norm": 0.267,
    "epoch_learning_rate": 0.00123456,
    "epoch_success_rate": 0.046875,
    "epoch_replay_size": 16_384,
    "epoch_simulations_per_second": 33_145.7,
    "train/logging_overhead_pct": 0.1484,
}
CHUNK = {
    "train/update_step": 1_200,
    "train/entropy": 1.5,
    "train/approx_kl": 1.234e-6,
    "train/explained_variance": 0.4321,
    "train/learning_rate": 0.004,
    "train/steps_per_second": 11_234.5,
    "train/logging_overhead_pct": 0.5,
    "episode/return": -3.924,
    "episode/highest_stage": 1.024,
    "episode/win_rate": 0.0,
    "episode/count": 1_234,
}


def row(metrics: dict[str, float | int]) -> ScalarRow:
    return ScalarRow(StepClock().tick(), metrics)


def test_columns_stay_aligned_whatever_is_in_them() -> None:
    screen = Screen(MATMUL)
    later = {**EPOCH, "Epoch": 12, "epoch_loss": 0.000012, "epoch_best_rank": 7, "epoch_replay_size": 9}
    head, first = screen.lines(row(EPOCH), 33, None)
    (second,) = screen.lines(row(later), 3_725, None)
    assert len(head) == len(first) == len(second)
    assert second.endswith("1:02:05")
    for name, text in (
        ("best rank", "-"),
        ("solved", "4.69 %"),
        ("sims/s", "33,100"),
        ("kept games", "16,384"),
    ):
        end = head.index(name) + len(name)
        assert first[:end].endswith(f" {text}")
        assert second[end : end + 1] in ("", " ")


def test_a_narrow_terminal_keeps_what_matters() -> None:
    for width in (40, 60, 80, 120):
        head, line = Screen(MATMUL).lines(row(EPOCH), 33, width)
        assert len(head) == len(line) <= width
        assert head.split()[:2] == ["epoch", "solved"]
        head, line = Screen(HACKMATRIX).lines(row(CHUNK), 33, width)
        assert len(head) == len(line) <= width
        assert head.split()[:2] == ["update", "return"]
        assert line.split()[0] == "1,200"


def test_the_head_comes_back() -> None:
    screen = Screen(MATMUL)
    lines = [line for _ in range(HEADER_INTERVAL + 1) for line in screen.lines(row(EPOCH), 1, 80)]
    assert [number for number, line in enumerate(lines) if "epoch" in line] == [0, HEADER_INTERVAL + 1]
    screen.interrupt()
    assert len(screen.lines(row(EPOCH), 1, 80)) == 2


def test_evaluations_are_sentences_for_each_format() -> None:
    one = {"Epoch": 2, "eval/rank": 7, "eval/residual": 0.0, "eval/steps": 7, "eval/solved": 0.5}
    assert Screen(MATMUL).lines(row(one), 1, 80) == [
        "evaluation after epoch 2: rank 7, residual 0, steps 7, solved 50.0 %"
    ]
    several = {"Epoch": 2, "eval/rank_2x2x2": 7, "eval/rank_2x2x3": 12, "eval/solved_2x2x3": 1.0}
    assert Screen(MATMUL).lines(row(several), 1, 80) == [
        "evaluation after epoch 2, 2x2x2: rank 7",
        "evaluation after epoch 2, 2x2x3: rank 12, solved 100 %",
    ]


def test_ranks_of_several_formats_share_a_column() -> None:
    ranks = {**EPOCH, "epoch_best_rank_2x2x2": 7, "epoch_best_rank_2x2x3": 11}
    head, line = Screen(MATMUL).lines(row(ranks), 1, None)
    assert line[: head.index("best rank") + len("best rank")].endswith(" 7, 11")


def test_metrics_of_other_trainers_get_columns_too() -> None:
    head, line = Screen(MATMUL).lines(row({"Epoch": 3, "epoch_my_score": 0.5}), 1, None)
    assert "my score" in head
    assert "0.500" in line


def test_episodes_and_moves() -> None:
    values = dict(zip(MATMUL_EPISODE_COLUMNS, [1_234, 2, 3, -7.25, 0.0, None, 9, False], strict=True))
    tick = StepClock().tick()
    head, line = Screen(MATMUL).lines(EpisodeRow(tick, values), 1, 80)
    assert len(head) == len(line) <= 80
    assert line.split() == ["1,234", "2", "3", "-7.25", "0", "-", "9", "no"]
    (move,) = Screen(MATMUL).lines(MoveRow(tick, 12, 3, [1], -1.0, 6.0), 1, 80)
    assert move == "Step  3 [Ep 12] | Reward: -1 | Residual: 6"
    assert Screen(MATMUL).lines(row({"pretrain/loss": 1.0}), 1, 80) == []
