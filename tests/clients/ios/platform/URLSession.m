#import "URLSession.h"
#import <curl/curl.h>

@implementation NSURLSessionConfiguration

+ (NSURLSessionConfiguration *)ephemeralSessionConfiguration {
    return [self new];
}

@end

@interface NSURLSession ()
@property (readonly) NSURLSessionConfiguration *configuration;
@property (readonly) id<NSURLSessionDataDelegate> delegate;
@end

@interface NSURLSessionTask ()
@property NSUInteger taskIdentifier;
@property (copy) NSURLResponse *response;
@property NSURLSession *session;
@property NSURLRequest *request;
@property BOOL isCancelled;
- (void)take:(NSData *)data;
@end

static size_t Receive(char *bytes, size_t size, size_t count, void *task) {
    [(__bridge NSURLSessionTask *)task take:[NSData dataWithBytes:bytes length:size * count]];
    return ((__bridge NSURLSessionTask *)task).isCancelled ? 0 : size * count;
}

static NSInteger ErrorCode(CURLcode code) {
    switch (code) {
        case CURLE_OPERATION_TIMEDOUT:
            return NSURLErrorTimedOut;
        case CURLE_COULDNT_RESOLVE_HOST:
            return NSURLErrorCannotFindHost;
        case CURLE_COULDNT_CONNECT:
            return NSURLErrorCannotConnectToHost;
        case CURLE_PEER_FAILED_VERIFICATION:
            return NSURLErrorServerCertificateUntrusted;
        case CURLE_UNSUPPORTED_PROTOCOL: // an answer that is not HTTP/1
        case CURLE_WEIRD_SERVER_REPLY:
            return NSURLErrorBadServerResponse;
        case CURLE_WRITE_ERROR: // what came was not taken
            return NSURLErrorCancelled;
        default:
            return NSURLErrorNetworkConnectionLost;
    }
}

@implementation NSURLSessionTask

- (void)resume {
    [NSThread detachNewThreadSelector:@selector(run) toTarget:self withObject:nil];
}

- (void)cancel {
    self.isCancelled = YES;
}

- (void)run {
    @autoreleasepool {
        long status = 0;
        NSURLRequest *next = nil;
        CURLcode code = [self perform:self.request status:&status next:&next];
        while (code == CURLE_OK && next && (next = [self redirected:next])) {
            code = [self perform:next status:&status next:&next];
        }
        [self completeWithStatus:status code:code];
    }
}

/** On the queue of the session, which is a serial one, as Apple's is; the peer is slowed down meanwhile. */
- (void)take:(NSData *)data {
    NSBlockOperation *operation = [NSBlockOperation blockOperationWithBlock:^{
        [self.session.delegate URLSession:self.session dataTask:(NSURLSessionDataTask *)self didReceiveData:data];
    }];
    [self.session.delegateQueue addOperations:@[ operation ] waitUntilFinished:YES];
}

- (CURLcode)perform:(NSURLRequest *)request status:(long *)status next:(NSURLRequest **)next {
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    for (NSString *name in request.allHTTPHeaderFields) {
        NSString *header = [NSString stringWithFormat:@"%@: %@", name, [request valueForHTTPHeaderField:name]];
        headers = curl_slist_append(headers, header.UTF8String);
    }
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_URL, request.URL.absoluteString.UTF8String);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)request.HTTPBody.length);
    curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS, request.HTTPBody.bytes);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(self.session.configuration.timeoutIntervalForResource * 1000));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, Receive);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, (__bridge void *)self);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
    char *location = NULL;
    curl_easy_getinfo(curl, CURLINFO_REDIRECT_URL, &location);
    if (location) {
        NSMutableURLRequest *redirected = [request mutableCopy];
        redirected.URL = [NSURL URLWithString:[NSString stringWithUTF8String:location]];
        *next = redirected;
    } else {
        *next = nil;
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return code;
}

- (NSURLRequest *)redirected:(NSURLRequest *)request {
    id<NSURLSessionTaskDelegate> delegate = self.session.delegate;
    SEL asks = @selector(URLSession:task:willPerformHTTPRedirection:newRequest:completionHandler:);
    if (![delegate respondsToSelector:asks]) {
        return request;
    }
    __block NSURLRequest *chosen = request;
    [delegate URLSession:self.session
                              task:self
        willPerformHTTPRedirection:[self responseWithStatus:307]
                        newRequest:request
                 completionHandler:^(NSURLRequest *answer) {
                     chosen = answer;
                 }];
    return chosen;
}

- (NSHTTPURLResponse *)responseWithStatus:(long)status {
    return [[NSHTTPURLResponse alloc] initWithURL:self.request.URL statusCode:status HTTPVersion:@"HTTP/1.1" headerFields:@{}];
}

/** On the queue of the session, after all that has come. */
- (void)completeWithStatus:(long)status code:(CURLcode)code {
    NSError *error = nil;
    if (code != CURLE_OK) {
        error = [NSError errorWithDomain:NSURLErrorDomain code:ErrorCode(code) userInfo:nil];
    }
    self.response = error ? nil : [self responseWithStatus:status];
    NSURLSession *session = self.session;
    [session.delegateQueue addOperationWithBlock:^{
        [session.delegate URLSession:session task:self didCompleteWithError:error];
    }];
    self.session = nil;
}

@end

@implementation NSURLSessionDataTask
@end

@implementation NSURLSession {
    BOOL _invalid;
    NSUInteger _tasks;
}

static NSMutableSet *alive;
static void (^onInvalidation)(void);

+ (void)initialize {
    if (self == [NSURLSession class]) {
        alive = [NSMutableSet set];
    }
}

+ (void (^)(void))onInvalidation {
    return onInvalidation;
}

+ (void)setOnInvalidation:(void (^)(void))block {
    onInvalidation = [block copy];
}

+ (NSURLSession *)sessionWithConfiguration:(NSURLSessionConfiguration *)configuration
                                  delegate:(id<NSURLSessionDataDelegate>)delegate
                             delegateQueue:(NSOperationQueue *)queue {
    NSURLSession *session = [self new];
    session->_configuration = configuration;
    session->_delegate = delegate;
    session->_delegateQueue = queue;
    if (!queue) {
        session->_delegateQueue = [NSOperationQueue new];
        session->_delegateQueue.maxConcurrentOperationCount = 1;
    }
    @synchronized(alive) {
        [alive addObject:session];
    }
    return session;
}

- (NSURLSessionDataTask *)dataTaskWithRequest:(NSURLRequest *)request {
    if (_invalid) {
        [NSException raise:NSGenericException format:@"Task created in a session that has been invalidated"];
    }
    NSURLSessionDataTask *task = [NSURLSessionDataTask new];
    task.session = self;
    task.request = [request copy];
    @synchronized(self) {
        task.taskIdentifier = ++_tasks;
    }
    return task;
}

- (void)finishTasksAndInvalidate {
    @synchronized(alive) {
        _invalid = YES;
        [alive removeObject:self];
    }
    if (onInvalidation) {
        onInvalidation();
    }
}

@end

@implementation NSOperationQueue (QualityOfService)

- (NSQualityOfService)qualityOfService {
    return NSQualityOfServiceDefault;
}

- (void)setQualityOfService:(NSQualityOfService)quality {
    (void)quality;
}

@end
