"""Data of one's own: arrays, torch, data frames, Avalanche. What works, and what is refused in which words."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from lava_meta.data import Dataset, Images, Scale, from_avalanche, scenario_of
from lava_meta.errors import DataError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = np.arange(40) % 4


class TestScale:
    def test_levels_are_the_nearest_of_the_range(self):
        scale = Scale(-1.0, 3.0, max_level=4)
        assert scale([[-2, -1, -0.51, -0.49, 0, 2.6, 3, 9]]).tolist() == [[0, 0, 0, 1, 1, 4, 4, 4]]

    def test_of_features_and_of_all(self):
        x = np.array([[0.0, 10.0, 7.0], [1.0, 30.0, 7.0]])
        assert Scale.of(x, "features")(x).tolist() == [[0, 0, 0], [255, 255, 0]]
        assert Scale.of(x, "all", max_level=30)(x).tolist() == [[0, 10, 7], [1, 30, 7]]

    def test_of_torchvisions_numbers_it_gives_the_bytes_back(self):
        """`ToTensor` divides by 255."""
        levels = torch.arange(256, dtype=torch.uint8)
        assert np.array_equal(Scale(0, 1)(levels.float() / 255), levels.numpy())

    @pytest.mark.parametrize("scale", [(1, 1), (2, 1), "feature", 3, (1, 2, 3)])
    def test_refuses_what_is_no_range(self, scale):
        with pytest.raises(ValueError, match=r"give \(low, high\)"):
            Dataset.from_arrays(X, Y, scale=scale)


class TestArrays:
    def test_the_test_set_has_the_scale_of_the_training_set(self):
        data = Dataset.from_arrays(X, Y, test=(X[:4] * 100, Y[:4]), scale="features")
        low, high = X.min(0), X.max(0)
        want = np.rint((X - low) / (high - low) * 255)
        assert np.array_equal(data.train.x.numpy(), want)
        assert np.array_equal(data.test.x.numpy(), np.rint(((X[:4] * 100 - low) / (high - low)).clip(0, 1) * 255))
        assert np.array_equal(data.scale(X[:5]), data.train.x[:5].numpy())
        assert data.train.name == "own data train"

    def test_without_a_test_set_a_share_of_each_class_is_held_out(self):
        data = Dataset.from_arrays(X, Y, scale=(-3, 3), held_out=0.3, seed=1)
        assert (len(data.train), data.test.y.bincount().tolist()) == (28, [3, 3, 3, 3])
        assert data.test.name == "own data held out"

    @pytest.mark.parametrize("kind", [np.int8, np.int32, np.uint8, np.uint64, np.float64, str, object])
    def test_labels_of_any_type(self, kind):
        data = Dataset.from_arrays(np.zeros((4, 2), int), np.array([0, 2, 1, 2]).astype(kind), test=([[0, 0]], [2]))
        assert data.train.y.tolist() == [0, 2, 1, 2]
        assert data.train.classes == data.test.classes == 3

    def test_labels_that_are_text(self):
        names = np.array(["cat", "ant", "cat", "bee"])
        data = Dataset.from_arrays(np.zeros((4, 2), int), names, test=([[0, 0]], ["bee"]))
        assert data.class_names == ("ant", "bee", "cat")
        assert [data.class_names[label] for label in data.train.y] == names.tolist()
        assert data.test.y.tolist() == [1]
        with pytest.raises(DataError, match="no class 'dog' in the training labels ant, bee, cat"):
            Dataset.from_arrays(np.zeros((4, 2), int), names, test=([[0, 0]], ["dog"]))

    def test_a_test_set_that_does_not_fit(self):
        with pytest.raises(DataError, match=r"own data: shape is \(3,\) in training and \(2,\) in test images"):
            Dataset.from_arrays(X, Y, scale=(-5, 5), test=(X[:, :2], Y))
        with pytest.raises(DataError, match=r"items of shape \(2,\); this scale is of items of shape \(3,\)"):
            Dataset.from_arrays(X, Y, scale="features", test=(X[:, :2], Y))
        with pytest.raises(TypeError, match=r"test is a ndarray; give \(x_test, y_test\)"):
            Dataset.from_arrays(X, Y, scale=(-5, 5), test=X)

    def test_planes_are_images_of_one_channel(self):
        data = Dataset.from_arrays(np.zeros((10, 5, 6), np.uint8), np.arange(10) % 2)
        assert data.train.shape == (1, 5, 6)

    @pytest.mark.parametrize(
        ("x", "y", "error", "says"),
        [
            (X, Y, TypeError, r"float64, from -2.* to 2.*;.*scale=\(low, high\)"),
            (np.where(np.arange(3) == 1, np.nan, X), Y, DataError, "NaN in 40 of 40 rows, first in row 0: fill"),
            (
                np.where(np.arange(40)[:, None] == 7, np.inf, X),
                Y,
                DataError,
                "infinity in 1 of 40 rows, first in row 7",
            ),
            (X, None, DataError, "no labels; give y"),
            (X, np.where(Y == 2, np.nan, Y), DataError, "10 of 40 images have no label, first image 2"),
            (X, np.where(Y == 2, None, Y), DataError, "10 of 40 images have no label, first image 2"),
            (X, np.where(Y == 2, None, "a"), DataError, "10 of 40 images have no label, first image 2"),
            (X, Y - 1, DataError, "negative labels, down to -1.*without label"),
            (X, Y[1:], DataError, "40 images but 39 labels"),
            (X[:0], Y[:0], DataError, "no images"),
            (X.astype(str), Y, DataError, "holds text, not numbers"),
            (X + 0j, Y, DataError, "not numbers"),
        ],
    )
    def test_refuses(self, x, y, error, says):
        scale = None if error is TypeError else (-5, 5)
        with pytest.raises(error, match=says):
            Dataset.from_arrays(x, y, scale=scale, test=(X, Y))

    @pytest.mark.parametrize("scale", ["features", "all"])
    def test_nan_is_found_before_a_scale_is_made_of_it(self, scale):
        with pytest.raises(DataError, match="NaN in 1 of 1 rows"):
            Dataset.from_arrays([[np.nan]], [0], scale=scale)


class Pairs(torch.utils.data.Dataset):
    """Map-style, without an end: indices beyond its length are answered too."""

    def __init__(self, give):
        self.give = give

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return self.give(index % 40)


class Flow(IterableDataset):
    def __iter__(self):
        return ((x, int(y)) for x, y in zip(X, Y, strict=True))


def doubled(batch):
    x, y = zip(*batch, strict=True)
    return torch.stack(x) * 2, torch.stack(y)


TENSORS = TensorDataset(torch.from_numpy(X).float(), torch.from_numpy(Y).to(torch.int32))
WANT = Scale(-4, 4)(X.astype(np.float32))


class TestTorch:
    @pytest.mark.parametrize(
        "source",
        [
            TENSORS,
            DataLoader(TENSORS, batch_size=7, shuffle=True),
            Subset(TENSORS, range(40)),
            Pairs(lambda i: (torch.tensor(X[i]).float(), torch.tensor(Y[i]))),
            Pairs(lambda i: (X[i].astype(np.float32), float(Y[i]), "task")),
            Flow(),
            DataLoader(Flow(), batch_size=9),
            list(TENSORS),
        ],
        ids=["tensors", "loader", "subset", "map", "triples", "iterable", "iterable loader", "list of items"],
    )
    def test_every_kind_gives_the_same(self, source):
        data = Dataset.from_torch(source, test=TENSORS, scale=(-4, 4))
        assert np.array_equal(data.train.x.numpy(), WANT)
        assert data.train.y.tolist() == Y.tolist()
        assert np.array_equal(data.test.x.numpy(), WANT)

    def test_a_generator(self):
        data = Dataset.from_torch(((x, y) for x, y in zip(X, Y, strict=True)), scale=(-4, 4), test=TENSORS)
        assert np.array_equal(data.train.x.numpy(), Scale(-4, 4)(X))

    def test_a_loader_that_collates_in_its_own_way_is_asked(self):
        data = Dataset.from_torch(DataLoader(TENSORS, batch_size=9, collate_fn=doubled), test=TENSORS, scale=(-4, 4))
        assert np.array_equal(data.train.x.numpy(), Scale(-4, 4)(X.astype(np.float32) * 2))

    def test_images_of_pil_have_their_channels_first(self):
        image = pytest.importorskip("PIL.Image")
        pixels = RNG.integers(0, 256, (40, 5, 6, 3), dtype=np.uint8)
        data = Dataset.from_torch(Pairs(lambda i: (image.fromarray(pixels[i]), int(Y[i]))), held_out=0.5)
        assert data.train.shape == (3, 5, 6)
        want = {image.transpose(2, 0, 1).tobytes() for image in pixels}
        assert {image.numpy().tobytes() for image in data.train.x} <= want
        grey = Dataset.from_torch(Pairs(lambda i: (image.fromarray(pixels[i, ..., 0]), int(Y[i]))))
        assert grey.train.shape == (1, 5, 6)

    @pytest.mark.parametrize(
        ("source", "says"),
        [
            (TensorDataset(torch.zeros(3, 2)), "has no labels; give TensorDataset"),
            (Pairs(lambda i: torch.zeros(3)), "an item is a Tensor"),
            (Pairs(lambda i: {"image": 0, "label": 1}), r"an item is a dict of image, label.*give items \(x, y\)"),
            (Pairs(lambda i: (torch.zeros(1 + i % 2), 0)), "images differ in shape"),
            (Subset(TENSORS, []), "there are no images"),
        ],
    )
    def test_refuses(self, source, says):
        with pytest.raises(DataError, match=says):
            Dataset.from_torch(source, scale=(0, 1))

    def test_real_numbers_without_a_scale_are_refused_before_all_are_read(self):
        read = []

        def give(index):
            read.append(index)
            return torch.from_numpy(X[index]).float(), int(Y[index])

        for source in (Pairs(give), DataLoader(Pairs(give), batch_size=8)):
            with pytest.raises(TypeError, match=r"float32, from .*Dataset.from_torch\(data, scale="):
                Dataset.from_torch(source)
        assert read == [0, 0]

    def test_a_data_module_of_lightning_names_its_loaders(self):
        module = SimpleNamespace(train_dataloader=lambda: DataLoader(TENSORS))
        with pytest.raises(
            TypeError, match=r"Dataset.from_torch\(module.train_dataloader\(\), test=module.test_dataloader"
        ):
            scenario_of(module)


class TestFrames:
    def test_columns_are_scaled_by_their_own_range(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"kind": list("abab"), "mass": [1.0, 2, 3, 5], "legs": [2, 4, 4, 6]})
        data = Dataset.from_pandas(frame, "kind", test=frame[:1])
        assert data.train.x.tolist() == [[0, 0], [64, 128], [128, 128], [255, 255]]
        assert data.test.x.tolist() == [[0, 0]]
        assert data.class_names == ("a", "b")

    def test_columns_are_taken_by_name(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"kind": list("abab"), "mass": [1.0, 2, 3, 5], "legs": [2, 4, 4, 6]})
        data = Dataset.from_pandas(frame, "kind", test=frame[["legs", "kind", "mass"]])
        assert data.test.x.tolist() == data.train.x.tolist()
        assert data.scale(frame[["legs", "mass"]]).tolist() == data.train.x.tolist()
        with pytest.raises(DataError, match="missing legs, not known arms"):
            Dataset.from_pandas(frame, "kind", test=frame.rename(columns={"legs": "arms"}))
        with pytest.raises(DataError, match="missing mass, not known none"):
            data.scale(frame[["legs"]])

    def test_columns_that_may_be_missing(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"kind": pandas.array([0, 1, 1], "Int64"), "n": pandas.array([1, 2, 3], "Int64")})
        assert Dataset.from_pandas(frame, "kind", test=frame).train.x.tolist() == [[0], [128], [255]]
        frame.loc[1, "kind"] = pandas.NA
        with pytest.raises(DataError, match="1 of 3 images have no label, first image 1"):
            Dataset.from_pandas(frame, "kind")
        frame.loc[0, "n"] = pandas.NA
        with pytest.raises(DataError, match="NaN in 1 of 3 rows, first in row 0"):
            Dataset.from_pandas(frame, "kind")

    def test_refuses(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"kind": [0, 1], "name": ["x", "y"], "mass": [1.0, None]})
        with pytest.raises(DataError, match="no column 'class'; there are kind, name, mass"):
            Dataset.from_pandas(frame, "class")
        with pytest.raises(DataError, match=r"columns name hold no numbers: pandas\.get_dummies"):
            Dataset.from_pandas(frame, "kind")
        with pytest.raises(DataError, match="NaN in 1 of 2 rows, first in row 1"):
            Dataset.from_pandas(frame.drop(columns="name"), "kind")
        with pytest.raises(TypeError, match=r'Dataset.from_pandas\(frame, "label"\)'):
            scenario_of(frame)


def benchmark(*labels, tests=None, seed=0):
    """With an experience per list of labels, as Avalanche has them: items (x, y, task label)."""
    rng = np.random.default_rng(seed)

    def stream(groups):
        for task, group in enumerate(groups):
            y = torch.tensor(list(group) * 3)
            x = torch.from_numpy(rng.random((len(y), 1, 2, 2)))
            yield SimpleNamespace(dataset=TensorDataset(x, y, torch.full_like(y, task)))

    return SimpleNamespace(train_stream=list(stream(labels)), test_stream=list(stream(tests or labels)))


class TestAvalanche:
    def test_classes_numbered_over_all_experiences_share_a_readout(self):
        scenario = from_avalanche(benchmark((0, 1), (2, 3)), scale=(0, 1))
        assert [part.y.unique().tolist() for part in scenario.train] == [[0, 1], [2, 3]]
        assert (scenario.classes, scenario.task_of, scenario.heads) == (4, (0, 1), None)
        assert from_avalanche(benchmark((0, 1), (2, 3)), scale=(0, 1), head="task").heads == ((0, 1), (2, 3))

    def test_classes_numbered_in_each_experience_need_a_head(self):
        own = benchmark((0, 1, 2), (0, 1))
        with pytest.raises(ValueError, match=r"classes \[0, 1, 2\] and \[0, 1\]: declare a head"):
            from_avalanche(own, scale=(0, 1))
        scenario = from_avalanche(own, scale=(0, 1), head="task")
        assert [test.y.unique().tolist() for test in scenario.tests] == [[0, 1, 2], [3, 4]]
        assert scenario.heads == ((0, 1, 2), (3, 4))
        assert from_avalanche(own, scale=(0, 1), head="class").heads is None

    def test_the_same_classes_in_each_experience_are_one_readout(self):
        scenario = from_avalanche(benchmark((0, 1), (0, 1), tests=[(0, 1)]), scale=(0, 1))
        assert (scenario.classes, scenario.task_of, len(scenario.tests)) == (2, (0, 0), 1)

    def test_streams_that_do_not_fit(self):
        with pytest.raises(DataError, match="3 experiences to learn and 2 to test"):
            from_avalanche(benchmark((0,), (1,), (2,), tests=[(0,), (1,)]), scale=(0, 1))

    def test_all_of_it_as_one_data_set(self):
        made = benchmark((0, 1), (2,))
        data = Dataset.from_avalanche(made, scale=(0, 1))
        assert (len(data.train), data.train.classes) == (9, 3)
        with pytest.raises(TypeError, match=r"lava_meta.from_avalanche\(benchmark\)"):
            Dataset.from_torch(made)


class TestGiven:
    def test_what_makes_a_scenario(self):
        data = Dataset.from_arrays(X, Y, scale="all")
        for given, tests in (
            (data, 1),
            ([data, data], 2),
            ((data, data, data), 3),
            (TensorDataset(torch.zeros(10, 2, dtype=torch.uint8), torch.arange(10) % 2), 1),
            ((np.zeros((10, 2), int), np.arange(10) % 2), 1),
            (Images(np.zeros((10, 2), np.uint8), np.arange(10) % 2), 1),
            ([(np.zeros(2, int), np.int64(n % 2)) for n in range(10)], 1),
            (((np.zeros(2, int), n % 2) for n in range(10)), 1),
            (benchmark((0, 1), (0, 1)), 2),
        ):
            if hasattr(given, "train_stream"):
                with pytest.raises(TypeError, match="scale"):
                    scenario_of(given)
            else:
                assert len(scenario_of(given).tests) == tests
        scenario = scenario_of(data)
        assert scenario_of(scenario) is scenario

    @pytest.mark.parametrize(
        ("given", "says"),
        [(X, r"give \(x, y\)"), (torch.zeros(3), r"give \(x, y\)"), (3, "int is no data set"), (None, "NoneType")],
    )
    def test_what_does_not(self, given, says):
        with pytest.raises(TypeError, match=says):
            scenario_of(given)


def test_labels_that_are_names_rather_than_numbers_of_classes_are_refused():
    with pytest.raises(DataError, match="labels go up to 1000000001 for 100 images"):
        Dataset.from_arrays(np.zeros((100, 3), np.uint8), np.arange(100) % 2 + 10**9)
