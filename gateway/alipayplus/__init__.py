"""The Alipay+ protocol: messages, result codes, signature, keys, client. No web server in it; usable as a library."""
