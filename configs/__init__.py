"""Recipes that come with the package; `facecaptionhq curate ... --recipe facecaptionhq-4m` finds them by name."""
