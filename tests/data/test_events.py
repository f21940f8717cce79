"""Event data in the formats of their files, which the tests write: N-MNIST, SHD, DVS Gesture."""

import sys

import numpy as np
import pytest

from lava_meta.data.events import EVENT_DATASETS, event_frames, load_events, time_steps
from lava_meta.data.scenarios import split_classes
from lava_meta.errors import DataError, PackageMissingError
from lava_meta.nn import BinaryMLP
from lava_meta.training import train

FIELDS = [("x", int), ("y", int), ("t", int), ("p", int)]
SENSORS = {"n-mnist": (34, 34, 2), "shd": (700, 1, 1), "dvs-gesture": (128, 128, 2)}


def recording(sensor, count=60, seed=0, span=300_000):
    """Events in order of time, microseconds."""
    rng = np.random.default_rng(seed)
    events = np.zeros(count, FIELDS)
    for field, end in zip("xyp", sensor, strict=True):
        events[field] = rng.integers(0, end, count)
    events["t"] = np.sort(rng.integers(0, span, count))
    return events


def counted(events, sensor, bins, pool):
    """Event by event."""
    width, height, polarities = sensor
    frames = np.zeros((bins, polarities, -(-height // pool), -(-width // pool)), int)
    first, last = events["t"].min(), events["t"].max()
    for event in events:
        edge = [first + (last - first + 1) * k / bins for k in range(1, bins)]
        step = sum(event["t"] >= e for e in edge)
        frames[step, event["p"], event["y"] // pool, event["x"] // pool] += 1
    return frames


def write_nmnist(folder, per_class=2):
    """Five bytes an event: x, y, then polarity (one bit) and time (23 bits), the highest byte first."""
    made = {}
    for part in ("Train", "Test"):
        for label in range(10):
            for number in range(per_class):
                events = recording(SENSORS["n-mnist"], seed=100 * label + number + 7 * (part == "Test"))
                path = folder / "NMNIST" / part / str(label) / f"{number:05}.bin"
                path.parent.mkdir(parents=True, exist_ok=True)
                high = (events["p"] << 7) | (events["t"] >> 16)
                columns = (events["x"], events["y"], high, (events["t"] >> 8) & 255, events["t"] & 255)
                path.write_bytes(np.stack(columns, axis=1).astype(np.uint8).tobytes())
                made[part, label, number] = events
    return [made["Train", label, number] for label in range(10) for number in range(per_class)]


def write_shd(folder, count=40):
    h5py = pytest.importorskip("h5py")
    made = [recording(SENSORS["shd"], seed=seed) for seed in range(count)]
    (folder / "SHD").mkdir()
    for part in ("train", "test"):
        with h5py.File(folder / "SHD" / f"shd_{part}.h5", "w") as file:
            ragged = h5py.vlen_dtype(np.float64), h5py.vlen_dtype(np.uint16)
            times, units = (
                file.create_dataset(f"spikes/{name}", (count,), kind)
                for name, kind in zip(("times", "units"), ragged, strict=True)
            )
            for row, events in enumerate(made):
                times[row], units[row] = events["t"] / 1e6, events["x"]
            file["labels"] = np.arange(count) % 20
            file["extra/keys"] = [f"word {k}".encode() for k in range(20)]
            file["extra/speaker"] = np.zeros(count, int)
    return made


def write_gestures(folder, users=2):
    """Rows x, y, polarity, time in milliseconds."""
    made = []
    for part in ("Train", "Test"):
        for user in range(1, users + 1):
            path = folder / "DVSGesture" / f"ibmGesture{part}" / f"user{user:02}_led"
            path.mkdir(parents=True)
            for label in range(11):
                events = recording(SENSORS["dvs-gesture"], seed=100 * user + label, span=300)
                rows = np.stack([events[field] for field in "xypt"], axis=1).astype(np.float64)
                np.save(path / f"{label}.npy", rows)
                events["t"] *= 1000  # as Tonic reads them
                if part == "Train":
                    made.append((path / f"{label}.npy", events))
    return [events for _, events in sorted(made, key=lambda pair: str(pair[0]))]


WRITE = {"n-mnist": write_nmnist, "shd": write_shd, "dvs-gesture": write_gestures}


@pytest.mark.parametrize("name", EVENT_DATASETS)
@pytest.mark.parametrize(("bins", "pool"), [(10, 1), (3, 4)])
def test_files_as_frames_and_as_spikes(name, bins, pool, tmp_path):
    pytest.importorskip("tonic")
    made = WRITE[name](tmp_path)
    data = load_events(name, tmp_path, bins=bins, pool=pool)
    want = np.stack([counted(events, SENSORS[name], bins, pool) for events in made])
    want = want.reshape(len(made), 1, bins, -1) if name == "shd" else want.reshape(len(made), -1, *want.shape[3:])
    assert np.array_equal(data.train.x.numpy(), want)
    assert want.sum() == sum(map(len, made)), "an event was lost"
    assert data.train.classes == data.test.classes == len(set(data.train.y.tolist()))
    spikes = load_events(name, tmp_path, bins=bins, pool=pool, kind="spikes")
    assert np.array_equal(spikes.train.x.numpy(), want > 0)
    assert (spikes.train.max_level, data.train.max_level) == (1, 255)


def test_labels_belong_to_their_recordings(tmp_path):
    pytest.importorskip("tonic")
    write_nmnist(tmp_path)
    data = load_events("n-mnist", tmp_path)
    assert data.train.y.tolist() == [label for label in range(10) for _ in range(2)]
    (tmp_path / "other").mkdir()
    write_gestures(tmp_path / "other")
    by_name = [int(name.removesuffix(".npy")) for name in sorted(f"{label}.npy" for label in range(11))]
    assert load_events("dvs-gesture", tmp_path / "other").train.y.tolist() == by_name * 2


def test_a_scenario_of_them_trains(tmp_path):
    pytest.importorskip("tonic")
    write_shd(tmp_path)
    data = load_events("shd", tmp_path, bins=5, kind="spikes", pool=10)
    scenario = split_classes(data, [range(10), range(10, 20)])
    model = BinaryMLP.for_images(data.train, [16], seed=0)
    assert train(model, scenario, epochs=1, m=0.0, progress=False).matrix.values.shape == (3, 2)


def test_bins_in_turn_are_the_steps_of_a_spiking_network(tmp_path):
    pytest.importorskip("tonic")
    for name, write in WRITE.items():
        made = write(tmp_path)
        data = load_events(name, tmp_path, bins=4)
        steps = time_steps(data.train, 4)
        want = np.stack([counted(events, SENSORS[name], 4, 1).reshape(4, -1) for events in made], axis=1)
        assert np.array_equal(steps, want)
    with pytest.raises(ValueError, match="which 3 bins do not divide"):
        time_steps(data.train, 3)


def test_counts_beyond_the_levels_are_cut():
    events = np.zeros(300, FIELDS)
    assert event_frames(events, (1, 1, 2), bins=2).tolist() == [[[255]], [[0]], [[0]], [[0]]]


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (np.zeros(0, FIELDS), "no events"),
        (np.zeros(3, FIELDS[:2]), "no field p, t; they have x, y"),
        (np.zeros((3, 4)), "no field p, t, x; they have none"),
        (np.full(3, 34, [(name, int) for name, _ in FIELDS]), "x of events runs from 34 to 34; the sensor has 0..33"),
    ],
)
def test_events_that_do_not_fit(events, says):
    with pytest.raises(DataError, match=says):
        event_frames(events, (34, 34, 2))


@pytest.mark.parametrize("name", EVENT_DATASETS)
def test_what_is_missing_says_that_it_must_be_downloaded(name, tmp_path):
    pytest.importorskip("tonic")
    with pytest.raises(DataError, match=rf"{name} is in none of these folders.*load_events\('{name}', download=True\)"):
        load_events(name, tmp_path)


def test_what_is_broken_is_named(tmp_path):
    pytest.importorskip("tonic")
    write_shd(tmp_path, 20)
    (tmp_path / "SHD" / "shd_test.h5").write_bytes(b"no such file")
    with pytest.raises(DataError, match=r"shd: the files in .*SHD cannot be read"):
        load_events("shd", tmp_path)
    write_nmnist(tmp_path, 1)
    (tmp_path / "NMNIST" / "Train" / "3" / "00000.bin").write_bytes(b"")
    with pytest.raises(DataError, match="n-mnist train, recording 3: the recording has no events"):
        load_events("n-mnist", tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bins": 0}, "bins is 0"),
        ({"pool": 0}, "pool 0"),
        ({"kind": "voxels"}, "choose 'frames' or 'spikes'"),
        ({"name": "poker-dvs"}, "choose one of n-mnist, shd, dvs-gesture"),
    ],
)
def test_options_out_of_range(options, says):
    with pytest.raises(ValueError, match=says):
        load_events(**{"name": "shd", **options})


def test_without_tonic_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic", None)
    with pytest.raises(PackageMissingError, match=r"lava-meta\[events\]"):
        load_events("shd")
