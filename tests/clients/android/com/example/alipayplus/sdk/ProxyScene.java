package com.example.alipayplus.sdk;

/** Stands in for the SDK's enum (protocol section 5); the last is one that the adapter has never heard of. */
public enum ProxyScene {
    PROXY_SCENE_MINIPROGRAM,
    PROXY_SCENE_PAY,
    PROXY_SCENE_AC,
    PROXY_SCENE_NEW
}
