package com.example.alipayplus.sdk;

import java.io.IOException;

/** Stands in for the SDK's interface (protocol section 5). */
public interface NetworkProxy {
    HttpProxyResponseInfo sendHttpRequest(HttpProxyRequestInfo request) throws IOException;
}
