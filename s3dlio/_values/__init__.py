"""How single values read and print: entity tags, points in time, and texts that hold secrets.

Pure functions of text, each the only reader of its kind. What cannot be read is None and never a guess. Nothing here
knows a request, a setting or an error of ours.
"""
