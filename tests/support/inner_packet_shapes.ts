/** Inner packets of every shape for property tests: families, protocols, options, flags. */

import fc from "fast-check";
import { ACK, CWR, FIN, type PacketParts, PSH, SYN } from "./inner_packet.ts";

const options = fc.nat(10).map((words) => new Uint8Array(words * 4).fill(1));

/** Packets with payloads of `payload`. */
export function packetShapes(payload: fc.Arbitrary<Uint8Array>): fc.Arbitrary<PacketParts> {
  return fc.record({
    version: fc.constantFrom(4, 6),
    protocol: fc.constantFrom("tcp", "udp"),
    ipOptions: options,
    tcpOptions: options,
    identification: fc.nat(0xffff),
    sequence: fc.nat(0xffff_ffff),
    flags: fc
      .subarray([FIN, SYN, PSH, CWR, 0x20, 0x40])
      .map((flags) => flags.reduce((all, flag) => all | flag, ACK)),
    payload,
  });
}
