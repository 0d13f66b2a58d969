"""The shop's pictures: the same for the same arguments, and they tell what they should and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools

import numpy as np
import pytest

from goodrate.shop.drawing.marks import FLAGS, SEASONS, SIZES
from goodrate.shop.drawing.shapes import shapes
from goodrate.shop.drawing.surfaces import COLORS, MATERIALS, PATTERNS
from goodrate.shop.pictures import VISUAL_ATTRIBUTES, View, badge, draw_item, picture_share
from goodrate.shop.world import World, make_world

WORLD = make_world(3, num_items=400, num_brands=24)
T = WORLD.taxonomy
SIZE = 48
VISUAL = np.asarray([name in VISUAL_ATTRIBUTES for name in T.attributes])
PLAIN = {"color": "blue", "material": "plastic", "pattern": "dotted", "size": "large"}


def an_item(category: str) -> int:
    return int(np.flatnonzero(WORLD.category == T.categories.index(category))[0])


def with_values(item: int, **values: str) -> World:
    """The world with other values of one item, and nothing else changed."""
    changed = WORLD.values.copy()
    for name, value in values.items():
        a = T.attributes.index(name)
        changed[item, a] = T.values[a].index(value)
    return dataclasses.replace(WORLD, values=changed)


def drawn(item: int, name: str, shown: np.ndarray | None = None) -> list[np.ndarray]:
    """A picture for each value of one attribute."""
    values = T.values[T.attributes.index(name)]
    return [draw_item(with_values(item, **{**PLAIN, name: value}), item, size=SIZE, shown=shown) for value in values]


def far(left: np.ndarray, right: np.ndarray) -> float:
    """The mean difference of two pictures, in steps of 255."""
    return float(np.abs(left.astype(int) - right.astype(int)).mean())


def test_the_drawing_knows_every_word_of_the_taxonomy() -> None:
    t = {name: T.values[T.attributes.index(name)] for name in VISUAL_ATTRIBUTES}
    assert set(shapes()) == set(T.categories)
    assert (set(COLORS), set(MATERIALS), set(PATTERNS)) == (set(t["color"]), set(t["material"]), set(t["pattern"]))
    assert (set(FLAGS), set(SEASONS)) == (set(t["origin"]), set(t["season"]))
    assert {*SIZES, "universal"} == set(t["size"])
    assert all(any(solid.badge for solid in solids) for solids in shapes().values())


def test_the_same_arguments_draw_the_same_bytes() -> None:
    view = View(angle=33.0, light=0.8, clutter=3, seed=5)
    picture = draw_item(WORLD, 7, size=SIZE, view=view)
    assert picture.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, draw_item(make_world(3, num_items=400, num_brands=24), 7, size=SIZE, view=view))
    for other in (View(34.0, 0.8, 3, 5), View(33.0, 0.9, 3, 5), View(33.0, 0.8, 2, 5), View(33.0, 0.8, 3, 6)):
        assert not np.array_equal(picture, draw_item(WORLD, 7, size=SIZE, view=other)), other


@pytest.mark.parametrize("name", VISUAL_ATTRIBUTES)
@pytest.mark.parametrize("category", ["backpack", "charger"])
def test_the_values_of_a_visual_attribute_look_different(name: str, category: str) -> None:
    item = an_item(category)
    hidden = np.ones(len(T.attributes), dtype=bool)
    hidden[T.attributes.index(name)] = False
    pictures = [*drawn(item, name), draw_item(with_values(item, **PLAIN), item, size=SIZE, shown=hidden)]
    # a twentieth of the smallest mark (five cells of 3 x 3 pixels among 48 x 48) is 0.3
    assert min(far(a, b) for a, b in itertools.combinations(pictures, 2)) > 0.3


@pytest.mark.parametrize("name", VISUAL_ATTRIBUTES)
def test_what_is_not_shown_looks_the_same_for_every_value(name: str) -> None:
    shown = VISUAL.copy()
    shown[T.attributes.index(name)] = False
    pictures = drawn(an_item("lamp"), name, shown)
    assert all(np.array_equal(pictures[0], picture) for picture in pictures)


def test_no_attribute_but_the_visual_ones_changes_a_picture() -> None:
    item = an_item("tent")
    pictures = [p for a in np.flatnonzero(~VISUAL) for p in drawn(item, T.attributes[a])]
    assert all(np.array_equal(pictures[0], picture) for picture in pictures)


def test_every_category_has_a_shape_of_its_own() -> None:
    first = an_item("phone")
    pictures = [
        draw_item(dataclasses.replace(WORLD, category=np.full(len(WORLD), c)), first, size=SIZE) for c in range(24)
    ]
    assert min(far(a, b) for a, b in itertools.combinations(pictures, 2)) > 2.0


def test_a_brand_has_a_badge_and_an_item_its_own_proportions() -> None:
    assert len({badge(name).tobytes() for name in WORLD.brands}) == len(WORLD.brands)
    item = an_item("printer")
    other = dataclasses.replace(WORLD, brand=(WORLD.brand + 1) % len(WORLD.brands))
    assert far(draw_item(WORLD, item, size=SIZE), draw_item(other, item, size=SIZE)) > 0.1
    twin = int(np.flatnonzero(WORLD.category == WORLD.category[item])[1])
    like = {f.name: getattr(WORLD, f.name).copy() for f in dataclasses.fields(World) if f.name in ("brand", "values")}
    for array in like.values():
        array[twin] = array[item]
    same_values = dataclasses.replace(WORLD, **like)
    assert far(draw_item(same_values, item, size=SIZE), draw_item(same_values, twin, size=SIZE)) > 0.5


def test_a_turntable_turns() -> None:
    item = an_item("phone")
    world = with_values(item, color="red", pattern="striped", material="cotton", size="large")
    turned = [draw_item(world, item, size=SIZE, view=View(angle=float(a))) for a in (0, 5, 10, 90, 180, 360)]
    zero, five, ten, side, back, full = turned
    assert np.array_equal(zero, full)
    assert 0 < far(zero, five) < far(zero, ten) < far(zero, side)  # smooth
    other = dataclasses.replace(world, brand=(world.brand + 1) % len(world.brands))
    assert not np.array_equal(zero, draw_item(other, item, size=SIZE))  # the badge is in front
    assert np.array_equal(back, draw_item(other, item, size=SIZE, view=View(angle=180.0)))  # and out of sight here
    red = [int(((p[:, :, 0] > 120) & (p[:, :, 1] < 90)).any(axis=0).sum()) for p in (zero, side)]
    assert red[1] < red[0] / 2  # a phone is thin


def test_light_and_clutter_change_the_picture_and_not_the_thing() -> None:
    plain, dim = (draw_item(WORLD, 4, size=SIZE, view=View(light=light)) for light in (1.0, 0.6))
    assert dim.mean() < 0.75 * plain.mean()
    crowded = draw_item(WORLD, 4, size=SIZE, view=View(clutter=6, seed=2))
    empty = draw_item(WORLD, 4, size=SIZE, view=View(clutter=0, seed=2))
    changed = (crowded != empty).any(axis=2)
    assert changed.mean() > 0.05 and not changed[SIZE // 2 - 3 : SIZE // 2 + 3, SIZE // 2 - 3 : SIZE // 2 + 3].all()


def test_a_size_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 pixels a side, not 4"):
        draw_item(WORLD, 0, size=4)


def test_the_share_of_pictured_attributes() -> None:
    world = make_world(0, num_items=3000)
    pictured = picture_share(world, 1)
    assert pictured.shape == world.values.shape and not pictured[:, ~VISUAL].any()
    # 18,000 visual values: standard error under 0.004
    told, stated = pictured[:, VISUAL], world.stated[:, VISUAL]
    shares = [(told & ~stated).mean(), (~told & stated).mean(), (told & stated).mean(), (~told & ~stated).mean()]
    assert shares == pytest.approx([0.09, 0.28, 0.42, 0.21], abs=0.015)
    assert 0.2 < (~pictured & ~world.stated).mean() < 0.3
    assert np.array_equal(pictured, picture_share(world, 1)) and not np.array_equal(pictured, picture_share(world, 2))
    all_told = picture_share(world, 1, stated=0.0, unstated=1.0)
    assert np.array_equal(all_told[:, VISUAL], ~stated)


def test_pictures_leave_the_world_as_it_is() -> None:
    """The hash of every array of a world, as it was before the shop had pictures."""
    world = make_world(11, num_items=300)
    picture_share(world, 0)
    draw_item(world, 1, size=8)
    digest = hashlib.sha256()
    for field in dataclasses.fields(World):
        value = getattr(world, field.name)
        if isinstance(value, np.ndarray):
            digest.update(np.ascontiguousarray(value).tobytes())
    assert digest.hexdigest() == "f1b1c9eaac21d7883bf27587aa1407ed087a9c7ef530ddffc953923352f115b8"
