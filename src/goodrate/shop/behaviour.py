"""What shoppers do: sessions with position bias over a utility that nobody sees (relevance, quality, price, appeal)."""

from __future__ import annotations

import numpy as np

from goodrate.shop.truth import PairTruth
from goodrate.shop.world import World

PAGE = 20
ATTRACTION = np.asarray([0.01, 0.08, 0.35, 0.8])  # chance of a click by label, once seen
POSITION_EXPONENT = 0.7  # a position r is looked at with probability r ** -0.7
BUY_SHARE = 0.15
OPENED = 1_767_225_600  # 2026-01-01 00:00 UTC, in seconds since 1970: the first session is not before
DAYS = 30  # over which sessions are spread


def examination(positions: int = PAGE) -> np.ndarray:
    """Chance (P,) that a shopper looks at the places 1 to P: what examination propensities are estimated against."""
    return np.arange(1, positions + 1) ** (-POSITION_EXPONENT)


def utility(world: World, truth: PairTruth, appeal: float = 0.0) -> np.ndarray:
    """Latent utility (N,) in 0..1: attraction of the label, raised by quality and lowered by price.

    appeal: spread of the logarithm of what an item has beside that, the same for all queries and told by nothing in the
    catalogue; its mean is 1.
    """
    price = (world.price - world.price.min()) / max(1, int(np.ptp(world.price)))
    plain: np.ndarray = ATTRACTION[truth.label] * (0.6 + 0.4 * world.quality) * (1.0 - 0.2 * price)
    if not appeal:
        return plain
    drawn = np.random.default_rng([world.seed, 31]).normal(-(appeal**2) / 2, appeal, len(plain))
    return np.minimum(plain * np.exp(drawn), 1.0)


def _page(truth: PairTruth, rng: np.random.Generator) -> np.ndarray:
    """What a middling search shows: half of the page from the better-labelled items, half from near ones, mixed."""
    score = truth.label + rng.gumbel(0.0, 0.5, len(truth.label)) + 0.8 * (truth.relation == 0)
    top = np.argpartition(-score, PAGE)[:PAGE]
    return top[np.argsort(-(score[top] + rng.normal(0.0, 1.0, PAGE)), kind="stable")]


def simulate_sessions(
    world: World, truth: PairTruth, rng: np.random.Generator, count: int, appeal: float = 0.0
) -> dict[str, np.ndarray]:
    """`count` sessions of one query, flat: session, item, position (1 = top), clicked, bought, (20 * count,)."""
    worth = utility(world, truth, appeal)
    pages = np.stack([_page(truth, rng) for _ in range(count)])
    position = np.tile(np.arange(1, PAGE + 1), (count, 1))
    seen = rng.random(pages.shape) < examination()
    clicked = seen & (rng.random(pages.shape) < worth[pages])
    bought = clicked & (rng.random(pages.shape) < BUY_SHARE)
    return {
        "session": np.repeat(np.arange(count), PAGE),
        "item": pages.reshape(-1),
        "position": position.reshape(-1),
        "clicked": clicked.reshape(-1),
        "bought": bought.reshape(-1),
    }


def session_times(seed: int, query: int, count: int) -> np.ndarray:
    """When the sessions of a query began (count,), rising, in seconds since 1970; a function of its arguments."""
    return np.sort(OPENED + np.random.default_rng([seed, 29, query]).integers(0, DAYS * 86_400, count))
