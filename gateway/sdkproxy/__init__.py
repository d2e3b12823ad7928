"""The SDK's request: the app's contract, then the session, then Alipay+, and the answer back in the app's contract."""
