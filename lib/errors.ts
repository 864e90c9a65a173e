/**
 * The errors of the control path, one class per exit status, and the closed list of reasons for a dropped packet.
 *
 * The hot path never throws: it returns a {@link DropReason} that is counted under its name.
 */

/** Exit statuses of both executables. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  notRunning: 3,
  refused: 4,
  privilege: 5,
} as const;

/** An error that a person caused or can mend; its message is printed as it stands, without a stack. */
export class OmailError extends Error {
  override name = "OmailError";
  /** The exit status of the executable when this error ends it. */
  readonly exitStatus: number = EXIT.failed;
}

/** Wrong usage or configuration: names the value and what would be right. */
export class UsageError extends OmailError {
  override name = "UsageError";
  override readonly exitStatus: number = EXIT.usage;
}

/** No such instance runs, or it is not connected. */
export class NotRunningError extends OmailError {
  override name = "NotRunningError";
  override readonly exitStatus: number = EXIT.notRunning;
}

/** The other side refused us, or failed to prove who it is: trying again cannot help. */
export class RefusedError extends OmailError {
  override name = "RefusedError";
  override readonly exitStatus: number = EXIT.refused;
}

/** The server has no place or address free: final for who never had one, else others may leave. */
export class ServerFullError extends RefusedError {
  override name = "ServerFullError";
}

/** The resolver says that a name does not exist: at a start that is a typing error, later the network's fault. */
export class UnknownHostError extends OmailError {
  override name = "UnknownHostError";
}

/** A privilege or device is missing: says which and how to get it. */
export class PrivilegeError extends OmailError {
  override name = "PrivilegeError";
  override readonly exitStatus: number = EXIT.privilege;
}

/** A system call or a system command failed. */
export class SystemError extends OmailError {
  override name = "SystemError";
  /** The call or command, for example `open` or `ip`. */
  readonly call: string;
  /** errno, or the command's exit status. */
  readonly errno: number;

  constructor(message: string, call: string, errno: number) {
    super(message);
    this.call = call;
    this.errno = errno;
  }
}

/** The other side broke the protocol: the connection ends with this reason. */
export class ProtocolError extends OmailError {
  override name = "ProtocolError";
}

/** A message that is longer, or shorter, than any may be; it was not read. */
export class MessageLengthError extends ProtocolError {
  override name = "MessageLengthError";
  readonly bytes: number;

  constructor(bytes: number, maxBytes: number) {
    super(`Cannot use a control message of "${bytes}" bytes: expected 1 to ${maxBytes}`);
    this.bytes = bytes;
  }
}

/** Why a datagram, a record or a packet was dropped; the order is the order of the checks on its way. */
export const DROP_REASONS = [
  // received datagrams
  "socket-overflow",
  "datagram-malformed",
  "session-unknown",
  "epoch-unknown",
  "record-replayed",
  "endpoint-unproven",
  "reassembly-overflow",
  "reassembly-timeout",
  "open-overload",
  "decrypt-failed",
  // opened records
  "packet-malformed",
  "offload-malformed",
  "source-not-allowed",
  "rate-limited-up",
  "tun-write-failed",
  // packets from the TUN device
  "tun-packet-malformed",
  "no-session",
  "routing-loop",
  "packet-too-big",
  "rate-limited-down",
  "no-key",
  "no-endpoint",
  "key-worn-out",
  "seal-failed",
  "send-failed",
  "stream-full",
] as const;

/** One of {@link DROP_REASONS}. */
export type DropReason = (typeof DROP_REASONS)[number];
