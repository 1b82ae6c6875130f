"""The process: its threads, what happens at fork and exit, errors that are kept, and the machine around it.

`workers` runs what may block and ends what was left open, `waiting` waits in a way that no interrupt breaks, `forking`
says what a fork has to wait for, and `kept_errors` keeps an error without the frames it went through. `machine_memory`
and `processors` say what this process may use. Nothing here knows S3, HTTP or an upload beyond the one method that
ends it.
"""
