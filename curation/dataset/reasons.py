"""What it means that a stage turned a sample away: a sentence for every reason that is no filter's."""

from collections.abc import Mapping
from types import MappingProxyType

RANK: Mapping[str, str] = {
    "below_cut": "it can be ranked, and the best `rank.top` are better",
    "url_unusable": "the metadata has no URL that could be asked",
    "not_in_laion": "FaceCaption names it, and no row of LAION has its URL",
    "not_in_facecaption": "LAION has it, and FaceCaption has no caption for its URL",
    "no_size": "the metadata does not say how large it is",
    "no_face_box": "the metadata names no face, by which `rank.key` would rank it",
    "blocked_url": "a blocklist names its address",
    "blocked_domain": "a blocklist names its domain",
    "blocked_hash": "a blocklist names its bytes",
    "not_in_release": "the cleaned release does not hold it",
    "unsafe_and_possible_minor": "it may be unsafe, and its captions speak of a child",
    "nsfw": "the metadata calls it unsafe",
    "nsfw_unknown": "the metadata does not say that it is safe",
    "punsafe_high": "the metadata gives it a high probability of being unsafe",
    "pwatermark_high": "the metadata gives it a high probability of a watermark",
    "side_too_small": "the metadata says that its shorter side is too small",
    "aspect_high": "the metadata says that it is too long for its width",
    "num_faces_low": "the metadata names too few faces",
    "num_faces_high": "the metadata names too many faces",
    "face_too_small": "the largest face that the metadata names is too small",
}
FETCH: Mapping[str, str] = {
    "dns": "its host has no address, or nobody could be asked for it",
    "connection": "its host took no connection, or broke it off",
    "timeout": "its host was silent for too long, or it took longer than one URL may",
    "too_slow": "its host sent fewer bytes a second than is waited for",
    "tls": "its host could not prove who it is",
    "http_403": "its host refused: forbidden",
    "http_404": "its host has it no more: not found",
    "http_408": "its host gave up waiting for us",
    "http_410": "its host has it no more: gone for good",
    "http_429": "its host wants fewer requests",
    "http_5xx": "its host has a fault of its own",
    "redirect_loop": "its URL leads round in a circle, or through too many redirects",
    "bad_url": "its URL, or one that it leads to, cannot be asked",
    "bad_answer": "its host answered against the rules of HTTP",
    "bad_encoding": "its host sent it in a coding that was not asked for, or that is broken",
    "partial_body": "its host sent only a part of it",
    "empty_body": "its host answered with nothing",
    "truncated_body": "its host broke off before the end",
    "too_many_bytes": "it is larger than `fetch.max_bytes`",
    "blocked_scheme": "its URL, or one that it leads to, is neither http nor https",
    "blocked_address": "its URL leads to an address that is not public",
    "blocked_domain": "its URL, or one that it leads to, lies in a domain that a blocklist names",
    "blocked_url": "its URL, or one that it leads to, is on a blocklist",
    "opted_out": "its host, or the file itself, does not want it used",
    "robots_unreachable": "its host's robots.txt could not be read, which counts as a no",
    "tdmrep_unreachable": "its host's tdmrep.json could not be read, which counts as a no",
    "host_backoff": "its host asked for more silence than is waited for",
    "host_unreachable": "its host was given up after too many failures",
    "part_deadline": "the time for its part of the selection was over",
    "lost_by_downloader": "the downloader gave no account of it",
    "not_downloaded": "something went wrong that has no other name; the ledger has the message",
    "withheld": "a hash list names it; it lies aside, and nobody looks at it",
    "forgotten": "it was forgotten, or its URL leads to what was",
    "unsafe_and_possible_minor": "it may be unsafe, and its captions speak of a child",
}
"""Other codes of HTTP have a reason of their own, too: `http_451`."""
CURATE: Mapping[str, str] = {
    "duplicate_uid": "the same picture, by its URL or else its bytes, came before it in its shard",
    "opted_out": "its own metadata reserves it from training",
    "no_image": "there are texts of this key and no picture",
    "several_images": "several pictures have this key",
    "duplicate_key": "another sample has this key, and the first one counts",
    "not_a_file": "a member of it is a link, a device or a sparse file",
    "image_too_large": "the picture is larger than a member of a tar may be",
    "caption_too_large": "the caption is larger than a text may be",
    "metadata_too_large": "the metadata is larger than a text may be",
    "broken_caption": "the caption is no text",
    "broken_metadata": "the metadata is no JSON object",
}
PACK: Mapping[str, str] = {
    "no_caption": "it has no caption",
    "duplicate_uid": "the same picture, by its URL, lies in another shard and is better",
    "duplicate_bytes": "another picture has the very same bytes and is better",
    "near_duplicate": "another picture looks nearly the same and is better",
    "caption_short": "no caption says enough words",
    "caption_long": "every caption is too long",
    "caption_language": "no caption is in a language that the recipe takes",
    "caption_boilerplate": "the caption is what agencies, galleries or cameras write",
    "caption_personal_data": "the caption holds an e-mail address or a telephone number",
    "caption_repeated": "too many pictures have this caption",
}
FORGET: Mapping[str, str] = {"forgotten": "somebody asked for it to be taken out; a tombstone is left"}

OF_STAGES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"rank": RANK, "fetch": FETCH, "curate": CURATE, "pack": PACK, "forget": FORGET}
)
"""Who rejects -> reason -> what it means, for all that is neither a filter, `unreadable` nor `quarantine`."""
