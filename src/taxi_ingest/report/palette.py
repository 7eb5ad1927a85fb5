"""The colours: what is drawn with the light ones follows the reader's choice of light and dark by CSS."""

from collections.abc import Mapping

_COLORS: Mapping[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#15181c"),
    "panel": ("#f6f8fa", "#1d2126"),
    "ink": ("#1f2429", "#e8eaed"),
    "soft": ("#59636e", "#a3adb8"),
    "line": ("#d5dbe1", "#3b424a"),
    "blank": ("#e9ecef", "#2a2f36"),
    "good": ("#2c7a43", "#5fc27e"),
    "bad": ("#b3261e", "#ff8a80"),
    "scale0": ("#e3eefa", "#1b2a3b"),
    "scale1": ("#c0d8f0", "#1f3f60"),
    "scale2": ("#93bce4", "#255a8c"),
    "scale3": ("#5f9ad2", "#3179b8"),
    "scale4": ("#3577b6", "#559fd8"),
    "scale5": ("#1b5590", "#8cc3ee"),
    "scale6": ("#0b3462", "#cfe6fb"),
    "line0": ("#2a6fb0", "#6fb4ee"),
    "line1": ("#c2501c", "#ff9d66"),
    "line2": ("#348a4a", "#74cf8c"),
    "line3": ("#8454b3", "#c39bea"),
    "line4": ("#9a7400", "#e0b93a"),
    "line5": ("#0f8891", "#53cdd6"),
    "line6": ("#ad4377", "#f08bbb"),
    "line7": ("#5d6670", "#b0b8c1"),
}
"""Name -> on light, on dark. No two light ones are alike: each is found again by its value."""

LIGHT: Mapping[str, str] = {name: light for name, (light, _) in _COLORS.items()}
SCALE = [LIGHT[f"scale{step}"] for step in range(7)]
LINES = [LIGHT[f"line{number}"] for number in range(8)]


def css(dark: bool) -> str:
    """The colours as CSS variables."""
    return " ".join(f"--{name}: {colors[dark]};" for name, colors in _COLORS.items())


def with_variables(text: str) -> str:
    """A drawing whose light colours are CSS variables."""
    for name, color in LIGHT.items():
        text = text.replace(color, f"var(--{name})")
    return text
