// Compiled without ARC: it is what ARC rests on.
#import "blocks.h"
#import <Block.h>
#import <Block_private.h>
#import <Foundation/Foundation.h>

@interface StandInBlock : NSObject
@end

@implementation StandInBlock

- (id)copyWithZone:(NSZone *)zone {
    return (id)_Block_copy(self);
}

- (id)copy {
    return (id)_Block_copy(self);
}

- (id)retain {
    return (id)_Block_copy(self);
}

- (oneway void)release {
    _Block_release(self);
}

- (id)autorelease {
    [NSAutoreleasePool addObject:self];
    return self;
}

@end

void make_blocks_objects(void) {
    [[[StandInBlock alloc] init] hash]; // sets up the class's table of methods, which the copies share
    void *class = [StandInBlock class];
    size_t size = 13 * sizeof(void *); // of a class in GCC's runtime
    memcpy(_NSConcreteStackBlock, class, size);
    memcpy(_NSConcreteMallocBlock, class, size);
    memcpy(_NSConcreteGlobalBlock, class, size);
}
