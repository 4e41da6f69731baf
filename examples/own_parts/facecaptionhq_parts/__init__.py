"""Parts of one's own for FaceCaptionHQ: a face detector, a face recogniser and a gate of metadata."""
