"""What the name of a member says: whose it is, and what it is to that sample (`docs/decisions/0044`)."""

IMAGE_SUFFIXES = frozenset(
    {"jpg", "jpeg", "jfif", "jpe", "jif", "pjpeg", "pjp", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff"}
    | {"avif", "heic", "heif", "jxl", "jp2", "j2k", "img", "bin"}
)
"""Member suffixes that hold a picture; what it really is, its bytes say."""
OTHER_PICTURES = frozenset(
    {"ppm", "pgm", "pbm", "pnm", "pam", "pfm", "tga", "pcx", "psd", "psb", "xcf", "qoi", "dds", "ktx", "exr", "hdr"}
    | {"dpx", "fits", "dcm", "ico", "cur", "icns", "svg", "eps", "jxr", "wdp", "jpf", "jpx", "jpm", "hif", "avifs"}
    | {"bpg", "flif", "djvu", "sgi", "ras", "xpm", "xbm", "emf", "wmf", "mng", "jng", "dng", "cr2", "cr3", "crw", "nef"}
    | {"raf", "orf", "rw2", "x3f", "mrw", "arw", "pef", "srw"}
)
"""Suffixes of pictures of a rarer kind. A file of a folder that has one is a picture, and its bytes say whether it can
be read; beside the picture of a tar's sample, such a member (a mask, a depth) is an extra."""
UNREAD_FORMAT = "img"
"""Suffix under which such a picture goes on: what it is, its bytes say."""
UNKNOWN_FORMAT = "bin"
"""Suffix of a picture whose bytes are those of no format known here."""
METADATA_SUFFIX = "json"
CAPTION_SUFFIX = "txt"
KNOWN_SUFFIXES = IMAGE_SUFFIXES | {METADATA_SUFFIX, CAPTION_SUFFIX}
DESKTOP_FILES = frozenset({"thumbs.db", "desktop.ini"})


def split_name(member: str) -> tuple[str, str]:
    """Return key and suffix of a member's name.

    The suffix is what follows the last dot where that is one that we read (`22.05.jpg` is `22.05` and `jpg`), else
    what follows the first dot of the base name, as WebDataset has it (`0001.seg.npy` is `0001` and `seg.npy`).
    """
    folder, slash, base = member.rpartition("/")
    stem, _, last = base.rpartition(".")
    if stem and last.lower() in KNOWN_SUFFIXES:
        return folder + slash + stem, last.lower()
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower()


def is_rare(file: str) -> bool:
    """Whether a file's name is that of a picture of a rarer kind."""
    return split_name(file)[1] not in KNOWN_SUFFIXES and bool(picture_stem(file))


def picture_stem(file: str) -> str:
    """Return a file's name without its suffix where that is one of a picture; empty where it is none."""
    stem, _, suffix = file.rpartition(".")
    is_picture = suffix.lower() in IMAGE_SUFFIXES or suffix.lower() in OTHER_PICTURES
    return stem if is_picture and stem.rpartition("/")[2] else ""


def stray(name: str) -> str | None:
    """Return why a file is nobody's picture, caption or metadata, whatever it holds, or None where it may be."""
    *folders, base = name.split("/")
    parts = [part for part in (*folders, base) if part not in (".", "..")]
    if any(part.startswith("PaxHeader") for part in folders):
        return "pax_header"
    if "__MACOSX" in folders or any(part.startswith(".") for part in parts) or base.lower() in DESKTOP_FILES:
        return "hidden"
    return None if base.partition(".")[2].strip(".") else "no_suffix"


def shorter_keys(key: str) -> list[str]:
    """Return what is left of a key when its last dotted part goes, and so on: whose extra a member may be."""
    folder, slash, base = key.rpartition("/")
    parts = base.split(".")
    return [folder + slash + ".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
