"""Is this caller logged in at the MPP, and who is it: the forward call-out, RFC 7662 introspection, a cache, single flight.

The decision is about the credential, never about the path. What the outcome means for the request is the caller's matter.
"""

from gateway.session.check import Check, Identity, Work, identity_or_refusal
from gateway.session.credential import RawHeaders
from gateway.session.service import Sessions

__all__ = ["Check", "Identity", "RawHeaders", "Sessions", "Work", "identity_or_refusal"]
