"""What every card says in words, in its Markdown and for machines alike; no number stands here."""

SUMMARY = "{pictures} with captions, {whence}, measured and chosen by a recipe."
REMOVAL = (
    "Whoever owns a picture or is shown in one may object at any time and without a reason. The picture then "
    "leaves tars, tables and index, hashed tombstones keep it out of every later state, and the data set is published "
    "again."
)
FORBIDDEN = (
    "Not to be used to recognise or identify people, or to build an index of faces for that",
    "Not to be used to make intimate pictures of anybody, or pictures that sexualise minors",
    "Not to be used to infer ethnicity, religion, health, political opinion or sexual orientation of anybody",
    "Not to be used to deceive anybody with pictures of a real person",
)
LIMITS_OF_USE = (
    "Verdicts come from detectors that err; the limits and every score are published with the samples",
    "Captions were found with the pictures, or written by a model, and were not checked by a person",
    "No gate proves that a picture is lawful everywhere, that nobody in it is a minor, or that its licence holds",
)
BIASES = (
    "Whom the sources show more often is over-represented: by language, region, age, profession and fame",
    "Face detectors find some people worse than others, and what they miss is not in the data",
    "No demographic label is stored of anybody, so no share of any group is stated here",
)
PERSONAL = (
    "Every picture shows a face, and captions may name the person",
    "Addresses of pictures, authors and copyright notices are carried so that rights can be heeded",
    "No identity, embedding of identity, or index of faces is part of the data",
)


def pictures(num: object) -> str:
    """Return a number of pictures of faces in words."""
    return f"{num} {'picture of a face' if num == 1 else 'pictures of faces'}"
