// The part of NSURLSession that the adapter uses, for a Foundation that has none. Given to the compiler with -include.
#ifndef STAND_IN_URLSESSION
#define STAND_IN_URLSESSION
#ifdef __OBJC__
#import <Foundation/Foundation.h>

#undef NS_UNAVAILABLE // empty in GNUstep
#define NS_UNAVAILABLE __attribute__((unavailable))

enum { // of Apple's, which GNUstep has not
    NSURLErrorInternationalRoamingOff = -1018,
    NSURLErrorDataNotAllowed = -1020,
    NSURLErrorAppTransportSecurityRequiresSecureConnection = -1022,
};

NS_ASSUME_NONNULL_BEGIN

@class NSURLSession;
@class NSURLSessionTask;
@class NSURLSessionDataTask;

@protocol NSURLSessionTaskDelegate <NSObject>
@optional
- (void)URLSession:(NSURLSession *)session
                          task:(NSURLSessionTask *)task
    willPerformHTTPRedirection:(NSHTTPURLResponse *)response
                    newRequest:(NSURLRequest *)request
             completionHandler:(void (^)(NSURLRequest *_Nullable))completionHandler;
- (void)URLSession:(NSURLSession *)session task:(NSURLSessionTask *)task didCompleteWithError:(nullable NSError *)error;
@end

@protocol NSURLSessionDataDelegate <NSURLSessionTaskDelegate>
@optional
- (void)URLSession:(NSURLSession *)session dataTask:(NSURLSessionDataTask *)dataTask didReceiveData:(NSData *)data;
@end

@interface NSURLSessionConfiguration : NSObject
@property (class, readonly) NSURLSessionConfiguration *ephemeralSessionConfiguration;
@property NSTimeInterval timeoutIntervalForRequest;
@property NSTimeInterval timeoutIntervalForResource;
@property NSURLRequestCachePolicy requestCachePolicy;
@property (nullable) NSURLCache *URLCache;
@property (nullable) NSURLCredentialStorage *URLCredentialStorage;
@property (nullable) NSHTTPCookieStorage *HTTPCookieStorage;
@property BOOL HTTPShouldSetCookies;
@property NSInteger HTTPMaximumConnectionsPerHost;
@end

@interface NSURLSessionTask : NSObject
@property (readonly) NSUInteger taskIdentifier;
@property (readonly, copy, nullable) NSURLResponse *response;
- (void)resume;
- (void)cancel;
@end

@interface NSURLSessionDataTask : NSURLSessionTask
@end

/** Like Apple's it lives, with its delegate, until it is invalidated, and follows redirects unless the delegate says otherwise. */
@interface NSURLSession : NSObject
@property (readonly) NSOperationQueue *delegateQueue;
/** Called when a session is invalidated. */
@property (class, copy, nullable) void (^onInvalidation)(void);
+ (NSURLSession *)sessionWithConfiguration:(NSURLSessionConfiguration *)configuration
                                  delegate:(nullable id<NSURLSessionTaskDelegate>)delegate
                             delegateQueue:(nullable NSOperationQueue *)queue;
- (NSURLSessionDataTask *)dataTaskWithRequest:(NSURLRequest *)request;
- (void)finishTasksAndInvalidate;
@end

/** On Apple's it says how soon its threads get the processor; here it says nothing. */
@interface NSOperationQueue (QualityOfService)
@property NSQualityOfService qualityOfService;
@end

NS_ASSUME_NONNULL_END
#endif
#endif
