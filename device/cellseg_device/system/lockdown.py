"""Rights that a process gives up for good, as far as the kernel can take them.

Two layers, each of which an old kernel, or a container, may lack:

- Landlock [1]_ (Linux 5.13, where it is switched on): nothing on any file system can be opened, made, renamed or
  removed any more, or can only be read; later versions refuse TCP and signals to processes outside, too.
- A seccomp filter [2]_ (on x86-64 and 64-bit ARM): the calls that `_DENIED` names fail with EPERM. Calls are denied by
  name, not allowed by name, because a C library may use calls that nobody has tried: a decoder that fails on another
  computer would be worse than a gap.

What is open stays open, with the rights that it was opened with. Python must have imported all that it will need.

References
----------
.. [1] https://docs.kernel.org/userspace-api/landlock.html
.. [2] https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator

_SET_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2  # of linux/prctl.h and linux/seccomp.h

# Landlock: its calls, which have the same numbers everywhere, and its bits
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _BENEATH = 1, 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_FILE_RIGHTS = (13, 14, 15, 15, 16)  # how many bits each version has, from the first on
_BIND_AND_CONNECT, _SOCKETS_AND_SIGNALS = 0b11, 0b11

# Seccomp: the machine as the filter sees it, the operations, and what a call comes to
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_LOAD, _IS, _IS_AT_LEAST, _HAS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _MACHINE_AT, _ARGUMENT_AT = 0, 4, 16
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_X32 = 0x40000000  # begins the numbers of another set of calls on x86-64
_CLONE, _CLONE3, _TGKILL = (56, 220), (435, 435), (234, 131)
_CLONE_THREAD = 0x10000

# Name, number on x86-64, number on 64-bit ARM
_DENIED = """
open 2 - openat 257 56 openat2 437 437 creat 85 - open_by_handle_at 304 265 truncate 76 45
mknod 133 - mknodat 259 33 mkdir 83 - mkdirat 258 34 rmdir 84 - unlink 87 - unlinkat 263 35
link 86 - linkat 265 37 symlink 88 - symlinkat 266 36 rename 82 - renameat 264 38 renameat2 316 276
chmod 90 - fchmod 91 52 fchmodat 268 53 fchmodat2 452 452 chown 92 - lchown 94 - fchown 93 55 fchownat 260 54
utime 132 - utimes 235 - futimesat 261 - utimensat 280 88 setxattr 188 5 lsetxattr 189 6 fsetxattr 190 7
setxattrat 463 463 removexattr 197 14 lremovexattr 198 15 fremovexattr 199 16 removexattrat 466 466
mount 165 40 umount2 166 39 chroot 161 51 pivot_root 155 41 open_tree 428 428 move_mount 429 429 fsopen 430 430
fspick 433 433 mount_setattr 442 442 fanotify_init 300 262 swapon 167 224 swapoff 168 225 acct 163 89

socket 41 198 connect 42 203 bind 49 200 listen 50 201 accept 43 202 accept4 288 242

fork 57 - vfork 58 - execve 59 221 execveat 322 281 ptrace 101 117 process_vm_readv 310 270
process_vm_writev 311 271 kill 62 129 tkill 200 130 rt_sigqueueinfo 129 138 rt_tgsigqueueinfo 297 240
pidfd_open 434 434 pidfd_getfd 438 438 pidfd_send_signal 424 424 kcmp 312 272 setrlimit 160 164 prlimit64 302 261
setns 308 268 unshare 272 97 setuid 105 146 setgid 106 144 setreuid 113 145 setregid 114 143 setresuid 117 147
setresgid 119 149 setfsuid 122 151 setfsgid 123 152 setgroups 116 159 capset 126 91

bpf 321 280 io_uring_setup 425 425 perf_event_open 298 241 userfaultfd 323 282 add_key 248 217 request_key 249 218
keyctl 250 219 init_module 175 105 finit_module 313 273 delete_module 176 106 kexec_load 246 104
kexec_file_load 320 294 reboot 169 142 settimeofday 164 170 clock_settime 227 112 adjtimex 159 171
clock_adjtime 305 266 sethostname 170 161 setdomainname 171 162 shmget 29 194 shmat 30 196 semget 64 190
msgget 68 186 mq_open 240 180 mq_unlink 241 181
"""


def only_compute() -> list[str]:
    """Leave this thread nothing but what is open: no files, no network, no other processes; return the layers in force.

    Call it while there are no other threads, which keep their rights.
    """
    layers = []
    if _landlock(readable=None, may_connect=False):
        layers.append("landlock")
    if _seccomp():
        layers.append("seccomp")
    return layers


def only_read() -> list[str]:
    """Leave this thread files to read and the network, but nothing to write or run; return the layers in force."""
    return ["landlock"] if _landlock(readable="/", may_connect=True) else []


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    libc.syscall.argtypes = [ctypes.c_long, ctypes.c_void_p, *[ctypes.c_size_t] * 3]
    libc.syscall.restype = ctypes.c_long
    libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # without which neither layer may be put on
    return libc


def _landlock(*, readable: str | None, may_connect: bool) -> bool:
    try:
        libc = _libc()
    except (AttributeError, OSError):
        return False
    version = libc.syscall(_CREATE_RULESET, None, 0, _VERSION, 0)
    if version < 1:
        return False
    handled = [(1 << _FILE_RIGHTS[min(version, len(_FILE_RIGHTS)) - 1]) - 1]
    if version >= 4:
        handled.append(0 if may_connect else _BIND_AND_CONNECT)
    if version >= 6:
        handled.append(_SOCKETS_AND_SIGNALS)
    attributes = struct.pack(f"={len(handled)}Q", *handled)
    rules = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0, 0)
    if rules < 0:
        return False
    try:
        if readable is not None:
            folder = os.open(readable, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = ctypes.create_string_buffer(struct.pack("=Qi", _READ_FILE | _READ_FOLDER, folder))
                if libc.syscall(_ADD_RULE, rules, _BENEATH, ctypes.addressof(rule), 0) < 0:
                    return False
            finally:
                os.close(folder)
        return bool(libc.syscall(_RESTRICT_SELF, rules, 0, 0, 0) == 0)
    finally:
        os.close(rules)


def _seccomp() -> bool:
    machine = platform.machine()
    if machine not in _MACHINES or struct.calcsize("P") != 8:
        return False
    operations = list(_operations(*_MACHINES[machine]))
    packed = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *operation) for operation in operations))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(operations), ctypes.addressof(packed)))
    try:
        return bool(_libc().prctl(_SET_SECCOMP, _FILTER, ctypes.addressof(program), 0, 0) == 0)
    except (AttributeError, OSError):
        return False


def _operations(machine: int, column: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the filter: code, how many operations to skip if a test is true, and if it is false, and its number."""
    fails = (_RETURN, 0, 0, _FAIL | errno.EPERM)
    allows = (_RETURN, 0, 0, _ALLOW)
    yield (_LOAD, 0, 0, _MACHINE_AT)
    yield (_IS, 1, 0, machine)
    yield fails
    yield (_LOAD, 0, 0, _NUMBER_AT)
    if column == 0:
        yield (_IS_AT_LEAST, 0, 1, _X32)
        yield fails
    words = _DENIED.split()
    for number in words[1 + column :: 3]:
        if number != "-":
            yield (_IS, 0, 1, int(number))
            yield fails
    # Its flags are out of the filter's sight; without it the C library takes the older call
    yield (_IS, 0, 1, _CLONE3[column])
    yield (_RETURN, 0, 0, _FAIL | errno.ENOSYS)
    # Threads, but no processes
    yield (_IS, 0, 4, _CLONE[column])
    yield (_LOAD, 0, 0, _ARGUMENT_AT)
    yield (_HAS, 1, 0, _CLONE_THREAD)
    yield fails
    yield allows
    # A process may end itself, as the C library does after a fault
    yield (_IS, 0, 3, _TGKILL[column])
    yield (_LOAD, 0, 0, _ARGUMENT_AT)
    yield (_IS, 1, 0, os.getpid())
    yield fails
    yield allows
