"""Tiny random networks of the published classes, in the files and folders that the real ones come in.

They show that everything runs from a configuration to a table, and nothing else: their pictures are noise.

    python -m facemakeup.evaluation.tiny FOLDER MANIFEST
    facecaptionhq evaluate FOLDER/evaluation.toml --out scores --judges here
"""
