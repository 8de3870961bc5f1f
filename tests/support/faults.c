/* A fault layer for tests, loaded with LD_PRELOAD: it counts the calls of this process that change files, and kills the
 * process before the n-th, or lets calls fail. Nothing is counted before `calyx_fault`, which CALYX_FAULT may call.
 *
 * Only regular files and directories count, so talking to another process is no point. Each call is made directly, not
 * through libc, whose own functions these names stand in front of; that is right for Linux of every 64-bit machine.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum mode { OFF, COUNT, KILL, TEAR, FAIL_ONCE, FAIL_ON };
enum kind { WRITE, SYNC, RENAME, LINK, UNLINK, MAKE, OTHER, KINDS };

static int mode, error_number;
static long at, done, by_kind[KINDS];

/* Arm the layer. KILL: die before call `n`, counted from 1. TEAR: as KILL, but a write is done by half first.
 * FAIL_ONCE: call `n` fails with `error`. FAIL_ON: from call `n` on, all that take space fail. */
void calyx_fault(int new_mode, long n, int error)
{
    mode = new_mode, at = n, error_number = error, done = 0;
    for (int kind = 0; kind < KINDS; kind++)
        by_kind[kind] = 0;
}

/* As CALYX_FAULT says: mode, n and error, with spaces between. Children are left alone. */
__attribute__((constructor)) static void arm(void)
{
    const char *said = getenv("CALYX_FAULT");
    int new_mode, error;
    long n;
    if (said && sscanf(said, "%d %ld %d", &new_mode, &n, &error) == 3) {
        unsetenv("LD_PRELOAD");
        calyx_fault(new_mode, n, error);
    }
}

long calyx_points(int kind) { return kind < 0 ? done : by_kind[kind]; }

static int begin(enum kind kind, int takes_space)
{
    if (mode == OFF)
        return 0;
    long now = __atomic_add_fetch(&done, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&by_kind[kind], 1, __ATOMIC_SEQ_CST);
    if (mode == KILL && now == at)
        kill(getpid(), SIGKILL);
    if ((mode == FAIL_ONCE && now == at) || (mode == FAIL_ON && now >= at && takes_space)) {
        errno = error_number;
        return -1;
    }
    return 0;
}

static int counts(int fd)
{
    struct stat found;
    int kept = errno, yes = mode != OFF && fstat(fd, &found) == 0 && (S_ISREG(found.st_mode) || S_ISDIR(found.st_mode));
    errno = kept;
    return yes;
}

#define CALL(kind, space, ...) (begin(kind, space) ? -1 : syscall(__VA_ARGS__))

static int torn(size_t size) { return mode == TEAR && done + 1 == at && size > 1; }

ssize_t write(int fd, const void *data, size_t size)
{
    if (!counts(fd))
        return syscall(SYS_write, fd, data, size);
    if (torn(size)) {
        syscall(SYS_write, fd, data, size / 2);
        kill(getpid(), SIGKILL);
    }
    return CALL(WRITE, 1, SYS_write, fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    if (!counts(fd))
        return syscall(SYS_pwrite64, fd, data, size, offset);
    if (torn(size)) {
        syscall(SYS_pwrite64, fd, data, size / 2, offset);
        kill(getpid(), SIGKILL);
    }
    return CALL(WRITE, 1, SYS_pwrite64, fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

ssize_t copy_file_range(int from, off_t *start, int to, off_t *end, size_t size, unsigned flags)
{
    return CALL(WRITE, 1, SYS_copy_file_range, from, start, to, end, size, flags);
}

int fsync(int fd) { return counts(fd) ? CALL(SYNC, 0, SYS_fsync, fd) : syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return counts(fd) ? CALL(SYNC, 0, SYS_fdatasync, fd) : syscall(SYS_fdatasync, fd); }
int ftruncate64(int fd, off_t size) { return CALL(OTHER, size > 0, SYS_ftruncate, fd, size); }
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fallocate64(int fd, int how, off_t from, off_t size) { return CALL(OTHER, 1, SYS_fallocate, fd, how, from, size); }
int fallocate(int fd, int how, off_t from, off_t size) { return fallocate64(fd, how, from, size); }
int fchmod(int fd, mode_t bits) { return CALL(OTHER, 0, SYS_fchmod, fd, bits); }

int openat64(int dir, const char *path, int flags, ...)
{
    mode_t bits = 0;
    if (flags & (O_CREAT | __O_TMPFILE)) {
        va_list rest;
        va_start(rest, flags);
        bits = va_arg(rest, mode_t);
        va_end(rest);
    }
    if (!(flags & (O_CREAT | O_TRUNC)))
        return syscall(SYS_openat, dir, path, flags, bits);
    return CALL(MAKE, flags & O_CREAT, SYS_openat, dir, path, flags, bits);
}

#define OPEN(name, dir)                                                                                                \
    {                                                                                                                  \
        mode_t bits = 0;                                                                                               \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                                                         \
            va_list rest;                                                                                              \
            va_start(rest, flags);                                                                                     \
            bits = va_arg(rest, mode_t);                                                                               \
            va_end(rest);                                                                                              \
        }                                                                                                              \
        return openat64(dir, path, flags, bits);                                                                       \
    }

int openat(int dir, const char *path, int flags, ...) OPEN(openat, dir)
int open64(const char *path, int flags, ...) OPEN(open64, AT_FDCWD)
int open(const char *path, int flags, ...) OPEN(open, AT_FDCWD)

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    return CALL(RENAME, 0, SYS_renameat2, from, old, to, new, flags);
}

int renameat(int from, const char *old, int to, const char *new) { return renameat2(from, old, to, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    return CALL(LINK, 1, SYS_linkat, from, old, to, new, flags);
}

int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }
int symlinkat(const char *old, int to, const char *new) { return CALL(LINK, 1, SYS_symlinkat, old, to, new); }
int symlink(const char *old, const char *new) { return symlinkat(old, AT_FDCWD, new); }
int unlinkat(int dir, const char *path, int flags) { return CALL(UNLINK, 0, SYS_unlinkat, dir, path, flags); }
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int mkdirat(int dir, const char *path, mode_t bits) { return CALL(MAKE, 1, SYS_mkdirat, dir, path, bits); }
int mkdir(const char *path, mode_t bits) { return mkdirat(AT_FDCWD, path, bits); }

int fchmodat(int dir, const char *path, mode_t bits, int flags)
{
    (void)flags; /* the system call has none; nothing here asks for one */
    return CALL(OTHER, 0, SYS_fchmodat, dir, path, bits);
}

int chmod(const char *path, mode_t bits) { return fchmodat(AT_FDCWD, path, bits, 0); }
