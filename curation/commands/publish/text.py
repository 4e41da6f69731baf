"""What is, or would be, published, for a terminal."""

from typing import Any

from curation.commands.publish.stage import Publication
from curation.printable import counted, joined

NUM_SHOWN = 10


def values(publication: Publication) -> dict[str, Any]:
    """Return plain values for JSON."""
    return {
        "pack": str(publication.pack),
        "repo": publication.statements.repo,
        "form": publication.statements.form,
        "num_files": len(publication.files),
        "num_bytes": publication.num_bytes,
        "files": {path: vars(record) for path, record in sorted(publication.files.items())},
        "warnings": list(publication.warnings),
        "sent": publication.commit is not None,
        "commit": publication.commit,
    }


def tell(publication: Publication) -> str:
    """Return the form, the files, and whether they were sent."""
    statements, files = publication.statements, sorted(publication.files.items())
    lines = [f"{publication.pack} to {statements.repo}, form {statements.form}"]
    if statements.form == "pixels":
        lines.append(f"rights stated: {statements.rights}")
    lines += [f"  {path}  {counted(record.num_bytes, 'byte')}" for path, record in files[:NUM_SHOWN]]
    if len(files) > NUM_SHOWN:
        lines.append(f"  and {len(files) - NUM_SHOWN} more")
    lines.append(f"{counted(len(files), 'file')}, {counted(publication.num_bytes, 'byte')}")
    lines += publication.warnings
    if publication.commit is None:
        lines.append("nothing was sent: the same command with --yes does that")
    else:
        lines.append(f"sent: {publication.commit}")
    return joined(lines)
