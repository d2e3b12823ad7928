"""The operators' listener: metrics, probes and the status page.

Read-only, on an address of its own, and never reachable through the public one.
"""

from gateway.admin.server import Health, admin_app
from gateway.admin.site import Site

__all__ = ["Health", "Site", "admin_app"]
