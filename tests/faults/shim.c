/* Fails one write-class call under one folder: preloaded into a process, armed with arm(folder, number, action).
 * Action 0 counts only; -1 kills the process group; any other value is the errno that the call fails with. Calls are
 * numbered from 1 in the order in which they are made: open with O_CREAT, write, pwrite, writev, fsync, fdatasync,
 * ftruncate, rename, link, unlink, mkdir, rmdir, in all their forms. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[4096];
static long number, calls;
static int action;

void arm(const char *where, long which, int what) {
  snprintf(folder, sizeof folder, "%s", where);
  number = which, action = what, calls = 0;
}

long num_calls(void) { return calls; }

static int path_inside(const char *path) { return folder[0] && path && !strncmp(path, folder, strlen(folder)); }

static int fd_inside(int fd) {
  char link[64], path[4096];
  if (!folder[0]) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return path_inside(path);
}

/* Return 1 where the call must fail, with errno set. */
static int strike(int inside) {
  if (!inside || __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) != number || action == 0) return 0;
  if (action < 0) {
    kill(0, SIGKILL);
    for (;;) pause();
  }
  errno = action;
  return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(type, name, parameters, arguments, inside)          \
  type name parameters {                                         \
    static __typeof__(&name) real;                               \
    if (!real) real = REAL(name);                                \
    return strike(inside) ? (type)-1 : real arguments;           \
  }

WRAP(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n), fd_inside(fd))
WRAP(ssize_t, pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o), fd_inside(fd))
WRAP(ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o), fd_inside(fd))
WRAP(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n), fd_inside(fd))
WRAP(int, fsync, (int fd), (fd), fd_inside(fd))
WRAP(int, fdatasync, (int fd), (fd), fd_inside(fd))
WRAP(int, ftruncate, (int fd, off_t n), (fd, n), fd_inside(fd))
WRAP(int, ftruncate64, (int fd, off64_t n), (fd, n), fd_inside(fd))
WRAP(int, rename, (const char *a, const char *b), (a, b), path_inside(b))
WRAP(int, renameat, (int i, const char *a, int j, const char *b), (i, a, j, b), path_inside(b))
WRAP(int, link, (const char *a, const char *b), (a, b), path_inside(b))
WRAP(int, linkat, (int i, const char *a, int j, const char *b, int f), (i, a, j, b, f), path_inside(b))
WRAP(int, unlink, (const char *a), (a), path_inside(a))
WRAP(int, unlinkat, (int i, const char *a, int f), (i, a, f), path_inside(a) || (i >= 0 && fd_inside(i)))
WRAP(int, mkdir, (const char *a, mode_t m), (a, m), path_inside(a))
WRAP(int, mkdirat, (int i, const char *a, mode_t m), (i, a, m), path_inside(a))
WRAP(int, rmdir, (const char *a), (a), path_inside(a))

#define OPEN(name)                                               \
  int name(const char *path, int flags, ...) {                   \
    static int (*real)(const char *, int, ...);                  \
    if (!real) real = dlsym(RTLD_NEXT, #name);                   \
    va_list rest;                                                \
    va_start(rest, flags);                                       \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                \
    return strike((flags & O_CREAT) && path_inside(path)) ? -1 : real(path, flags, mode); \
  }

OPEN(open)
OPEN(open64)

#define OPENAT(name)                                             \
  int name(int at, const char *path, int flags, ...) {           \
    static int (*real)(int, const char *, int, ...);             \
    if (!real) real = dlsym(RTLD_NEXT, #name);                   \
    va_list rest;                                                \
    va_start(rest, flags);                                       \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                \
    return strike((flags & O_CREAT) && path_inside(path)) ? -1 : real(at, path, flags, mode); \
  }

OPENAT(openat)
OPENAT(openat64)
