"""Alipay+ gateway: the reverse proxy between a wallet's app and Alipay+."""

__version__ = "0.1.0"
