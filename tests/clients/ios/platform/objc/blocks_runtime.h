/* Foundation's headers ask for it wherever the compiler knows blocks. */
#include <Block.h>
