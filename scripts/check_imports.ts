/**
 * Checks that imports in `lib/` and `cli/` point down the module map, which this file holds as data.
 *
 * A file may import only files of a lower rank, or files named before it in its own rank. The machine (rank 4) imports
 * neither crypto nor state machines, nor the other way round: they meet in the assembly. So there are no cycles.
 */

import { Glob } from "bun";
import { dirname, join, normalize } from "node:path";

/** One rank of the map: its files in import order, and the ranks that it may import besides itself. */
interface Rank {
  readonly name: string;
  readonly below: readonly string[];
  readonly files: readonly string[];
}

const RANKS: readonly Rank[] = [
  {
    name: "words",
    below: [],
    files: [
      "lib/errors.ts",
      "lib/auth_mode.ts",
      "lib/address.ts",
      "lib/nearest.ts",
      "lib/domain_name.ts",
      "lib/limits.ts",
      "lib/secret.ts",
      "lib/log.ts",
      "lib/data_plane_message.ts",
      "lib/caught.ts",
      "lib/bytes.ts",
      "lib/clock.ts",
      "lib/gc_ballast.ts",
      "lib/long_job.ts",
      "lib/audit_event.ts",
      "lib/event_counts.ts",
      "lib/status.ts",
      "lib/host_plan.ts",
      "lib/version.ts",
    ],
  },
  {
    name: "formats",
    below: ["words"],
    files: [
      "lib/fingerprint.ts",
      "lib/config.ts",
      "lib/config_field.ts",
      "lib/access_policy.ts",
      "lib/config_policy.ts",
      "lib/config_server.ts",
      "lib/server_access.ts",
      "lib/config_client.ts",
      "lib/base64.ts",
      "lib/pem.ts",
      "lib/certificate_name.ts",
      "lib/enrol_uri.ts",
      "lib/profile.ts",
      "lib/control_message.ts",
      "lib/user_record.ts",
      "lib/control_frame.ts",
      "lib/admin_message.ts",
      "lib/metrics.ts",
      "lib/route_plan.ts",
      "lib/pushed_config.ts",
      "lib/local_networks.ts",
      "lib/checksum.ts",
      "lib/keepalive.ts",
      "lib/packet.ts",
      "lib/routing_loop.ts",
      "lib/packet_transport.ts",
      "lib/packet_mss.ts",
      "lib/packet_icmp.ts",
      "lib/probe_message.ts",
      "lib/protocol.ts",
      "lib/parity.ts",
      "lib/udp_scatter.ts",
      "lib/sockaddr_linux.ts",
      "lib/vnet_header.ts",
      "lib/vnet_packet.ts",
      "lib/udp_run.ts",
      "lib/segment.ts",
      "lib/segment_split.ts",
      "lib/service_unit.ts",
      "lib/audit_chain.ts",
      "lib/check_report.ts",
      "lib/check_parse.ts",
    ],
  },
  {
    name: "crypto",
    below: ["words", "formats"],
    files: [
      "lib/hash.ts",
      "lib/key_schedule.ts",
      "lib/password.ts",
      "lib/scram.ts",
      "lib/totp.ts",
      "lib/certificate.ts",
      "lib/engine.ts",
      "lib/x509.ts",
      "lib/certificate_revocation.ts",
      "lib/certificate_check.ts",
      "lib/ca_issue.ts",
    ],
  },
  {
    name: "state machines",
    below: ["words", "formats", "crypto"],
    files: [
      "lib/token_bucket.ts",
      "lib/rate_limit.ts",
      "lib/rekey.ts",
      "lib/access_list.ts",
      "lib/handshake.ts",
      "lib/handshake_limiter.ts",
      "lib/lockout.ts",
      "lib/login_guard.ts",
      "lib/handshake_client.ts",
      "lib/reconnect.ts",
      "lib/stream_window.ts",
      "lib/transport.ts",
      "lib/presence.ts",
      "lib/wake_watch.ts",
      "lib/address_pool.ts",
      "lib/resume_tokens.ts",
      "lib/handshake_server.ts",
      "lib/server_users.ts",
      "lib/user_rules.ts",
      "lib/usage_meter.ts",
      "lib/allowed_ips.ts",
      "lib/drop_counter.ts",
      "lib/packet_sorter.ts",
      "lib/busy_wait.ts",
      "lib/hot_wait.ts",
      "lib/engine_sync.ts",
      "lib/engine_web.ts",
      "lib/engines.ts",
      "lib/pmtu.ts",
      "lib/session_path.ts",
      "lib/reassembly.ts",
      "lib/replay_window.ts",
      "lib/loss_report.ts",
      "lib/parity_choice.ts",
      "lib/record_limit.ts",
      "lib/session.ts",
      "lib/session_paths.ts",
      "lib/session_table.ts",
    ],
  },
  {
    name: "machine",
    below: ["words", "formats"],
    files: [
      "lib/log_consola.ts",
      "lib/libc.ts",
      "lib/tcp_socket.ts",
      "lib/tls_peer.ts",
      "lib/tls_connection.ts",
      "lib/tls_pending.ts",
      "lib/tls_control.ts",
      "lib/known_servers.ts",
      "lib/process_identity.ts",
      "lib/instance.ts",
      "lib/user_store.ts",
      "lib/user_follower.ts",
      "lib/control_socket.ts",
      "lib/command.ts",
      "lib/libc.ts",
      "lib/file_lock.ts",
      "lib/audit_log.ts",
      "lib/private_file.ts",
      "lib/ca_store.ts",
      "lib/enrol_store.ts",
      "lib/profile_store.ts",
      "lib/undo_journal.ts",
      "lib/host_change.ts",
      "lib/dns_linux.ts",
      "lib/firewall_nft.ts",
      "lib/firewall_policy.ts",
      "lib/forwarding_linux.ts",
      "lib/ip_batch.ts",
      "lib/link_linux.ts",
      "lib/routing_linux.ts",
      "lib/firewall_guard.ts",
      "lib/host_linux.ts",
      "lib/mac_command.ts",
      "lib/dns_macos.ts",
      "lib/firewall_pf.ts",
      "lib/routing_macos.ts",
      "lib/host_macos.ts",
      "lib/site_routes.ts",
      "lib/host_setup.ts",
      "lib/signals.ts",
      "lib/libc_resolve.ts",
      "lib/resolve.ts",
      "lib/server_addresses.ts",
      "lib/libc_linux.ts",
      "lib/socket_pair_linux.ts",
      "lib/crypto_threads.ts",
      "lib/data_plane_worker.ts",
      "lib/privileges_linux.ts",
      "lib/libc_netlink.ts",
      "lib/network_watch.ts",
      "lib/outer_way.ts",
      "lib/tun.ts",
      "lib/tun_linux.ts",
      "lib/state_file.ts",
      "lib/udp.ts",
      "lib/udp_peers.ts",
      "lib/udp_batch.ts",
      "lib/udp_receiver.ts",
      "lib/udp_poll.ts",
      "lib/udp_bun.ts",
      "lib/libc_macos.ts",
      "lib/tun_macos.ts",
      "lib/tun_memory.ts",
      "lib/udp_memory.ts",
      "lib/check_host.ts",
      "lib/check_network.ts",
      "lib/check_leak.ts",
    ],
  },
  {
    name: "assembly",
    below: ["words", "formats", "crypto", "state machines", "machine"],
    files: [
      "lib/stats_requests.ts",
      "lib/record_stream.ts",
      "lib/client_data_path.ts",
      "lib/client_dialer.ts",
      "lib/client_session.ts",
      "lib/client_link.ts",
      "lib/client_login.ts",
      "lib/enrol_client.ts",
      "lib/client_options.ts",
      "lib/client_identity.ts",
      "lib/client.ts",
      "lib/platform.ts",
      "lib/platform_client.ts",
      "lib/policy_keeper.ts",
      "lib/server_certificates.ts",
      "lib/ca_authority.ts",
      "lib/enrol_server.ts",
      "lib/server_sessions.ts",
      "lib/server_audit.ts",
      "lib/server_connection.ts",
      "lib/server_accounts.ts",
      "lib/server_options.ts",
      "lib/server_policy.ts",
      "lib/server.ts",
      "lib/server_identity.ts",
      "lib/platform_server.ts",
      "lib/rate_gate.ts",
      "lib/tun_router.ts",
      "lib/data_plane_inbound.ts",
      "lib/data_plane_stream.ts",
      "lib/seal_job.ts",
      "lib/data_plane_outbound.ts",
      "lib/data_loop.ts",
      "lib/data_loop_events.ts",
      "lib/data_loop_poll.ts",
      "lib/data_plane.ts",
      "lib/self_test_ends.ts",
      "lib/self_test.ts",
      "lib/check_client.ts",
      "lib/check_server.ts",
      "lib/data_worker.ts",
    ],
  },
  {
    name: "command line",
    below: ["words", "formats", "crypto", "state machines", "machine", "assembly"],
    files: [
      "cli/flags.ts",
      "cli/command.ts",
      "cli/password.ts",
      "cli/prompt.ts",
      "cli/settings.ts",
      "cli/tunnel_flags.ts",
      "cli/totp.ts",
      "cli/client_up.ts",
      "cli/import.ts",
      "cli/complete.ts",
      "cli/instance.ts",
      "cli/down.ts",
      "cli/run.ts",
      "cli/service.ts",
      "cli/status_text.ts",
      "cli/status.ts",
      "cli/check.ts",
      "cli/client_check.ts",
      "cli/client.ts",
      "cli/audit_record.ts",
      "cli/cert_common.ts",
      "cli/cert_issue.ts",
      "cli/cert_init.ts",
      "cli/cert_list.ts",
      "cli/cert_revoke.ts",
      "cli/cert.ts",
      "cli/profile.ts",
      "cli/kick.ts",
      "cli/unban.ts",
      "cli/metrics.ts",
      "cli/audit_text.ts",
      "cli/audit.ts",
      "cli/reload.ts",
      "cli/server_run.ts",
      "cli/user_flags.ts",
      "cli/user_text.ts",
      "cli/user_context.ts",
      "cli/user.ts",
      "cli/policy.ts",
      "cli/server_check.ts",
      "cli/server.ts",
    ],
  },
];

const ROOT = join(import.meta.dir, "..");

/** Files named by the relative imports of a source text, from the root of the tree. */
function importsOf(path: string, source: string): string[] {
  const { imports } = new Bun.Transpiler({ loader: "ts" }).scan(source);
  // The transpiler leaves out imports of types only; the order holds for them too.
  const ofTypes = [...source.matchAll(/^(?:import|export) type [^;]*? from "([^"]+)";/gms)].map(
    (match) => match[1] ?? "",
  );
  const relative = [...imports.map((found) => found.path), ...ofTypes].filter((target) =>
    target.startsWith("."),
  );
  return [...new Set(relative.map((target) => normalize(join(dirname(path), target))))];
}

/** Why `path` may not import `target`; null when it may. */
function objection(path: string, target: string): string | null {
  const from = RANKS.find((rank) => rank.files.includes(path));
  const to = RANKS.find((rank) => rank.files.includes(target));
  if (from === undefined || to === undefined) return null;
  if (from === to) {
    const inOrder = from.files.indexOf(target) < from.files.indexOf(path);
    return inOrder ? null : `it is not named before it among the ${from.name}`;
  }
  return from.below.includes(to.name) ? null : `${from.name} may not import ${to.name}`;
}

const known = new Set(RANKS.flatMap(({ files }) => files));
const found = [...new Glob("{lib,cli}/**/*.ts").scanSync(ROOT)].toSorted();
const problems = [
  ...found
    .filter((path) => !known.has(path))
    .map((path) => `${path}: not in the module map of scripts/check_imports.ts`),
  ...[...known]
    .filter((path) => !found.includes(path))
    .map((path) => `${path}: in the module map, but no such file`),
];
for (const path of found) {
  for (const target of importsOf(path, await Bun.file(join(ROOT, path)).text())) {
    const reason = objection(path, target);
    if (reason !== null) problems.push(`${path}: imports ${target}, but ${reason}`);
  }
}
for (const problem of problems) console.error(problem);
console.log(`${found.length} files checked against the module map, ${problems.length} problems`);
process.exitCode = problems.length === 0 ? 0 : 1;
