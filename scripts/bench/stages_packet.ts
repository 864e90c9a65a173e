/** The stages that look at packets: walk, route, check, finish, cut up. */

import { addWords, completeChecksum } from "../../lib/checksum.ts";
import { VNET_HEADER_BYTES } from "../../lib/limits.ts";
import { packetLength } from "../../lib/packet.ts";
import { segmentedBytes, writeSegments } from "../../lib/segment.ts";
import { splitBytes, splitCount, writeSplit } from "../../lib/segment_split.ts";
import { Session } from "../../lib/session.ts";
import { SessionTable } from "../../lib/session_table.ts";
import { admitOffload } from "../../lib/vnet_header.ts";
import { chunkOf, DATAGRAM_BYTES, offloadPacket, sizeText } from "./stage_packets.ts";
import type { Stage } from "./stopwatch.ts";
import { countText } from "./table.ts";

export function packetStages(): readonly Stage[] {
  return [
    walk(45, 60),
    walk(45, 1_420),
    route(1),
    route(100),
    route(1_000),
    checksum(60),
    checksum(1_420),
    checksum(62_000),
    finish(1_420),
    split(62_000, 14_000),
    segment(16_000),
    segment(62_000),
    admit(62_000),
  ];
}

/** Stage 1 of the way out, after the read: where each packet of a chunk ends. One call is one packet. */
function walk(packets: number, bytes: number): Stage {
  const chunk = chunkOf(packets, bytes);
  let at = 0;
  return {
    name: "walk a chunk of the TUN",
    input: `packets of ${sizeText(bytes)}`,
    bytes: 0,
    batch: 1_000 * packets,
    run: () => {
      if (at >= chunk.length) at = 0;
      at += VNET_HEADER_BYTES + packetLength(chunk, at + VNET_HEADER_BYTES, chunk.length);
    },
  };
}

/** Stage 2: the session that owns a destination. */
function route(sessions: number): Stage {
  const table = new SessionTable();
  for (let i = 1; i <= sessions; i++) {
    table.add(new Session(i, true, null, 10_000, DATAGRAM_BYTES, 0), [`10.8.${i >> 8}.${i & 255}/32`]);
  }
  const packets = Array.from({ length: 64 }, (_, i) => offloadPacket(60, 1 + ((i * 37) % sessions)));
  return {
    name: "route to a session",
    input: `of ${countText(sessions)}`,
    bytes: 0,
    batch: 10_000,
    run: (i) => table.byDestination(packets[i & 63]!, VNET_HEADER_BYTES),
  };
}

function checksum(bytes: number): Stage {
  const packet = offloadPacket(bytes);
  return {
    name: "checksum",
    input: sizeText(bytes),
    bytes,
    batch: Math.ceil(2_000_000 / bytes),
    run: () => addWords(packet, VNET_HEADER_BYTES, packet.length, 0),
  };
}

/** What a lone packet needs that the kernel left unfinished. */
function finish(bytes: number): Stage {
  const packet = offloadPacket(bytes);
  const start = VNET_HEADER_BYTES + 20;
  return {
    name: "finish a packet's checksum",
    input: sizeText(bytes),
    bytes,
    batch: 1_000,
    run: () => completeChecksum(packet, start, start + 16, packet.length),
  };
}

/** For a record limit below the super-packet. */
function split(bytes: number, limit: number): Stage {
  const packet = offloadPacket(bytes);
  const out = new Uint8Array(splitBytes(packet, 0, bytes, limit));
  return {
    name: "split a super-packet",
    input: `${sizeText(bytes)} into ${splitCount(packet, 0, bytes, limit)}`,
    bytes,
    batch: 50,
    run: () => writeSplit(packet, 0, bytes, limit, out, 0, false),
  };
}

/** For a peer without offload. */
function segment(bytes: number): Stage {
  const packet = offloadPacket(bytes);
  const out = new Uint8Array(segmentedBytes(packet, 0, bytes));
  return {
    name: "cut a super-packet into packets",
    input: sizeText(bytes),
    bytes,
    batch: 50,
    run: () => writeSegments(packet, 0, bytes, out, 0),
  };
}

/** What a virtio header must pass before the kernel gets it. */
function admit(bytes: number): Stage {
  const packet = offloadPacket(bytes);
  return {
    name: "check a virtio header",
    input: "TCP super-packet",
    bytes: 0,
    batch: 10_000,
    run: () => admitOffload(packet, 0, bytes),
  };
}
