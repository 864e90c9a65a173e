/**
 * The loop on Bun's event loop: a stream reads the TUN, `Bun.udpSocket` calls back.
 *
 * Works wherever Bun does, and in memory. On Linux `data_loop_poll.ts` does the same with fewer steps.
 */

import type { DataLoop, Ways } from "./data_loop.ts";
import type { AwaitedPacketDevice } from "./tun.ts";
import type { DatagramSocket } from "./udp.ts";

/** Drives the packet path by promises and callbacks. */
export class EventDataLoop implements DataLoop {
  /** Means nothing here, where nothing but the event loop sleeps. */
  staysAwake = false;
  readonly #tun: AwaitedPacketDevice;
  readonly #udp: DatagramSocket;

  constructor(tun: AwaitedPacketDevice, udp: DatagramSocket) {
    this.#tun = tun;
    this.#udp = udp;
  }

  start({ inbound, outbound }: Ways, failed: (error: unknown) => void): void {
    let scheduled = false;
    const receivedAll = (): void => {
      scheduled = false;
      inbound.receivedAll();
    };
    this.#udp.onReceive((bytes, end, from) => {
      inbound.receive(bytes, end, from);
      // the event loop does not say that nothing more waits; after its next turn nothing does
      if (!inbound.isRestorable || scheduled) return;
      scheduled = true;
      setImmediate(receivedAll);
    });
    this.#pump(outbound).catch(failed);
  }

  stop(): void {
    this.#tun.stop();
  }

  async #pump(outbound: Ways["outbound"]): Promise<void> {
    for (;;) {
      const chunk = await this.#tun.read();
      if (chunk === null) return;
      outbound.packets(chunk as Uint8Array<ArrayBuffer>, 0, chunk.length);
      if (!outbound.hasRoom) await new Promise<void>((resolve) => outbound.whenRoom(resolve));
    }
  }
}
