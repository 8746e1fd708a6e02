"""Compress the figures that cells draw.

A page shows matplotlib's PNG as lossless WebP, quantized to the fewest colors with
which 998 of 1,000 pixels are off by at most `UNSEEN`, or not at all if 256 are too few.
The notebooks keep the PNG.
"""

from pathlib import Path

from docutils import nodes
from PIL import Image, ImageChops
from sphinx.transforms.post_transforms.images import ImageConverter

COLORS = (32, 64, 128, 256)
UNSEEN = 8  # of 255
MANY = 0.002  # of the pixels


class Slim(ImageConverter):
    """Replace each figure drawn by a cell."""

    def match(self, node: nodes.image) -> bool:
        """Match the figures that MyST-NB has written, in HTML builds."""
        drawn = Path(node["uri"]).parent.name == "jupyter_execute"
        return self.app.builder.format == "html" and drawn

    def get_conversion_rule(self, node: nodes.image) -> tuple[str, str]:
        """Convert PNG to WebP."""
        return "image/png", "image/webp"

    def convert(self, _from: str, _to: str) -> bool:
        """Write the WebP."""
        with Image.open(_from) as picture:
            fewest_colors(picture.convert("RGB")).save(_to, lossless=True, quality=100)
        return True


def fewest_colors(picture: Image.Image) -> Image.Image:
    """Quantize a picture to the fewest colors that look the same."""
    for number in COLORS:
        reduced = picture.quantize(
            number, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
        ).convert("RGB")
        if share_off(picture, reduced) < MANY:
            return reduced
    return picture


def share_off(picture: Image.Image, other: Image.Image) -> float:
    """Return the fraction of pixels that visibly differ."""
    red, green, blue = ImageChops.difference(picture, other).split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue).histogram()
    return sum(most[UNSEEN + 1 :]) / sum(most)
