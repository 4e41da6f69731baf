"""From a photo to what the model is given of a face: crop, alignment, identity, pose map."""
