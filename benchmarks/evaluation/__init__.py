"""Do the judges of pictures behave?"""
