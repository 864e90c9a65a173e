/** The stages that end in the kernel: the write to the TUN and the send of a record, in a network namespace of their own. */

import { HEADER_BYTES, VNET_HEADER_BYTES } from "../../lib/limits.ts";
import { LinuxPacketDevice, openTunLinux } from "../../lib/tun_linux.ts";
import { openUdp } from "../../lib/udp_bun.ts";
import { DATAGRAM_BYTES, HEADERS_BYTES, offloadPacket, SEGMENT_PAYLOAD_BYTES } from "./stage_packets.ts";
import type { Stage } from "./stopwatch.ts";
import { countText } from "./table.ts";

const TUN = "bench0";
/** 10.8.1.1: an address behind the TUN's network that nobody has. */
const NOBODY = 0x0101;

function ip(...args: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(["ip", ...args]);
  if (exitCode !== 0) throw new Error(`"ip ${args.join(" ")}" failed: ${stderr.toString().trim()}`);
}

/** Makes the devices in the namespace of this process, and the stages on them. */
export async function machineStages(): Promise<readonly Stage[]> {
  const { fd, offload } = openTunLinux(TUN);
  ip("addr", "add", "10.8.0.1/24", "dev", TUN);
  ip("link", "set", "lo", "up");
  ip("link", "set", TUN, "up");
  const device = new LinuxPacketDevice(fd, offload);
  const from = (await openUdp({ host: "127.0.0.1", port: 0 })).toPoll();
  const { port } = await openUdp({ host: "127.0.0.1", port: 0 });
  const to = { host: "127.0.0.1", port };
  const super62k = HEADERS_BYTES + 45 * SEGMENT_PAYLOAD_BYTES;
  const writes = [60, 1_420, super62k].map((bytes) => write(device, offload, bytes));
  const sends = [80, DATAGRAM_BYTES, 43 * DATAGRAM_BYTES].map((bytes): Stage => {
    const datagrams = Math.ceil(bytes / DATAGRAM_BYTES);
    const header = new Uint8Array(HEADER_BYTES);
    const sealed = new Uint8Array(bytes - datagrams * HEADER_BYTES);
    return {
      name: "send a record",
      input:
        datagrams === 1
          ? `${countText(bytes)} bytes`
          : `${datagrams} datagrams of ${countText(DATAGRAM_BYTES)} bytes`,
      bytes: sealed.length,
      batch: 200,
      run: () => from.sendRecord(header, sealed, null, null, datagrams, to),
    };
  });
  return [...writes, ...sends];
}

/** The kernel takes the packet, finds that it leads nowhere and drops it: the price of the call and its copy. */
function write(device: LinuxPacketDevice, offload: boolean, bytes: number): Stage {
  const packet = offloadPacket(bytes, NOBODY);
  const start = offload ? 0 : VNET_HEADER_BYTES;
  return {
    name: "write to the TUN",
    input: `${countText(bytes)} bytes`,
    bytes,
    batch: 200,
    run: () => device.write(packet, start, packet.length - start),
  };
}
