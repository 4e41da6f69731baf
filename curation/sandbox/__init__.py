"""Measuring in a child process, so that nothing a picture does can harm the worker."""
