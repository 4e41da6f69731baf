"""Is what people look at there at once?"""
