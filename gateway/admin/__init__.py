"""The operators' listener: metrics, probes and the status page.

Read-only, on an address of its own, and never reachable through the public one. Its server and its pages are the supervisor's; workers
tell it their `status`.
"""
