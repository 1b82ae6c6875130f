"""Single values: how they are read, checked and printed.

Entity tags, points in time, settings, environment variables, and texts that may contain secrets. Each kind has one
reader. A response's value that cannot be read is None and never a guess; a setting that cannot be used is a
ConfigurationError. Nothing here knows a request.
"""
