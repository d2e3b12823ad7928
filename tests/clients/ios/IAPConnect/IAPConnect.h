// Stands in for the SDK's header (protocol section 5).
#import <Foundation/Foundation.h>

typedef NS_ENUM(NSInteger, IAPProxyScene) {
    IAPProxySceneMiniProgram,
    IAPProxyScenePay,
    IAPProxySceneNew, // one that the adapter has never heard of
};

@interface IAPProxyRequestInfo : NSObject
@property (nonatomic) IAPProxyScene scene;
@property (nonatomic, copy) NSString *proxyRequestHeader;
@property (nonatomic, copy) NSString *proxyRequestData;
@end

@interface IAPProxyResponseInfo : NSObject
@property (nonatomic) BOOL isSuccess;
@property (nonatomic, copy) NSString *errorCode;
@property (nonatomic, copy) NSString *errorMessage;
@property (nonatomic, copy) NSString *proxyResponseHeader;
@property (nonatomic, copy) NSString *proxyResponseData;
@end

@protocol IAPNetworkProxy <NSObject>
- (void)sendProxyRequest:(IAPProxyRequestInfo *)requestInfo
    withCompletionHandler:(void (^)(IAPProxyResponseInfo *responseInfo))completionHandler;
@end
