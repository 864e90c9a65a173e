/**
 * Every protocol number of OMail VPN: its unit, the reason for its value and its source.
 *
 * Names carry the unit. A number that an operator may change has its default here and its bounds in `config.ts`.
 */

/** ALPN protocol name of the control channel (RFC 7301). */
export const ALPN_PROTOCOL = "omail/1";
/** TCP and UDP port; WireGuard's, because firewalls that let a VPN pass tend to let this one pass. */
export const DEFAULT_PORT = 51820;

// --- Data channel -------------------------------------------------------------------------------------------------

/** Header in front of every datagram: 8 bytes of the original header and an 8-byte record counter. */
export const HEADER_BYTES = 16;
/** AES-GCM authentication tag (NIST SP 800-38D, section 5.2.1.2: full length). */
export const TAG_BYTES = 16;
/** AES-GCM nonce: 4-byte salt and 8-byte record counter (the construction of RFC 5288, section 3). */
export const NONCE_BYTES = 12;
export const NONCE_SALT_BYTES = 4;
/** AES-256 key. */
export const KEY_BYTES = 32;
/** Length of struct virtio_net_hdr in front of a packet of a TUN with IFF_VNET_HDR (linux/virtio_net.h). */
export const VNET_HEADER_BYTES = 10;

/**
 * Largest payload of one GSO send: an IPv4 datagram's 65,535 bytes less its IPv4 and UDP header.
 * A record with the headers of all its pieces must fit, so that it leaves by one system call.
 */
export const MAX_SEND_BYTES = 65_507;
/** Pieces a record may have: UDP_MAX_SEGMENTS of Linux before 6.10 (net/udp.h). */
export const MAX_PIECES = 64;
/** Largest sealed record: with 64 headers in front of its pieces it still fits MAX_SEND_BYTES. */
export const MAX_RECORD_BYTES = MAX_SEND_BYTES - MAX_PIECES * HEADER_BYTES;
/** Largest plaintext of a record. */
export const MAX_PLAINTEXT_BYTES = MAX_RECORD_BYTES - TAG_BYTES;
/** Largest super-packet asked of the kernel, a little under 64 KB: with its headers it still fits one send. */
const GSO_MAX_BYTES = 62_000;

/** Datagrams of one size that leave by one send, parities among them. */
export function datagramsPerSend(datagramBytes: number): number {
  return Math.min(MAX_PIECES, Math.floor(MAX_SEND_BYTES / datagramBytes));
}

/** Largest plaintext whose record fits MAX_PIECES datagrams of at most `maxDatagramBytes`. */
export function recordLimitFor(maxDatagramBytes: number): number {
  return Math.min(MAX_PLAINTEXT_BYTES, MAX_PIECES * (maxDatagramBytes - HEADER_BYTES) - TAG_BYTES);
}

/** Largest super-packet that the kernel may hand us (`gso_max_size` of the TUN): with its virtio header one record. */
export function gsoMaxBytesFor(maxDatagramBytes: number): number {
  return Math.min(GSO_MAX_BYTES, recordLimitFor(maxDatagramBytes) - VNET_HEADER_BYTES);
}
/**
 * Smallest piece that is not the last of its record. Cutting evenly makes pieces of at least half the largest one, which
 * MIN_MTU_BYTES keeps above 592; more than MAX_PIECES bytes keeps ceil(length / pieces) exact.
 */
export const MIN_PIECE_BYTES = 256;

/** IPv6 and UDP header of the outer datagram, the larger of both families. */
export const OUTER_HEADER_BYTES = 48;
export const IPV4_OUTER_HEADER_BYTES = 28;
/** Bytes that a record of one packet adds inside the outer UDP datagram. */
export const RECORD_OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES;
/** Ethernet's MTU, assumed for the outer path when the machine does not say. */
export const DEFAULT_OUTER_MTU_BYTES = 1500;
/** Inner MTU for an Ethernet path of either family: one full packet is exactly one datagram. */
export const DEFAULT_MTU_BYTES = DEFAULT_OUTER_MTU_BYTES - OUTER_HEADER_BYTES - RECORD_OVERHEAD_BYTES;
/** RFC 8200, section 5: IPv6 needs 1,280 bytes; below 576 (RFC 791) IPv4 hosts may misbehave. */
export const MIN_MTU_BYTES = 576;
export const MIN_IPV6_MTU_BYTES = 1280;
export const MAX_MTU_BYTES = 9000;

/**
 * Sizes of UDP payload that path MTU probing starts from (RFC 8899, section 5.1.2: BASE_PLPMTU, MIN_PLPMTU). 1,200 fits
 * IPv6's 1,280 bytes with room for one more tunnel; 548 fits the 576 bytes that every IPv4 host takes (RFC 791).
 */
export const PMTU_BASE_BYTES = 1200;
export const PMTU_MIN_BYTES = 548;
/** Answered smaller probes that prove an unanswered larger one to be too large; RFC 8899 (MAX_PROBES) proposes 3. */
export const PMTU_PROBES = 4;
/** The search ends when the known and the refused size are this close: half a per cent of an Ethernet datagram. */
export const PMTU_STEP_BYTES = 8;
/** Full-size datagrams are sent: how often a probe confirms that they arrive (CONFIRMATION_TIMER). */
export const PMTU_CONFIRM_MS = 1_000;
/** How often a larger size is tried (PMTU_RAISE_TIMER), and how often while not even the base size arrives. */
export const PMTU_RAISE_MS = 600_000;
export const PMTU_ERROR_RAISE_MS = 60_000;
/** Answers to one peer's probes: its trials send at most 40 a second. */
export const PROBE_ANSWERS_PER_SECOND = 50;
/** ICMP errors to inner hosts per second and at once; Linux gives 1,000 and 50 (icmp_msgs_per_sec, icmp_msgs_burst). */
export const ICMP_ERRORS_PER_SECOND = 1_000;
export const ICMP_ERRORS_BURST = 50;
export const PROBE_ANSWERS_BURST = 50;

/** Records per epoch whose replay is remembered; a power of two. WireGuard keeps 8,192 (RFC 6479 algorithm). */
export const REPLAY_WINDOW_RECORDS = 8192;
/** Bits of the sequence number inside an epoch. */
export const SEQUENCE_BITS = 40;
/**
 * Records under one key before a new epoch must have replaced it. AES-GCM with 64 KB records stays far below the
 * 2^-57 bound of RFC 8446, section 5.5 (2^24.5 full-size records) at 2^23; DESIGN's 2^28 would hold for small ones.
 */
export const REKEY_AFTER_RECORDS = 2 ** 23;
/** At this number sealing stops rather than wear the key out. */
export const REJECT_AFTER_RECORDS = 2 ** 24;
/** A key's life in milliseconds of traffic; WireGuard's REKEY_AFTER_TIME. */
export const REKEY_AFTER_MS = 120_000;
/** How long records of an old epoch are still opened; covers reordering and a rekey in flight. */
export const EPOCH_OVERLAP_MS = 10_000;
/** Receive epochs alive at once in one session. */
export const MAX_LIVE_EPOCHS = 4;

/** Idle time before a keep-alive record is sent (the original's figure). */
export const KEEPALIVE_MS = 10_000;
/** Silence after which a session ends (the original's figure). */
export const SESSION_TIMEOUT_MS = 60_000;

/** Incomplete records kept per session, and their bytes: bounds what fragments that never complete can hold. */
export const REASSEMBLY_RECORDS = 64;
export const REASSEMBLY_BYTES = 2 * 1024 * 1024;
/** An incomplete record is dropped after this time; pieces of one record leave by one system call. */
export const REASSEMBLY_TIMEOUT_MS = 1_000;

/** Plaintext handed to the sealer and not yet sent; the TUN is not read beyond it, so queues stay in the kernel. */
export const SEAL_IN_FLIGHT_BYTES = 1024 * 1024;
/** Sealed bytes handed to the opener and not yet delivered; beyond it records are dropped, so that memory is bounded. */
export const OPEN_IN_FLIGHT_BYTES = 8 * 1024 * 1024;
/** Frames handed to the TLS stream that the kernel has not taken: enough for its full speed, little to wait behind. */
export const STREAM_WINDOW_BYTES = 512 * 1024;
/** Longest wait in front of a TLS stream that is slow, and a queue that is never too long: a super-packet and a bit. */
export const STREAM_DELAY_MS = 20;
export const STREAM_SHORT_QUEUE_BYTES = 80 * 1024;
/** Bytes of the TLS stream that the kernel holds without having sent them (TCP_NOTSENT_LOWAT). */
export const STREAM_UNSENT_BYTES = 32 * 1024;
/** Records that came by the TLS stream and are not taken in; beyond it the connection is not read. */
export const STREAM_IN_FLIGHT_BYTES = 1024 * 1024;
/** Kernel socket buffers asked for (SO_RCVBUF, SO_SNDBUF); the kernel may give less. */
export const SOCKET_BUFFER_BYTES = 4 * 1024 * 1024;

// --- Control channel ----------------------------------------------------------------------------------------------

/** Longest control message; the length prefix of a longer one ends the connection before its body is read. */
export const MAX_CONTROL_MESSAGE_BYTES = 64 * 1024;
/** From TCP accept to an authenticated session; slow-dripped bytes do not extend it. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;
/** From a right password to its one-time code: two time steps of RFC 6238. */
export const TOTP_TIMEOUT_MS = 60_000;
/** Connections that have not authenticated yet; the oldest makes room. */
export const MAX_PENDING_CONNECTIONS = 256;
/** Of these, from one address (IPv6: one /64): the oldest of its own makes room. */
export const MAX_PENDING_PER_ADDRESS = 64;
/** From TCP accept to the end of the TLS handshake, and from there to the first message. */
export const TLS_TIMEOUT_MS = 5_000;
export const HELLO_TIMEOUT_MS = 5_000;
/** Handshakes an address may start a second, and at once (wireguard-go's ratelimiter). */
export const HANDSHAKES_PER_SECOND = 20;
export const HANDSHAKES_BURST = 5;
/** Handshakes of all addresses together; about a third of one processor core. */
export const HANDSHAKES_TOTAL_PER_SECOND = 200;
/** Beyond the total, for newcomers and for addresses that logged in before. */
export const HANDSHAKES_RESERVE_PER_SECOND = 50;
/** Addresses and users that the limits remember; about 200 bytes each. */
export const LIMITED_ADDRESSES = 65_536;
/** Failures that shut an address or a user out, when they fall into the window; a NAT may hide many people. */
export const MAX_ADDRESS_FAILURES = 10;
export const MAX_USER_FAILURES = 20;
export const FAILURES_WINDOW_MS = 600_000;
/** How long the first time; doubled for each repetition, up to the second figure. */
export const BAN_MS = 600_000;
export const BAN_MAX_MS = 3_600_000;
/** PBKDF2 iterations of a new password verifier (OWASP 2023 figure for PBKDF2-HMAC-SHA-256). */
export const PBKDF2_ITERATIONS = 600_000;
/** Fewest iterations a client accepts (RFC 7677, section 4, and the original's figure). */
export const PBKDF2_MIN_ITERATIONS = 4_096;
/** Most iterations a client accepts, so that a hostile server cannot keep it busy for minutes. */
export const PBKDF2_MAX_ITERATIONS = 10_000_000;
/** A resume token's life after its connection was lost. */
export const RESUME_TOKEN_TTL_MS = SESSION_TIMEOUT_MS;
/** Routes and DNS servers that a server may push; more is refused by the client. */
export const MAX_PUSHED_ROUTES = 1024;
export const MAX_PUSHED_DNS = 8;
export const MAX_PUSHED_DOMAINS = 32;

/** Bytes queued for one control connection that does not read; beyond it the connection ends. */
export const MAX_CONTROL_OUTPUT_BYTES = 256 * 1024;
/** Messages a peer may send per second, and at once; a flood ends the connection. Forced rekeys need about ten a second. */
export const CONTROL_MESSAGES_PER_SECOND = 20;
export const CONTROL_MESSAGES_BURST = 60;
/** Idle time after which the client sends a `ping` on the control connection, and how long it waits for any answer. */
export const CONTROL_PING_MS = 20_000;
export const CONTROL_PING_TIMEOUT_MS = 10_000;
/** TCP and TLS handshake with one address of a server. */
export const CONNECT_TIMEOUT_MS = 10_000;
/** From a `goodbye` to the hard end of a connection whose peer does not close it. */
export const CONTROL_CLOSE_MS = 1_000;
/** How long a client waits for the first record of a session before it says that UDP seems blocked. */
export const CONFIRM_TIMEOUT_MS = 5_000;
/** Last epoch number (16 bits); a session that reaches it needs a new log-in. */
export const MAX_EPOCH = 65_535;

/** Reconnect back-off of the client: first wait, growth and ceiling. */
export const RECONNECT_FIRST_MS = 250;
export const RECONNECT_FACTOR = 1.6;
export const RECONNECT_MAX_MS = 15_000;
/** An outage shorter than this is taken for a restart of the server: waits stay under the lower ceiling. */
export const RECONNECT_QUICK_MS = 120_000;
export const RECONNECT_QUICK_MAX_MS = 3_000;

// --- Audit log ----------------------------------------------------------------------------------------------------

/** An audit file is put aside at this size, and this many are kept beside it: about 350,000 events. */
export const AUDIT_FILE_BYTES = 10 * 1024 * 1024;
export const AUDIT_FILES = 10;
/** Events that wait in memory while the disk is full; the oldest make room and are counted. */
export const AUDIT_WAITING_EVENTS = 1_000;
/** Time between two attempts to write while the disk is full. */
export const AUDIT_RETRY_MS = 2_000;
