"""The stage `caption`: a model writes a new caption of every curated picture, stored beside those that came with it."""
