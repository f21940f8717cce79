"""Values in order, and values at places that are values: sorts, winners, codes, tables, fixed grids."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from values import FED, MAP, Call, converts, equals_float64

import lava_meta
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryConv2d


@pytest.mark.parametrize("norm", [True, False])  # many are equal without
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.topk(4, 1).values,
        lambda x: x.topk(3, 1, largest=False).values,
        lambda x: x * (x >= x.topk(4, 1).values[:, -1:]),
        lambda x: x.sort(dim=1, descending=True).values,
        lambda x: x.sort(dim=1, stable=True).indices.to(x.dtype),
        lambda x: x.sort(dim=1, stable=True, descending=True).indices.to(x.dtype),
        lambda x: x.view(-1, 3, 4).median(1).values,
        lambda x: x - x.median(1, keepdim=True).values,
        lambda x: x.kthvalue(5, 1, keepdim=True).values - x,
        lambda x: x - x.quantile(0.3, 1, keepdim=True),
        lambda x: x.cummax(1).values + x.cummin(1).values,
        lambda x: F.one_hot(x.view(-1, 3, 4).argmin(2), 4).to(x.dtype),
        lambda x: torch.zeros_like(x).scatter(1, x.max(1, keepdim=True).indices, 1.0),
        lambda x: x.view(-1, 3, 4).gather(2, x.view(-1, 3, 4).abs().argmax(2, keepdim=True)),
    ],
)
def test_values_of_a_row_in_order(function: Any, norm: bool) -> None:
    converts(function, norm=norm)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.zeros_like(x).scatter(1, x.topk(4, 1).indices, 1.0),
        lambda x: torch.zeros_like(x).scatter(1, x.topk(4, 1).indices, x.topk(4, 1).values),
        lambda x: x.scatter(1, x.argsort(1)[:, :3], -x[:, :3]),
        lambda x: x.argsort(1).to(x.dtype),
    ],
)
def test_places_of_values_in_order(function: Any) -> None:
    converts(function)
    with pytest.raises(ConversionError, match=r"places of values that may be equal.*stable=True"):
        converts(function, norm=False)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.topk(3, 1, sorted=False).values, "sorted=False leaves open: use sorted=True"),
        (lambda x: x.scatter(1, INDEX[:1].expand(len(x), 1), x[:, :1], reduce="multiply"), "with a reduction: use"),
        (lambda x: x.scatter_reduce(1, x.argmax(1, keepdim=True), x, "amax"), "reduces values at places that depend"),
    ],
)
def test_orders_that_are_open_and_reductions_are_refused(function: Any, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        converts(function)


def rows(x: Tensor) -> Tensor:
    return torch.arange(len(x)).view(-1, 1)


def put(x: Tensor, places: Any, values: Any) -> Tensor:
    found = x.clone()
    found[places] = values
    return found


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * put(torch.zeros_like(x), (rows(x), x.topk(4, 1).indices), 1.0),
        lambda x: put(x, (rows(x), x.topk(4, 1).indices), torch.sign(x[:, :4])),
        lambda x: put(x, (rows(x), x.topk(2, 1).indices), torch.tensor([3.0, -2.0])),
        lambda x: put(torch.zeros_like(x), (torch.arange(len(x)), x.argmax(1)), 1.0),
        lambda x: put(x.view(-1, 4), (rows(x.view(-1, 4)), x.view(-1, 4).abs().topk(2, 1).indices), 0.0).view(-1, 12),
        lambda x: put(x.view(-1, 4, 3), (rows(x), x.view(-1, 4, 3).sum(2).topk(2, 1).indices), 0.5).flatten(1),
        lambda x: put(x.view(-1, 4, 3), (rows(x), x.view(-1, 4, 3).sum(2).topk(1, 1).indices), x[:, None, 3:6]),
    ],
)
def test_writing_at_places_of_each_row(function: Any) -> None:
    converts(function)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: put(x, (torch.arange(len(x)).flip(0), x.argmax(1)), 0.0), "of other rows than their own"),
        (lambda x: put(x.view(-1, 3, 4), (slice(None), x[:, :3].argmax(1), x[:, :4].argmin(1)), 0.0), "several dimens"),
        (lambda x: put(x, (torch.arange(len(x)), x.argmax(1) - 1), 0.0), "may be below 0"),
        (lambda x: x.index_put((torch.arange(len(x)), x.argmax(1)), x[:, 0], accumulate=True), "use torch.scatter_add"),
    ],
)
def test_writing_at_places_of_other_rows_is_refused(function: Any, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        converts(function)


def test_winners_among_channels() -> None:
    converts(lambda x: x * (x >= x.topk(2, 1).values[:, -1:]), MAP)


def test_many_values_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4000), Call(lambda x: x.topk(8, 1).values), nn.Linear(8, 2)).eval()
    with pytest.raises(ConversionError, match=r"puts 4000 values in order.*are supported"):
        lava_meta.convert(model, input_shape=(4,), **FED)


class Codes(nn.Module):
    """The nearest of some vectors, straight through; written in the ways of published code."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.table, self.how = nn.Embedding(5, 4), how

    def forward(self, x: Tensor) -> Tensor:
        z, e = x.reshape(-1, 4), self.table.weight
        if self.how == "cdist":
            near = torch.cdist(z, e).argmin(1)
        elif self.how == "differences":
            near = (z.unsqueeze(1) - e).pow(2).sum(-1).argmin(1)
        else:
            near = (z.pow(2).sum(1, keepdim=True) + e.pow(2).sum(1) - 2 * z @ e.t()).argmin(1)
        if self.how == "bits":
            bits = torch.zeros(len(near), 5, dtype=x.dtype)
            bits.scatter_(1, near.unsqueeze(1), 1)
            found = bits @ e
        else:
            found = e[near] if self.how == "cdist" else self.table(near)
        return x + (found.view_as(x) - x).detach()


@pytest.mark.parametrize("how", ["cdist", "differences", "product", "bits"])
def test_nearest_codes(how: str) -> None:
    converts(Codes(how))


class Rows(nn.Module):
    """Rows of a table by the number of the nearest, in other ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.table, self.how = nn.Parameter(torch.randn(5, 4)), how

    def forward(self, x: Tensor) -> Tensor:
        z, e = x.view(-1, 3, 4), self.table
        near = torch.cdist(z, e.expand(len(z), -1, -1)).argmin(2)
        if self.how == "index_select":
            return e.index_select(0, near.flatten()).view_as(z)
        number = near.unsqueeze(2) * 4 + torch.arange(4)  # of an element
        return e.take(number) if self.how == "take" else e.flatten()[number]


class Tables(nn.Module):
    """Columns of tables at bits read as a number; a convolution over time first."""

    def __init__(self) -> None:
        super().__init__()
        self.tables, self.weight = nn.Parameter(torch.randn(3, 16)), nn.Parameter(torch.randn(3, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        bits = (x.view(-1, 3, 4) > 0).to(x.dtype)
        number = (bits * torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=x.dtype)).sum(2).long()
        rows = torch.stack([self.tables[:, number[:, i]].T for i in range(3)], 1)
        return torch.conv_tbc(rows.transpose(0, 1).contiguous(), self.weight, self.weight[0, 0], 1).transpose(0, 1)


def test_columns_of_tables_and_time_first() -> None:
    converts(Tables())


@pytest.mark.parametrize("how", ["index_select", "take", "elements"])
def test_rows_of_a_table(how: str) -> None:
    converts(Rows(how))


def images_on_one_axis(points: Tensor, near: Tensor) -> Tensor:
    images, count, _ = points.shape
    rows = (near + torch.arange(images).view(-1, 1, 1) * count).view(-1)
    return points.reshape(images * count, -1)[rows, :].view(images, count, 3, -1)


def images_by_number(points: Tensor, near: Tensor) -> Tensor:
    return points[torch.arange(len(points)).view(-1, 1, 1).expand_as(near), near]


def features_between(points: Tensor, near: Tensor) -> Tensor:
    return points.transpose(1, 2)[torch.arange(len(points)).view(-1, 1, 1), :, near]


def one_by_one(points: Tensor, near: Tensor) -> Tensor:
    return torch.stack([points[i][near[i]] for i in range(len(points))])


def looked_up(points: Tensor, near: Tensor) -> Tensor:
    wide = points.unsqueeze(1).expand(-1, points.shape[1], -1, -1)
    return wide.gather(2, near.unsqueeze(-1).expand(-1, -1, -1, points.shape[2]))


class Edges(nn.Module):
    """The points of a cloud beside those that are nearest to them, as of a graph that each layer makes anew."""

    def __init__(self, taken: Any) -> None:
        super().__init__()
        self.taken, self.layer, self.last = taken, nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        points = x.transpose(1, 2).contiguous()
        near = torch.cdist(points, points).topk(3, dim=-1, largest=False).indices
        own = points.unsqueeze(2).expand(-1, -1, 3, -1)
        edges = torch.cat([self.taken(points, near) - own, own], dim=-1)
        values: Tensor = self.last(torch.sign(self.layer(edges)).amax(2).mean(1))
        return values


@pytest.mark.parametrize("taken", [images_on_one_axis, images_by_number, features_between, one_by_one, looked_up])
def test_nearest_points(taken: Any) -> None:
    """Of the check's images many points are the same: which of them is nearer, PyTorch leaves open."""
    torch.manual_seed(0)
    net = equals_float64(Edges(taken).eval(), (3, 7))
    assert net.parity is not None
    assert sum(net.parity.ties.values()) > 10


def test_places_that_may_be_below_0_are_refused() -> None:
    def before(x: Tensor) -> Tensor:
        points = x.view(-1, 3, 4)
        return points[torch.arange(len(x)).view(-1, 1), points[:, :, 0].argmin(1, keepdim=True) - 1]

    with pytest.raises(ConversionError, match="at places that depend on the image and may be below 0"):
        converts(before)


INDEX = torch.tensor([3, 1, 7, 7, 0])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.gather(1, INDEX.expand(len(x), 5)),
        lambda x: torch.take_along_dim(x, INDEX[None], 1),
        lambda x: x.scatter(1, INDEX[:3].expand(len(x), 3), x[:, 4:7]),
        lambda x: torch.zeros(len(x), 14, dtype=x.dtype).scatter(1, torch.arange(12).expand(len(x), 12) + 1, x),
        lambda x: x.scatter(1, INDEX[:2].expand(len(x), 2), 0.25),
        lambda x: torch.ones(len(x), 15, dtype=x.dtype).index_copy(1, torch.arange(12) + 2, x),
        lambda x: x.index_fill(1, INDEX[:3], 0.5),
        lambda x: written(x, INDEX[:3]),
        lambda x: x.view(-1, 3, 4).tril() + 2 * x.view(-1, 3, 4).triu(1),
        lambda x: torch.diag_embed(x[:, :4]),
    ],
)
def test_fixed_places(function: Any) -> None:
    converts(function)


PARTS = torch.tensor([0, 1, 1, 3, 0, 1, 4, 4, 3, 0, 0, 1])  # none is 2


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("how", ["sum", "mean", "prod", "amax", "amin"])
def test_parts_of_a_row_as_one(how: str, own: bool) -> None:
    def reduced(x: Tensor) -> Tensor:
        return torch.full((len(x), 5), 0.25).to(x).scatter_reduce(1, PARTS.expand(len(x), 12), x, how, include_self=own)

    converts(reduced)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, :5].index_reduce(1, PARTS, x, "amax"),
        lambda x: x[:, :5].scatter_add(1, PARTS.expand(len(x), 12), x),
        lambda x: x[:, :5].scatter_add(1, x.view(-1, 3, 4).argmax(2), x[:, 5:8]),
        lambda x: torch.where(PARTS > 1, torch.sigmoid(x.flip(1)) * x, x.mean(1, keepdim=True)),
    ],
)
def test_sums_at_places(function: Any) -> None:
    converts(function)


def test_tables_of_several_extents() -> None:
    """Of a table of its own for each unit, and by two numbers, as the truth tables of LUTNet and LogicNets are."""
    table, pairs = torch.randn(3, 16), torch.randn(4, 4, 2)

    def looked_up(x: Tensor) -> Tensor:
        bits = (x > 0).long()
        number = (bits.view(-1, 3, 4) * torch.tensor([8, 4, 2, 1])).sum(2)
        two = bits.view(-1, 6, 2)[..., 0] * 2 + bits.view(-1, 6, 2)[..., 1]
        return torch.cat([table.to(x)[torch.arange(3), number], pairs.to(x)[two[:, :3], two[:, 3:]].flatten(1)], 1)

    converts(looked_up)


def written(x: Tensor, index: Tensor) -> Tensor:
    x = x.clone()
    x[:, index] = x[:, 8:11] + 1
    return x


GRID = torch.linspace(-1.1, 1.1, 4 * 5 * 2, dtype=torch.float64).sin().view(1, 4, 5, 2)


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("pad", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_fixed_grids(mode: str, pad: str, align: bool) -> None:
    how = {"mode": mode, "padding_mode": pad, "align_corners": align}
    converts(lambda x: F.grid_sample(x, GRID.to(x.dtype).expand(len(x), -1, -1, -1), **how), MAP)


def test_a_fixed_affine_grid_and_one_of_the_images_own() -> None:
    turn = torch.tensor([[[0.8, 0.2, 0.1], [-0.1, 0.9, 0.05]]])

    def turned(x: Tensor) -> Tensor:
        grid = F.affine_grid(turn.to(x.dtype).expand(len(x), 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    converts(turned, MAP)
    with pytest.raises(ConversionError, match="a grid that depends on the image: a fixed one is supported"):
        converts(
            lambda x: F.affine_grid(x.mean((2, 3)).view(-1, 2, 3), list(x.shape), align_corners=False).flatten(1), MAP
        )


@pytest.mark.parametrize("kernel", [(2, 2, 0), (3, 2, 1), ((1, 3), (2, 1), (0, 1))])
@pytest.mark.parametrize("signs", [True, False])
def test_places_that_a_pooling_chooses(kernel: Any, signs: bool) -> None:
    size, stride, padding = kernel

    def chosen(x: Tensor) -> Tensor:
        x = torch.where(x >= 0, 1.0, -1.0).to(x.dtype) if signs else x
        return F.max_pool2d(x, size, stride, padding, return_indices=True)[1].to(x.dtype)

    converts(chosen, MAP)


def test_values_put_back_where_a_pooling_found_them() -> None:
    def back(x: Tensor) -> Tensor:
        values, places = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(torch.sign(values), places, 2)

    converts(back, MAP)


class Unpooled(nn.Module):
    """Real values of sums of pixels, put back where a pooling found them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.readout = BinaryConv2d(2, 4, 3, padding=1), nn.Linear(4 * 36, 4)

    def forward(self, x: Tensor) -> Tensor:
        values, places = F.max_pool2d(torch.tanh(self.front(x) / 40), 2, return_indices=True)
        return self.readout(F.max_unpool2d(values, places, 2).flatten(1))


def test_greatest_of_a_window_that_only_rounding_tells_apart_are_ties() -> None:
    """Pixels times 0.1 are rounded, so that sums that are equal differ in float64 by the order of their terms."""
    model = Unpooled().eval()
    levels = np.random.default_rng(3).integers(0, 16, (200, *MAP))
    with torch.no_grad():
        sums = model.front(torch.from_numpy(levels).float())
        windows = F.unfold(sums.reshape(-1, 1, 6, 6), 2, stride=2).sort(1).values.reshape(len(levels), -1, 4, 9)
        tie = (windows[:, :, 3] == windows[:, :, 2]).flatten(1).any(1).numpy()
        assert 20 < tie.sum() < 180
        for given, scale in (({"raw": True}, 1.0), ({"mean": 0.0, "std": 0.1}, 10 / 15)):
            net = lava_meta.convert(model, input_shape=MAP, max_level=15, **given)
            assert net.parity is not None
            assert not sum(net.parity.mismatches.values())
            theirs = copy.deepcopy(model).double()(torch.from_numpy(levels).double() * scale).numpy()
            ours = net.graph.readout.values(net.graph.sums(levels))
            differ = np.abs(ours - theirs).max(1) > 1e-6
            assert not (differ & ~tie).any()
            assert bool(sum(net.parity.ties.values())) == bool(differ.any()) == ("std" in given)


def test_a_chosen_code_runs_in_lava() -> None:
    net = converts(Codes("product"))
    images = np.random.default_rng(0).integers(0, 256, (6, 10))
    with net:
        np.testing.assert_array_equal(net.predict(images, lanes=3), net.graph.predict(images))
