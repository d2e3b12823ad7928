#import "GatewayNetworkProxy.h"

NSString *const GatewayNotSent = @"NOT_SENT";
NSString *const GatewayNoAnswer = @"NO_ANSWER";
NSString *const GatewaySurelyNot = @"F";
NSString *const GatewayUnknown = @"U";

static const NSInteger ConnectionsToTheGateway = 16; // iOS has 4: a flow that polls would wait behind one slow call

/** Bytes; by default the gateway takes at most 4 MiB from Alipay+ (alipayplus.max_response): raise both together. */
static const NSUInteger MaxAnswer = 5 * 1024 * 1024;

/** Status 0 and an error if no whole HTTP answer came. */
typedef void (^Arrived)(NSInteger status, NSData *data, NSError *error);

/** What has come of one answer, and who waits for all of it. */
@interface GatewayAnswer : NSObject
@property (nonatomic) NSMutableData *data;
@property (nonatomic, copy) Arrived arrived;
@end

@implementation GatewayAnswer
@end

/** Collects the answers. A delegate of its own, since a session holds its delegate, and the adapter its session. */
@interface GatewayAnswers : NSObject <NSURLSessionDataDelegate>
@property (nonatomic, readonly) NSMutableDictionary<NSNumber *, GatewayAnswer *> *byTask; // synchronized: calls begin on any thread
@end

@implementation GatewayAnswers

- (instancetype)init {
    if ((self = [super init])) {
        _byTask = [NSMutableDictionary dictionary];
    }
    return self;
}

- (void)begin:(NSURLSessionDataTask *)task then:(Arrived)arrived {
    GatewayAnswer *answer = [GatewayAnswer new];
    answer.data = [NSMutableData data];
    answer.arrived = arrived;
    @synchronized(self.byTask) {
        self.byTask[@(task.taskIdentifier)] = answer;
    }
    [task resume];
}

- (GatewayAnswer *)answerTo:(NSURLSessionTask *)task {
    @synchronized(self.byTask) {
        return self.byTask[@(task.taskIdentifier)];
    }
}

- (void)URLSession:(NSURLSession *)session dataTask:(NSURLSessionDataTask *)task didReceiveData:(NSData *)data {
    NSMutableData *all = [self answerTo:task].data;
    if (data.length > MaxAnswer - all.length) {
        [task cancel]; // which ends it with an error
        return;
    }
    [all appendData:data];
}

- (void)URLSession:(NSURLSession *)session task:(NSURLSessionTask *)task didCompleteWithError:(NSError *)error {
    GatewayAnswer *answer = [self answerTo:task];
    @synchronized(self.byTask) {
        [self.byTask removeObjectForKey:@(task.taskIdentifier)];
    }
    answer.arrived(error ? 0 : ((NSHTTPURLResponse *)task.response).statusCode, answer.data, error);
}

/** A redirect is an answer like any other that is not the gateway's: the login goes nowhere else. */
- (void)URLSession:(NSURLSession *)session
                          task:(NSURLSessionTask *)task
    willPerformHTTPRedirection:(NSHTTPURLResponse *)response
                    newRequest:(NSURLRequest *)request
             completionHandler:(void (^)(NSURLRequest *))completionHandler {
    completionHandler(nil);
}

@end

/** Android's names; nil for a scene that is not known here, which the gateway takes too. */
static NSString *SceneName(IAPProxyScene scene) {
    if (scene == IAPProxySceneMiniProgram) {
        return @"PROXY_SCENE_MINIPROGRAM";
    }
    return scene == IAPProxyScenePay ? @"PROXY_SCENE_PAY" : nil;
}

/** The two strings arrive as they are: only their JSON form has escapes. Nil if one is missing or is no Unicode text. */
static NSData *Encode(IAPProxyRequestInfo *info) {
    NSString *header = info.proxyRequestHeader, *data = info.proxyRequestData;
    if (![header dataUsingEncoding:NSUTF8StringEncoding] || ![data dataUsingEncoding:NSUTF8StringEncoding]) {
        return nil;
    }
    NSMutableDictionary *json = [@{@"proxyRequestHeader" : header, @"proxyRequestData" : data} mutableCopy];
    [json setValue:SceneName(info.scene) forKey:@"scene"];
    return [NSJSONSerialization dataWithJSONObject:json options:0 error:NULL];
}

static NSString *String(NSDictionary *json, NSString *name) {
    return [json[name] isKindOfClass:NSString.class] ? json[name] : nil;
}

/** Nil if the answer is not of the gateway's shape: a resultCode, and HTTP 200, isSuccess and a resultStatus that say the same. */
static NSDictionary *Decode(NSInteger status, NSData *data) {
    id json = data.length ? [NSJSONSerialization JSONObjectWithData:data options:0 error:NULL] : nil;
    if (![json isKindOfClass:NSDictionary.class] || !String(json, @"resultCode")) {
        return nil;
    }
    NSArray *statuses = status == 200 ? @[ @"S" ] : @[ GatewaySurelyNot, GatewayUnknown ];
    return [statuses containsObject:json[@"resultStatus"]] && [json[@"isSuccess"] isEqual:@(status == 200)] ? json : nil;
}

static BOOL WasNotSent(NSError *error) {
    NSArray *codes = @[
        @(NSURLErrorCannotFindHost), @(NSURLErrorDNSLookupFailed), @(NSURLErrorCannotConnectToHost), @(NSURLErrorNotConnectedToInternet),
        @(NSURLErrorInternationalRoamingOff), @(NSURLErrorDataNotAllowed), @(NSURLErrorAppTransportSecurityRequiresSecureConnection),
        @(NSURLErrorServerCertificateHasBadDate), @(NSURLErrorServerCertificateNotYetValid), @(NSURLErrorServerCertificateUntrusted),
        @(NSURLErrorServerCertificateHasUnknownRoot)
    ];
    return [error.domain isEqual:NSURLErrorDomain] && [codes containsObject:@(error.code)];
}

@interface GatewayNetworkProxy ()
@property (nonatomic, readonly) NSURL *endpoint;
@property (nonatomic, readonly) id<GatewayLogin> login;
@property (nonatomic, readonly) GatewayAnswers *answers;
@property (nonatomic, readonly) NSURLSession *session;
@property (nonatomic, readonly) NSOperationQueue *handlers; // the session's queue has one at a time
@property (nonatomic, readonly) NSMutableArray<void (^)(BOOL)> *waitingForLogin;
@property (atomic) NSUInteger renewals; // written on the session's queue, as what became of the last
@property (nonatomic) BOOL isRenewed;
@end

@implementation GatewayNetworkProxy

- (instancetype)initWithBaseURL:(NSURL *)baseURL timeout:(NSTimeInterval)timeout login:(id<GatewayLogin>)login {
    if ((self = [super init])) {
        NSString *base = [baseURL.absoluteString stringByTrimmingCharactersInSet:[NSCharacterSet characterSetWithCharactersInString:@"/"]];
        _endpoint = [NSURL URLWithString:[base stringByAppendingString:@"/v1/sdkProxy"]];
        _login = login;
        _waitingForLogin = [NSMutableArray array];
        NSURLSessionConfiguration *configuration = NSURLSessionConfiguration.ephemeralSessionConfiguration;
        configuration.timeoutIntervalForRequest = timeout;
        configuration.timeoutIntervalForResource = timeout;
        configuration.requestCachePolicy = NSURLRequestReloadIgnoringLocalCacheData;
        configuration.URLCache = nil;
        configuration.URLCredentialStorage = nil;
        configuration.HTTPCookieStorage = nil;
        configuration.HTTPShouldSetCookies = NO; // else a Cookie header of the login would be replaced
        configuration.HTTPMaximumConnectionsPerHost = ConnectionsToTheGateway;
        _answers = [GatewayAnswers new];
        _session = [NSURLSession sessionWithConfiguration:configuration delegate:_answers delegateQueue:nil];
        _handlers = [NSOperationQueue new];
        _handlers.qualityOfService = NSQualityOfServiceUserInitiated; // a user waits
    }
    return self;
}

- (void)dealloc {
    [_session finishTasksAndInvalidate];
}

- (void)sendProxyRequest:(IAPProxyRequestInfo *)requestInfo
    withCompletionHandler:(void (^)(IAPProxyResponseInfo *responseInfo))completionHandler {
    NSData *body = Encode(requestInfo);
    if (!body) {
        [self tellCode:GatewayNotSent status:GatewaySurelyNot message:@"not two strings of Unicode text" requestId:nil];
        [self give:nil to:completionHandler];
        return;
    }
    [self post:body
         again:YES
          then:^(NSInteger status, NSData *data, NSError *error) {
              [self give:[self responseInfoForStatus:status data:data error:error] to:completionHandler];
          }];
}

/** What one handler of the SDK does, or waits for, holds up no other answer. */
- (void)give:(IAPProxyResponseInfo *)info to:(void (^)(IAPProxyResponseInfo *))completionHandler {
    [self.handlers addOperationWithBlock:^{
        completionHandler(info);
    }];
}

- (void)post:(NSData *)body again:(BOOL)again then:(Arrived)then {
    NSUInteger before = self.renewals;
    NSMutableURLRequest *request = [NSMutableURLRequest requestWithURL:self.endpoint];
    request.HTTPMethod = @"POST";
    request.HTTPBody = body;
    request.allHTTPHeaderFields = [self.login headers];
    [request setValue:@"application/json; charset=utf-8" forHTTPHeaderField:@"Content-Type"];
    [request setValue:@"application/json" forHTTPHeaderField:@"Accept"];
    Arrived arrived = ^(NSInteger status, NSData *data, NSError *error) {
        if (status != 401 || !again) {
            then(status, data, error);
            return;
        }
        [self renewAfter:before
               then:^(BOOL isRenewed) {
                   isRenewed ? [self post:body again:NO then:then] : then(status, data, error);
               }];
    };
    [self.answers begin:[self.session dataTaskWithRequest:request] then:arrived];
}

/**
 Of calls that are refused at the same time one renews the login; the others wait, or find that this has been done meanwhile. This is
 on the session's queue, which does one thing at a time: the app completes wherever it likes.
 */
- (void)renewAfter:(NSUInteger)before then:(void (^)(BOOL isRenewed))then {
    if (self.renewals != before) {
        then(self.isRenewed);
        return;
    }
    [self.waitingForLogin addObject:[then copy]];
    if (self.waitingForLogin.count == 1) {
        [self.login renewWithCompletion:^(BOOL renewed) {
            [self.session.delegateQueue addOperationWithBlock:^{
                [self goOn:renewed];
            }];
        }];
    }
}

- (void)goOn:(BOOL)isRenewed {
    self.isRenewed = isRenewed;
    self.renewals++;
    NSArray *waiting = [self.waitingForLogin copy];
    [self.waitingForLogin removeAllObjects];
    for (void (^next)(BOOL) in waiting) {
        next(isRenewed);
    }
}

/** The SDK's answer, or nil; tells the listener of a failure. */
- (IAPProxyResponseInfo *)responseInfoForStatus:(NSInteger)status data:(NSData *)data error:(NSError *)error {
    if (error) {
        NSString *message = [NSString stringWithFormat:@"%@ %ld", error.domain, (long)error.code];
        BOOL wasNotSent = WasNotSent(error);
        [self tellCode:wasNotSent ? GatewayNotSent : GatewayNoAnswer
                status:wasNotSent ? GatewaySurelyNot : GatewayUnknown
               message:message
             requestId:nil];
        return nil;
    }
    NSDictionary *json = Decode(status, data);
    if (!json) {
        BOOL wasRefused = status == 401;
        [self tellCode:wasRefused ? @"SESSION_REQUIRED" : GatewayNoAnswer
                status:wasRefused ? GatewaySurelyNot : GatewayUnknown
               message:[NSString stringWithFormat:@"HTTP %ld", (long)status]
             requestId:nil];
        return nil;
    }
    IAPProxyResponseInfo *info = [IAPProxyResponseInfo new];
    info.isSuccess = status == 200;
    if (info.isSuccess) {
        info.proxyResponseHeader = String(json, @"proxyResponseHeader");
        info.proxyResponseData = String(json, @"proxyResponseData");
    } else {
        info.errorCode = String(json, @"resultCode");
        info.errorMessage = String(json, @"resultMessage");
        NSString *resultStatus = String(json, @"resultStatus");
        [self tellCode:info.errorCode status:resultStatus message:info.errorMessage requestId:String(json, @"requestId")];
    }
    return info;
}

- (void)tellCode:(NSString *)code status:(NSString *)status message:(NSString *)message requestId:(NSString *)requestId {
    void (^onFailure)(NSString *, NSString *, NSString *, NSString *) = self.onFailure;
    if (onFailure) {
        onFailure(code, status, message, requestId);
    }
}

@end
