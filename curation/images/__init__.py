"""From stored bytes to pixels: containers, the decode gate, one definition of sRGB."""
