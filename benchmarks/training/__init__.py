"""What does training cost, and does it work end to end?"""
