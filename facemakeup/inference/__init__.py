"""From a trained adapter to pictures, and to files that stock diffusers loads."""
