"""The marks of a drawn picture: for machines, IPTC's digital source type in XMP; for people, a line of text below it.

Source: IPTC Photo Metadata Standard 2025.1 (`DigitalSourceType`, `AISystemUsed`); XMP specification, part 3 (PNG).
"""

from typing import TYPE_CHECKING

import numpy as np

from curation.version import CODE_VERSION
from filters.base import RgbImage

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

KEYWORD = "XML:com.adobe.xmp"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/">
<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>
<Iptc4xmpExt:AISystemUsed>Face-MakeUp</Iptc4xmpExt:AISystemUsed>
<xmp:CreatorTool>facecaptionhq {CODE_VERSION}</xmp:CreatorTool>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


def mark() -> "PngInfo":
    """Return what a PNG carries beside its pixels; nothing of the prompt or of the person is in it."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(KEYWORD, XMP)
    return info


WORDS = ("AI-generated picture", "AI-generated", "AI")
"""What stands below a picture: the first that is no wider than it."""
MIN_LINE_PX = 12
LINES_PER_PICTURE = 24


def labelled(picture: RgbImage) -> RgbImage:
    """Return the picture (H, W, 3), no pixel of it changed, above a line that says what it is."""
    from PIL import Image, ImageDraw, ImageFont

    height, width, _ = picture.shape
    line = max(MIN_LINE_PX, height // LINES_PER_PICTURE)
    font = ImageFont.load_default(line * 0.75)
    words = next((words for words in WORDS if font.getlength(words) < width), WORDS[-1])
    strip = Image.new("RGB", (width, line), (24, 24, 24))
    ImageDraw.Draw(strip).text((width / 2, line / 2), words, fill=(255, 255, 255), font=font, anchor="mm")
    return np.concatenate([picture, np.asarray(strip)])
