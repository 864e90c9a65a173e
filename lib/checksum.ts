/**
 * The Internet checksum (RFC 1071) over parts of a packet.
 *
 * Sums are plain numbers below 2^53 that hold the 16-bit words added without folding, so a packet of 64 KB needs no
 * carry handling inside the loop.
 */

/** Adds the big-endian 16-bit words of `bytes[start..end)` to `sum`; an odd last byte counts as the high half. */
export function addWords(bytes: Uint8Array, start: number, end: number, sum: number): number {
  let even = 0;
  let odd = 0;
  // an index that the compiler takes for a float, as after a division, makes the loop seven times slower
  let i = start | 0;
  const to = end | 0;
  for (const last = to - 7; i < last; i += 8) {
    even += bytes[i]! + bytes[i + 2]! + bytes[i + 4]! + bytes[i + 6]!;
    odd += bytes[i + 1]! + bytes[i + 3]! + bytes[i + 5]! + bytes[i + 7]!;
  }
  for (; i + 1 < to; i += 2) {
    even += bytes[i]!;
    odd += bytes[i + 1]!;
  }
  if (i < to) even += bytes[i]!;
  return sum + even * 256 + odd;
}

/** Folds a sum to 16 bits with end-around carry. */
export function foldSum(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = Math.floor(folded / 0x10000) + (folded % 0x10000);
  return folded;
}

/** The checksum field for a sum: its one's complement. */
export function checksumOf(sum: number): number {
  return ~foldSum(sum) & 0xffff;
}

/**
 * The checksum field after one 16-bit word under it changed from `before` to `after` (RFC 1624, equation 3).
 *
 * For two bytes that straddle two words (at an odd offset), hand both values in with their bytes swapped.
 */
export function replaceWord(checksum: number, before: number, after: number): number {
  return checksumOf((~checksum & 0xffff) + (~before & 0xffff) + after);
}

/** Sum of the pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1) of a packet at `offset`. */
export function pseudoHeaderSum(
  bytes: Uint8Array,
  offset: number,
  version: number,
  protocol: number,
  transportBytes: number,
): number {
  const addresses =
    version === 4
      ? addWords(bytes, offset + 12, offset + 20, 0)
      : addWords(bytes, offset + 8, offset + 40, 0);
  return addresses + protocol + transportBytes;
}

/**
 * Completes a checksum that the kernel left to the device: the field at `field` holds the folded sum of the pseudo
 * header, the checksum covers `bytes[start..end)` (virtio 1.2, section 5.1.6.2: VIRTIO_NET_HDR_F_NEEDS_CSUM).
 *
 * A UDP checksum of zero means "none" (RFC 768), so it is sent as 0xffff; for TCP both stand for the same value.
 */
export function completeChecksum(bytes: Uint8Array, start: number, field: number, end: number): void {
  const checksum = checksumOf(addWords(bytes, start, end, 0)) || 0xffff;
  bytes[field] = checksum >>> 8;
  bytes[field + 1] = checksum;
}
