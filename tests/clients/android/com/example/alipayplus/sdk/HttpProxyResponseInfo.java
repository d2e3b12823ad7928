package com.example.alipayplus.sdk;

/** Stands in for the SDK's class (protocol section 5). */
public class HttpProxyResponseInfo {
    public boolean isSuccess;
    public String errorCode;
    public String errorMessage;
    public String httpProxyResponseHeader;
    public String httpProxyResponseData;
}
