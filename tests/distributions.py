"""Distributions that are installed for one test: their metadata, as an installer writes it."""

from pathlib import Path


def bring(folder: Path, distribution: str, points: str, version: str = "1.0") -> None:
    """Write the metadata of a distribution with these entry points into a folder where Python looks for packages."""
    metadata = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(points)
