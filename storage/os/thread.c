/* The numbers of threads. */
#include "os/thread.h"

#include <stdatomic.h>

_Thread_local unsigned sdb_thread_number;

unsigned sdb_thread_number_take(void)
{
    static _Atomic unsigned taken; /* relaxed: nothing but the number itself depends on it */
    do {
        sdb_thread_number = atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed) + 1;
    } while (sdb_thread_number == 0); /* after four thousand million threads */
    return sdb_thread_number;
}
