"""Colour as the eye takes it: contrast after WCAG, difference after CIE 1976, and what colour-blind eyes keep of it."""

import numpy as np

# Machado, Oliveira and Fernandes (2009), severity 1: linear RGB as seen without the middle (deuteranopia) or the long
# (protanopia) cones.
WITHOUT = {
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(colour: str) -> np.ndarray:
    """Return the linear RGB of a hex colour."""
    channels = np.array([int(colour.lstrip("#")[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """Return the CIE L*a*b* coordinates of a linear RGB colour."""
    ratio = TO_XYZ @ np.clip(light, 0, 1) / TO_XYZ.sum(axis=1)
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def difference(first: str, second: str, without: str | None = None) -> float:
    """Return the CIE76 difference of two colours, as seen by everyone or by an eye without one kind of cone."""
    eye = WITHOUT[without] if without else np.eye(3)
    return float(np.linalg.norm(lab(eye @ linear(first)) - lab(eye @ linear(second))))


def contrast(first: str, second: str) -> float:
    """Return the WCAG contrast ratio of two colours."""
    bright, dark = sorted((float(TO_XYZ[1] @ linear(colour)) for colour in (first, second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)
