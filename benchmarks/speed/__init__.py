"""What does a picture cost, beside the obvious pipeline, the floor and peers?"""
