/** Linux numbers and calls for TUN devices and UDP sockets (linux/if_tun.h, linux/udp.h, asm-generic/socket.h). */

import { FFIType } from "bun:ffi";
import { openLibrary } from "./libc.ts";

export const O_RDWR = 2;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;

export const TUNSETIFF = 0x400454ca;
export const TUNSETOFFLOAD = 0x400454d0;
export const TUNGETFEATURES = 0x800454cf;

export const IFF_TUN = 0x0001;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;

export const TUN_F_CSUM = 0x01;
export const TUN_F_TSO4 = 0x02;
export const TUN_F_TSO6 = 0x04;
/** Linux 6.2. */
export const TUN_F_USO4 = 0x20;
export const TUN_F_USO6 = 0x40;

export const IFNAMSIZ = 16;
/** sizeof(struct ifreq) on 64-bit machines (linux/if.h). */
export const IFREQ_BYTES = 40;
/** Offset of ifr_flags in struct ifreq. */
export const IFREQ_FLAGS_OFFSET = 16;

export const SOL_SOCKET = 1;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
/** Like SO_SNDBUF and SO_RCVBUF beyond the system's maximum; need CAP_NET_ADMIN. */
export const SO_SNDBUFFORCE = 32;
export const SO_RCVBUFFORCE = 33;
/** The socket's memory and drop counters (Linux 4.12). */
export const SO_MEMINFO = 55;

export const SOL_IP = 0;
export const IP_MTU_DISCOVER = 10;
export const IP_RECVERR = 11;
export const SOL_IPV6 = 41;
export const IPV6_MTU_DISCOVER = 23;
export const IPV6_RECVERR = 25;
/** Values of both MTU_DISCOVER options: fragment if need be; or set DF and ignore the kernel's own idea of the path. */
export const PMTUDISC_DONT = 0;
export const PMTUDISC_PROBE = 3;

export const SOL_UDP = 17;
export const UDP_SEGMENT = 103;
export const UDP_GRO = 104;

/** ioctl(2) with a pointer argument, and with a number. */
export const ioctl = openLibrary({
  ioctl: { args: [FFIType.i32, FFIType.u64_fast, FFIType.ptr], returns: FFIType.i32 },
}).ioctl;

export const ioctlNumber = openLibrary({
  ioctl: { args: [FFIType.i32, FFIType.u64_fast, FFIType.u64_fast], returns: FFIType.i32 },
}).ioctl;

const SOCKET_SYMBOLS = openLibrary({
  poll: { args: [FFIType.ptr, FFIType.u64_fast, FFIType.i32], returns: FFIType.i32 },
  // their counts never exceed 31 bits here, so the low half of ssize_t is enough
  read: { args: [FFIType.i32, FFIType.ptr, FFIType.u64_fast], returns: FFIType.i32 },
  recvmmsg: {
    args: [FFIType.i32, FFIType.ptr, FFIType.u32, FFIType.i32, FFIType.ptr],
    returns: FFIType.i32,
  },
  recvmsg: { args: [FFIType.i32, FFIType.ptr, FFIType.i32], returns: FFIType.i32 },
  sendmsg: { args: [FFIType.i32, FFIType.ptr, FFIType.i32], returns: FFIType.i32 },
  getsockopt: {
    args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.ptr],
    returns: FFIType.i32,
  },
  eventfd: { args: [FFIType.u32, FFIType.i32], returns: FFIType.i32 },
  socketpair: { args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
  dup: { args: [FFIType.i32], returns: FFIType.i32 },
});

/** poll(2), read(2), recvmmsg(2), recvmsg(2), sendmsg(2), getsockopt(2), eventfd(2), socketpair(2), dup(2). */
export const { poll, read, recvmmsg, recvmsg, sendmsg, getsockopt, eventfd, socketpair, dup } =
  SOCKET_SYMBOLS;

export const POLLIN = 0x001;
export const POLLOUT = 0x004;
export const EFD_NONBLOCK = O_NONBLOCK;
export const EFD_CLOEXEC = O_CLOEXEC;
export const EFD_SEMAPHORE = 1;

/** asm-generic/errno.h; EWOULDBLOCK is the same. */
export const EAGAIN = 11;
export const ENOBUFS = 105;
/** prctl(2), linux/prctl.h. */
export const PR_SET_DUMPABLE = 4;
export const PR_CAPBSET_DROP = 24;
export const PR_SET_NO_NEW_PRIVS = 38;

/** Capabilities, linux/capability.h. */
export const CAP_CHOWN = 0;
export const CAP_DAC_OVERRIDE = 1;
export const CAP_NET_BIND_SERVICE = 10;
export const CAP_NET_ADMIN = 12;
/** _LINUX_CAPABILITY_VERSION_3: two 32-bit words of each set. */
export const CAPABILITY_VERSION_3 = 0x20080522;

/** prctl(2) with number arguments, and capset(2). */
export const privilegeCalls = openLibrary({
  prctl: {
    args: [FFIType.i32, FFIType.u64_fast, FFIType.u64_fast, FFIType.u64_fast, FFIType.u64_fast],
    returns: FFIType.i32,
  },
  capset: { args: [FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
});
