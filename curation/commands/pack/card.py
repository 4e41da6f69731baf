"""The card of a packed folder: what Hugging Face `datasets` and people read first.

Without it `load_dataset(FOLDER)` takes the manifest and the ledgers for data. It says nothing that `forget` changes.
"""

from curation.commands.pack.members import PICTURE_SUFFIX

CARD = f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: "*.tar"
---

# Packed samples

One series of WebDataset tars, in shuffled order. Each sample is a picture `.{PICTURE_SUFFIX}`, its metadata `.json` and
its caption `.txt`. Every picture has the member name `.{PICTURE_SUFFIX}`, so that all samples have the same columns in
every reader; the bytes are JPEG, PNG or WEBP, and `format` in the metadata says which. Decoders that look at the bytes
(Pillow, OpenCV, torchvision's `decode_image`) read them all.

Pictures may be turned by EXIF, be CMYK, have an alpha channel or a wide-gamut profile. `open_picture` of `curation`
makes of the bytes the upright 8-bit sRGB that the trainer sees.
"""
