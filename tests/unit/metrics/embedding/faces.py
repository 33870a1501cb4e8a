"""Embeddings of a few people, and comparisons of them."""

from __future__ import annotations

from typing import Any

import numpy as np


def scene(
    seed: int = 0, people: int = 12, images: int = 6, size: int = 8, spread: float = 0.9
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Results and truths: noisy directions, every image compared with all later ones."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, size))
    results, truths = [], []
    for image in range(people * images):
        person = image % people
        embedding = centres[person] + spread * rng.normal(size=size)
        later = np.arange(image + 1, people * images)
        pairs = np.stack([later, later % people == person, (image + later) % 10], axis=1)
        results.append({"embedding": embedding.astype(np.float32)})
        truths.append({"image_id": image, "identity": person, "pairs": pairs.astype(np.int64)})
    return results, truths


def comparisons(
    results: list[dict[str, Any]], truths: list[dict[str, Any]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosine, whether of one identity, and fold of every pair, one by one."""
    scores, same, fold = [], [], []
    for result, truth in zip(results, truths, strict=True):
        a = result["embedding"].astype(np.float64)
        for other, is_same, number in truth["pairs"]:
            b = results[other]["embedding"].astype(np.float64)
            scores.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            same.append(bool(is_same))
            fold.append(number)
    return np.array(scores), np.array(same), np.array(fold)
