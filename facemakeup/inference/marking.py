"""The mark of a drawn picture, for machines: IPTC's digital source type of what a trained model made, in XMP.

Source: IPTC Photo Metadata Standard 2025.1 (`DigitalSourceType`, `AISystemUsed`); XMP specification, part 3 (PNG).
"""

from typing import TYPE_CHECKING

from curation.version import CODE_VERSION

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
