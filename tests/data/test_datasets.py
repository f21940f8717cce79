"""Images, data sets and batches: what they hold, what they refuse, and where they are looked for."""

import bz2
import gzip
import hashlib
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from lava_meta.data import DATASETS, Dataset, Images, load_dataset
from lava_meta.data.datasets import data_folders
from lava_meta.data.images import batches
from lava_meta.errors import DataError


def some_images(n=10, shape=(1, 4, 5), classes=3, seed=0, name="some"):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, *shape), generator=g, dtype=torch.uint8)
    return Images(x, torch.arange(n) % classes, name, classes)


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


def write_mnist(root: Path, train=30, test=10, seed=0) -> None:
    rng = np.random.default_rng(seed)
    for kind, n in (("train", train), ("t10k", test)):
        write_idx(root / f"{kind}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        write_idx(root / f"{kind}-labels-idx1-ubyte", rng.integers(0, 10, n, dtype=np.uint8))


class TestImages:
    def test_statistics_are_those_of_all_pixels(self):
        images = some_images(50)
        levels = images.x.numpy().astype(np.float64)
        assert images.mean_level == pytest.approx(levels.mean(), rel=1e-12)
        assert images.std_level == pytest.approx(levels.std(), rel=1e-12)

    def test_take_keeps_the_order_asked_for(self):
        images = some_images()
        taken = images.take([7, 0, 7])
        assert torch.equal(taken.x, images.x[[7, 0, 7]])
        assert taken.y.tolist() == [1, 0, 1]

    @pytest.mark.parametrize("index", [-1, 10])
    def test_take_refuses_what_is_not_there(self, index):
        with pytest.raises(IndexError, match=r"0\.\.9"):
            some_images().take([index])

    def test_permuted_moves_pixels_and_keeps_the_shape(self):
        images = some_images()
        order = np.random.default_rng(0).permutation(20)
        permuted = images.permuted(order)
        assert permuted.shape == (1, 4, 5)
        flat = images.x.numpy().reshape(10, 20)
        assert np.array_equal(permuted.x.numpy().reshape(10, 20), flat[:, order])
        assert torch.equal(permuted.y, images.y)

    @pytest.mark.parametrize("order", [range(19), [0, *range(19)], range(1, 21)], ids=["short", "twice", "outside"])
    def test_permuted_refuses_what_is_no_permutation(self, order):
        with pytest.raises(ValueError, match="permutation of the 20 pixels"):
            some_images().permuted(np.array(order))

    def test_classes_only_keeps_labels(self):
        part = some_images().classes_only([2, 0])
        assert part.y.tolist() == [0, 2, 0, 2, 0, 2, 0]
        assert part.classes == 3

    @pytest.mark.parametrize("labels", [[3], [], [0, -1]])
    def test_classes_only_refuses_absent_classes(self, labels):
        with pytest.raises(ValueError, match="class"):
            some_images().classes_only(labels)

    def test_padded_centres(self):
        images = some_images(2, (1, 2, 2))
        padded = images.padded(5, 4).x
        assert padded.shape == (2, 1, 5, 4)
        assert torch.equal(padded[:, :, 1:3, 1:3], images.x)
        assert int(padded.sum()) == int(images.x.sum())

    def test_padded_refuses_a_smaller_field(self):
        with pytest.raises(ValueError, match="do not fit"):
            some_images().padded(3, 9)
        with pytest.raises(ValueError, match="flat"):
            some_images(shape=(20,)).padded(30, 30)

    def test_split_is_stratified_disjoint_and_reproducible(self):
        images = some_images(90)
        index = Images(torch.arange(90, dtype=torch.uint8)[:, None], images.y, "index", 3)
        rest, held = index.split(0.2, seed=4)
        assert held.y.bincount().tolist() == [6, 6, 6]
        assert sorted(rest.x.flatten().tolist() + held.x.flatten().tolist()) == list(range(90))
        assert torch.equal(held.x, index.split(0.2, seed=4)[1].x)
        assert not torch.equal(held.x, index.split(0.2, seed=5)[1].x)

    @pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan"), 0.01])
    def test_split_refuses_an_empty_part(self, fraction):
        with pytest.raises(ValueError, match=r"fraction|empty"):
            some_images().split(fraction, seed=0)

    @pytest.mark.parametrize(
        ("changes", "error", "says"),
        [
            ({"x": torch.zeros(10, 4)}, TypeError, "float32"),
            ({"x": np.zeros((10, 4))}, TypeError, r"float64, from 0 to 0;.*from_arrays\(x, y, scale="),
            ({"x": np.full((10, 4), 256)}, DataError, r"from 256 to 256; levels lie in 0..255"),
            ({"x": [["a"]] * 10}, DataError, "holds text, not numbers"),
            ({"y": np.eye(10)}, DataError, r"one class per image, \(n,\): of one-hot rows, y.argmax\(1\)"),
            ({"y": None}, DataError, "there are no labels"),
            ({"y": [0.5] * 10}, DataError, "fractions such as 0.5"),
            ({"y": [1] * 9 + [None]}, DataError, "1 of 10 images have no label, first image 9"),
            ({"y": [np.nan] * 2 + [0.0] * 8}, DataError, "2 of 10 images have no label, first image 0"),
            ({"x": torch.zeros(10, 4, 4, 4, 4, dtype=torch.uint8)}, DataError, "shape"),
            ({"y": torch.zeros(9, dtype=torch.int64)}, DataError, "10 images but 9 labels"),
            (
                {"x": torch.zeros(0, 4, dtype=torch.uint8), "y": torch.zeros(0, dtype=torch.int64)},
                DataError,
                "no images",
            ),
            ({"x": torch.zeros(10, 0, dtype=torch.uint8)}, DataError, "no images"),
            ({"y": torch.full((10,), 3)}, DataError, "0..2"),
            ({"y": torch.full((10,), -1)}, DataError, "-1"),
            ({"max_level": 16}, DataError, "above max_level = 16"),
            ({"max_level": 0, "x": torch.zeros(10, 4, dtype=torch.uint8)}, ValueError, "max_level"),
        ],
    )
    def test_refuses_what_does_not_fit(self, changes, error, says):
        good = some_images()
        fields = {"x": good.x, "y": good.y, "name": "bad", "classes": 3, **changes}
        with pytest.raises(error, match=says):
            Images(**fields)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint16, bool])
    def test_takes_arrays_of_integers(self, dtype):
        x = np.arange(24).reshape(3, 2, 4).astype(dtype)
        for labels in (np.array([0, 2, 1], np.int32), np.array([[0], [2], [1]], np.uint8), torch.tensor([0.0, 2, 1])):
            images = Images(x, labels)
            assert np.array_equal(images.x.numpy(), x[:, None].astype(np.uint8))
            assert (images.shape, images.classes, images.y.tolist()) == ((1, 2, 4), 3, [0, 2, 1])

    def test_a_dataset_is_of_one_kind(self):
        with pytest.raises(DataError, match="shape"):
            Dataset("bad", some_images(), some_images(shape=(20,)))


class TestBatches:
    def test_every_image_once_last_batch_kept(self):
        images = some_images(23)
        pieces = list(batches(images, 5, torch.Generator().manual_seed(0)))
        assert [len(y) for _, y in pieces] == [5, 5, 5, 5, 3]
        seen = torch.cat([x for x, _ in pieces]).reshape(23, -1)
        assert sorted(seen.tolist()) == sorted(images.x.reshape(23, -1).tolist())
        assert pieces[0][0].dtype == torch.uint8

    def test_labels_stay_with_their_images(self):
        images = Images(torch.arange(60, dtype=torch.uint8)[:, None], torch.arange(60) % 7, "pairs", 7)
        for x, y in batches(images, 8, torch.Generator().manual_seed(3)):
            assert torch.equal(x[:, 0] % 7, y)

    def test_the_generator_alone_decides_the_order(self):
        images = some_images(40)
        orders = []
        for noise in (0, 1):
            torch.manual_seed(noise)
            orders.append(torch.cat([x for x, _ in batches(images, 7, torch.Generator().manual_seed(5))]))
        assert torch.equal(*orders)

    def test_refuses_an_empty_batch(self):
        with pytest.raises(ValueError, match="batch_size"):
            list(batches(some_images(), 0, torch.Generator()))


class TestLoading:
    def test_digits_are_scikit_learns(self):
        from sklearn.datasets import load_digits

        digits = load_dataset("digits")
        assert (len(digits.train), len(digits.test)) == (1437, 360)
        assert digits.train.shape == (1, 8, 8)
        assert digits.train.max_level == 16
        both = torch.cat([digits.train.x, digits.test.x]).reshape(-1, 64).tolist()
        labels = torch.cat([digits.train.y, digits.test.y]).tolist()
        source = load_digits()
        want = zip(source.data.astype(int).tolist(), source.target.tolist(), strict=True)
        assert sorted(zip(both, labels, strict=True)) == sorted(want)

    def test_digits_split_keeps_class_shares(self):
        test = load_dataset("digits").test.y.bincount()
        assert int(test.min()) >= 35
        assert int(test.max()) <= 37

    def test_hold_out_uses_training_images_only(self):
        digits = load_dataset("digits")
        held = digits.hold_out(0.25, seed=0)
        assert len(held.train) + len(held.test) == len(digits.train)
        train = {tuple(row) for row in digits.train.x.reshape(-1, 64).tolist()}
        assert {tuple(row) for row in held.test.x.reshape(-1, 64).tolist()} <= train

    def test_unknown_name(self):
        with pytest.raises(ValueError, match="digits, mnist, fashion-mnist, usps, cifar10, cifar100"):
            load_dataset("mnits")

    @pytest.mark.parametrize("name", DATASETS[1:])
    def test_missing_names_the_places_and_the_remedy(self, name, tmp_path):
        with pytest.raises(DataError, match=r"LAVA_META_DATA.*download=True") as caught:
            load_dataset(name, tmp_path / "nowhere")
        assert str(tmp_path / "nowhere") in str(caught.value)

    @pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
    def test_idx_files_as_torchvision_reads_them(self, name, tmp_path):
        folder = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name]
        write_mnist(tmp_path / folder / "raw")
        ours = load_dataset(name, tmp_path)
        datasets = pytest.importorskip("torchvision.datasets")
        for images, is_train in ((ours.train, True), (ours.test, False)):
            theirs = getattr(datasets, folder)(tmp_path, train=is_train)
            assert torch.equal(images.x[:, 0], theirs.data)
            assert torch.equal(images.y, theirs.targets)

    def test_usps_from_either_file(self, tmp_path):
        rng = np.random.default_rng(0)
        x, y = rng.integers(0, 256, (12, 16, 16), dtype=np.uint8), rng.integers(0, 10, 12, dtype=np.uint8)
        (tmp_path / "a" / "USPS").mkdir(parents=True)
        np.savez(tmp_path / "a" / "USPS" / "usps.npz", x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])
        ours = load_dataset("usps", tmp_path / "a")
        assert np.array_equal(ours.train.x[:, 0].numpy(), x)
        assert ours.test.y.tolist() == y[:5].tolist()

        pytest.importorskip("torchvision")
        (tmp_path / "b" / "USPS").mkdir(parents=True)
        lines = [
            f"{label + 1} " + " ".join(f"{i + 1}:{level / 255 * 2 - 1:.6f}" for i, level in enumerate(image.flatten()))
            for image, label in zip(x.astype(float), y, strict=True)
        ]
        for file in ("usps.bz2", "usps.t.bz2"):
            (tmp_path / "b" / "USPS" / file).write_bytes(bz2.compress(("\n".join(lines) + "\n").encode()))
        theirs = load_dataset("usps", tmp_path / "b")
        assert theirs.train.y.tolist() == y.tolist()
        assert np.abs(theirs.train.x[:, 0].numpy().astype(int) - x).max() <= 1  # torchvision rounds down

    def test_cifar_as_torchvision_reads_it(self, tmp_path, monkeypatch):
        """torchvision's own reader on files of our making, whose checksums it is told."""
        datasets = pytest.importorskip("torchvision.datasets")
        rng = np.random.default_rng(0)
        root = tmp_path / "cifar-100-python"
        root.mkdir()
        sums = {}
        for file, count in (("train", 7), ("test", 4)):
            x, y = rng.integers(0, 256, (count, 3072), dtype=np.uint8), rng.integers(0, 100, count).tolist()
            content = pickle.dumps({"data": x, "fine_labels": y, "coarse_labels": y})
            (root / file).write_bytes(content)
            sums[file] = (x, y, hashlib.md5(content).hexdigest())
        names = pickle.dumps({"fine_label_names": [str(i) for i in range(100)]})
        (root / "meta").write_bytes(names)
        with pytest.raises(DataError, match=r"cifar100: the files in .* cannot be read"):
            load_dataset("cifar100", tmp_path)  # not the published files
        monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", sums["train"][2]]])
        monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", sums["test"][2]]])
        meta = {**datasets.CIFAR100.meta, "md5": hashlib.md5(names).hexdigest()}
        monkeypatch.setattr(datasets.CIFAR100, "meta", meta)
        ours = load_dataset("cifar100", tmp_path)
        assert ours.train.classes == 100
        for images, file in ((ours.train, "train"), (ours.test, "test")):
            assert np.array_equal(images.x.numpy().reshape(-1, 3072), sums[file][0])
            assert images.shape == (3, 32, 32)
            assert images.y.tolist() == sums[file][1]

    def test_the_environment_comes_first_then_the_cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("LAVA_META_DATA", str(tmp_path / "given"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        assert data_folders()[0] == tmp_path / "given"
        assert data_folders()[-1] == tmp_path / "cache" / "lava_meta"
        write_mnist(tmp_path / "given" / "MNIST" / "raw", train=7)
        assert len(load_dataset("mnist").train) == 7

    @pytest.mark.parametrize("damage", ["truncated", "gzipped", "labels", "empty"])
    def test_broken_files_are_named(self, damage, tmp_path):
        raw = tmp_path / "MNIST" / "raw"
        write_mnist(raw)
        images, labels = raw / "train-images-idx3-ubyte", raw / "train-labels-idx1-ubyte"
        if damage == "truncated":
            images.write_bytes(images.read_bytes()[:-100])
        elif damage == "gzipped":
            images.write_bytes(gzip.compress(images.read_bytes()))
        elif damage == "labels":
            write_idx(labels, np.zeros(29, np.uint8))
        else:
            labels.write_bytes(b"")
        with pytest.raises(DataError, match=r"train-images|train-labels|29 labels"):
            load_dataset("mnist", tmp_path)

    @pytest.mark.parametrize("damage", ["not a zip", "truncated", "array missing", "pickled"])
    def test_a_broken_usps_file_is_refused(self, damage, tmp_path):
        file = tmp_path / "USPS" / "usps.npz"
        file.parent.mkdir()
        x, y = np.zeros((3, 16, 16), np.uint8), np.zeros(3, np.uint8)
        arrays = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
        if damage == "array missing":
            del arrays["y_test"]
        if damage == "pickled":
            arrays["x_train"] = np.array([{}], dtype=object)
        np.savez(file, **arrays)
        if damage == "not a zip":
            file.write_bytes(b"not a zip")
        if damage == "truncated":
            file.write_bytes(file.read_bytes()[:200])
        with pytest.raises(DataError, match="usps"):
            load_dataset("usps", tmp_path)

    def test_a_download_that_fails_says_so(self, tmp_path, monkeypatch):
        datasets = pytest.importorskip("torchvision.datasets")

        def offline(*args, **kwargs):
            raise RuntimeError("no route to host")

        monkeypatch.setattr(datasets, "MNIST", offline)
        with pytest.raises(DataError, match="no route to host"):
            load_dataset("mnist", tmp_path, download=True)

    def test_a_download_is_read(self, tmp_path, monkeypatch):
        datasets = pytest.importorskip("torchvision.datasets")
        write_mnist(tmp_path / "source", train=9)

        def fetch(root, download):
            assert download
            shutil.copytree(tmp_path / "source", Path(root) / "MNIST" / "raw")

        monkeypatch.setattr(datasets, "MNIST", fetch)
        assert len(load_dataset("mnist", tmp_path / "new", download=True).train) == 9


@pytest.mark.parametrize(("name", "sizes", "mean"), [("mnist", (60000, 10000), 33.3), ("usps", (7291, 2007), 64.9)])
def test_the_real_data_sets(name, sizes, mean):
    try:
        data = load_dataset(name)
    except DataError as error:
        pytest.skip(str(error))
    assert (len(data.train), len(data.test)) == sizes
    assert data.train.mean_level == pytest.approx(mean, abs=0.05)
