/** Starts OpenVPN at both ends of one tunnel: TLS, AES-256-GCM, in user space as the others are (openvpn(8), 2.6). */

import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { INNER_SERVER, innerOf, outerOf, type Testbed } from "./testbed.ts";
import type { Peer, Tunnel } from "./tunnel.ts";

const PORT = "1194";
type Transport = "udp" | "tcp";

/** The same data path as the other tunnels': kernel offload off. */
const COMMON = [
  ["--dev-type", "tun", "--data-ciphers", "AES-256-GCM", "--tun-mtu", "1420"],
  ["--mssfix", "0", "--disable-dco", "--txqueuelen", "1000", "--verb", "1"],
].flat();
/** UDP: the buffers as large as its manual allows. TCP: those that the kernel fits to the path, and no waiting for more. */
const SOCKET: Readonly<Record<Transport, readonly string[]>> = {
  udp: ["--sndbuf", "1048576", "--rcvbuf", "1048576"],
  tcp: ["--socket-flags", "TCP_NODELAY"],
};

export function openvpn(name: string, transport: Transport): Peer {
  const missing = ["openvpn", "openssl"].find((tool) => Bun.which(tool) === null);
  return {
    name,
    version: ["openvpn", "--version"],
    obstacle: missing === undefined ? null : `"${missing}" not found: install it`,
    mostClients: 1,
    start: (bed) => startOpenvpn(bed, transport),
  };
}

/** How one end finds the other. */
function endpoints(transport: Transport): { readonly server: string[]; readonly client: string[] } {
  const outer = outerOf("client");
  const listen = ["--local", outer.server, "--lport", PORT];
  const dial = ["--remote", outer.server, "--rport", PORT];
  if (transport === "tcp") {
    return {
      server: ["--proto", "tcp-server", ...listen],
      client: ["--proto", "tcp-client", "--nobind", ...dial],
    };
  }
  return {
    server: ["--proto", "udp", ...listen, "--remote", outer.client, "--rport", PORT],
    client: ["--proto", "udp", "--local", outer.client, "--lport", PORT, ...dial],
  };
}

async function startOpenvpn(bed: Testbed, transport: Transport): Promise<Tunnel> {
  const directory = mkdtempSync(join(bed.directory, "openvpn-"));
  const server = await makeCertificate(bed, directory, "server");
  const client = await makeCertificate(bed, directory, "client");
  const ends = endpoints(transport);
  const serverOptions = [
    ["--dev", bed.link("ovs"), "--tls-server", "--dh", "none", ...ends.server],
    ["--ifconfig", INNER_SERVER, innerOf("client"), "--peer-fingerprint", client.fingerprint],
    server.options,
  ];
  const clientOptions = [
    ["--dev", bed.link("ovc"), "--tls-client", ...ends.client],
    ["--ifconfig", innerOf("client"), INNER_SERVER, "--peer-fingerprint", server.fingerprint],
    client.options,
  ];
  const common = [...COMMON, ...SOCKET[transport]];
  const serverProgram = bed.start("server", ["openvpn", ...common, ...serverOptions.flat()]);
  const clientProgram = bed.start("client", ["openvpn", ...common, ...clientOptions.flat()]);
  return { target: INNER_SERVER, programs: [clientProgram, serverProgram] };
}

interface Certificate {
  readonly options: readonly string[];
  readonly fingerprint: string;
}

/** A self-signed certificate that the other end knows by its fingerprint. */
async function makeCertificate(bed: Testbed, directory: string, name: string): Promise<Certificate> {
  const key = join(directory, `${name}.key`);
  const cert = join(directory, `${name}.crt`);
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const request = ["openssl", "req", "-x509", ...curve, "-days", "30", "-subj", `/CN=${name}`];
  await bed.command([...request, "-keyout", key, "-out", cert]);
  const shown = await bed.command(["openssl", "x509", "-in", cert, "-fingerprint", "-sha256", "-noout"]);
  return { options: ["--cert", cert, "--key", key], fingerprint: shown.split("=")[1] ?? "" };
}
