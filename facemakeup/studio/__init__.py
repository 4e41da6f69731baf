"""A page of this machine on which pictures of people are drawn: mixed faces, styles, poses, scales."""
