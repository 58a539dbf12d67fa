"""Layer budgets: ERK and smart ratio agree with closed formulas and the authors' algorithms.

Sources: docs/methods/rigl.md, docs/methods/set.md, docs/methods/sanity_check.md.
"""

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import jaccard, masks_of

from models.resnet_cifar import ResNetCifar
from pruners.base import Masks, full_masks, keep_count
from pruners.scores.magnitude import Magnitude
from pruners.selection.allocate import Erk
from pruners.selection.smart_ratio import SmartRatio

check = settings(deadline=None, max_examples=150, derandomize=True)
Shape = tuple[int, ...]
shapes = st.lists(
    st.one_of(
        st.tuples(*[st.integers(1, 12)] * 2),
        st.tuples(st.integers(1, 8), st.integers(1, 8), st.just(3), st.just(3)),
    ),
    min_size=1,
    max_size=7,
)


def full(*sizes: Shape) -> Masks:
    return {f"layer{i}": torch.ones(shape, dtype=torch.bool) for i, shape in enumerate(sizes)}


def erk_densities(sizes: list[Shape], total: int) -> list[Fraction]:
    """The densities by RigL's algorithm: make the densest layer dense, solve for the factor,
    repeat."""
    dense: set[int] = set()
    while True:
        rest = total - sum(math.prod(sizes[i]) for i in dense)
        lengths = sum(sum(shape) for i, shape in enumerate(sizes) if i not in dense)
        factor = Fraction(rest, lengths) if lengths else Fraction(0)
        found = [
            Fraction(1) if i in dense else factor * sum(shape) / math.prod(shape)
            for i, shape in enumerate(sizes)
        ]
        if max(found) <= 1:
            return found
        dense.add(max((i for i in range(len(sizes)) if i not in dense), key=lambda i: found[i]))


@check
@given(shapes, st.floats(0.01, 1.0))
def test_erk_matches_the_authors_densities_within_one_weight_and_is_exact_in_total(
    sizes: list[Shape], density: float
) -> None:
    prunable = sum(map(math.prod, sizes))
    if round(density * prunable) < 1:
        return
    counts = list(Erk()({}, full(*sizes), density).values())
    total = keep_count(density, prunable)
    assert sum(counts) == total
    for count, share, shape in zip(counts, erk_densities(sizes, total), sizes, strict=True):
        assert 0 <= count <= math.prod(shape) and abs(count - share * math.prod(shape)) < 1


def test_erk_reproduces_the_densities_of_rigls_resnet20() -> None:
    # docs/methods/rigl.md: ResNet-20 without shortcut convolutions, first layer and classifier
    # included.
    stage = {16: (16, 16), 32: (32, 32), 64: (64, 64)}
    sizes: list[Shape] = [(16, 3, 3, 3)]
    for width, count in ((16, 6), (32, 5), (64, 5)):
        if width > 16:
            sizes.append((width, width // 2, 3, 3))
        sizes += [(*stage[width], 3, 3)] * count
    sizes.append((10, 64))
    expected = {
        0.1: {
            (16, 3): 1.0,
            (16, 16): 0.3027,
            (32, 16): 0.2151,
            (32, 32): 0.1394,
            (64, 32): 0.1016,
            (64, 64): 0.0667,
            (10, 64): 1.0,
        },
        0.5: {(16, 16): 1.0, (32, 16): 1.0, (32, 32): 0.7762, (64, 32): 0.5655, (64, 64): 0.3715},
    }
    for density, by_layer in expected.items():
        counts = Erk()({}, full(*sizes), density)
        for shape, count in zip(sizes, counts.values(), strict=True):
            if shape[:2] in by_layer:
                assert (
                    abs(count / math.prod(shape) - by_layer[shape[:2]])
                    < 1 / math.prod(shape) + 5e-5
                )


def test_erk_of_linear_layers_is_erdos_renyi() -> None:
    # 20 x 30 and 30 x 10 at a fifth of 900: 180 weights split 50 : 40, so 100 and 80.
    assert list(Erk()({}, full((20, 30), (30, 10)), 0.2).values()) == [100, 80]


def test_erk_gives_equal_layers_equal_densities() -> None:
    assert (
        list(Erk()({}, full((8, 8, 3, 3), (8, 8, 3, 3), (8, 8, 3, 3)), 0.25).values()) == [144] * 3
    )


def test_erk_stays_inside_the_masks_of_earlier_pruning() -> None:
    masks = full((20, 30), (30, 10))
    masks["layer1"].view(-1)[50:] = False  # 50 weights left, below its share of 80
    assert list(Erk()({}, masks, 0.2).values()) == [130, 50]


# Smart ratio


def smart(
    sizes: list[int], linear: int, p: float, ratio: str = "quadratic", resnet: bool = True
) -> list[int]:
    """The authors' steps 1 to 5 with their roundings, for convolutions and one linear layer.

    Source: the specification of their code (docs/methods/sanity_check.md), in float64.
    """
    n = len(sizes) + 1
    form = {
        "quadratic": lambda i: (n - i) ** 2 + (n - i),
        "linear": lambda i: n - i,
        "cubic": lambda i: (n - i) ** 3,
        "ascending": lambda i: (i + 1) ** 2 + (i + 1),
    }[ratio]
    r = [form(i) / (1 if resnet else (i + 1) ** 2) for i in range(len(sizes))]
    goal = int((sum(sizes) + linear) * (1 - p)) - int(0.3 * linear)
    whole = sum(math.floor(size * each) for size, each in zip(sizes, r, strict=True))
    r = [each * (goal / whole) for each in r]
    extra = 0
    for i, size in enumerate(sizes):
        if r[i] >= 1:
            extra, r[i] = extra + math.floor((r[i] - 1) * size), 1.0
        elif math.floor((1 - r[i]) * size) >= extra:
            r[i], extra = r[i] + extra / size, 0
        else:
            extra, r[i] = extra - math.floor((1 - r[i]) * size), 1.0
        if extra == 0:
            break
    kept = [size if each >= 1 else int(each * size) for size, each in zip(sizes, r, strict=True)]
    return [*kept, int(0.3 * linear)]


def exactly(sizes: list[int], linear: int, total: int, resnet: bool = True) -> list[Fraction]:
    """The same rule without rounding, for `total` weights: a layer's surplus moves to the next
    layer with room."""
    n, taken = len(sizes) + 1, int(0.3 * linear)
    ratio = [
        Fraction((n - i) ** 2 + (n - i), 1 if resnet else (i + 1) ** 2) for i in range(len(sizes))
    ]
    unit = Fraction(total - taken) / sum(r * size for r, size in zip(ratio, sizes, strict=True))
    poured, spill = [], Fraction(0)
    for r, size in zip(ratio, sizes, strict=True):
        want = unit * r * size + spill
        poured.append(min(want, Fraction(size)))
        spill = max(Fraction(0), want - size)
    return [*poured, taken + spill]


VGG19 = [
    27 * 64,
    9 * 64 * 64,
    9 * 64 * 128,
    9 * 128 * 128,
    9 * 128 * 256,
    *[9 * 256 * 256] * 3,
    9 * 256 * 512,
    *[9 * 512 * 512] * 7,
]


def smart_ratio(net: str, **options: Any) -> SmartRatio:
    """The allocation with the property that the model of that name declares."""
    return SmartRatio(net, resnet=net.startswith("resnet"), **options)


def net_sizes(net: str) -> tuple[list[int], int]:
    if net == "vgg19":
        return VGG19, 5120
    depth, width = {"resnet20": (20, 16), "resnet20_w32": (20, 32), "resnet32_w32": (32, 32)}[net]
    sizes = [
        mask.numel()
        for mask in full_masks(
            ResNetCifar(net, depth=depth, width=width)(3, 10, 32, torch.Generator())
        ).values()
    ]
    return sizes[:-1], sizes[-1]


def net_masks(net: str) -> Masks:
    sizes, linear = net_sizes(net)
    return {
        **{f"conv{i}": torch.ones(1, size, 1, 1, dtype=torch.bool) for i, size in enumerate(sizes)},
        "fc": torch.ones(10, linear // 10, dtype=torch.bool),
    }


# net, p -> number kept by the authors' rule (docs/methods/sanity_check.md shows some of them), then
# keep ratios in percent: of the first layers, and of the last layers before fc.
REFERENCE: dict[tuple[str, float], tuple[int, list[float], list[float]]] = {
    ("resnet20", 0.98): (
        5_406,
        [
            13.9,
            12.8,
            11.6,
            10.5,
            9.5,
            8.5,
            7.5,
            6.6,
            5.8,
            4.9,
            4.3,
            3.6,
            3.0,
            2.5,
            2.0,
            1.5,
            1.1,
            0.8,
            0.6,
            0.3,
            0.2,
        ],
        [],
    ),
    ("resnet20", 0.90): (27_077, [72.0, 65.8, 59.9], [1.7, 0.9]),
    ("resnet20", 0.47): (143_567, [100.0] * 17, [26.9, 15.2, 9.1, 4.6]),
    ("resnet20", 0.10): (243_801, [100.0] * 20, [27.7]),
    ("resnet20_w32", 0.47): (573_158, [100.0] * 17, [26.9, 15.3, 9.2, 4.6]),
    ("resnet32_w32", 0.98): (37_094, [15.7, 14.9, 14.1], [0.2, 0.1]),
    ("resnet32_w32", 0.90): (185_541, [79.7, 75.3, 70.8], [0.8, 0.4]),
    ("resnet32_w32", 0.45): (1_020_560, [100.0] * 26, [73.0, 20.7, 15.5, 11.1, 7.4, 4.4, 2.2]),
    ("vgg19", 0.98): (
        400_474,
        [100, 100, 83.8, 26.3, 14.6, 8.7, 5.4, 3.5, 2.2, 1.4, 0.9, 0.6, 0.4, 0.2, 0.1, 0.04],
        [],
    ),
    ("vgg19", 0.90): (
        2_002_392,
        [100.0] * 6,
        [31.8, 17.3, 11.2, 7.2, 4.7, 2.9, 1.8, 1.0, 0.5, 0.2],
    ),
}


@pytest.mark.parametrize(("net", "p"), REFERENCE)
def test_smart_ratio_reproduces_the_reference_table(net: str, p: float) -> None:
    kept, front, back = REFERENCE[net, p]
    sizes, linear = net_sizes(net)
    counts = list(smart_ratio(net)({}, net_masks(net), 1 - p).values())
    assert sum(counts) == round((1 - p) * (sum(sizes) + linear)) and counts[-1] == int(0.3 * linear)
    assert 0 <= sum(counts) - kept <= len(counts) + 1  # the authors' rule rounds down
    printed = [(i, ratio) for i, ratio in enumerate(front)] + [
        (i - len(back) + len(sizes), ratio) for i, ratio in enumerate(back)
    ]
    for i, ratio in printed:
        # within one weight of the printed ratio; 0.04 was truncated, not rounded
        rounding = 5e-4 if ratio >= 0.1 else 1e-4
        assert abs(counts[i] - ratio / 100 * sizes[i]) <= 1 + rounding * sizes[i]


@pytest.mark.parametrize(("net", "p"), REFERENCE)
def test_smart_ratio_matches_the_exact_rule_and_the_authors_rounding(net: str, p: float) -> None:
    sizes, linear = net_sizes(net)
    counts = list(smart_ratio(net)({}, net_masks(net), 1 - p).values())
    rule = exactly(sizes, linear, sum(counts), "resnet" in net)
    assert all(abs(count - share) < 1 for count, share in zip(counts, rule, strict=True))


@pytest.mark.parametrize(("net", "p"), REFERENCE)
def test_authors_counts_equal_their_rule_and_the_published_totals_to_the_weight(
    net: str, p: float
) -> None:
    sizes, linear = net_sizes(net)
    counts = list(smart_ratio(net, counts="authors")({}, net_masks(net), 1 - p).values())
    assert counts == smart(sizes, linear, p, resnet="resnet" in net)
    kept, front, back = REFERENCE[net, p]
    assert sum(counts) == kept
    printed = dict(enumerate(front)) | {len(sizes) - len(back) + i: v for i, v in enumerate(back)}
    for i, percent in printed.items():  # printed with one decimal; 0.04 was truncated
        assert abs(100 * counts[i] / sizes[i] - percent) <= (0.05 if percent >= 0.1 else 0.01)


@check
@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=12),
    st.floats(0.02, 0.99),
    st.sampled_from(["quadratic", "linear", "cubic", "ascending"]),
    st.booleans(),
)
def test_authors_counts_equal_an_independent_implementation(
    sizes: list[int], p: float, ratio: Any, resnet: bool
) -> None:
    masks = full(*[(1, size, 1, 1) for size in sizes], (10, 30))
    if int((sum(sizes) + 300) * (1 - p)) <= 90:
        return
    counts = list(SmartRatio("net", 0.3, resnet, ratio, "authors")({}, masks, 1 - p).values())
    assert counts == smart(sizes, 300, p, ratio, resnet)


@pytest.mark.parametrize(
    ("net", "p", "most"), [("resnet20", 0.98, 1), ("resnet20", 0.47, 6), ("resnet20", 0.1, 5)]
)
def test_exact_counts_differ_from_the_authors_by_the_weights_that_they_lose_to_rounding(
    net: str, p: float, most: int
) -> None:
    # docs/methods/sanity_check.md states these numbers: the layer that takes the surplus gets up to
    # one weight less for each full layer before it
    ours, theirs = (
        list(smart_ratio(net, counts=counts)({}, net_masks(net), 1 - p).values())
        for counts in ("exact", "authors")
    )
    apart = [a - b for a, b in zip(ours, theirs, strict=True)]
    assert min(apart) >= 0 and max(apart) == most
    assert sum(apart) <= 2 * len(ours)


@pytest.mark.parametrize("p", [0.98, 0.9, 0.47, 0.1])
def test_masks_with_the_authors_counts_equal_an_independent_implementation(p: float) -> None:
    # their hybrid: the largest weights of each layer, sorted in float64; ties to the lower index
    model = ResNetCifar("resnet20")(3, 10, 32, torch.Generator().manual_seed(0))
    weights = {
        name: model.get_parameter(name).detach().double().abs().flatten()
        for name in full_masks(model)
    }
    *sizes, linear = (len(weight) for weight in weights.values())
    expected = {}
    for (name, weight), kept in zip(weights.items(), smart(sizes, linear, p), strict=True):
        largest = torch.sort(weight, descending=True, stable=True).indices[:kept]
        mask = torch.zeros(len(weight), dtype=torch.bool)
        mask[largest] = True
        expected[name] = mask.view_as(model.get_parameter(name))
    found = masks_of(Magnitude(), model, 1 - p, allocate=smart_ratio("resnet20", counts="authors"))
    assert jaccard(expected, found) == 1.0


def test_authors_counts_stay_inside_the_masks_of_earlier_pruning() -> None:
    masks = full((1, 100, 1, 1), (1, 100, 1, 1), (10, 10))
    masks["layer0"].view(-1)[7:] = False
    assert list(SmartRatio("net", counts="authors")({}, masks, 0.3).values())[0] == 7


# k + i = 3: ratios of two convolutions before a linear layer of 100 weights, which keeps 30. The
# other 90 of the 120 kept weights are shared in proportion to the ratios.
SHARES = {
    "quadratic": [60, 30],  # 3^2 + 3 = 12 : 2^2 + 2 = 6
    "linear": [54, 36],  # 3 : 2
    "cubic": [69.43, 20.57],  # 27 : 8
    "ascending": [22.5, 67.5],  # 1 + 1 = 2 : 4 + 2 = 6
}


@pytest.mark.parametrize("ratio", SHARES)
def test_ratios_follow_their_formula(ratio: Any) -> None:
    masks = full((1, 150, 1, 1), (1, 150, 1, 1), (10, 10))
    counts = list(SmartRatio("net", ratio=ratio)({}, masks, 0.3).values())
    assert counts[2] == 30 and sum(counts) == 120
    assert all(abs(a - b) < 1 for a, b in zip(counts, SHARES[ratio], strict=False))
    authors = list(SmartRatio("net", ratio=ratio, counts="authors")({}, masks, 0.3).values())
    assert authors == [*(math.floor(share) for share in SHARES[ratio]), 30]


def test_an_ascending_surplus_goes_to_the_front_and_the_authors_lose_it() -> None:
    # 95 of 190 weights, 15 of them in the last layer. The other 80 are shared as 2 x 120 : 6 x 20,
    # so 53.3 and 26.7, but the second convolution has 20.
    masks = full((1, 120, 1, 1), (1, 20, 1, 1), (10, 5))
    assert list(SmartRatio("net", ratio="ascending")({}, masks, 0.5).values()) == [60, 20, 15]
    shares = SmartRatio("net", ratio="ascending", counts="authors")({}, masks, 0.5)
    assert list(shares.values()) == [53, 20, 15]


def test_unknown_forms_are_refused() -> None:
    with pytest.raises(ValueError, match=r"allocate.ratio='flat' must be one of quadratic, linear"):
        SmartRatio("net", ratio="flat")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"allocate.counts='near' must be one of exact, authors"):
        SmartRatio("net", counts="near")  # type: ignore[arg-type]


@check
@given(shapes, st.floats(0.35, 1.0), st.sampled_from(["resnet20", "vgg19"]))
def test_smart_ratio_is_exact_in_total_and_never_exceeds_a_layer(
    convolutions: list[Shape], density: float, net: str
) -> None:
    masks = full(*convolutions, (5, 4))
    counts = list(smart_ratio(net)({}, masks, density).values())
    sizes = [mask.numel() for mask in masks.values()]
    total = round(density * sum(sizes))
    assert sum(counts) == total
    assert all(0 <= count <= size for count, size in zip(counts, sizes, strict=True))
    rule = exactly(sizes[:-1], 20, total, net == "resnet20")
    assert all(abs(count - share) < 1 for count, share in zip(counts, rule, strict=True))
    if total <= sum(sizes[:-1]) + 6:
        assert counts[-1] == 6  # three tenths at every density


def test_smart_ratio_keeps_less_in_deeper_layers() -> None:
    counts = list(SmartRatio("resnet")({}, full(*[(8, 8, 3, 3)] * 9, (10, 8)), 0.3).values())
    assert counts[:-1] == sorted(counts[:-1], reverse=True)


def test_smart_ratio_moves_a_surplus_to_the_last_layer() -> None:
    # 36 + 40 weights at density 0.8: 61 kept, 12 of them in fc by its ratio. The convolution can
    # keep only 36, so fc keeps 25.
    assert list(SmartRatio("resnet")({}, full((2, 2, 3, 3), (10, 4)), 0.8).values()) == [36, 25]


def test_smart_ratio_treats_only_the_last_linear_layer_as_the_classifier() -> None:
    # Three layers; the factors of the first two are 12 and 6. The last keeps 90 of 10 x 30 weights.
    # The other 910 of the 1,000 kept are split 12 x 2 : 6 x 3 over 2,000 and 3,000.
    counts = list(
        SmartRatio("resnet")({}, full((50, 40), (60, 50), (10, 30)), 1000 / 5300).values()
    )
    assert counts == [520, 390, 90]


def test_smart_ratio_rejects_a_density_that_leaves_nothing_beside_the_last_layer() -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"density=0.1 keeps 8 weights, but the last linear layer alone takes 12"
            r" \(allocate.linear=0.3\).*lower"
        ),
    ):
        SmartRatio("resnet")({}, full((2, 2, 3, 3), (10, 4)), 0.1)
    assert list(
        SmartRatio("resnet", linear=0.1)({}, full((2, 2, 3, 3), (10, 4)), 0.1).values()
    ) == [4, 4]
    with pytest.raises(ValueError, match="allocate.linear=1.5"):
        SmartRatio("resnet", linear=1.5)
