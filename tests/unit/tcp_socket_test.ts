/** The option reaches the kernel, at both ends of a TLS connection. */

import { afterEach, describe, expect, test } from "bun:test";
import { createServer, connect, type Server, type TLSSocket } from "node:tls";
import { ptr } from "../../lib/libc.ts";
import { getsockopt } from "../../lib/libc_linux.ts";
import { limitUnsent } from "../../lib/tcp_socket.ts";
import { testCertificate } from "../support/control_harness.ts";

const IPPROTO_TCP = 6;
const TCP_NOTSENT_LOWAT = 25;

const open: (Server | TLSSocket)[] = [];
afterEach(() => {
  for (const one of open.splice(0)) {
    if ("destroy" in one) one.destroy();
    else one.close();
  }
});

async function connection(): Promise<readonly [TLSSocket, TLSSocket]> {
  const { certPem, keyPem } = await testCertificate();
  const accepted = Promise.withResolvers<TLSSocket>();
  const server = createServer({ cert: certPem, key: keyPem }, accepted.resolve);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const client = connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
  open.push(client, server);
  const far = await accepted.promise;
  open.push(far);
  return [client, far];
}

function limitOf(socket: TLSSocket): number {
  const handle = Reflect.get(socket, "_handle") as { readonly fd: number };
  const answer = new Uint32Array(2);
  answer[1] = 4;
  const length = ptr(answer, 4);
  expect(getsockopt(handle.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, ptr(answer), length)).toBe(0);
  return answer[0]!;
}

describe.if(process.platform === "linux")("limitUnsent", () => {
  test("sets it on both ends of a connection", async () => {
    for (const socket of await connection()) {
      expect(limitUnsent(socket, 12_345)).toBe(true);
      expect(limitOf(socket)).toBe(12_345);
    }
  });

  test("a socket that is closed, or none, is no failure", async () => {
    const [client] = await connection();
    client.destroy();
    await new Promise((resolve) => client.once("close", resolve));
    expect(limitUnsent(client, 1)).toBe(false);
    expect(limitUnsent({} as TLSSocket, 1)).toBe(false);
  });
});
