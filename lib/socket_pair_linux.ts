/**
 * Two joined descriptors that keep packets apart, as a TUN does: what one end writes the other reads (socketpair(2),
 * AF_UNIX, SOCK_SEQPACKET). The self-test's stand-in for a TUN.
 */

import { libc, ptr } from "./libc.ts";
import { O_CLOEXEC, O_NONBLOCK, socketpair } from "./libc_linux.ts";

const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;

/** A pair of descriptors; null when the system makes none. */
export function openSocketPair(): { readonly a: number; readonly b: number; close(): void } | null {
  const fds = new Int32Array(2);
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | O_NONBLOCK | O_CLOEXEC, 0, ptr(fds)) !== 0) return null;
  const [a = -1, b = -1] = fds;
  return {
    a,
    b,
    close: () => {
      libc.close(a);
      libc.close(b);
    },
  };
}
