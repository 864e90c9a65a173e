/**
 * OMail VPN as a library: the record format, the data plane, the control plane of both programs, and the words between
 * them. The command line is in `cli/`.
 *
 * Everything takes its surroundings as values (clock, log, devices), so that both ends run in one process:
 *
 * ```ts
 * import { pieceSize, piecesFor } from "./mod.ts";

// A sealed record of 60,000 bytes in datagrams of at most 1,452 bytes:
const pieces = piecesFor(60_000, 1452); // 42
pieceSize(60_000, pieces); // 1429 bytes each, behind a header of 16
 * ```
 *
 * @module
 */

export * from "./lib/address.ts";
export * from "./lib/client.ts";
export * from "./lib/clock.ts";
export * from "./lib/data_plane.ts";
export * from "./lib/data_plane_message.ts";
export * from "./lib/errors.ts";
export * from "./lib/log.ts";
export * from "./lib/protocol.ts";
export * from "./lib/server.ts";
export * from "./lib/session.ts";
export * from "./lib/status.ts";
export * from "./lib/tun.ts";
export * from "./lib/tun_memory.ts";
export * from "./lib/udp.ts";
export * from "./lib/udp_memory.ts";
