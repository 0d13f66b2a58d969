"""Clips of items that turn: captions, defects at known places and times, labels of tubes."""

from __future__ import annotations

import numpy as np
import pytest

from goodrate.shop import clips
from goodrate.shop.clips import (
    CLIP_ATTRIBUTES,
    KINDS,
    Defect,
    caption,
    inject,
    inject_drawn,
    patch_labels,
    turntable,
    wrong_caption,
)
from goodrate.shop.pictures import View, draw_item
from goodrate.shop.world import World, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(3, num_items=60, num_brands=8, lines_per_brand=4)


@pytest.fixture(scope="module")
def desk(world: World) -> int:
    return int(np.flatnonzero(world.category == world.taxonomy.categories.index("desk"))[0])


@pytest.fixture(scope="module")
def clip(world: World, desk: int) -> np.ndarray:
    return turntable(world, desk, frames=8, size=32)


def test_a_turntable_is_the_item_from_all_sides(world: World, clip: np.ndarray, desk: int) -> None:
    assert clip.shape == (8, 32, 32, 3) and clip.dtype == np.uint8
    shown = np.isin(world.taxonomy.attributes, CLIP_ATTRIBUTES)
    assert (clip[2] == draw_item(world, desk, size=32, view=View(angle=90.0), shown=shown)).all()  # 2 of 8 steps
    steps = np.abs(np.diff(clip.astype(int), axis=0)).mean((1, 2, 3))
    assert (steps > 0.1).all()  # it never stands still
    half = turntable(world, desk, frames=4, size=32, turn=180.0)
    assert (half == clip[:4]).all()
    with pytest.raises(ValueError, match="frames 0"):
        turntable(world, 5, frames=0)


def test_the_caption_tells_the_truth_and_a_wrong_one_what_it_says(world: World) -> None:
    own = clips.attributes(world, 5)
    assert list(own) == list(CLIP_ATTRIBUTES)
    assert all(value in caption(world, 5).split() for value in own.values())
    assert caption(world, 5).endswith(f"by {world.brands[world.brand[5]]}")
    for changes in (1, len(CLIP_ATTRIBUTES)):
        text, told = wrong_caption(world, 5, np.random.default_rng(0), changes=changes)
        assert len(told) == changes and all(own[name] != value for name, value in told.items())
        assert all(value in text.split() for value in {**own, **told}.values())
    with pytest.raises(ValueError, match="origin"):
        caption(world, 5, {"origin": "italy"})
    with pytest.raises(ValueError, match="changes 0"):
        wrong_caption(world, 5, np.random.default_rng(0), changes=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_changes_its_tube_and_nothing_else(clip: np.ndarray, kind: clips.DefectKind) -> None:
    defect = Defect(kind, 1, 0, 2, 5)
    broken = inject(clip, defect, np.random.default_rng(1))
    outside = np.ones(clip.shape[:3], dtype=bool)
    outside[2:6, 16:, :16] = False  # the lower left of four cells, frames 2 to 5
    assert (broken[outside] == clip[outside]).all()
    change = np.abs(broken.astype(int) - clip)[2:6, 16:, :16]
    assert change.mean() > clips.VISIBLE
    assert (broken == inject(clip, defect, np.random.default_rng(1))).all()
    half = inject(clip, Defect(kind, 1, 0, 2, 5, strength=0.5), np.random.default_rng(1))
    assert np.abs(half.astype(int) - clip).sum() == pytest.approx(change.sum() / 2, rel=0.1)


def test_what_each_kind_does() -> None:
    """On a clip whose pixels are told by hand: grey 100 on a border of 200, one step of light a frame."""
    clip = np.full((4, 8, 8, 3), 200, dtype=np.uint8)
    clip[:, 1:7, 1:7] = 100 + np.arange(4)[:, None, None, None]
    tube = (slice(1, 4), slice(0, 4), slice(0, 4))
    broken = {kind: inject(clip, Defect(kind, 0, 0, 1, 3), np.random.default_rng(0))[tube] for kind in KINDS}
    assert (broken["missing_part"] == 200).all()  # the background
    assert (broken["frozen_patch"] == clip[1, 0:4, 0:4]).all()  # frame 1 stands still
    assert broken["flicker"][0, 2, 2, 0] == 40 and broken["flicker"][1, 2, 2, 0] == 153  # 101 * 0.4, 102 * 1.5
    jumps = broken["colour_jump"].astype(int) - clip[tube]
    assert sorted(jumps[0, 2, 2].tolist()) == [0, 110, 110] and (jumps[0, 0] == 0).all()  # the item, not its border
    # reach = 3 pixels: the second pixel is the mean of 200, 200, 101
    assert broken["smear"][0, 2, 1, 0] == round((200 + 200 + 101) / 3)
    assert len(np.unique(broken["wrong_logo"][0].reshape(-1, 3), axis=0)) == 4  # two of the clip, two of the plate
    assert (broken["wrong_logo"][0, 1:, 1:] != clip[1, 1:4, 1:4]).any()


def test_impossible_defects_are_refused(clip: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for defect, message in (
        (Defect("smear", 2, 0, 0, 3), "row and column must be 0..1"),
        (Defect("smear", 0, 0, 0, 8), "frames 0..7"),
        (Defect("smear", 0, 0, 3, 2), "frames 0..7"),
        (Defect("smear", 0, 0, 0, 3, grid=40), "at most 32 cells"),
        (Defect("smear", 0, 0, 0, 3, strength=0.0), "strength"),
        (Defect("scratch", 0, 0, 0, 3), "unknown defect 'scratch'"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=message):
            inject(clip, defect, rng)
    with pytest.raises(ValueError, match="room for 0..4"):
        inject_drawn(clip, rng, count=5)


def test_drawn_defects_can_be_seen_and_lie_apart(clip: np.ndarray) -> None:
    broken, defects = inject_drawn(clip, np.random.default_rng(4), count=3)
    assert len({(d.row, d.column) for d in defects}) == 3
    for defect in defects:
        place = defect.tube(clip)
        assert np.abs(broken[place].astype(int) - clip[place]).mean() >= clips.VISIBLE
        assert defect.last_frame - defect.first_frame >= 2
    flat = np.full((4, 8, 8, 3), 90, dtype=np.uint8)  # nothing of it can be frozen, and nothing is missing
    assert inject_drawn(flat, np.random.default_rng(0), kinds=("frozen_patch", "missing_part"))[1] == ()


def test_labels_of_tubes() -> None:
    assert patch_labels([]).tolist() == [[4, 4], [4, 4]]
    broken, weak = Defect("smear", 0, 1, 0, 3), Defect("flicker", 1, 0, 0, 3, strength=0.35)
    assert patch_labels([broken, weak]).tolist() == [[4, 1], [3, 4]]  # 4 - 3 * 1; 4 - round(1.05)
    assert patch_labels([weak, weak]).tolist() == [[4, 4], [2, 4]]  # 4 - round(2.1)
    # a cell of a 4 x 4 grid lies in one of 2 x 2; a cell of 2 x 2 covers four of 4 x 4
    assert patch_labels([Defect("smear", 3, 1, 0, 3, grid=4)]).tolist() == [[4, 4], [1, 4]]
    assert patch_labels([broken], 4).tolist() == [[4, 4, 1, 1], [4, 4, 1, 1], [4, 4, 4, 4], [4, 4, 4, 4]]
    # 3 x 3: half of the middle column and row lies in the upper right quarter: 1/6 x 1/6 is a quarter of 1/9
    assert patch_labels([broken], 3).tolist() == [[4, 1, 1], [4, 1, 1], [4, 4, 4]]


def test_an_example_knows_all_of_itself(world: World) -> None:
    examples = [clips.clip_example(world, item, 7, size=16, frames=4) for item in range(24)]
    again = clips.clip_example(world, 3, 7, size=16, frames=4)
    assert (again.frames == examples[3].frames).all() and again.caption == examples[3].caption
    assert {len(e.defects) for e in examples} == {0, 1, 2}
    for e in examples:
        assert (e.caption == caption(world, e.item)) == (not e.wrong)
        assert e.alignment == pytest.approx(1 - len(e.wrong) / len(CLIP_ATTRIBUTES))
    assert 2 <= sum(bool(e.wrong) for e in examples) <= 14  # 30 % of 24, by chance
