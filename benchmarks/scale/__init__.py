"""What do millions of rows and thousands of shards take?"""
