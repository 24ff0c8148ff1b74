// Loaded before a program (LD_PRELOAD), it makes one of the program's calls fail: the FAULT_AT-th on a file or a folder, or
// on standard input, output or error. FAULT is the errno; with 0 a read or write does half of what was asked. With
// FAULT_STAYS all later calls that take space fail too, as on a full disk. FAULT_LOG=FILE gets a line for each call.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;
static long at = -1, fault, stays;
static int log_fd = -1;

__attribute__((constructor)) static void begin(void) {
  const char *text = getenv("FAULT_LOG");
  if (text) log_fd = (int)syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  fault = (text = getenv("FAULT")) ? atol(text) : EIO;
  stays = getenv("FAULT_STAYS") != NULL;
  at = (text = getenv("FAULT_AT")) ? atol(text) : 0;
}

// Returns 1 where a call is to fail, 2 where it is to do half.
static int fails(const char *name, int fd, const char *path, int takes_space) {
  if (at < 0) return 0;
  char link[40], where[400] = "";
  if (!path) {
    struct stat found;
    if (fd > 2 && (syscall(SYS_fstat, fd, &found) != 0 || !(S_ISREG(found.st_mode) || S_ISDIR(found.st_mode)))) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, where, sizeof where - 1);
    where[length > 0 ? length : 0] = 0;
    path = where;
  }
  // What the system tells of itself is read differently often.
  if (strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/sys/", 5) == 0) return 0;
  long call = atomic_fetch_add(&calls, 1) + 1;
  if (log_fd >= 0) {
    char line[600];
    int length = snprintf(line, sizeof line, "%ld %s %d %.400s\n", call, name, takes_space ? 1 : 0, path);
    syscall(SYS_write, log_fd, line, length);
  }
  int is_standard = path == where && fd <= 2;
  if (call != at && !(stays && at > 0 && call > at && takes_space && !is_standard)) return 0;
  errno = (int)fault;
  return fault == 0 ? 2 : 1;
}

#define REAL(name) ({ static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); real; })

#define BYTES(name, takes, buffer_type, length_type) \
  ssize_t name(int fd, buffer_type buffer, length_type length) { \
    int how = fails(#name, fd, NULL, takes); \
    return how == 1 ? -1 : REAL(name)(fd, buffer, how == 2 && length > 1 ? length / 2 : length); }
BYTES(read, 0, void *, size_t)
BYTES(write, 1, const void *, size_t)
BYTES(readv, 0, const struct iovec *, int)
BYTES(writev, 1, const struct iovec *, int)

#define BYTES_AT(name, takes, buffer_type, offset_type) \
  ssize_t name(int fd, buffer_type buffer, size_t length, offset_type offset) { \
    int how = fails(#name, fd, NULL, takes); \
    return how == 1 ? -1 : REAL(name)(fd, buffer, how == 2 && length > 1 ? length / 2 : length, offset); }
BYTES_AT(pread, 0, void *, off_t)
BYTES_AT(pwrite, 1, const void *, off_t)
BYTES_AT(pread64, 0, void *, off64_t)
BYTES_AT(pwrite64, 1, const void *, off64_t)

#define MODE(last) va_list rest; va_start(rest, last); mode_t mode = va_arg(rest, mode_t); va_end(rest)
#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    MODE(flags); return fails(#name, -1, path, flags & O_CREAT) == 1 ? -1 : REAL(name)(path, flags, mode); } \
  int name##at(int folder, const char *path, int flags, ...) { \
    MODE(flags); return fails(#name "at", -1, path, flags & O_CREAT) == 1 ? -1 : REAL(name##at)(folder, path, flags, mode); }
#define open64at openat64
OPEN(open)
OPEN(open64)

#define CALL(name, fd, path, takes, parameters, arguments) \
  int name parameters { return fails(#name, fd, path, takes) == 1 ? -1 : REAL(name) arguments; }
CALL(fsync, fd, NULL, 1, (int fd), (fd))
CALL(fdatasync, fd, NULL, 1, (int fd), (fd))
CALL(ftruncate, fd, NULL, 1, (int fd, off_t length), (fd, length))
CALL(ftruncate64, fd, NULL, 1, (int fd, off64_t length), (fd, length))
CALL(fallocate, fd, NULL, 1, (int fd, int mode, off_t at, off_t length), (fd, mode, at, length))
CALL(fallocate64, fd, NULL, 1, (int fd, int mode, off64_t at, off64_t length), (fd, mode, at, length))
CALL(flock, fd, NULL, 0, (int fd, int how), (fd, how))
CALL(fchmod, fd, NULL, 0, (int fd, mode_t mode), (fd, mode))
CALL(fstat, fd, NULL, 0, (int fd, struct stat *found), (fd, found))
CALL(fstat64, fd, NULL, 0, (int fd, struct stat64 *found), (fd, found))
CALL(stat, -1, path, 0, (const char *path, struct stat *found), (path, found))
CALL(stat64, -1, path, 0, (const char *path, struct stat64 *found), (path, found))
CALL(lstat, -1, path, 0, (const char *path, struct stat *found), (path, found))
CALL(lstat64, -1, path, 0, (const char *path, struct stat64 *found), (path, found))
CALL(rename, -1, path, 1, (const char *path, const char *to), (path, to))
CALL(link, -1, path, 1, (const char *path, const char *to), (path, to))
CALL(linkat, -1, path, 1, (int from, const char *path, int folder, const char *to, int flags), (from, path, folder, to, flags))
CALL(unlink, -1, path, 0, (const char *path), (path))
CALL(unlinkat, -1, path, 0, (int folder, const char *path, int flags), (folder, path, flags))
CALL(mkdir, -1, path, 1, (const char *path, mode_t mode), (path, mode))

off64_t lseek64(int fd, off64_t offset, int from) {
  return fails("lseek64", fd, NULL, 0) == 1 ? -1 : REAL(lseek64)(fd, offset, from);
}

int statx(int fd, const char *path, int flags, unsigned mask, struct statx *found) {
  // By giving no path, which glibc declares never to be so, a program asks whether the system has this call.
  const char *volatile asked = path;
  int how = asked ? fails("statx", fd, *path ? path : NULL, 0) : 0;
  return how == 1 ? -1 : REAL(statx)(fd, path, flags, mask, found);
}

// Of memory without a file: that is what the limits of the system are tested with.
void *mmap64(void *start, size_t length, int protection, int flags, int fd, off64_t offset) {
  int how = fd < 0 ? 0 : fails("mmap64", fd, NULL, 0);
  return how == 1 ? MAP_FAILED : (void *)syscall(SYS_mmap, start, length, protection, flags, fd, offset);
}
void *mmap(void *start, size_t length, int protection, int flags, int fd, off_t offset) {
  return mmap64(start, length, protection, flags, fd, offset);
}
