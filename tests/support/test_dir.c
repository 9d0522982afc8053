/*
 * mkdtemp(3) and a walk with nftw(3), children before their directory. FTW_PHYS keeps the walk from
 * following a symbolic link out of the directory.
 */
#include "test_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Directories that nftw holds open at once; deeper trees are walked more slowly, not wrongly. */
enum { WALK_DESCRIPTORS = 16 };

void test_dir_init(struct test_dir *dir)
{
    const char *parent = getenv("TMPDIR");
    int size;

    if (parent == NULL || parent[0] == '\0')
        parent = "/tmp";
    size = snprintf(dir->path, sizeof(dir->path), "%s/storm-test-XXXXXX", parent);
    if (size < 0 || (size_t)size >= sizeof(dir->path))
        fail_msg("TMPDIR is too long");
    if (mkdtemp(dir->path) == NULL)
        fail_msg("mkdtemp %s: %s", dir->path, strerror(errno));
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st;
    (void)kind;
    (void)walk;
    return remove(path);
}

void test_dir_fini(struct test_dir *dir)
{
    if (nftw(dir->path, remove_one, WALK_DESCRIPTORS, FTW_DEPTH | FTW_PHYS) != 0)
        fail_msg("cannot remove %s: %s", dir->path, strerror(errno));
    dir->path[0] = '\0';
}
