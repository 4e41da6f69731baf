"""The demo: a small corpus of real photos, a web server for it, and the whole main job run over both."""
