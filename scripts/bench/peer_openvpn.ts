/** Starts OpenVPN at both ends of one tunnel: TLS, AES-256-GCM, in user space as the others are (openvpn(8), 2.6). */

import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { INNER_SERVER, innerOf, outerOf, type Testbed } from "./testbed.ts";
import type { Peer, Tunnel } from "./tunnel.ts";

const PORT = "1194";
/** The same data path as the other tunnels': kernel offload off, the buffers as large as its manual allows. */
const COMMON = [
  ["--dev-type", "tun", "--proto", "udp", "--data-ciphers", "AES-256-GCM", "--tun-mtu", "1420"],
  ["--mssfix", "0", "--disable-dco", "--sndbuf", "1048576", "--rcvbuf", "1048576"],
  ["--txqueuelen", "1000", "--verb", "1"],
].flat();

export function openvpn(): Peer {
  const missing = ["openvpn", "openssl"].find((tool) => Bun.which(tool) === null);
  return {
    name: "openvpn",
    version: ["openvpn", "--version"],
    obstacle: missing === undefined ? null : `"${missing}" not found: install it`,
    mostClients: 1,
    start: startOpenvpn,
  };
}

async function startOpenvpn(bed: Testbed): Promise<Tunnel> {
  const directory = mkdtempSync(join(bed.directory, "openvpn-"));
  const server = await makeCertificate(bed, directory, "server");
  const client = await makeCertificate(bed, directory, "client");
  const outer = outerOf("client");
  const serverOptions = [
    ["--dev", bed.link("ovs"), "--tls-server", "--dh", "none"],
    ["--local", outer.server, "--lport", PORT, "--remote", outer.client, "--rport", PORT],
    ["--ifconfig", INNER_SERVER, innerOf("client"), "--peer-fingerprint", client.fingerprint],
    server.options,
  ];
  const clientOptions = [
    ["--dev", bed.link("ovc"), "--tls-client"],
    ["--local", outer.client, "--lport", PORT, "--remote", outer.server, "--rport", PORT],
    ["--ifconfig", innerOf("client"), INNER_SERVER, "--peer-fingerprint", server.fingerprint],
    client.options,
  ];
  const serverProgram = bed.start("server", ["openvpn", ...COMMON, ...serverOptions.flat()]);
  const clientProgram = bed.start("client", ["openvpn", ...COMMON, ...clientOptions.flat()]);
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
