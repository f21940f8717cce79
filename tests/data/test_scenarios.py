"""Scenarios: what is learned in which order, from one seed."""

import json

import numpy as np
import pytest
import torch

from lava_meta.data import Dataset, Images, load_dataset
from lava_meta.data.scenarios import (
    Scenario,
    dataset_sequence,
    datasets_of,
    one_experience,
    permuted_tasks,
    rebuild,
    split_classes,
    stream_of_subsets,
)


def some_data(name="some", n=60, shape=(1, 4, 4), classes=6, max_level=255, seed=0):
    g = torch.Generator().manual_seed(seed)

    def images(count, kind):
        x = torch.randint(0, max_level + 1, (count, *shape), generator=g, dtype=torch.uint8)
        return Images(x, torch.arange(count) % classes, f"{name} {kind}", classes, max_level)

    return Dataset(name, images(n, "train"), images(n // 2, "test"))


def flat(images):
    return images.x.numpy().reshape(len(images), -1)


class TestPermuted:
    def test_train_and_test_share_the_permutation(self):
        data = some_data()
        scenario = permuted_tasks(data, 3, seed=1)
        assert scenario.task_of == (0, 1, 2)
        for part, test in zip(scenario.train, scenario.tests, strict=True):
            # Columns are pixels: the same reordering of columns must explain both.
            order = [int(np.flatnonzero((column == flat(data.train).T).all(axis=1))[0]) for column in flat(part).T]
            assert sorted(order) == list(range(16))
            assert np.array_equal(flat(test), flat(data.test)[:, order])
            assert torch.equal(part.y, data.train.y)

    def test_tasks_differ(self):
        scenario = permuted_tasks(some_data(), 3, seed=1)
        assert len({part.x.numpy().tobytes() for part in scenario.train}) == 3

    def test_a_permutation_does_not_depend_on_the_number_of_tasks(self):
        few, many = permuted_tasks(some_data(), 2, seed=7), permuted_tasks(some_data(), 9, seed=7)
        assert all(torch.equal(few.train[i].x, many.train[i].x) for i in range(2))
        assert all(torch.equal(few.tests[i].x, many.tests[i].x) for i in range(2))

    def test_the_seed_alone_decides(self):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 (the state that must not matter)
        one = permuted_tasks(some_data(), 2, seed=3)
        torch.manual_seed(9)
        np.random.seed(9)  # noqa: NPY002
        assert torch.equal(one.train[1].x, permuted_tasks(some_data(), 2, seed=3).train[1].x)
        assert not torch.equal(one.train[1].x, permuted_tasks(some_data(), 2, seed=4).train[1].x)

    def test_first_identity(self):
        data = some_data()
        scenario = permuted_tasks(data, 2, seed=0, first_identity=True)
        assert torch.equal(scenario.train[0].x, data.train.x)
        assert not torch.equal(scenario.train[1].x, data.train.x)
        assert torch.equal(scenario.train[1].x, permuted_tasks(data, 2, seed=0).train[1].x)

    def test_parts_behave_as_a_sequence(self):
        parts = permuted_tasks(some_data(), 4, seed=0).train
        assert len(parts) == 4
        assert torch.equal(parts[-1].x, parts[3].x)
        assert [p.name for p in parts[1:3]] == [parts[1].name, parts[2].name]
        with pytest.raises(IndexError):
            parts[4]

    @pytest.mark.parametrize(("tasks", "seed"), [(0, 0), (-1, 0), (2, -1)])
    def test_refuses(self, tasks, seed):
        with pytest.raises(ValueError, match=r"tasks|seed"):
            permuted_tasks(some_data(), tasks, seed)


class TestSplit:
    def test_each_group_has_its_classes_and_all_of_them(self):
        data = some_data()
        scenario = split_classes(data, ((0, 1), (4,), (2, 3)))
        assert [sorted(set(part.y.tolist())) for part in scenario.train] == [[0, 1], [4], [2, 3]]
        assert [len(part) for part in scenario.train] == [20, 10, 20]
        assert [len(test) for test in scenario.tests] == [10, 5, 10]
        assert scenario.classes == 6

    @pytest.mark.parametrize(
        ("groups", "says"),
        [
            ((), "at least one"),
            (((0,), ()), "at least one"),
            (((0, 6),), "class 6"),
            (((-1,),), "class -1"),
            (((0, 1), (1, 2)), "class 1 more than once"),
        ],
    )
    def test_refuses(self, groups, says):
        with pytest.raises(ValueError, match=says):
            split_classes(some_data(), groups)


class TestSequence:
    def test_in_order(self):
        a, b = some_data("a", seed=1), some_data("b", seed=2)
        scenario = dataset_sequence([b, a])
        assert scenario.train == (b.train, a.train)
        assert scenario.tests == (b.test, a.test)
        assert scenario.task_of == (0, 1)

    def test_pads_to_one_size(self):
        scenario = dataset_sequence([some_data("small", shape=(1, 2, 2)), some_data("large")], pad_to=(4, 4))
        assert {images.shape for images in (*scenario.train, *scenario.tests)} == {(1, 4, 4)}

    def test_refuses_mixtures(self):
        with pytest.raises(ValueError, match=r"shape.*pad_to"):
            dataset_sequence([some_data(), some_data(shape=(1, 2, 2))])
        with pytest.raises(ValueError, match="classes"):
            dataset_sequence([some_data(), some_data(classes=3)])
        with pytest.raises(ValueError, match="max_level"):
            dataset_sequence([some_data(), some_data(max_level=16)])
        with pytest.raises(ValueError, match="empty"):
            dataset_sequence([])


class TestStream:
    def test_subsets_are_disjoint_and_complete(self):
        data = some_data(n=50)
        scenario = stream_of_subsets(data, 7, seed=0)
        assert [len(part) for part in scenario.train] == [8, 7, 7, 7, 7, 7, 7]
        together = np.concatenate([flat(part) for part in scenario.train])
        assert sorted(map(bytes, together)) == sorted(map(bytes, flat(data.train)))
        assert scenario.task_of == (0,) * 7
        assert scenario.tests == (data.test,)

    def test_the_seed_alone_decides(self):
        first = [stream_of_subsets(some_data(), 3, seed=s).train[0].x for s in (0, 0, 1)]
        assert torch.equal(first[0], first[1])
        assert not torch.equal(first[0], first[2])

    @pytest.mark.parametrize(("subsets", "seed"), [(0, 0), (61, 0), (3, -1)])
    def test_refuses(self, subsets, seed):
        with pytest.raises(ValueError, match=r"subsets|seed"):
            stream_of_subsets(some_data(), subsets, seed)


@pytest.mark.parametrize(
    ("parts", "tests", "task_of"), [(0, 1, ()), (1, 0, (0,)), (2, 1, (0,)), (2, 1, (0, 1)), (1, 1, (-1,))]
)
def test_a_scenario_must_fit_together(parts, tests, task_of):
    data = some_data()
    with pytest.raises(ValueError, match="bad"):
        Scenario("bad", (data.train,) * parts, (data.test,) * tests, task_of)


class TestHeads:
    def data(self):
        return some_data("a", classes=3), some_data("b", classes=2, seed=1)

    def test_data_sets_of_other_classes_need_a_head(self):
        with pytest.raises(ValueError, match=r"classes is 3 for a test, 2 for b test; declare a head"):
            dataset_sequence(self.data())
        with pytest.raises(ValueError, match="head is 'multi'; choose one of 'shared', 'class', 'task'"):
            dataset_sequence(self.data(), head="multi")

    @pytest.mark.parametrize(
        ("head", "labels", "classes", "heads"),
        [
            ("shared", [[0, 1, 2], [0, 1]], 3, None),
            ("class", [[0, 1, 2], [3, 4]], 5, None),
            ("task", [[0, 1, 2], [3, 4]], 5, ((0, 1, 2), (3, 4))),
        ],
    )
    def test_a_head_says_how_labels_count(self, head, labels, classes, heads):
        scenario = dataset_sequence(self.data(), head=head)
        for parts in (scenario.train, scenario.tests):
            assert [part.y.unique().tolist() for part in parts] == labels
            assert {part.classes for part in parts} == {classes}
        assert (scenario.classes, scenario.heads) == (classes, heads)
        assert torch.equal(scenario.train[1].y - labels[1][0], self.data()[1].train.y)

    def test_of_groups_of_classes(self):
        groups = [[0, 1], [5, 4]]
        assert split_classes(some_data(), groups).heads is None
        assert split_classes(some_data(), groups, head="task").heads == ((0, 1), (5, 4))
        with pytest.raises(ValueError, match="head is 'shared'; choose 'class' or 'task'"):
            split_classes(some_data(), groups, head="shared")

    def test_recipes_keep_them(self):
        digits = load_dataset("digits")
        pairs = [(0, 1), (2, 3)]
        for scenario in (
            split_classes(digits, pairs, head="task"),
            dataset_sequence([digits, digits], head="task"),
            one_experience(split_classes(digits, pairs, head="task"), 1),
        ):
            again = rebuild(json.loads(json.dumps(scenario.recipe)))
            assert (again.name, again.heads, again.checksum()) == (scenario.name, scenario.heads, scenario.checksum())
        assert one_experience(split_classes(digits, pairs, head="task"), 1).heads == ((2, 3),)
        assert "head" not in split_classes(digits, pairs).recipe  # as files of earlier versions have it

    def test_a_head_per_test(self):
        data = some_data()
        with pytest.raises(ValueError, match="1 heads for 2 tests"):
            Scenario("bad", [data.train] * 2, [data.test] * 2, (0, 1), heads=((0,),))


class TestHoldOut:
    def test_each_experience_gives_a_share_and_tests_stay(self):
        scenario = permuted_tasks(some_data(), 2, seed=0)
        rest, held = scenario.hold_out(0.2, seed=3)
        assert rest.tests is scenario.tests
        for whole, less, out in zip(scenario.train, rest.train, held, strict=True):
            assert out.y.bincount().tolist() == [2] * 6
            rows = [row.tobytes() for part in (less, out) for row in flat(part)]
            assert sorted(rows) == sorted(row.tobytes() for row in flat(whole))
        assert not torch.equal(held[0].y, held[1].y) or not torch.equal(held[0].x, held[1].x)

    def test_its_recipe(self):
        rest, _ = split_classes(load_dataset("digits"), [(0, 1), (2, 3)]).hold_out(0.2, seed=3)
        again = rebuild(json.loads(json.dumps(rest.recipe)))
        assert torch.equal(again.train[1].x, rest.train[1].x)
        assert datasets_of(rest.recipe) == ["digits"]
