/* In place of GCC's, which clang refuses with ARC: what Foundation's headers need of it. */
#ifndef STAND_IN_OBJC_RUNTIME
#define STAND_IN_OBJC_RUNTIME
#include <objc/objc.h>
typedef struct objc_method *Method;
typedef struct objc_ivar *Ivar;
typedef struct objc_property *Property;
typedef struct objc_category *Category;
#endif
