/* Loaded into the counted programs (LD_PRELOAD): Rust's hash tables draw their keys from getrandom(3), and other keys mean other
 * collisions, which move the count of instructions. The engines themselves draw from seeds. Never part of the product. */
#include <string.h>
#include <sys/types.h>

ssize_t getrandom(void *buffer, size_t length, unsigned int flags)
{
    (void)flags;
    memset(buffer, 0x5a, length);
    return (ssize_t)length;
}
