"""The measures of semantic change detection, from one confusion matrix over the pixels of both dates.

q[i, j] counts the pixels of class j that are predicted as class i; class 0 is void, no change.

    OA     sum_i q[i, i] / sum q
    mIoU   (IoU_u + IoU_c) / 2 of unchanged and changed:
           IoU_u = q[0, 0] / (sum_j q[0, j] + sum_i q[i, 0] - q[0, 0])
           IoU_c = sum_(i, j > 0) q[i, j] / (sum q - q[0, 0])
    SeK    exp(IoU_c - 1) * kappa, Cohen's kappa of q with q[0, 0] set to 0
    F_scd  2 P R / (P + R);  P = sum_(i > 0) q[i, i] / sum_(i > 0, j) q[i, j], R the same over sum_(i, j > 0)

mIoU and SeK: Yang et al., "Asymmetric Siamese Networks for Semantic Change Detection in Aerial Images",
IEEE TGRS 2021 (SECOND). OA and F_scd: Ding et al., "Bi-Temporal Semantic Reasoning for the Semantic Change
Detection in HR Remote Sensing Images", IEEE TGRS 2022 (Bi-SRNet). With a single class, the kappa of SeK is 0
or less and has no meaning. 0 / 0 counts as 0, and so does a kappa whose expected agreement is 1.
"""

import math

import numpy as np
import torch
from torch import Tensor

from tools.scoring.table import aligned

TITLES = {
    "oa": "OA", "miou": "mIoU", "sek": "SeK", "f_scd": "F_scd", "p_scd": "P_scd", "r_scd": "R_scd",
}  # fmt: skip
HEADLINES = {name: TITLES[name] for name in ("oa", "miou", "sek", "f_scd")}


def confusion(predicted: Tensor, truth: Tensor, count: int) -> np.ndarray:
    """The confusion matrix q (count, count) of two tensors of the same shape with class indices."""
    pixels = torch.bincount((predicted.long() * count + truth.long()).flatten(), minlength=count * count)
    return pixels.reshape(count, count).cpu().numpy()


def nothing_changed(q: np.ndarray) -> np.ndarray:
    """The floor: the confusion matrix of a detector that predicts no change, on the same pixels."""
    floor = np.zeros_like(q)
    floor[0] = q.sum(0)
    return floor


def detection_scores(q: np.ndarray) -> dict[str, float]:
    """All measures in percent."""
    q = q.astype(np.float64)
    correct, total = np.trace(q), q.sum()
    changed, correct_changed = q[1:, 1:].sum(), correct - q[0, 0]
    iou_changed = ratio(changed, total - q[0, 0])
    iou_unchanged = ratio(q[0, 0], q[0].sum() + q[:, 0].sum() - q[0, 0])
    precision, recall = ratio(correct_changed, q[1:].sum()), ratio(correct_changed, q[:, 1:].sum())
    scores = {
        "oa": ratio(correct, total),
        "miou": (iou_unchanged + iou_changed) / 2,
        "sek": math.exp(iou_changed - 1) * kappa_of_change(q),
        "f_scd": ratio(2 * precision * recall, precision + recall),
        "p_scd": precision,
        "r_scd": recall,
    }
    return {name: 100 * float(score) for name, score in scores.items()}


def format_table(scores: dict[str, dict[str, float]]) -> str:
    """Format measures as a table with a row for each name."""
    rows = [["", *TITLES.values()]]
    for name, measures in scores.items():
        rows.append([name, *(f"{measures[key]:.1f}" for key in TITLES)])
    return aligned(rows)


def kappa_of_change(q: np.ndarray) -> float:
    """Cohen's kappa over all pixels except the correctly predicted unchanged ones."""
    q = q.copy()
    q[0, 0] = 0
    observed = ratio(np.trace(q), q.sum())
    expected = ratio(q.sum(1) @ q.sum(0), q.sum() ** 2)
    return ratio(observed - expected, 1 - expected)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
