/** The server's certificate authority in a test: issues certificates with the executable, as an operator does. */

import { join } from "node:path";
import type { CommandResult } from "./command.ts";
import { type Network, SERVER_ADDRESS } from "./network.ts";
import { executable } from "./omail.ts";

/** Runs a command about the state directory of the server that the harness starts. */
export async function onServer(network: Network, ...args: readonly string[]): Promise<CommandResult> {
  return await network.server.tryRun([executable("server"), ...args, "--state-dir", serverState(network)], {
    cwd: network.directory,
  });
}

/** The same; anything but exit status 0 is an error. */
export async function mustOnServer(network: Network, ...args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await onServer(network, ...args);
  if (status !== 0) throw new Error(`omail-server ${args.join(" ")} ended with ${status}: ${stderr}`);
  return stdout;
}

/** The state directory of the server that the harness starts. */
export function serverState(network: Network): string {
  return join(network.directory, `${network.server.namespace}-server`);
}

/** Makes the authority and the server's certificate. */
export async function makeAuthority(network: Network): Promise<void> {
  await mustOnServer(network, "cert", "init", "--host", SERVER_ADDRESS);
}

/** Issues a client's certificate. @returns flags to log in with it alone */
export async function issueClient(network: Network, name: string): Promise<readonly string[]> {
  await mustOnServer(network, "cert", "issue", name, "--out", network.directory);
  const file = (suffix: string): string => join(network.directory, suffix);
  return ["--cert", file(`${name}.pem`), "--key", file(`${name}.key`), "--ca", file("omail-ca.pem")];
}
