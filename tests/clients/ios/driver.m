// Plays the SDK: does what the lines of standard input say and answers in lines of standard output (tests/clients/driver.py).
#import "GatewayNetworkProxy.h"
#import "blocks.h"
#import <stdio.h>
#import <stdlib.h>

@implementation IAPProxyRequestInfo
@end

@implementation IAPProxyResponseInfo
@end

static void Say(NSDictionary *answer) {
    NSData *line = [NSJSONSerialization dataWithJSONObject:answer options:0 error:NULL];
    static NSObject *lock;
    if (!lock) {
        lock = [NSObject new]; // by the first answer, before there is a second thread
    }
    @synchronized(lock) {
        fwrite(line.bytes, 1, line.length, stdout);
        fputc('\n', stdout);
        fflush(stdout);
    }
}

static id OrNull(id value) {
    return value ? value : [NSNull null];
}

/** Strings travel as the hexadecimal digits of their UTF-16 units: lone surrogates too, and no JSON code can change them. */
static NSString *Text(NSString *hex) {
    NSUInteger count = hex.length / 4;
    unichar *units = malloc((count + 1) * sizeof(unichar));
    const char *digits = hex.UTF8String;
    for (NSUInteger i = 0; i < count; i++) {
        char unit[5] = {digits[4 * i], digits[4 * i + 1], digits[4 * i + 2], digits[4 * i + 3], 0};
        units[i] = (unichar)strtoul(unit, NULL, 16);
    }
    NSString *text = [NSString stringWithCharacters:units length:count];
    free(units);
    return text;
}

static NSString *Hex(NSString *text) {
    NSMutableString *hex = [NSMutableString string];
    for (NSUInteger i = 0; i < text.length; i++) {
        [hex appendFormat:@"%04x", [text characterAtIndex:i]];
    }
    return text ? hex : nil;
}

/** The login of an app, and what its listener was told. */
@interface Login : NSObject <GatewayLogin>
@property (nonatomic) NSArray *logins;
@property (nonatomic) NSInteger renewAfter;
@property (nonatomic) NSInteger asked;
@property (nonatomic) BOOL hasTime;
@property (nonatomic, copy) void (^completion)(BOOL);
@property (nonatomic) NSUInteger position;
@property (nonatomic) NSUInteger renewals;
@property (nonatomic) NSMutableArray *told;
@property (nonatomic) NSCondition *answers;
@property (nonatomic) NSInteger answered;
@end

@implementation Login

- (NSDictionary<NSString *, NSString *> *)headers {
    @synchronized(self) {
        self.asked++;
        [self renewWhenDue];
        NSString *login = self.logins[self.position];
        NSMutableDictionary *headers = [NSMutableDictionary dictionary];
        [headers setValue:login.length ? login : nil forKey:@"Authorization"];
        [headers setValue:self.hasTime ? [NSString stringWithFormat:@"%ld", (long)self.asked] : nil forKey:@"X-Time"];
        return headers;
    }
}

- (void)renewWithCompletion:(void (^)(BOOL))completion {
    @synchronized(self) {
        self.renewals++;
        self.completion = completion;
        [self renewWhenDue];
    }
}

/** Completes the renewal on a thread of its own and waits for that, as an app does that holds a lock meanwhile. */
- (void)renewWhenDue {
    void (^completion)(BOOL) = self.completion;
    if (!completion || self.asked < self.renewAfter) {
        return;
    }
    self.completion = nil;
    BOOL renewed = self.position + 1 < self.logins.count;
    if (renewed) {
        self.position++;
    }
    NSConditionLock *told = [[NSConditionLock alloc] initWithCondition:NO];
    void (^tell)(void) = ^{
        completion(renewed);
        [told lock];
        [told unlockWithCondition:YES];
    };
    [NSThread detachNewThreadSelector:@selector(run:) toTarget:self withObject:[tell copy]];
    [told lockWhenCondition:YES];
    [told unlock];
}

/** Called by each of the SDK's handlers; waits until so many have been called. */
- (void)waitForAnswers:(NSInteger)count {
    [self.answers lock];
    self.answered++;
    [self.answers broadcast];
    while (self.answered < count) {
        [self.answers wait];
    }
    [self.answers unlock];
}

- (void)run:(void (^)(void))block {
    @autoreleasepool {
        block();
    }
}

@end

static NSMutableDictionary *proxies, *logins;

static void Open(NSDictionary *command) {
    Login *login = [Login new];
    login.logins = command[@"logins"];
    login.renewAfter = [command[@"renew_after"] integerValue];
    login.hasTime = [command[@"has_time"] boolValue];
    login.told = [NSMutableArray array];
    login.answers = [NSCondition new];
    NSURL *base = [NSURL URLWithString:command[@"base"]];
    NSTimeInterval timeout = [command[@"timeout"] doubleValue] / 1000;
    GatewayNetworkProxy *proxy = [[GatewayNetworkProxy alloc] initWithBaseURL:base timeout:timeout login:login];
    if ([command[@"listener"] boolValue]) {
        proxy.onFailure = ^(NSString *code, NSString *status, NSString *message, NSString *requestId) {
            @synchronized(login) {
                [login.told addObject:@[ code, status, OrNull(message), OrNull(requestId) ]];
            }
        };
    }
    proxies[command[@"app"]] = proxy;
    logins[command[@"app"]] = login;
    Say(@{@"id" : command[@"id"]});
}

static NSDictionary *Written(IAPProxyResponseInfo *info) {
    return @{
        @"isSuccess" : @(info.isSuccess),
        @"errorCode" : OrNull(info.errorCode),
        @"errorMessage" : OrNull(info.errorMessage),
        @"header" : OrNull(Hex(info.proxyResponseHeader)),
        @"data" : OrNull(Hex(info.proxyResponseData)),
    };
}

static void Call(NSDictionary *command) {
    NSDictionary *scenes = @{@"IAPProxySceneMiniProgram" : @(IAPProxySceneMiniProgram), @"IAPProxyScenePay" : @(IAPProxyScenePay)};
    NSNumber *scene = scenes[command[@"scene"]];
    IAPProxyRequestInfo *info = [IAPProxyRequestInfo new];
    info.scene = scene ? scene.integerValue : IAPProxySceneNew;
    info.proxyRequestHeader = Text(command[@"header"]);
    info.proxyRequestData = Text(command[@"data"]);
    Login *login = logins[command[@"app"]];
    NSNumber *number = command[@"id"];
    NSInteger answers = [command[@"answers"] integerValue];
    [proxies[command[@"app"]] sendProxyRequest:info
                         withCompletionHandler:^(IAPProxyResponseInfo *response) {
                             [login waitForAnswers:answers];
                             @synchronized(login) {
                                 NSArray *told = [login.told copy];
                                 [login.told removeAllObjects];
                                 Say(@{
                                     @"id" : number,
                                     @"response" : response ? Written(response) : [NSNull null],
                                     @"told" : told,
                                     @"renewals" : @(login.renewals),
                                     @"queued" : @([NSOperationQueue currentQueue] != nil),
                                 });
                             }
                         }];
}

/** Lets go of an adapter. The answer comes when it has gone and its session with it. */
static void Close(NSDictionary *command) {
    NSNumber *number = command[@"id"];
    NSURLSession.onInvalidation = ^{
        Say(@{@"id" : number});
    };
    [proxies removeObjectForKey:command[@"app"]];
    [logins removeObjectForKey:command[@"app"]];
}

int main(void) {
    make_blocks_objects();
    @autoreleasepool {
        proxies = [NSMutableDictionary dictionary];
        logins = [NSMutableDictionary dictionary];
    }
    char *line = NULL;
    size_t size = 0;
    for (ssize_t length = getline(&line, &size, stdin); length > 0; length = getline(&line, &size, stdin)) {
        @autoreleasepool {
            NSData *data = [NSData dataWithBytes:line length:(NSUInteger)length];
            NSDictionary *command = [NSJSONSerialization JSONObjectWithData:data options:0 error:NULL];
            NSString *op = command[@"op"];
            if ([op isEqual:@"open"]) {
                Open(command);
            } else if ([op isEqual:@"call"]) {
                Call(command);
            } else {
                Close(command);
            }
        }
    }
    return 0;
}
