#import <Foundation/Foundation.h>
#import <IAPConnect/IAPConnect.h>

NS_ASSUME_NONNULL_BEGIN

/** Nothing was sent: no connection, a certificate that is not trusted, or strings that are no Unicode text. */
extern NSString *const GatewayNotSent;

/** It was sent, and no answer of the gateway came back: whether it was executed is unknown. */
extern NSString *const GatewayNoAnswer;

/** The status of a call that surely was not executed. */
extern NSString *const GatewaySurelyNot;

/** The status of a call that may have been executed. */
extern NSString *const GatewayUnknown;

/** The user's login at the wallet. Called on many threads. */
@protocol GatewayLogin <NSObject>

/** The headers that prove the login, such as Authorization or Cookie; none if nobody is logged in. Asked for every call. */
- (NSDictionary<NSString *, NSString *> *)headers;

/**
 Renews the login, which the gateway refused; NO if only the user can. Not called again before it has completed, wherever that is.
 It must not wait for it: all answers arrive on the queue of this call. It has to complete: other calls that were refused wait for it.
 */
- (void)renewWithCompletion:(void (^)(BOOL renewed))completion;

@end

/**
 Hands the requests of the Alipay+ SDK to the wallet's gateway, and its answers to the SDK.

 A call is sent once. Neither this class nor NSURLSession repeats a POST, with one exception: after HTTP 401, where nothing was
 executed, the login is renewed and the call is sent once more. The SDK's handler is called exactly once, on any thread but the main
 one, beside those of other calls: with nil if no answer of the gateway came, else with its answer, be it a success or a failure. One
 instance serves all scenes.
 */
@interface GatewayNetworkProxy : NSObject <IAPNetworkProxy>

/**
 Learns of every failure before the SDK does: the resultCode of the gateway's answer (for every 401 SESSION_REQUIRED), or GatewayNotSent or
 GatewayNoAnswer; whether the call may have been executed, GatewaySurelyNot or GatewayUnknown, which no code says for sure; a message for
 logs, not for the user, which is resultMessage of the answer, else an error's number or the HTTP status; and what finds the call in the
 gateway's log, nil without an answer.
 */
@property (copy, nullable) void (^onFailure)(NSString *code, NSString *status, NSString *message, NSString *_Nullable requestId);

/**
 @param baseURL the gateway's origin with its sdk_proxy.path_prefix, such as https://api.wallet.example/alipayplus
 @param timeout seconds for each time that a call is sent; more than all the gateway's own deadlines together, as `gateway check` prints
 */
- (instancetype)initWithBaseURL:(NSURL *)baseURL timeout:(NSTimeInterval)timeout login:(id<GatewayLogin>)login NS_DESIGNATED_INITIALIZER;

- (instancetype)init NS_UNAVAILABLE;

@end

NS_ASSUME_NONNULL_END
