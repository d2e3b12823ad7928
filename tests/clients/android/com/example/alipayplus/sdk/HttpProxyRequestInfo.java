package com.example.alipayplus.sdk;

/** Stands in for the SDK's class (protocol section 5). */
public class HttpProxyRequestInfo {
    public ProxyScene scene;
    public String httpProxyRequestHeader;
    public String httpProxyRequestData;
}
