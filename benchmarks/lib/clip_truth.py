"""The oracle of generated clips: a caption names an item, and the renderer knows how that item looks when it turns.

A clip is compared with the turntable of the item, at the one of ANGLES where the whole clip is nearest, tube by tube.
Labels on the scale of labelled clips: visual_quality from the root mean square difference of levels, 4 at none and 1
from FAR on; temporal_consistency the same of the changes from frame to frame; dynamic_degree of the clip's own motion;
caption_alignment from the share of OTHERS, drawn items of the shop, whose turntable is further from the clip.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from goodrate.content.labelled_clips import BEST, WORST, LabelledClips, dynamic_labels, tubes
from goodrate.shop.clips import caption, turntable
from goodrate.shop.pictures import View
from goodrate.shop.world import World

ANGLES, OTHERS, POOL, FAR = (-8.0, 0.0, 8.0), 6, 12, 0.25


class ClipTruth:
    """Labels of clips of the items of a world."""

    def __init__(self, world: World, items: Sequence[int], frames: int, size: int, grid: int) -> None:
        """items: those that others are drawn from."""
        self._world, self._items, self._frames, self._size, self._grid = world, list(items), frames, size, grid
        self._views: dict[tuple[int, float], np.ndarray] = {}

    def _view(self, item: int, angle: float) -> np.ndarray:
        """(T, H, W, 3) in 0..1."""
        if (item, angle) not in self._views:
            clip = turntable(self._world, item, frames=self._frames, size=self._size, view=View(angle=angle))
            self._views[item, angle] = clip.astype(np.float32) / 255
        return self._views[item, angle]

    def _others(self, item: int) -> list[int]:
        """Drawn by the item, of other captions."""
        told = caption(self._world, item)
        pool = np.random.default_rng(7).permutation(self._items)[:POOL]  # few, so that few are rendered
        drawn = np.random.default_rng([7, item]).permutation(pool).tolist()
        return [other for other in drawn if caption(self._world, other) != told][:OTHERS]

    def labels(self, clips: np.ndarray, items: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """(video (N, D), patches (N, P, D)) of clips uint8 (N, T, H, W, 3), each of its item."""
        found = [self._of_clip(clip.astype(np.float32) / 255, item) for clip, item in zip(clips, items, strict=True)]
        patches = np.stack([patches for patches, _ in found]).astype(np.float32)
        patches[..., 2] = dynamic_labels(tubes(clips, self._grid))
        video = (patches.mean(axis=1) + patches.min(axis=1)) / 2
        video[:, 2] = dynamic_labels(clips)
        video[:, 3] = [aligned for _, aligned in found]
        return video.astype(np.float32), patches

    def _of_clip(self, clip: np.ndarray, item: int) -> tuple[np.ndarray, float]:
        """(P, D) labels of the tubes, dynamic_degree left out, and the label of the clip's alignment."""
        true = min((self._view(item, angle) for angle in ANGLES), key=lambda view: float(((clip - view) ** 2).mean()))
        own = tubes(((clip - true) ** 2)[None], self._grid)[0].mean(axis=(1, 2, 3, 4))
        steps = np.diff(clip, axis=0) - np.diff(true, axis=0)
        change = tubes((steps**2)[None], self._grid)[0].mean(axis=(1, 2, 3, 4))
        others = np.stack([
            tubes(((clip - self._view(other, 0.0)) ** 2)[None], self._grid)[0].mean(axis=(1, 2, 3, 4))
            for other in self._others(item)
        ])  # fmt: skip
        span = BEST - WORST
        patches = np.stack(
            [
                BEST - span * np.minimum(np.sqrt(own) / FAR, 1), BEST - span * np.minimum(np.sqrt(change) / FAR, 1),
                np.full(len(own), WORST), WORST + span * (others > own).mean(axis=0),
            ],
            axis=1,
        )  # fmt: skip
        return patches, float(WORST + span * (others.mean(axis=1) > own.mean()).mean())

    def labelled(self, clips: np.ndarray, items: Sequence[int]) -> LabelledClips:
        """The clips with their labels and the captions of their items."""
        video, patches = self.labels(clips, items)
        told = tuple(caption(self._world, item) for item in items)
        return LabelledClips(clips, told, video, patches, np.asarray(items))
