/* How the programs end when the system refuses them something. */
#ifndef FAILING_H
#define FAILING_H

#include <stdio.h>
#include <stdlib.h>

/* Prints what failed, with errno, and exits. */
static inline _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

#endif
