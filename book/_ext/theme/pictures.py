"""Put the figures that cells draw into the pages in as few bytes as look the same.

Matplotlib writes a PNG of full color. A page shows it as lossless WebP, in the fewest
colors with which 999 of 1,000 pixels are off by no more than `UNSEEN`; where 256 are
too few, it stays as it was. The notebooks keep the PNG.
"""

from pathlib import Path

from docutils import nodes
from PIL import Image, ImageChops
from sphinx.transforms.post_transforms.images import ImageConverter

COLOURS = (32, 64, 128, 256)
UNSEEN = 8  # of 255
MANY = 0.001  # of the pixels


class Slim(ImageConverter):
    """Show a WebP in place of each PNG that a cell has drawn."""

    def match(self, node: nodes.image) -> bool:
        """Choose the pictures that MyST-NB has written, if the pages are HTML."""
        drawn = Path(node["uri"]).parent.name == "jupyter_execute"
        return self.app.builder.format == "html" and drawn

    def get_conversion_rule(self, node: nodes.image) -> tuple[str, str]:
        """Return the only one."""
        return "image/png", "image/webp"

    def convert(self, _from: str, _to: str) -> bool:
        """Write the WebP."""
        with Image.open(_from) as picture:
            fewest_colours(picture.convert("RGB")).save(_to, lossless=True, quality=100)
        return True


def fewest_colours(picture: Image.Image) -> Image.Image:
    """Return the picture in the fewest colours in which it looks the same."""
    for number in COLOURS:
        reduced = picture.quantize(
            number, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
        ).convert("RGB")
        if share_off(picture, reduced) < MANY:
            return reduced
    return picture


def share_off(picture: Image.Image, other: Image.Image) -> float:
    """Return the share of the pixels in which two pictures visibly differ."""
    red, green, blue = ImageChops.difference(picture, other).split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue).histogram()
    return sum(most[UNSEEN + 1 :]) / sum(most)
