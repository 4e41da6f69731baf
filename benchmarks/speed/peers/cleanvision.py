"""CleanVision (PyPI, AGPL-3.0) beside our decoding and colour statistics.

    FACECAPTIONHQ_MODELS=... python -m benchmarks.speed.peers.cleanvision CORPUS [--num-samples 20] [--rounds 2]

It measures a picture's properties: dark, light, blurry, grey, odd size and shape, little information. `grayscale` is
the one that answers our filter `colour`; the seven together are what its users run. Its two kinds of duplicates are
left out, since `curate` looks for none. It finds neither faces, text nor drawings.
"""

import sys

from benchmarks.speed.peers.beside import Part, Peer, compare

PEER = Peer(
    name="cleanvision",
    requirements="cleanvision.lock",
    script="for_cleanvision.py",
    parts=(
        Part("grayscale", "Imagelab.find_issues, grayscale", ("decode", "colour")),
        Part("properties", "Imagelab.find_issues, all seven properties of single pictures", ("decode", "colour")),
    ),
)

if __name__ == "__main__":
    sys.exit(compare(PEER, None, __doc__))
