/** Listens on an interface with tcpdump and reads what it caught (pcap, draft-ietf-opsawg-pcap). */

import { join } from "node:path";
import type { BackgroundProgram } from "./command.ts";
import type { Machine, Network } from "./network.ts";
import { timeoutSeconds, until } from "./timing.ts";

/** LINKTYPE_ETHERNET and LINKTYPE_RAW of the list of link-layer header types. */
const LINK_ETHERNET = 1;
const LINK_RAW = 101;
const PCAP_MAGIC_MICROSECONDS = 0xa1b2c3d4;

let capturesMade = 0;

/** A running tcpdump. */
export class Capture {
  readonly #program: BackgroundProgram;
  readonly #path: string;

  private constructor(program: BackgroundProgram, path: string) {
    this.#program = program;
    this.#path = path;
  }

  /** Starts listening on `device` for what `filter` lets through, and waits until it does. */
  static async start(network: Network, machine: Machine, device: string, filter = ""): Promise<Capture> {
    const path = join(network.directory, `capture${capturesMade++}.pcap`);
    const argv = [
      "tcpdump",
      "-n",
      "-i",
      device,
      "-s",
      "0",
      "-B",
      "65536",
      "--immediate-mode",
      "-U",
      "-Z",
      "root",
      "-w",
      path,
    ];
    const program = machine.start("tcpdump", filter === "" ? argv : [...argv, filter]);
    await until("tcpdump to listen", timeoutSeconds(5), async () =>
      program.output.includes("listening on") ? true : undefined,
    );
    return new Capture(program, path);
  }

  /** Stops listening and returns the IP packets, without the link layer, in order. */
  async stop(): Promise<Uint8Array[]> {
    // tcpdump reads a batch at a time: give it a moment to see the last packets.
    await Bun.sleep(300);
    await this.#program.stop("SIGINT");
    return readPcap(await Bun.file(this.#path).bytes());
  }
}

/** The IP packets of a pcap file that tcpdump wrote on this machine. */
export function readPcap(file: Uint8Array): Uint8Array[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const littleEndian = view.getUint32(0, true) === PCAP_MAGIC_MICROSECONDS;
  const linkType = view.getUint32(20, littleEndian);
  if (linkType !== LINK_ETHERNET && linkType !== LINK_RAW) {
    throw new Error(`Cannot read link type ${linkType}: expected ${LINK_ETHERNET} or ${LINK_RAW}`);
  }
  const linkBytes = linkType === LINK_ETHERNET ? 14 : 0;
  const packets: Uint8Array[] = [];
  for (let offset = 24; offset + 16 <= file.length;) {
    const length = view.getUint32(offset + 8, littleEndian);
    packets.push(file.subarray(offset + 16 + linkBytes, offset + 16 + length));
    offset += 16 + length;
  }
  return packets;
}

/** Source and destination of an IP packet as lower-case hexadecimal digits. */
export function packetAddresses(packet: Uint8Array): { source: string; destination: string } {
  const isVersion4 = packet[0]! >> 4 === 4;
  const [start, length] = isVersion4 ? [12, 4] : [8, 16];
  return {
    source: packet.subarray(start, start + length).toHex(),
    destination: packet.subarray(start + length, start + 2 * length).toHex(),
  };
}

/** Payload of a UDP packet over IPv4 or over IPv6 without extension headers; null for anything else. */
export function udpPayload(packet: Uint8Array): Uint8Array | null {
  const isVersion4 = packet[0]! >> 4 === 4;
  const headerBytes = isVersion4 ? (packet[0]! & 0x0f) * 4 : 40;
  const protocol = isVersion4 ? packet[9] : packet[6];
  return protocol === 17 ? packet.subarray(headerBytes + 8) : null;
}

/** Makes the kernel cut super-packets before `device`, so that a capture there shows what a wire would carry. */
export async function cutSuperPackets(machine: Machine, device: string): Promise<void> {
  await machine.run(["ip", "link", "set", device, "gso_max_segs", "1"]);
}
