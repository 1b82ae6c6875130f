"""One module for each library that is measured, each with a class `Client` that has one method for each operation.

They run in the environment of their library, imported by `contender.py`; nothing here may import the harness.
"""
