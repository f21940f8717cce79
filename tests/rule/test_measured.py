"""Measured curves as consolidation functions: known devices give known functions, and bad files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from lava_meta.data import load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.errors import FormatError
from lava_meta.online_learning import Learner
from lava_meta.rule import Linear, Quadratic, consolidation_from_dict
from lava_meta.rule.measured import _never_rising, consolidation_from_csv

H = np.linspace(-1, 1, 401)


def write(path: Path, pulse: np.ndarray, conductance: np.ndarray) -> Path:
    lines = [f"{p!r},{g!r}" for p, g in zip(pulse.tolist(), conductance.tolist(), strict=True)]
    path.write_text("pulse,conductance\n" + "\n".join(lines) + "\n")
    return path


def test_an_exponential_approach_is_the_linear_gate(tmp_path: Path) -> None:
    """Of 1 - exp(-p/tau), 0.9 is gained: f falls from 1 to 0.1 over the range, which is Linear(1/0.9) there."""
    pulse = np.arange(0, 41.0)
    conductance = 2e-6 + 3e-6 * (1 - np.exp(-pulse / 40 * np.log(10)))
    table = consolidation_from_csv(write(tmp_path / "curve.csv", pulse, conductance))
    measured = np.abs(H) <= table.points[-1]
    np.testing.assert_allclose(table(H)[measured], Linear(1 / 0.9)(H)[measured], atol=1e-9)


def test_pulses_need_not_be_even_and_a_falling_curve_is_turned_round(tmp_path: Path) -> None:
    pulse = np.concatenate([np.arange(0, 3, 0.05), np.arange(3, 6, 0.25)])
    curves = [sign * np.tanh(pulse) for sign in (1, -1)]
    tables = [consolidation_from_csv(write(tmp_path / "curve.csv", pulse, 5 + c), reach=2.0) for c in curves]
    np.testing.assert_allclose(tables[0].values, tables[1].values, atol=1e-9)
    # d tanh / dp = 1 - tanh**2: the quadratic gate of T = 2.
    np.testing.assert_allclose(tables[0](2 * H), Quadratic(2.0)(2 * H), atol=0.01)


def test_a_noisy_curve_is_refused_and_its_nearest_one_taken(tmp_path: Path) -> None:
    pulse = np.arange(0, 121.0)
    clean = 1 - np.exp(-pulse / 50)
    noisy = clean + 0.002 * np.random.default_rng(0).standard_normal(len(pulse))
    file = write(tmp_path / "noisy.csv", pulse, noisy)
    with pytest.raises(FormatError, match=r'pulse \d+.*smooth="isotonic"'):
        consolidation_from_csv(file)
    table = consolidation_from_csv(file, smooth="isotonic")
    assert np.all(np.diff(table.values) <= 0)
    error = np.abs(table(H) - Linear(1 / clean[-1])(H))
    assert error.max() < 0.08
    assert error.mean() < 0.03


@pytest.mark.parametrize("seed", range(5))
def test_smoothing_is_isotonic_regression(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slope, width = rng.standard_normal(40), rng.uniform(0.1, 2, 40)
    expected = IsotonicRegression(increasing=False).fit_transform(np.arange(40), slope, sample_weight=width)
    np.testing.assert_allclose(_never_rising(slope, width), expected, atol=1e-12)


def test_a_curve_learns_and_goes_to_json_and_back(tmp_path: Path) -> None:
    pulse = np.arange(0, 30.0)
    table = consolidation_from_csv(write(tmp_path / "curve.csv", pulse, np.sqrt(pulse)))
    assert consolidation_from_dict(table.to_dict()) == table
    learner = Learner([64, 16, 10], rule=table, precision=8, backend="kernels")
    learner.fit(permuted_tasks(load_dataset("digits"), 1, seed=0), images=200)
    gates = learner.settings[0].gate_table(1.0)
    assert gates[0] == 256
    assert (np.diff(gates) <= 0).all()


GOOD = ["0,1", "1,2", "2,2.5", "3,2.75", "4,2.9"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["p,g", *GOOD], "names the columns p, g; it must name pulse and conductance"),
        ([], "names the columns none"),
        (["pulse,conductance", *GOOD[:4]], "4 measurements; a curve needs at least 5"),
        (["pulse,conductance", *GOOD[:2], "2,nan", *GOOD[3:]], "line 4: 'nan' is not a finite number"),
        (["pulse,conductance", *GOOD[:2], "2,", *GOOD[3:]], "line 4: '' is not a finite number"),
        (["pulse,conductance", *GOOD[:2], "2", *GOOD[3:]], "line 4: None is not a finite number"),
        (["pulse,conductance", *GOOD[:2], "two,2.5", *GOOD[3:]], "line 4: 'two' is not a finite number"),
        (["pulse,conductance", *GOOD, "4,3"], "line 7: pulse 4 does not increase"),
        (["pulse,conductance", "0,1", "1,2", "2,2.5", "3,2.4", "4,2.9"], "turns round after pulse 2"),
        (["pulse,conductance", "0,1", "1,2", "2,2.5", "3,3.2", "4,3.3"], "rises after pulse 2, from 0.5 to 0.7"),
        (["pulse,conductance", "0,1", "1,2", "2,2.5", "3,2", "4,1"], "ends where it began"),
    ],
)
def test_files_that_are_no_curve_are_refused(tmp_path: Path, lines: list[str], says: str) -> None:
    (tmp_path / "curve.csv").write_text("\n".join(lines))
    with pytest.raises(FormatError, match=says):
        consolidation_from_csv(tmp_path / "curve.csv")


def test_other_files_and_arguments_are_refused(tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_bytes(b"pulse,conductance\n\xff\xfe")
    with pytest.raises(FormatError, match="comma-separated"):
        consolidation_from_csv(tmp_path / "curve.csv")
    with pytest.raises(FileNotFoundError):
        consolidation_from_csv(tmp_path / "missing.csv")
    for reach in (0, -1, float("nan"), True, "1"):
        with pytest.raises(ValueError, match="reach is"):
            consolidation_from_csv(tmp_path / "curve.csv", reach=reach)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="choose one of none, isotonic"):
        consolidation_from_csv(tmp_path / "curve.csv", smooth="much")
