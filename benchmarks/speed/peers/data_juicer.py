"""Data-Juicer (PyPI `py-data-juicer`, Apache-2.0) beside our decoding and faces.

    FACECAPTIONHQ_MODELS=... python -m benchmarks.speed.peers.data_juicer CORPUS [--num-samples 20] [--rounds 2]

`image_face_count_filter` counts faces by OpenCV's Haar cascade at full size and keeps exactly one, its default and our
rule. `shape` adds `image_face_ratio_filter`, `image_aspect_ratio_filter`, `image_shape_filter` and `image_size_filter`
with the decoded picture shared, as its own fusion does. It has no filter for text on pictures: `image_text_*` compare a
picture with its caption by CLIP or BLIP, `image_watermark_filter` needs weights that it downloads from Hugging Face,
and only its `video_ocr_area_ratio_filter` calls EasyOCR, on frames of videos. None finds grey or drawn pictures.
"""

import sys

from benchmarks.speed.peers.beside import Part, Peer, compare

PEER = Peer(
    name="data_juicer",
    requirements="data_juicer.lock",
    script="for_data_juicer.py",
    parts=(
        Part("faces", "image_face_count_filter", ("decode", "faces")),
        Part("shape", "image_face_count, face_ratio, aspect_ratio, shape and size filters", ("decode", "faces")),
    ),
)

if __name__ == "__main__":
    sys.exit(compare(PEER, None, __doc__))
