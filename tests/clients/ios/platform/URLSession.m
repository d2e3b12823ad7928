#import "URLSession.h"
#import <curl/curl.h>

typedef void (^Completion)(NSData *, NSURLResponse *, NSError *);

@implementation NSURLSessionConfiguration

+ (NSURLSessionConfiguration *)ephemeralSessionConfiguration {
    return [self new];
}

@end

@interface NSURLSession ()
@property (readonly) NSURLSessionConfiguration *configuration;
@property (readonly) id<NSURLSessionTaskDelegate> delegate;
@end

@interface NSURLSessionTask ()
@property NSURLSession *session;
@property NSURLRequest *request;
@property (copy) Completion completion;
@end

static size_t Receive(char *bytes, size_t size, size_t count, void *data) {
    [(__bridge NSMutableData *)data appendBytes:bytes length:size * count];
    return size * count;
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
        default:
            return NSURLErrorNetworkConnectionLost;
    }
}

@implementation NSURLSessionTask

- (void)resume {
    [NSThread detachNewThreadSelector:@selector(run) toTarget:self withObject:nil];
}

- (void)run {
    @autoreleasepool {
        NSMutableData *data = [NSMutableData data];
        long status = 0;
        NSURLRequest *next = nil;
        CURLcode code = [self perform:self.request into:data status:&status next:&next];
        while (code == CURLE_OK && next && (next = [self redirected:next])) {
            data.length = 0;
            code = [self perform:next into:data status:&status next:&next];
        }
        [self completeWithData:data status:status code:code];
    }
}

- (CURLcode)perform:(NSURLRequest *)request into:(NSMutableData *)data status:(long *)status next:(NSURLRequest **)next {
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
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, (__bridge void *)data);
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

/** On the queue of the session, which is a serial one, as Apple's is. */
- (void)completeWithData:(NSData *)data status:(long)status code:(CURLcode)code {
    NSError *error = nil;
    if (code != CURLE_OK) {
        error = [NSError errorWithDomain:NSURLErrorDomain code:ErrorCode(code) userInfo:nil];
    }
    Completion completion = self.completion;
    NSHTTPURLResponse *response = error ? nil : [self responseWithStatus:status];
    [self.session.delegateQueue addOperationWithBlock:^{
        completion(error ? nil : data, response, error);
    }];
    self.completion = nil;
    self.session = nil;
}

@end

@implementation NSURLSessionDataTask
@end

@implementation NSURLSession {
    BOOL _invalid;
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
                                  delegate:(id<NSURLSessionTaskDelegate>)delegate
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

- (NSURLSessionDataTask *)dataTaskWithRequest:(NSURLRequest *)request completionHandler:(Completion)handler {
    if (_invalid) {
        [NSException raise:NSGenericException format:@"Task created in a session that has been invalidated"];
    }
    NSURLSessionDataTask *task = [NSURLSessionDataTask new];
    task.session = self;
    task.request = [request copy];
    task.completion = handler;
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
