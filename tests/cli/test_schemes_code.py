"""`matrixrl schemes reduce`, `export`, `bench`, `list` and `get`."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matrixrl.cli.main import main
from matrixrl.cli.schemes_bench import PINNING, crossover, summarise
from matrixrl.cli.schemes_native import NativeError, NumpyMultiply, compile_plan
from matrixrl.cli.schemes_plot import save_ratio_plot
from matrixrl.schemes.export import SUFFIXES, make_plan
from matrixrl.schemes.known import laderman, strassen, winograd
from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.verify import verify

COMPILED = any(shutil.which(name) for name in ("gcc", "cc", "clang"))


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "strassen.json"
    strassen().save(path)
    return str(path)


@pytest.fixture
def wrong_file(tmp_path: Path) -> str:
    path = tmp_path / "wrong.json"
    replace(strassen(), u=np.abs(strassen().u)).save(path)
    return str(path)


def last_json(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("target", SUFFIXES)
def test_export_writes_every_target(
    target: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / f"exported{SUFFIXES[target]}"
    assert main(["schemes", "export", file, "--to", target, "--output", str(output), "--seconds", "0.1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{output}: 2x2x2 in 7 multiplications")
    assert err == ""
    assert output.stat().st_size > 100


def test_an_exported_module_multiplies(file: str, tmp_path: Path) -> None:
    output = tmp_path / "fast.py"
    given = ["schemes", "export", file, "--to", "numpy", "--output", str(output)]
    assert main([*given, "--cheapest", "--seconds", "5"]) == 0
    names: dict = {}
    exec(output.read_text(), names)
    a, b = np.arange(35).reshape(5, 7), np.arange(63).reshape(7, 9)
    assert np.array_equal(names["multiply"](a, b, levels=2), a @ b)
    assert "and 15 additions of blocks" in output.read_text()


def test_without_output_the_file_is_named_after_the_scheme(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["schemes", "export", file, "--to", "latex", "--seconds", "0.1"]) == 0
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["strassen.tex"]


@pytest.mark.parametrize("command", ["export", "reduce", "bench"])
def test_a_wrong_scheme_exits_1_and_a_missing_file_2(
    command: str, wrong_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schemes", command, wrong_file]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"matrixrl: {wrong_file}: not a correct scheme: ")
    missing = str(tmp_path / "none.json")
    assert main(["schemes", command, missing]) == 2
    assert capsys.readouterr().err.startswith(f"matrixrl: {missing}: cannot be read")
    assert not list(tmp_path.glob("*.py"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "FILE", "--to", "fortran"], "must be one of numpy, jax, c, latex, json, m, npz"),
        (["export", "FILE", "--seconds", "-1"], "--seconds -1.0: must be between 0 and 3,600"),
        (["export", "FILE", "--seconds", "nan"], "--seconds nan: must be between 0 and 3,600"),
        (["export", "FILE", "--output", "FOLDER"], "is a folder; name a file"),
        (["export", "FILE", "--to", "json", "--output", "FILE"], "is the scheme file itself"),
        (["export", "FILE", "--number", "2"], "--number 2: "),
        (["reduce", "FILE", "--seconds", "inf"], "--seconds inf: must be between"),
        (["bench", "FILE", "--sizes", "0"], "--sizes 0: want whole numbers between 1 and 32,768"),
        (["bench", "FILE", "--levels", "99"], "--levels 99: want whole numbers between 1 and 10"),
        (["bench", "FILE", "--repeats", "0"], "--repeats 0: must be 1 or more"),
        (["bench", "FILE", "--png", "FOLDER"], "is a folder; name a file"),
        (["bench", "MOD2"], "holds modulo 2 only"),
        (["get", "3x3"], "want n x m x p"),
        (["get", "9x9x9"], "the library has no scheme for 9x9x9; it has 2x2x2"),
        (["get", "2x2x2", "--ring", "R"], "--ring R: must be one of Z"),
        (["get", "2x2x2", "--output", "FOLDER"], "is a folder; name a file"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    arguments: list[str],
    message: str,
    file: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    winograd().mod2().save(tmp_path / "mod2.json")
    places = {"FILE": file, "FOLDER": str(tmp_path), "MOD2": str(tmp_path / "mod2.json")}
    before = sorted(tmp_path.iterdir())
    assert main(["schemes", *(places.get(argument, argument) for argument in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("matrixrl: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(tmp_path.iterdir()) == before


def test_reduce_finds_15_additions_and_writes_the_scheme(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "cheap.json"
    given = [
        "schemes",
        "reduce",
        file,
        "--seconds",
        "60",
        "--target",
        "15",
        "--output",
        str(output),
        "--json",
    ]
    assert main(given) == 0
    record = last_json(capsys)
    assert (record["additions_written"], record["additions_shared"], record["additions"]) == (18, 18, 15)
    assert sum(record["additions_by_map"].values()) == 15
    scheme = Scheme.load(output)
    assert verify(scheme)
    assert scheme.provenance["additions"] == 15


def test_the_library_is_listed_and_schemes_are_taken_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schemes", "list", "--json"]) == 0
    out = capsys.readouterr().out
    assert "3x3x3" in out
    schemes = json.loads(out.splitlines()[-1])["schemes"]
    assert {"format", "rank", "ring", "additions", "found_by", "found_in_seconds"} <= set(schemes[0])
    assert main(["schemes", "get", "3x3x3"]) == 0
    assert "M23 = " in capsys.readouterr().out
    output = tmp_path / "s.json"
    assert main(["schemes", "get", "3x2x2", "--ring", "F2", "--output", str(output)]) == 0
    scheme = Scheme.load(output)
    assert (tuple(scheme.format), scheme.ring, scheme.rank) == ((3, 2, 2), "F2", 11)
    assert verify(scheme)
    assert main(["schemes", "get", "2x2x2", "--json"]) == 0
    assert last_json(capsys)["rank"] == 7
    assert main(["schemes", "get", "quaternion", "--json"]) == 0
    record = last_json(capsys)
    assert (record["problem"], record["rank"]) == ("quaternion", 8)
    assert main(["schemes", "get", "quaternions"]) == 2
    assert "no such problem" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["compiled", "numpy"])
def test_bench_measures_both_and_reports_the_kernel(
    way: str,
    file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if way == "compiled" and not COMPILED:
        pytest.skip("no C compiler found (gcc, cc or clang)")
    # A pinned kernel would be an unfair rival; this process keeps its own environment.
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    png = tmp_path / "plot.png"
    given = [
        "schemes",
        "bench",
        file,
        "--sizes",
        "64",
        "130",
        "--levels",
        "1",
        "2",
        "--repeats",
        "1",
        "--json",
    ]
    given += ["--png", str(png), "--threads", "one", "--seconds", "100"]
    assert main(given + (["--numpy"] if way == "numpy" else [])) == 0
    record = last_json(capsys)
    assert os.environ["OPENBLAS_CORETYPE"] == "Prescott"
    if "openblas" in record["blas"]:
        assert record["kernel"] != "Prescott"
    assert record["way"] == way
    assert record["sizes"] == [64, 130]
    for side in ("blas", "scheme"):
        assert all(seconds > 0 for seconds in record["seconds"][side])
        assert all(error < 1e-13 for error in record["errors"][side])
    assert len(record["ratio"]) == 2
    assert record["crossover"] in (None, 64, 130)
    assert len(record["measurements"]) == 4
    with Image.open(png) as picture:
        assert picture.size == (1200, 720)


def test_bench_leaves_out_what_takes_too_long_or_too_much_memory(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["schemes", "bench", file, "--sizes", "32", "32000", "--levels", "3", "--seconds", "30", "--json"]
    assert main([*given, "--threads", "one", "--numpy"]) == 0
    out = capsys.readouterr().out
    record = json.loads(out.splitlines()[-1])
    assert record["sizes"] == [32]
    assert record["skipped"][0]["size"] == 32000
    assert "size 32,000 left out: " in out


def test_the_measuring_process_does_not_see_the_pinning_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    from matrixrl.cli import schemes_bench

    seen: dict[str, str] = {}

    class StoppedError(Exception):
        pass

    def process(environment: dict[str, str]) -> None:
        seen.update(environment)
        raise StoppedError

    for name in PINNING:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(schemes_bench, "_process", process)
    with pytest.raises(StoppedError):
        schemes_bench._measure(schemes_bench.SchemesBenchCommand(Path("x")), strassen(), "measuring")
    assert not set(PINNING) & set(seen)
    assert seen["PATH"] == os.environ["PATH"]


def row(size: int, threads: int, levels: int, blas: float, scheme: float) -> dict:
    values = {"size": size, "threads": threads, "levels": levels, "blas_seconds": blas}
    return values | {"scheme_seconds": scheme, "blas_error": 1e-16, "scheme_error": 2e-16}


def test_the_crossover_is_the_size_from_which_the_scheme_stays_quicker(tmp_path: Path) -> None:
    rows = [
        row(64, 1, 1, 3.0, 2.0),
        row(128, 1, 1, 1.0, 2.0),
        row(256, 1, 1, 2.0, 1.0),
        row(256, 1, 2, 2.0, 4.0),
    ]
    rows += [row(512, 1, 2, 3.0, 2.0), row(512, 2, 1, 1.0, 2.0)]
    summary = summarise(rows)
    assert (summary["sizes"], summary["levels"]) == ([64, 128, 256, 512], [1, 1, 1, 2])
    assert summary["ratio"] == [1.5, 0.5, 2.0, 1.5]
    assert summary["crossovers"] == {"1": 256, "2": None}
    assert summary["crossover"] == 256
    assert crossover([]) is None
    assert summarise([])["crossover"] is None
    save_ratio_plot(rows, "title", tmp_path / "plot.png")
    save_ratio_plot(rows[:1], "title", tmp_path / "one.png")
    with Image.open(tmp_path / "plot.png") as picture:
        colours = {colour for _, colour in picture.getcolors(100_000) or []}
    assert {(37, 99, 235), (220, 38, 38), (5, 150, 105)} <= colours  # a curve each


@pytest.mark.parametrize(
    ("scheme", "dtype"), [(winograd(), np.float64), (laderman(), np.float32)], ids=["float64", "float32"]
)
def test_the_ways_of_the_bench_multiply_any_size(scheme: Scheme, dtype: type, tmp_path: Path) -> None:
    plan = make_plan(scheme, seconds=0.1)
    ways: list = [NumpyMultiply(plan, np.dtype(dtype))]
    threadpoolctl = pytest.importorskip("threadpoolctl")
    blas = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
    if blas and COMPILED:
        ways.append(compile_plan(plan, tmp_path, np.dtype(dtype), blas[0]["filepath"]))
    rng = np.random.default_rng(0)
    for size in (2, 18, 31):
        a, b = (rng.uniform(-1, 1, (size, size)).astype(dtype) for _ in range(2))
        for way in ways:
            for levels in (1, 2):
                c = np.full((size, size), np.nan, dtype)
                way.prepare(size, levels)(a, b, c)
                tolerance = 1e-12 if dtype == np.float64 else 1e-4
                np.testing.assert_allclose(c, a @ b, rtol=0, atol=tolerance)


def test_without_a_compiler_or_a_known_blas_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(strassen(), seconds=0.1)
    with pytest.raises(NativeError, match="BLAS was not found"):
        compile_plan(plan, tmp_path, np.dtype(np.float64), None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NativeError, match="no C compiler found"):
        compile_plan(plan, tmp_path, np.dtype(np.float64), "x")
