/*
 * Runs what clang compiles with -fobjc-arc -fobjc-runtime=gnustep-1.6 on GCC's Objective-C runtime, which Debian's GNUstep is built with.
 *
 * The two agree on most structures. They differ in that clang leaves the size of a superclass out of a class's size and its instance
 * variables' offsets, in version numbers, in looking methods up by slots, and in the functions that ARC calls. Weak references
 * (objc_initWeak and so on) are not provided: linking fails on them.
 */
#define _GNU_SOURCE
#include <Block.h>
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

typedef struct object *id;
typedef const struct selector *SEL;
typedef id (*IMP)(id, SEL, ...);

struct ivar {
    const char *name, *type;
    int offset;
};

struct ivars {
    int count;
    struct ivar list[];
};

struct protocols {
    struct protocols *next;
    size_t count;
    struct protocol *list[];
};

struct protocol {
    void *version;
    const char *name;
    struct protocols *adopted;
};

struct class {
    struct class *meta;
    const char *super_name, *name;
    long version;
    unsigned long info;
    long size; /* of clang: the own part, negative */
    struct ivars *ivars;
    void *methods, *dispatch, *subclasses, *siblings;
    struct protocols *protocols;
    void *gc; /* GCC's structure ends here */
    long abi;
    int **offsets;
};

struct symbols {
    unsigned long selector_count;
    void *selectors;
    unsigned short class_count, category_count;
    struct class *classes[];
};

struct module {
    unsigned long version, size; /* GCC's runtime insists on 8 and on the size of this structure */
    const char *name;
    struct symbols *symbols;
};

struct slot {
    void *owner, *cached_for;
    const char *types;
    int version;
    IMP method;
};

struct super;

extern IMP objc_msg_lookup(id, SEL);
extern IMP objc_msg_lookup_super(struct super *, SEL);
extern struct class *objc_getClass(const char *);
extern SEL sel_registerName(const char *);
extern long class_getInstanceSize(struct class *);

static long size_of(const char *name, const struct symbols *symbols) {
    for (int i = 0; i < symbols->class_count; i++) {
        if (strcmp(symbols->classes[i]->name, name) == 0) {
            return symbols->classes[i]->size;
        }
    }
    return class_getInstanceSize(objc_getClass(name));
}

static void complete_class(struct class *class, long super_size) {
    class->size = super_size - class->size;
    for (int i = 0; class->ivars && i < class->ivars->count; i++) {
        class->ivars->list[i].offset += (int)super_size;
        *class->offsets[i] += (int)super_size;
    }
}

static void complete_protocols(struct protocols *protocols) {
    for (; protocols; protocols = protocols->next) {
        for (size_t i = 0; i < protocols->count; i++) {
            if (protocols->list[i]->version == (void *)3) {
                protocols->list[i]->version = (void *)2;
                complete_protocols(protocols->list[i]->adopted);
            }
        }
    }
}

/* A class before its superclass is left for a later round. */
static void complete_classes(struct symbols *symbols) {
    for (int done = 0; done < symbols->class_count;) {
        done = 0;
        for (int i = 0; i < symbols->class_count; i++) {
            struct class *class = symbols->classes[i];
            long super_size = class->size > 0 ? 0 : size_of(class->super_name, symbols);
            if (super_size > 0) {
                complete_class(class, super_size);
                complete_protocols(class->protocols);
            }
            done += class->size > 0;
        }
    }
}

/* Called for each object file when the program starts; takes the place of the runtime's own, which it calls. */
void __objc_exec_class(struct module *module) {
    void (*next)(struct module *) = (void (*)(struct module *))dlsym(RTLD_NEXT, "__objc_exec_class");
    if (module->version > 8) {
        complete_classes(module->symbols);
        module->version = 8;
        module->size = sizeof *module;
    }
    next(module);
}

struct slot *objc_msg_lookup_sender(id *receiver, SEL selector, id sender) {
    static __thread struct slot slot;
    (void)sender;
    slot.method = objc_msg_lookup(*receiver, selector);
    return &slot;
}

struct slot *objc_slot_lookup_super(struct super *super, SEL selector) {
    static __thread struct slot slot;
    slot.method = objc_msg_lookup_super(super, selector);
    return &slot;
}

static id send(id object, const char *name) {
    SEL selector = sel_registerName(name);
    return object ? objc_msg_lookup(object, selector)(object, selector) : object;
}

id objc_retain(id object) {
    return send(object, "retain");
}

void objc_release(id object) {
    send(object, "release");
}

id objc_autorelease(id object) {
    return send(object, "autorelease");
}

id objc_retainAutorelease(id object) {
    return objc_autorelease(objc_retain(object));
}

id objc_autoreleaseReturnValue(id object) {
    return objc_autorelease(object);
}

id objc_retainAutoreleaseReturnValue(id object) {
    return objc_retainAutorelease(object);
}

id objc_retainAutoreleasedReturnValue(id object) {
    return objc_retain(object);
}

id objc_retainBlock(id block) {
    return block ? (id)_Block_copy(block) : block;
}

void objc_storeStrong(id *place, id object) {
    id old = *place;
    *place = objc_retain(object);
    objc_release(old);
}

void *objc_autoreleasePoolPush(void) {
    return send((id)objc_getClass("NSAutoreleasePool"), "new");
}

void objc_autoreleasePoolPop(void *pool) {
    send(pool, "drain");
}
