"""What torch has no single pass for: probing, telling keys apart, the update of rows in place.

Loops that kernels.py has numba compile; as Python they would crawl. Arrays are those of the torch code, shared:
hash_index.py, lookup.py and optimizers.py say what is computed.
"""

from __future__ import annotations

import numpy as np

_EMPTY = -1
_TAG = np.int64(0xFFFF)


def mixed(ids, tags, salts, hashes):  # type: ignore[no-untyped-def]
    """hashes[i] = splitmix64's finalizer of ids[i] ^ salts[tags[i]], as hashing.mixed."""
    for i in range(len(ids)):
        h = np.uint64(ids[i] ^ salts[tags[i]])
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashes[i] = np.int64(h ^ (h >> np.uint64(31)))


def find(slots, ids, tags, hashes, rows):  # type: ignore[no-untyped-def]
    """rows[i] = row of key i, or -1."""
    mask = len(slots) - 1
    for i in range(len(ids)):
        slot = hashes[i] & mask
        tried = 0
        rows[i] = -1
        while slots[slot, 1] != _EMPTY:
            if slots[slot, 0] == ids[i] and (slots[slot, 1] & _TAG) == tags[i]:
                rows[i] = slots[slot, 1] >> 16
                break
            tried += 1
            slot = (slot + tried) & mask


def place(slots, ids, packed, hashes):  # type: ignore[no-untyped-def]
    """Write entries that are not there."""
    mask = len(slots) - 1
    for i in range(len(ids)):
        slot = hashes[i] & mask
        tried = 0
        while slots[slot, 1] != _EMPTY:
            tried += 1
            slot = (slot + tried) & mask
        slots[slot, 0] = ids[i]
        slots[slot, 1] = packed[i]


def distinct(tags, hashes, key_of, order):  # type: ignore[no-untyped-def]
    """Keys in the order of first sight; returns where each begins in order (U,), and its first occurrence (U,).

    Fills key_of (V,), the key of each occurrence, and order (V,), the occurrences by key. For one tag, different ids
    have different hashes: (hash, tag) tells keys apart.
    """
    capacity = 16
    while capacity < 2 * len(hashes):
        capacity *= 2
    mask = capacity - 1
    table = np.full(capacity, -1, dtype=np.int32)  # slot -> key
    first = np.empty(len(hashes), dtype=np.int64)
    counts = np.zeros(len(hashes), dtype=np.int32)
    keys = 0
    for i in range(len(hashes)):
        slot = hashes[i] & mask
        while True:
            key = table[slot]
            if key < 0:
                table[slot] = key = keys
                first[keys] = i
                keys += 1
                break
            if hashes[first[key]] == hashes[i] and tags[first[key]] == tags[i]:
                break
            slot = (slot + 1) & mask
        key_of[i] = key
        counts[key] += 1
    starts = np.empty(keys, dtype=np.int64)
    total = 0
    for key in range(keys):
        starts[key] = total
        total += counts[key]
        counts[key] = starts[key]
    for i in range(len(hashes)):
        key = key_of[i]
        order[counts[key]] = i
        counts[key] += 1
    return starts, first[:keys].copy()


def sgd(weight, rows, gradients, lr):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        row = rows[i]
        for d in range(weight.shape[1]):
            weight[row, d] -= lr * gradients[i, d]


def adam(weight, averages, squares, rows, gradients, rate, one_less_beta1, one_less_beta2, eps):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        row = rows[i]
        for d in range(weight.shape[1]):
            gradient = gradients[i, d]
            average = averages[row, d] + one_less_beta1 * (gradient - averages[row, d])
            square = squares[row, d] + one_less_beta2 * (gradient * gradient - squares[row, d])
            averages[row, d] = average
            squares[row, d] = square
            weight[row, d] -= rate * average / (np.sqrt(square) + eps)


def adagrad(weight, sums, rows, gradients, rate, eps):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        row = rows[i]
        for d in range(weight.shape[1]):
            gradient = gradients[i, d]
            total = sums[row, d] + gradient * gradient
            sums[row, d] = total
            weight[row, d] -= rate * gradient / (np.sqrt(total) + eps)


def row_wise_adagrad(weight, sums, rows, gradients, rate, eps):  # type: ignore[no-untyped-def]
    dim = np.float32(weight.shape[1])
    for i in range(len(rows)):
        row = rows[i]
        square = np.float32(0.0)
        for d in range(weight.shape[1]):
            square += gradients[i, d] * gradients[i, d]
        total = sums[row, 0] + square / dim
        sums[row, 0] = total
        scale = rate / (np.sqrt(total) + eps)
        for d in range(weight.shape[1]):
            weight[row, d] -= scale * gradients[i, d]
